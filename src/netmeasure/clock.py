"""Read the two clocks of a run: CLOCK_MONOTONIC for figures, the wall clock only for dates."""

from __future__ import annotations

import time
from datetime import UTC, datetime

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000
MICROSECOND_NS = 1_000
#: Readings of two clocks within this time count as one moment, and how often they are tried.
TOGETHER_NS, READINGS = 20_000, 3


def now_ns() -> int:
    """Return CLOCK_MONOTONIC in ns. The traffic threads use the same clock."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def wall_now() -> str:
    """Return the date and time of a run (UTC, RFC 3339, ms), which are for display only."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_s() -> float:
    """Return the wall clock as seconds since 1970, which is for display only."""
    return time.time()


def unix_ns() -> int:
    """Return the wall clock in ns since 1970, to compute the age of the kernel's time stamps."""
    return time.time_ns()


def seconds(nanoseconds: float) -> float:
    return nanoseconds / SECOND_NS


def nanoseconds(duration_s: float) -> int:
    return round(duration_s * SECOND_NS)


def from_unix_ns(moment_ns: int) -> int:
    """Return a moment of the wall clock, such as a time stamp of the kernel, on CLOCK_MONOTONIC; at
    most the present one, since the wall clock may have been set back.

    A thread may lose its CPU between the readings of the two clocks. They are then read again, and
    the readings that took the least time are used.
    """
    found: list[tuple[int, int]] = []
    for _ in range(READINGS):
        before, wall, after = now_ns(), unix_ns(), now_ns()
        found.append((after - before, (before + after) // 2 - wall))
        if after - before <= TOGETHER_NS:
            break
    return min(min(found)[1] + moment_ns, now_ns())


class Quiet:
    """Detect that a growing count has not changed for a while."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._seen: int | None = None
        self._since_ns = now_ns()

    def since_change(self, count: int) -> bool:
        """Take the present count, and return whether it has been the same for as long as the
        limit."""
        if count != self._seen:
            self._seen, self._since_ns = count, now_ns()
        return seconds(now_ns() - self._since_ns) > self._limit_s
