"""Look up stretches of time in columns: a counter's growth, and the samples that lie within."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from netmeasure.result.resources import value_at


class Window(NamedTuple):
    """Hold a stretch of time, on the clock of the columns that it is applied to."""

    start_ns: int
    end_ns: int


def grown(
    at_ns: Sequence[int], column: Sequence[int] | None, window: Window | None
) -> float | None:
    """Return how much a counter grew within a window (None: from its first to its last sample),
    evenly between two samples. None: the growth is unknown, or the counter decreased, so it is not
    a single counter."""
    if column is None or len(column) < 2:
        return None
    within = column if window is None else [column[i] for i in indices(at_ns, window)]
    if any(after < before for before, after in pairwise(within)):
        return None
    if window is None:
        return float(column[-1] - column[0])
    start, end = (value_at(at_ns, column, moment) for moment in window)
    return end - start if end >= start else None


def covered(at_ns: Sequence[int], window: Window | None) -> int:
    """Return how much of a window lies between the first and the last sample, in ns."""
    if window is None:
        return at_ns[-1] - at_ns[0]
    return max(0, min(window.end_ns, at_ns[-1]) - max(window.start_ns, at_ns[0]))


def indices(at_ns: Sequence[int], window: Window | None) -> range:
    """Return the samples within a window; without one, all of them."""
    if window is None:
        return range(len(at_ns))
    return range(bisect_right(at_ns, window.start_ns), bisect_right(at_ns, window.end_ns))
