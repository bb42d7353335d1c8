"""Import modules that only some tests need in a thread, while no set-up is being timed.

The import of aiohttp and aioftp takes up to half a second and delays the event loop, even from
another thread, because of the interpreter's lock. A run that needs them therefore starts the import
when it is created, and every run of the process waits for the end of all imports before its own
set-up begins. Modules that only a result needs are imported while native threads transfer the data.
The imports in progress belong to the whole process, as `sys.modules` does.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from contextlib import suppress

#: How often a waiting run checks again.
POLL_S = 0.005
_loading: dict[str, threading.Thread] = {}
_wanted: list[str] = []


def want_beside_data(*modules: str) -> None:
    """Let `begin_wanted` import these modules, too: a program needs them after its test."""
    _wanted.extend(modules)


def begin_wanted(*modules: str) -> None:
    """Start to import modules that are not needed before the end of a test."""
    begin(*modules, *_wanted)


def begin(*modules: str) -> None:
    """Start to import the modules that are not imported yet. If no thread can be started, each
    module is imported at its first use."""
    missing = [one for one in modules if one not in _loading and one not in sys.modules]
    if not missing:
        return
    thread = threading.Thread(target=_load, args=missing, name="netmeasure-load", daemon=True)
    with suppress(RuntimeError):
        thread.start()
        _loading.update(dict.fromkeys(missing, thread))


async def settled() -> None:
    """Wait until no import is in progress."""
    # a copy: other threads, whose loops have runs of their own, may add to it meanwhile
    while any(thread.is_alive() for thread in list(_loading.values())):  # noqa: ASYNC110  (threads)
        await asyncio.sleep(POLL_S)


def _load(*modules: str) -> None:
    for module in modules:
        with suppress(ImportError):  # the error is raised again where the module is used
            importlib.import_module(module)
