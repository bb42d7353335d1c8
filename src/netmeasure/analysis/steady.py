"""Where the transfer is steady, and at which rate.

The series is the receiver's (or the sender's acknowledged bytes), it starts with the first payload
byte, so set-up is never in it. It is cut into at most 200 equal batches; MSER finds how many of the
first ones belong to the ramp:

    d* = argmin over d <= n/2 of  1/(n-d)^2 * sum over i > d of (y_i - mean_d)^2

White, "An effective truncation heuristic for bias reduction in simulation output", Simulation 69
(1997); White, Cobb and Spratt, WSC 2000. A d* at the border n/2 means that no plateau was found
(Hoad, Robinson and Davies, WSC 2008), and so does a second half of the rest that differs from the
first. Below 40 batches there is too little to tell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from netmeasure.analysis.series import Curve, Floats
from netmeasure.result import Steady, Stretch

MAX_BATCHES = 200
MIN_BATCHES = 20
MIN_BATCH_NS = 1_000_000
GRAINS_PER_BATCH = 10
#: A standard error of the mean that is good enough, and a change of the rate that is too much.
PRECISION = 5e-4
MAX_DRIFT = 0.05


class Split(NamedTuple):
    """A transfer taken apart. ramp + steady + tail hold every byte from `start_ns` on."""

    ramp: Stretch
    steady: Steady
    tail: Stretch


def mser(rates: Floats, precision: float = 0.0) -> int:
    """How many leading values to leave out (0 to n/2). Pure; O(n) by suffix sums.

    The statistic is the square of the mean's standard error. Where it is below `precision` times
    the mean it is good enough, and the first such cut is taken: without noise there is always a
    better one, up to n/2. Scores equal to twelve digits are equal, or rounding would choose.
    """
    n = len(rates)
    if n < 2:
        return 0
    # centred first, so that the difference of large squares loses no digits
    centred = rates - rates.mean()
    left = np.arange(n, 0, -1, dtype=np.float64)
    sums = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum((centred**2)[::-1])[::-1]
    scores = ((squares - sums**2 / left) / left**2)[: n // 2 + 1]
    means = (sums / left)[: n // 2 + 1] + rates.mean()
    limit = scores.min() + 1e-12 * scores.max()
    return int(np.argmax(scores <= np.maximum(limit, (precision * means) ** 2)))


def _drifts(rates: Floats) -> bool:
    """Whether the second half differs from the first by more than 5 % and three standard errors."""
    first, second = np.array_split(rates, 2)
    change = abs(float(second.mean() - first.mean()))
    error = float(np.sqrt(first.var() / len(first) + second.var() / len(second)))
    return change > max(MAX_DRIFT * float(rates.mean()), 3 * error)


def batch_width_ns(span_ns: int, bucket_ns: int, rtt_ns: int | None = None) -> int:
    """Width of a batch: at least a bucket, a 200th of the span, one round trip, 1 ms."""
    return max(bucket_ns, -(-span_ns // MAX_BATCHES), rtt_ns or 0, MIN_BATCH_NS)


def split(
    transfer: Curve,
    start_ns: int,
    end_ns: int,
    *,
    bucket_ns: int,
    rtt_ns: int | None = None,
    grain_bytes: int = 0,
) -> Split | None:
    """Take the stretch [start_ns, end_ns] of a transfer apart; what comes after it is the tail.

    `rtt_ns` is the path's base round trip (tcpi_min_rtt). `grain_bytes` is what comes at once at
    the least (a datagram): a batch holds ten of them, or its rate would only tell on which side of
    an edge one of them fell. None when nothing was transferred.
    """
    start_ns = max(start_ns, int(transfer.at_ns[0]))
    end_ns = min(end_ns, int(transfer.at_ns[-1]))
    if end_ns <= start_ns or transfer.total <= 0:
        return None
    width = batch_width_ns(end_ns - start_ns, bucket_ns, rtt_ns)
    if grain_bytes:
        share = GRAINS_PER_BATCH * grain_bytes / transfer.between(start_ns, end_ns)
        width = max(width, round((end_ns - start_ns) * min(1.0, share)))
    batches = (end_ns - start_ns) // width  # the last, partial batch is dropped
    if batches < 2 * MIN_BATCHES:  # a cut in the first half must leave enough of them
        return _whole(transfer, start_ns, end_ns, int(batches), width)
    edges = start_ns + width * np.arange(batches + 1, dtype=np.int64)
    rates = np.diff(transfer.until(edges)) * (8e9 / width)
    cut = mser(rates, PRECISION)
    found = cut < batches // 2 and batches - cut >= MIN_BATCHES and not _drifts(rates[cut:])
    return Split(
        ramp=_stretch(transfer, start_ns, int(edges[cut])),
        steady=Steady(
            verdict="steady" if found else "not_steady",
            start_ns=int(edges[cut]),
            end_ns=int(edges[-1]),
            bytes=transfer.between(int(edges[cut]), int(edges[-1])),
            goodput_bps=float(rates[cut:].mean()),
            batches=int(batches - cut),
            batch_ns=width,
        ),
        tail=_stretch(transfer, int(edges[-1]), int(transfer.at_ns[-1])),
    )


def _stretch(transfer: Curve, start_ns: int, end_ns: int) -> Stretch:
    return Stretch(start_ns=start_ns, end_ns=end_ns, bytes=transfer.between(start_ns, end_ns))


def _whole(transfer: Curve, start_ns: int, end_ns: int, batches: int, width: int) -> Split:
    """Too few data to look for a plateau: one rate over everything, and it says so."""
    count = transfer.between(start_ns, end_ns)
    return Split(
        ramp=_stretch(transfer, start_ns, start_ns),
        steady=Steady(
            verdict="too_short",
            start_ns=start_ns,
            end_ns=end_ns,
            bytes=count,
            goodput_bps=count * 8e9 / (end_ns - start_ns),
            batches=batches,
            batch_ns=width,
        ),
        tail=_stretch(transfer, end_ns, int(transfer.at_ns[-1])),
    )
