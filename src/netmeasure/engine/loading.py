"""Load modules that only some tests need in a thread, while no clock of set-up runs.

aiohttp and aioftp take up to half a second to load: on the event loop or, because of the
interpreter's lock, in spurts beside it. So a run that needs them starts to load them when it is
made, and every run of the process waits for that before its own clock starts. What only a result
needs is loaded while native threads move the data. What is being loaded belongs to the process, as
`sys.modules` does.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from contextlib import suppress

#: How often a run that waits looks again.
POLL_S = 0.005
_loading: dict[str, threading.Thread] = {}


def begin(*modules: str) -> None:
    """Start to load modules, but for those that have been loaded. Where no thread can be had, each
    is loaded when it is first used."""
    missing = [one for one in modules if one not in _loading and one not in sys.modules]
    if not missing:
        return
    thread = threading.Thread(target=_load, args=missing, name="netmeasure-load", daemon=True)
    with suppress(RuntimeError):
        thread.start()
        _loading.update(dict.fromkeys(missing, thread))


async def settled() -> None:
    """Wait until nothing is being loaded."""
    while any(thread.is_alive() for thread in _loading.values()):  # noqa: ASYNC110  (threads)
        await asyncio.sleep(POLL_S)


def _load(*modules: str) -> None:
    for module in modules:
        with suppress(ImportError):  # it is raised where the module is used
            importlib.import_module(module)
