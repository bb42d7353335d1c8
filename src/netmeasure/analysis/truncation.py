"""How many of the first batches belong to the ramp: MSER.

    d* = argmin over d <= n/2 of  1/(n-d)^2 * sum over i > d of (y_i - mean_d)^2

White, "An effective truncation heuristic for bias reduction in simulation output", Simulation 69
(1997) 323; White, Cobb and Spratt, "A comparison of five steady-state truncation heuristics", WSC
2000. A d* at the border n/2 means that no plateau was found (Hoad, Robinson and Davies, WSC 2008).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from netmeasure.analysis.batches import Bools
from netmeasure.analysis.series import Floats

#: A standard error of the mean that is good enough: no more is cut away for a better one.
PRECISION = 5e-4
#: A score within 5 % of the least is as good: the first such cut is taken, or MSER would go for
#: whatever quirk of the noise makes the scatter look smallest.
SLACK = 0.05
#: So much of the rate is the remainder of a gradual ramp allowed to take away.
TOLERANCE = 2e-3
#: An approach whose distance shrinks less over half of the ramp is no exponential one.
MAX_SHRINKING = 0.5
#: Two distances from the plateau are about the same.
MIN_LEVELNESS = 0.65
#: So many robust standard deviations off the plateau is another matter than its noise.
OUTLYING = 5.0
MIN_SPREAD = 1e-3
#: An interruption of the plateau is no longer than a 20th of the time, and follows upon so many
#: batches that were at the plateau's level already.
MAX_INTERRUPTION_SHARE = 20
BATCHES_BEFORE = 4


def mser(rates: Floats, precision: float = 0.0, slack: float = 0.0) -> int:
    """How many leading values to leave out (0 to n/2). Pure; O(n) by suffix sums.

    The statistic is the square of the mean's standard error. Where it is below `precision` times
    the mean, or within `slack` of the least, it is good enough, and the first such cut is taken:
    without noise there is always a better one, up to n/2. Scores equal to twelve digits are equal,
    or rounding would choose.
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
    limit = (1 + slack) * scores.min() + 1e-12 * scores.max()
    return int(np.argmax(scores <= np.maximum(limit, (precision * means) ** 2)))


def settled(rates: Floats, cut: int, tolerance: float = TOLERANCE) -> int:
    """A cut that also leaves out the rest of a gradual approach; at most n/2.

    MSER stops where what is left of an exponential approach drowns in the noise, and so leaves a
    bias of the size of the noise. But what it has cut off shows the approach: where the second half
    of it is at most half as far away from the plateau as the first, the distance is taken to shrink
    by the same factor over each further half, and halves are cut off until the mean of all that is
    left is within `tolerance`. A step, or a slow start, has no such tail: nothing more is cut off.
    """
    n = len(rates)
    half = cut // 2
    if half < 2 or cut >= n // 2:
        return cut
    mean = float(rates[cut:].mean())
    first, second = (float(part.mean()) - mean for part in np.split(rates[cut - 2 * half : cut], 2))
    shrinking = second / first if first else 1.0
    if not 0 < shrinking < MAX_SHRINKING:
        return cut
    # the halves still to come, were they endless, would add up to
    bias = half * abs(second) * shrinking / (1 - shrinking) / (n - cut)
    if bias <= tolerance * mean or mean <= 0:
        return cut
    halves = math.log(bias / (tolerance * mean)) / -math.log(shrinking)
    return min(n // 2, cut + math.ceil(half * halves))


def stepped(rates: Floats, cut: int) -> bool:
    """Whether what was cut off ends as a level of its own: its last two quarters are about equally
    far away from the plateau. Then it was no ramp."""
    quarter = cut // 4
    if quarter < 1:
        return False
    mean = float(rates[cut:].mean())
    before, last = (
        float(part.mean()) - mean for part in np.split(rates[cut - 2 * quarter : cut], 2)
    )
    return before != 0 and MIN_LEVELNESS < last / before < 1 / MIN_LEVELNESS


class Truncation(NamedTuple):
    """`cut` of the first batches are the ramp, of which MSER names the first `raw`; `found` tells
    whether a plateau follows. `blind`: the batches that say nothing of a level, stalled or
    interrupted."""

    cut: int
    raw: int
    found: bool
    blind: Bools


def interruptions(rates: Floats, cut: int) -> Bools:
    """Which of the first `cut` values are short departures from a plateau that had been reached
    before them: then they belong to it, and not to a ramp. MSER leaves out all that comes before
    one of them, since a mean without it has the smaller error; but it is a part of the mean.

    A ramp is nowhere taken for one: before its values there are none at the plateau's level.
    """
    n = len(rates)
    found = np.zeros(n, dtype=np.bool_)
    level = float(np.median(rates[cut:]))
    spread = 1.4826 * float(np.median(np.abs(rates[cut:] - level)))  # sigma of normal noise
    spread = max(spread, MIN_SPREAD * level)
    off = np.abs(rates[:cut] - level) > OUTLYING * spread
    turns = np.diff(np.concatenate(([False], off, [False])).astype(np.int8))
    begins, ends = np.flatnonzero(turns == 1), np.flatnonzero(turns == -1)
    since = 0
    for begin, end in zip(begins, ends, strict=True):
        before = rates[since:begin]
        long_enough = len(before) >= BATCHES_BEFORE
        at_level = long_enough and abs(float(np.median(before)) - level) <= spread
        if at_level and end - begin <= n // MAX_INTERRUPTION_SHARE:
            found[begin:end] = True
        since = int(end)
    return found


def truncation(rates: Floats, stalled: Bools) -> Truncation:
    """The ramp of a transfer, found blind to the batches that were stalled, and to short
    departures from the plateau: MSER takes those in the first half for a part of the ramp, and
    throws away everything up to their end. One right before the cut goes with the ramp."""
    found = _truncation(rates, stalled)
    kept = np.flatnonzero(~stalled)
    if not found.found or not found.raw:
        return found
    odd = np.zeros_like(stalled)
    odd[kept] = interruptions(rates[kept], int(np.searchsorted(kept, found.raw)))
    if not odd.any():
        return found
    again = _truncation(rates, stalled | odd)
    return again if again.found and again.raw < found.raw else found


def _truncation(rates: Floats, stalled: Bools) -> Truncation:
    kept = np.flatnonzero(~stalled)
    if len(kept) < 2:
        return Truncation(0, 0, False, stalled)
    moving = rates[kept]
    best = mser(moving, PRECISION)
    if best >= len(kept) // 2:
        return Truncation(int(kept[best]), int(kept[best]), False, stalled)
    raw = mser(moving, PRECISION, SLACK)
    cut = settled(moving, raw)
    return Truncation(int(kept[cut]) if cut else 0, int(kept[raw]) if raw else 0, True, stalled)
