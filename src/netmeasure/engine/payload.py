"""Make what tests send: random bytes, drawn once for the whole process.

Drawing a block takes about a millisecond of CPU time. Drawn for each stream, that would fall
between its connect and its first byte, and into the handshakes of the process's other tests.
"""

from __future__ import annotations

import os

_BLOCK = os.urandom(512 * 1024)


def random_bytes(size: int) -> bytes:
    """Return `size` bytes that do not compress; more than 512 KiB repeat themselves."""
    if size <= len(_BLOCK):
        return _BLOCK[:size]
    return (_BLOCK * (size // len(_BLOCK) + 1))[:size]
