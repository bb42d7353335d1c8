"""Give memory that is free back to the kernel, which the C library keeps for the next time."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def release() -> None:
    """Let the C library return all pages that nothing uses (malloc_trim(3)). It may take some
    milliseconds, so call it in a thread."""
    with suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
