"""Wait for a condition that no event announces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(check: Callable[[], object], limit_s: float = 30) -> None:
    """Wait until a condition holds.

    The limit is for a test that would hang: half a minute is more than a busy machine needs.
    """
    give_up = time.monotonic() + limit_s
    while not check():
        if time.monotonic() > give_up:
            raise AssertionError(f"it did not happen in {limit_s} s")
        await asyncio.sleep(0.001)
