"""Return free memory, which the C library keeps for later use, to the kernel."""

from __future__ import annotations

import ctypes
from contextlib import suppress

#: malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 256 * 1024


def release() -> None:
    """Make the C library return all unused pages (malloc_trim(3)). This may take some milliseconds,
    so call it in a thread."""
    with suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def return_large_blocks() -> None:
    """Make the C library return large blocks to the kernel as soon as they are free.

    By default, it keeps up to 64 MiB for each of its arenas once large blocks have been used, and
    `release` does not reach the ends of all arenas ("dynamic mmap threshold", mallopt(3)). This
    applies to the whole process, so only a program may call it, not a library.
    """
    with suppress(AttributeError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)
