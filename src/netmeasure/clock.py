"""The two clocks of a run: CLOCK_MONOTONIC for every figure, the wall clock for its date only."""

from __future__ import annotations

import time
from datetime import UTC, datetime

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000


def now_ns() -> int:
    """CLOCK_MONOTONIC in ns: the same clock that the traffic threads read."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def wall_now() -> str:
    """The date and time (UTC, RFC 3339, ms), to say when a run was; never used in arithmetic."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(nanoseconds: float) -> float:
    return nanoseconds / SECOND_NS


def nanoseconds(duration_s: float) -> int:
    return round(duration_s * SECOND_NS)
