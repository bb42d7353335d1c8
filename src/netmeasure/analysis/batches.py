"""Cut a transfer into batches of equal time, and find its stalls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from netmeasure.analysis.series import Curve, Floats, Int64s
from netmeasure.result import Stretch

MAX_BATCHES = 200
MIN_BATCH_NS = 1_000_000
#: The least number of datagrams in a batch. With fewer, the rate depends mostly on the side of an
#: edge on which one datagram falls.
GRAINS_PER_BATCH = 10
#: A gap of this length is a stall (the usual least retransmission time-out of TCP, RFC 6298).
MIN_STALL_NS = 200_000_000
ROUND_TRIPS_PER_STALL = 3

Bools = NDArray[np.bool_]


class Batches(NamedTuple):
    """Hold the rates in bit/s of batches of equal width; `edges_ns` has one more item."""

    edges_ns: Int64s
    rates: Floats
    width_ns: int

    def since(self, index: int) -> Batches:
        return Batches(self.edges_ns[index:], self.rates[index:], self.width_ns)


def batch_width_ns(span_ns: int, bucket_ns: int, rtt_ns: int | None = None) -> int:
    """Return the width of a batch: at least a bucket, a 200th of the span, one round trip, 1 ms."""
    return max(bucket_ns, -(-span_ns // MAX_BATCHES), rtt_ns or 0, MIN_BATCH_NS)


def batches(transfer: Curve, start_ns: int, end_ns: int, width_ns: int) -> Batches:
    """Return the whole batches from `start_ns` on; a partial batch at the end is left out."""
    count = max(0, (end_ns - start_ns) // width_ns)
    edges = start_ns + width_ns * np.arange(count + 1, dtype=np.int64)
    return Batches(edges, np.diff(transfer.until(edges)) * (8e9 / width_ns), width_ns)


def stall_limit_ns(gap_ns: float, rtt_ns: int | None = None) -> int:
    """Return the shortest gap without data that counts as a stall: 200 ms, three round trips, and
    ten times the mean `gap_ns` between two datagrams, whichever is longest."""
    return max(
        MIN_STALL_NS, ROUND_TRIPS_PER_STALL * (rtt_ns or 0), round(GRAINS_PER_BATCH * gap_ns)
    )


def stalls(transfer: Curve, start_ns: int, end_ns: int, limit_ns: int) -> tuple[Stretch, ...]:
    """Return the stretches of at least `limit_ns` within [start_ns, end_ns] without any bytes.

    Their ends are ends of buckets; the true ends are up to a bucket further out.
    """
    silent = np.diff(transfer.bytes) == 0
    turns = np.diff(np.concatenate(([False], silent, [False])).astype(np.int8))
    since = np.maximum(transfer.at_ns[np.flatnonzero(turns == 1)], start_ns)
    until = np.minimum(transfer.at_ns[np.flatnonzero(turns == -1)], end_ns)
    long = until - since >= limit_ns
    return tuple(
        Stretch(start_ns=int(a), end_ns=int(b), bytes=0)
        for a, b in zip(since[long], until[long], strict=True)
    )


def touched(edges_ns: Int64s, stretches: tuple[Stretch, ...]) -> Bools:
    """Return which batches overlap any of the stretches."""
    found = np.zeros(max(0, len(edges_ns) - 1), dtype=np.bool_)
    for one in stretches:
        found |= (edges_ns[:-1] < one.end_ns) & (edges_ns[1:] > one.start_ns)
    return found
