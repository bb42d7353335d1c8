"""Read what this process may still take of its host."""

from __future__ import annotations

import os
import resource


def descriptors_left() -> int | None:
    """Return how many file descriptors this process may still open; None: unknown, or no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        used = len(os.listdir("/proc/self/fd")) - 1  # one is the listing's own
    except OSError:  # no /proc, or no descriptor for the listing
        return None
    return max(0, soft - used)
