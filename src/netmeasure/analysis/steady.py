"""Find the steady state of a transfer: its position, its rate, and the rate's confidence interval.

The series is the receiver's (or the sender's acknowledged bytes); it starts with the first payload
byte, so it never includes set-up. The steps, each in its own module, are:

1. `batches`: at most 200 periods of equal length, and stalls, in which nothing arrived.
2. `truncation`: MSER finds how many of the first batches belong to the ramp; stalls and shorter
   interruptions are ignored.
3. `changes`: whether the rest kept its level. This affects only the verdict: the rate is the mean
   over the whole rest, stalls included.
4. `confidence`: the precision of that mean, and its grade.

Verdicts. `steady`: one level. `shifted`: several levels, each of them steady. `not_steady`:
neither, MSER's cut is at its limit or the rate drifts. `too_short`: fewer than 40 batches do not
suffice for a verdict.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from msgspec.structs import replace

from netmeasure.analysis.batches import (
    GRAINS_PER_BATCH,
    MAX_BATCHES,
    Batches,
    batch_width_ns,
    batches,
    stall_limit_ns,
    stalls,
    touched,
)
from netmeasure.analysis.changes import (
    MAX_CHANGES,
    MIN_CHANGE,
    change_points,
    changed,
    drifts,
    slopes,
)
from netmeasure.analysis.confidence import MIN_EVENTS, Grade, precision
from netmeasure.analysis.remainder import remainder
from netmeasure.analysis.series import Curve, Floats
from netmeasure.analysis.truncation import mser, truncation
from netmeasure.result import Steady, Stretch

__all__ = ["MAX_BATCHES", "MIN_BATCHES", "Split", "batch_width_ns", "mser", "split", "within"]

MIN_BATCHES = 20
#: How long the steady stretch must be for a grade of A and of B: shorter ones may miss events that
#: happen every few seconds.
LEAST_A_NS, LEAST_B_NS = 8_000_000_000, 5_000_000_000
#: The limit for a B during a transfer, for the rule that ends it, which has its own safeguards.
LEAST_SO_FAR_NS = 3_000_000_000

#: In this many round trips, slow start grows from ten segments to any possible window. If the
#: round-trip time is unknown, slow start may last for a tenth of the time.
SLOW_START_ROUND_TRIPS = 16
SLOW_START_SHARE = 10

Verdict = Literal["steady", "shifted", "not_steady", "too_short"]


class Split(NamedTuple):
    """Hold the parts of a transfer: ramp + steady + tail hold every byte from `start_ns` on."""

    ramp: Stretch
    steady: Steady
    tail: Stretch


def split(
    transfer: Curve,
    start_ns: int,
    end_ns: int,
    *,
    bucket_ns: int,
    rtt_ns: int | None = None,
    grain_bytes: int = 0,
    so_far: bool = False,
) -> Split | None:
    """Divide the stretch [start_ns, end_ns] of a transfer into its parts; the bytes after it are
    the tail.

    `rtt_ns` is the path's base round trip (tcpi_min_rtt). `grain_bytes` is the least number of
    bytes that arrive together (a datagram). `so_far`: the transfer is still running. None: nothing
    was transferred.
    """
    start_ns = max(start_ns, int(transfer.at_ns[0]))
    end_ns = min(end_ns, int(transfer.at_ns[-1]))
    if end_ns <= start_ns or transfer.total <= 0:
        return None
    gap_ns = _gap_ns(transfer, start_ns, end_ns, grain_bytes)
    limit_ns = stall_limit_ns(gap_ns, rtt_ns)
    width = batch_width_ns(end_ns - start_ns, bucket_ns, rtt_ns)
    width = max(width, round(min(end_ns - start_ns, GRAINS_PER_BATCH * gap_ns)))
    whole = batches(transfer, start_ns, end_ns, width)
    found = _find(transfer, whole, limit_ns, _slow_start(whole, rtt_ns))
    if so_far:
        found = found._replace(least_b_ns=LEAST_SO_FAR_NS)
    cut, verdict = found.cut, found.verdict
    if verdict != "too_short":
        end_ns = int(whole.edges_ns[-1])
    first = int(whole.edges_ns[cut])
    return Split(
        ramp=_stretch(transfer, start_ns, first),
        steady=_steady(transfer, found, whole.since(cut), end_ns, limit_ns, grain_bytes),
        tail=_stretch(transfer, end_ns, int(transfer.at_ns[-1])),
    )


def within(
    transfer: Curve, whole: Steady, *, rtt_ns: int | None = None, grain_bytes: int = 0
) -> Steady:
    """Return one stream's part of the steady state of all: the same batches, so that the bytes of
    all streams add up to the total, but its own verdict, interval and stalls."""
    parts = batches(transfer, whole.start_ns, whole.end_ns, whole.batch_ns)
    limit_ns = stall_limit_ns(_gap_ns(transfer, whole.start_ns, whole.end_ns, grain_bytes), rtt_ns)
    found = _Found(0, whole.verdict)
    if whole.verdict in ("steady", "shifted"):
        places = np.flatnonzero(~touched(parts.edges_ns, _stalls(transfer, parts, limit_ns)))
        found = _Found(0, "not_steady")
        if len(places) >= MIN_BATCHES:
            verdict, changes = _verdict(parts.rates[places])
            found = _Found(0, verdict, tuple(int(place) for place in places[list(changes)]))
    return _steady(transfer, found, parts, whole.end_ns, limit_ns, grain_bytes)


class _Found(NamedTuple):
    """Hold the findings of the search. The ramp is the first `cut` batches. `changes` are the
    batches after it at which another level begins. `doubtful` lowers the grade. The ramp may still
    change the mean by `remainder`, in bit/s. Stretches shorter than `least_b_ns` get a C."""

    cut: int
    verdict: Verdict
    changes: tuple[int, ...] = ()
    doubtful: bool = False
    remainder: float = 0.0
    least_b_ns: int = LEAST_B_NS


def _slow_start(whole: Batches, rtt_ns: int | None) -> int:
    """Return how many batches slow start may last."""
    if rtt_ns is None:
        return len(whole.rates) // SLOW_START_SHARE
    return -(-SLOW_START_ROUND_TRIPS * rtt_ns // whole.width_ns)


def _find(transfer: Curve, whole: Batches, limit_ns: int, slow_start: int) -> _Found:
    rates = whole.rates
    if len(rates) < 2 * MIN_BATCHES:  # a cut in the first half must leave enough batches
        return _Found(0, "too_short")
    stalled = touched(whole.edges_ns, _stalls(transfer, whole, limit_ns))
    if int((~stalled).sum()) < 2 * MIN_BATCHES:  # hardly anything but stalls
        return _Found(0, "not_steady")
    cut, found, doubtful, left = truncation(rates, stalled, slow_start)
    if not found:
        return _Found(cut, "not_steady", doubtful=True)
    places = np.flatnonzero(~stalled[cut:])
    known = () if left is None else (int(np.searchsorted(places, left - cut)),)
    verdict, changes = _verdict(rates[cut:][places], known)
    changes = tuple(int(place) for place in places[list(changes)])
    rest = 0.0
    if verdict == "steady":
        rest = remainder(rates[~stalled], int((~stalled[:cut]).sum()))
    return _Found(cut, verdict, changes, doubtful, rest)


def _verdict(rates: Floats, known: tuple[int, ...] = ()) -> tuple[Verdict, tuple[int, ...]]:
    """Return the verdict, and where levels begin. `known`: where a first level, which may be short,
    ended."""
    changes = change_points(rates) or tuple(place for place in known if changed(rates, place))
    if not changes:
        return ("not_steady" if drifts(rates) else "steady"), ()
    if len(changes) == MAX_CHANGES or slopes(rates, changes):  # the rate never stays at one level
        return "not_steady", ()
    parts = np.split(rates, changes)
    drifting = any(drifts(part, MIN_CHANGE) for part in parts)
    return ("not_steady", ()) if drifting else ("shifted", changes)


def _steady(
    transfer: Curve,
    judged: _Found,
    parts: Batches,
    end_ns: int,
    limit_ns: int,
    grain_bytes: int,
) -> Steady:
    start_ns = int(parts.edges_ns[0])
    count = transfer.between(start_ns, end_ns)
    goodput = count * 8e9 / (end_ns - start_ns)
    known = None
    if judged.verdict != "too_short":
        goodput = float(parts.rates.mean())
        known = precision(parts.rates)
    found = Steady(
        verdict=judged.verdict,
        start_ns=start_ns,
        end_ns=end_ns,
        bytes=count,
        goodput_bps=goodput,
        batches=len(parts.rates),
        batch_ns=parts.width_ns,
        stalls=stalls(transfer, start_ns, end_ns, limit_ns),
    )
    if known is None:
        return found
    half = max(known.half, _resolution(transfer, start_ns, end_ns, grain_bytes))
    half += judged.remainder
    return replace(
        found,
        confidence_interval=(max(0.0, goodput - half), goodput + half),
        grade=_grade(found, known.grade, judged),
        autocorrelation_ns=round(known.correlation * parts.width_ns),
        levels=_levels(transfer, parts, judged.changes),
    )


def _resolution(transfer: Curve, start_ns: int, end_ns: int, grain_bytes: int) -> float:
    """Return the counting error of the rate in bit/s: one segment or datagram at each end, and if
    an end lies within a bucket, the bytes on one side of it."""
    unsure = 2.0 * grain_bytes
    for moment in (start_ns, end_ns):
        after = int(np.searchsorted(transfer.at_ns, moment, side="right"))
        if 0 < after < len(transfer.at_ns):
            low, high = (float(transfer.bytes[place]) for place in (after - 1, after))
            at = float(transfer.until(moment))
            unsure += min(at - low, high - at)
    return unsure * 8e9 / (end_ns - start_ns)


def _grade(found: Steady, grade: Grade, judged: _Found) -> Grade:
    """Return the interval's grade, lowered for uncertainties that the scatter of these rates does
    not show."""
    few_stalls = 0 < len(found.stalls) < MIN_EVENTS
    short = found.duration_ns < judged.least_b_ns
    if found.verdict != "steady" or judged.doubtful or few_stalls or short:
        return "C"
    return "B" if grade == "A" and found.duration_ns < LEAST_A_NS else grade


def _levels(transfer: Curve, parts: Batches, changes: tuple[int, ...]) -> tuple[Stretch, ...]:
    """Return the stretch of each level, stalls included."""
    if not changes:
        return ()
    edges = [int(parts.edges_ns[i]) for i in (0, *changes, len(parts.rates))]
    return tuple(_stretch(transfer, a, b) for a, b in pairwise(edges))


def _stalls(transfer: Curve, parts: Batches, limit_ns: int) -> tuple[Stretch, ...]:
    return stalls(transfer, int(parts.edges_ns[0]), int(parts.edges_ns[-1]), limit_ns)


def _gap_ns(transfer: Curve, start_ns: int, end_ns: int, grain_bytes: int) -> float:
    """Return the mean time between two arrivals of `grain_bytes`, at most the whole stretch."""
    count = transfer.between(start_ns, end_ns)
    span = float(end_ns - start_ns)
    return min(span, span * grain_bytes / count) if count else 0.0


def _stretch(transfer: Curve, start_ns: int, end_ns: int) -> Stretch:
    return Stretch(start_ns=start_ns, end_ns=end_ns, bytes=transfer.between(start_ns, end_ns))
