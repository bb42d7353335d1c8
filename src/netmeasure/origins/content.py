"""Make the content of the files in memory: one block of random bytes, repeated.

A byte depends only on its offset, so that ranges and resumed downloads are consistent, and a small
file is the beginning of a larger one.
"""

from __future__ import annotations

import random

BLOCK_BYTES = 512 * 1024  # stays in the L2 cache; the fastest block of the native sender
_SEED = 0


class Content:
    """Hold the content of the files, made once per server.

    It is the same in every process, so that a test can compare it.
    """

    def __init__(self) -> None:
        block = random.Random(_SEED).randbytes(BLOCK_BYTES)
        self._twice = memoryview(block + block)

    def view(self, offset: int, length: int) -> memoryview:
        """Return up to one block from `offset` on, without a copy."""
        start = offset % BLOCK_BYTES
        return self._twice[start : start + min(length, BLOCK_BYTES)]

    def cycle(self, offset: int) -> bytes:
        """Return one block that gives the content from `offset` on when it is repeated."""
        return bytes(self.view(offset, BLOCK_BYTES))
