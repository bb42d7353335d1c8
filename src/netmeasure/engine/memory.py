"""Return free memory, which the C library keeps for later use, to the kernel."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def release() -> None:
    """Make the C library return all unused pages (malloc_trim(3)). This may take some milliseconds,
    so call it in a thread."""
    with suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
