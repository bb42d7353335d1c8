"""Where the transfer is steady, at which rate, and how well that is known.

The series is the receiver's (or the sender's acknowledged bytes); it starts with the first payload
byte, so set-up is never in it. Then, each step in a module of its own:

1. `batches`: at most 200 equal stretches of time; stalls, in which nothing came at all.
2. `truncation`: MSER finds how many of the first batches belong to the ramp, blind to the stalls
   and to shorter interruptions.
3. `changes`: whether the rest kept its level. A flag: the rate stays the mean over all of it, with
   its stalls.
4. `interval`: how well that mean is known, with a grade.

Verdicts. `steady`: one level. `shifted`: several levels, each of them steady. `not_steady`:
neither, MSER went to its border or the rate drifts. `too_short`: below 40 batches there is too
little to tell.
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
    MIN_SEGMENT,
    change_points,
    drifts,
    flattened,
    slopes,
)
from netmeasure.analysis.confidence import precision
from netmeasure.analysis.series import Curve, Floats
from netmeasure.analysis.truncation import mser, stepped, truncation
from netmeasure.result import Steady, Stretch

__all__ = ["MAX_BATCHES", "MIN_BATCHES", "Split", "batch_width_ns", "mser", "split", "within"]

MIN_BATCHES = 20
#: A change of level within the first quarter of the time is taken for a part of the ramp.
RAMP_SHARE = 4

Verdict = Literal["steady", "shifted", "not_steady", "too_short"]


class Split(NamedTuple):
    """A transfer taken apart. ramp + steady + tail hold every byte from `start_ns` on."""

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
) -> Split | None:
    """Take the stretch [start_ns, end_ns] of a transfer apart; what comes after it is the tail.

    `rtt_ns` is the path's base round trip (tcpi_min_rtt). `grain_bytes` is what comes at once at
    the least (a datagram). None when nothing was transferred.
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
    cut, verdict = _cut(transfer, whole, limit_ns)
    if verdict != "too_short":
        end_ns = int(whole.edges_ns[-1])
    first = int(whole.edges_ns[cut])
    return Split(
        ramp=_stretch(transfer, start_ns, first),
        steady=_steady(transfer, verdict, whole.since(cut), end_ns, limit_ns),
        tail=_stretch(transfer, end_ns, int(transfer.at_ns[-1])),
    )


def within(
    transfer: Curve, whole: Steady, *, rtt_ns: int | None = None, grain_bytes: int = 0
) -> Steady:
    """One stream's part of the steady state of all: the same batches, so that the bytes of all
    streams add up to the whole's, but a verdict, an interval and stalls of its own."""
    parts = batches(transfer, whole.start_ns, whole.end_ns, whole.batch_ns)
    limit_ns = stall_limit_ns(_gap_ns(transfer, whole.start_ns, whole.end_ns, grain_bytes), rtt_ns)
    verdict: Verdict = whole.verdict
    if verdict in ("steady", "shifted"):
        moving = ~touched(parts.edges_ns, _stalls(transfer, parts, limit_ns))
        few = int(moving.sum()) < MIN_BATCHES
        verdict = "not_steady" if few else _verdict(parts.rates[moving])
    return _steady(transfer, verdict, parts, whole.end_ns, limit_ns)


def _cut(transfer: Curve, whole: Batches, limit_ns: int) -> tuple[int, Verdict]:
    """(how many batches are the ramp, the verdict on the others)."""
    rates = whole.rates
    if len(rates) < 2 * MIN_BATCHES:  # a cut in the first half must leave enough of them
        return 0, "too_short"
    stalled = touched(whole.edges_ns, _stalls(transfer, whole, limit_ns))
    if int((~stalled).sum()) < 2 * MIN_BATCHES:  # hardly anything but stalls
        return 0, "not_steady"
    cut, raw, found, blind = truncation(rates, stalled)
    verdict = _verdict(rates[cut:][~blind[cut:]]) if found else "not_steady"
    places = np.flatnonzero(~stalled)
    later = len(places) // RAMP_SHARE
    if verdict == "steady" and not (raw > places[later] and stepped(rates, raw)):
        return cut, verdict
    # a change of level draws MSER to itself: look for the ramp with all levels made equal
    since = max(0, later - MIN_SEGMENT)
    changes = [since + change for change in change_points(rates[places[since:]])]
    if changes:
        flat = rates.copy()
        flat[places] = flattened(rates[places], changes)
        other = truncation(flat, stalled)
        rest = rates[other.cut :][~other.blind[other.cut :]]
        if other.found and _verdict(rest) == "shifted":
            return other.cut, "shifted"
    return cut, verdict


def _verdict(rates: Floats) -> Verdict:
    changes = change_points(rates)
    if not changes:
        return "not_steady" if drifts(rates) else "steady"
    if len(changes) == MAX_CHANGES or slopes(rates, changes):  # it never stays anywhere
        return "not_steady"
    parts = np.split(rates, changes)
    return "not_steady" if any(drifts(part, MIN_CHANGE) for part in parts) else "shifted"


def _steady(
    transfer: Curve, verdict: Verdict, parts: Batches, end_ns: int, limit_ns: int
) -> Steady:
    start_ns = int(parts.edges_ns[0])
    count = transfer.between(start_ns, end_ns)
    goodput = count * 8e9 / (end_ns - start_ns)
    known = None
    if verdict != "too_short":
        goodput = float(parts.rates.mean())
        known = precision(parts.rates)
    found = Steady(
        verdict=verdict,
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
    return replace(
        found,
        confidence_interval=(max(0.0, goodput - known.half), goodput + known.half),
        grade=known.grade if verdict == "steady" else "C",
        autocorrelation_ns=round(known.correlation * parts.width_ns),
        levels=_levels(transfer, parts, found.stalls) if verdict == "shifted" else (),
    )


def _levels(transfer: Curve, parts: Batches, silent: tuple[Stretch, ...]) -> tuple[Stretch, ...]:
    """The stretches of each level, stalls included."""
    places = np.flatnonzero(~touched(parts.edges_ns, silent))
    changes = places[list(change_points(parts.rates[places]))]
    edges = [int(parts.edges_ns[i]) for i in (0, *changes, len(parts.rates))]
    return tuple(_stretch(transfer, a, b) for a, b in pairwise(edges))


def _stalls(transfer: Curve, parts: Batches, limit_ns: int) -> tuple[Stretch, ...]:
    return stalls(transfer, int(parts.edges_ns[0]), int(parts.edges_ns[-1]), limit_ns)


def _gap_ns(transfer: Curve, start_ns: int, end_ns: int, grain_bytes: int) -> float:
    """The mean time between two of what comes at once; no more than the whole."""
    count = transfer.between(start_ns, end_ns)
    span = float(end_ns - start_ns)
    return min(span, span * grain_bytes / count) if count else 0.0


def _stretch(transfer: Curve, start_ns: int, end_ns: int) -> Stretch:
    return Stretch(start_ns=start_ns, end_ns=end_ns, bytes=transfer.between(start_ns, end_ns))
