"""Compute with time series of bytes: totals over streams, and bytes within any period.

A series is treated as its cumulative curve, which is linear within a bucket. So streams with
different origins or widths can be added, and the bytes of any stretch can be computed. Every byte
counts once: the last point of the curve is the total.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from netmeasure.result import Series

#: Streams whose origins lie far apart are added on a coarser grid, so that memory is bounded.
MAX_BUCKETS = 1_000_000
#: For how many lengths of a series its matrices are kept. They are made in less than a millisecond,
#: and those of all lengths would make a server of many tests grow by 10 MiB, over hours.
CACHED_LENGTHS = 8

Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]


class Curve(NamedTuple):
    """Hold cumulative bytes, which start at 0, at ascending moments in ns."""

    at_ns: Int64s
    bytes: Floats

    @property
    def total(self) -> float:
        return float(self.bytes[-1])

    def until(self, moment_ns: float | Int64s | Floats) -> Floats:
        """Return the bytes counted up to each moment, which may lie outside the curve."""
        return np.asarray(np.interp(moment_ns, self.at_ns, self.bytes), dtype=np.float64)

    def between(self, start_ns: int, end_ns: int) -> int:
        """Return the bytes within a stretch. Both ends are rounded to whole bytes, so that the
        bytes of adjoining stretches add up exactly."""
        first, last = np.round(self.until(np.array([start_ns, end_ns], dtype=np.int64)))
        return int(last - first)


def curve(series: Series, end_ns: int | None = None) -> Curve:
    """Return the cumulative curve of one series.

    `end_ns` is when the last byte arrived. The last bucket, which was not yet full, ends there.
    """
    edges = series.origin_ns + series.width_ns * np.arange(len(series.bytes) + 1, dtype=np.int64)
    if end_ns is not None and len(edges) > 1 and edges[-2] < end_ns < edges[-1]:
        edges[-1] = end_ns
    counts = np.concatenate(([0], np.cumsum(np.asarray(series.bytes, dtype=np.int64))))
    return Curve(edges, counts.astype(np.float64))


def waited(transfer: Curve, until_ns: int | None) -> Curve:
    """Return the curve extended without bytes to a later moment, until which data were due."""
    if until_ns is None or until_ns <= transfer.at_ns[-1]:
        return transfer
    return Curve(
        np.append(transfer.at_ns, np.int64(until_ns)), np.append(transfer.bytes, transfer.total)
    )


def total(parts: Sequence[Series]) -> Series | None:
    """Return the sum of several series on one grid; None if none of them has bytes.

    The grid has the earliest origin, the coarsest width and at most MAX_BUCKETS buckets. Buckets
    are whole bytes, and their sum is exactly that of the parts.
    """
    parts = [part for part in parts if part.bytes]
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    origin = min(part.origin_ns for part in parts)
    width = max(part.width_ns for part in parts)
    end = max(part.origin_ns + part.width_ns * len(part.bytes) for part in parts)
    width = max(width, -(-(end - origin) // MAX_BUCKETS))
    edges = origin + width * np.arange(-(-(end - origin) // width) + 1, dtype=np.int64)
    cumulative = sum(np.round(curve(part).until(edges)) for part in parts)
    return Series(
        origin_ns=origin,
        width_ns=width,
        bytes=tuple(int(n) for n in np.diff(np.asarray(cumulative))),
    )


def median(values: Floats) -> float:
    """Return the median; NaN: there are no values.

    numpy's own function loads its masked arrays at its first call, and takes several times as long
    for a few hundred values, while a report of many streams needs thousands of medians.
    """
    count = len(values)
    if not count:
        return math.nan
    middle = count // 2
    if count % 2:
        return float(np.partition(values, middle)[middle])
    below, above = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return float((below + above) / 2)
