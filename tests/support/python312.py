"""Imitate what Python 3.12 changed in asyncio, for tests that also run on Python 3.11."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest


def gather_without_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make asyncio.gather return finished tasks' results without a turn of the event loop.

    That is what it does since Python 3.12.
    """
    if sys.version_info >= (3, 12):
        return
    gather = asyncio.gather

    def newer(*tasks: Any, return_exceptions: bool = False) -> asyncio.Future[Any]:
        futures = [asyncio.ensure_future(task) for task in tasks]
        if not futures or not return_exceptions or not all(one.done() for one in futures):
            return gather(*futures, return_exceptions=return_exceptions)
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        outcome.set_result([_outcome(one) for one in futures])
        return outcome

    monkeypatch.setattr(asyncio, "gather", newer)


def _outcome(task: asyncio.Future[Any]) -> Any:
    return asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()
