"""Make the data that tests send: random bytes, generated once for the whole process.

Generating a block takes about a millisecond of CPU time. If each stream generated its own block,
this time would delay the stream's first byte and the handshakes of the process's other tests.
"""

from __future__ import annotations

import os

_BLOCK = os.urandom(512 * 1024)


def random_bytes(size: int) -> bytes:
    """Return `size` incompressible bytes, which repeat after 512 KiB."""
    if size <= len(_BLOCK):
        return _BLOCK[:size]
    return (_BLOCK * (size // len(_BLOCK) + 1))[:size]
