"""Run a command's work until its end, or until a signal cancels it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

from netmeasure.cli.exits import Exit
from netmeasure.cli.watch import SIGNALS


async def until_signal(work: Coroutine[Any, Any, None]) -> Exit:
    """Return OK after the end of the work, or the exit code of the signal that has cancelled it."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    ended: list[Exit] = []

    def on_signal(number: signal.Signals) -> None:
        ended.append(SIGNALS[number])
        task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await task
    except asyncio.CancelledError:
        if not ended:
            raise
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
    return ended[0] if ended else Exit.OK
