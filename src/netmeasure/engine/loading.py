"""Loads modules that only some tests need in a thread, while no clock of set-up runs.

aiohttp and aioftp take up to half a second to load: on the event loop or, because of the
interpreter's lock, in spurts beside it. So a run that needs them starts to load them when it is
made, and every run of the process waits for that before its own clock starts. What is being loaded
belongs to the process, as `sys.modules` does.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from contextlib import suppress

#: How often a run that waits looks again.
POLL_S = 0.005
_loading: dict[str, threading.Thread] = {}


def begin(module: str) -> None:
    """Start to load a module, unless that has been done. Where no thread can be had, it is loaded
    when it is first used."""
    if module in _loading:
        return
    thread = threading.Thread(target=_load, args=(module,), name="netmeasure-load", daemon=True)
    with suppress(RuntimeError):
        thread.start()
        _loading[module] = thread


async def settled() -> None:
    """Wait until nothing is being loaded."""
    while any(thread.is_alive() for thread in _loading.values()):  # noqa: ASYNC110  (threads)
        await asyncio.sleep(POLL_S)


def _load(module: str) -> None:
    with suppress(ImportError):  # it is raised where the module is used
        importlib.import_module(module)
