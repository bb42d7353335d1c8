"""Find how many of the first batches are the ramp: the approach to the first plateau, nothing else.

    d* = argmin over d <= n/2 of  1/(n-d)^2 * sum over i > d of (y_i - mean_d)^2

MSER (White, "An effective truncation heuristic for bias reduction in simulation output", Simulation
69 (1997) 323; White, Cobb and Spratt, "A comparison of five steady-state truncation heuristics",
WSC 2000) proposes the end of the ramp. A d* at the border n/2 means that no plateau was found
(Hoad, Robinson and Davies, WSC 2008). But MSER leaves out all that comes before an outage, a dip or
a step in the first half, too: a mean without it has the smaller standard error. So what it proposes
to leave out is a ramp only where no level had been reached and left within it:

1. `departures`: no stretch that was about level was left in a way that no approach leaves it.
2. `approach`: an exponential approach fits as well as a level that is then left. Which of them has
   to fit better depends on how fast the rate rose: an approach that gets from 25 to 65 % of its
   plateau in a moment has not much longer to go.

Where a level had been reached, the ramp ends where it was. A gradual approach is cut off further
than MSER does, until what is left of it is small beside the interval's width.
`python -m benchmarks.bench_steady` measures how well it works.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from netmeasure.analysis.approach import approach, first_level
from netmeasure.analysis.batches import Bools
from netmeasure.analysis.confidence import long_run_variance
from netmeasure.analysis.departures import LOW, first_departure, noise_of
from netmeasure.analysis.series import Floats, Int64s

#: A standard error of the mean that is good enough: no more is cut away for a better one.
PRECISION = 5e-4
#: A score within 5 % of the least is as good: the first such cut is taken, or MSER would go for
#: whatever quirk of the noise makes the scatter look smallest.
SLACK = 0.05
#: What is left of a gradual ramp may take so much away from the rate, as a share of the rate and of
#: its standard error; and so much more where the verdict is still `steady`, with a lower grade.
TOLERANCE = 2e-3
ERRORS = 0.5
MAX_REMAINDER = 0.01
MAX_REMAINDER_ERRORS = 2.0
#: A remainder above this share of that lowers the grade.
DOUBTFUL = 0.6
#: Two batches of this share of the plateau in a row have reached its height.
HEIGHT = 0.8
#: A level that was left lasted for so many batches, round trips at the least: a slow start may
#: reach the plateau for less, and fall back after the losses that it caused.
LEAST_LEVEL = 5
#: A level scatters by no more than this share of its mean, and its halves are about equal.
MAX_SCATTER = 0.25
MIN_LEVELNESS = 0.6
#: A level is reached within this share of it and so many standard deviations, but no more than...
OFF_LEVEL = 0.03
OFF_LEVEL_DEVIATIONS = 2.0
MAX_OFF_LEVEL = 0.25
#: The rise of an approach is measured between these shares of the plateau. An exponential one takes
#: up to three times as long again until MSER cuts it off.
RISE = (0.25, 0.65)
MAX_REST_OF_RISE = 3
#: A fit is better by so many variances of the noise, and significant from so many on.
BETTER = 4.0
SIGNIFICANT = 12.0
#: What was not cut off differs from the rest by so many standard errors.
MIN_ERRORS = 2.0


def mser(rates: Floats, precision: float = 0.0, slack: float = 0.0, most: int | None = None) -> int:
    """Return how many leading values to leave out: 0 to `most`, which is n/2 by default.

    The statistic is the square of the mean's standard error. Where it is below `precision` times
    the mean, or within `slack` of the least, it is good enough, and the first such cut is taken:
    without noise there is always a better one, up to n/2. Scores equal to twelve digits are equal,
    or rounding would choose. O(n), by suffix sums.
    """
    n = len(rates)
    most = n // 2 if most is None else most
    if n < 2:
        return 0
    # centred first, so that the difference of large squares loses no digits
    centred = rates - rates.mean()
    left = np.arange(n, 0, -1, dtype=np.float64)
    sums = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum((centred**2)[::-1])[::-1]
    scores = ((squares - sums**2 / left) / left**2)[: most + 1]
    means = (sums / left)[: most + 1] + rates.mean()
    limit = (1 + slack) * scores.min() + 1e-12 * scores.max()
    return int(np.argmax(scores <= np.maximum(limit, (precision * means) ** 2)))


class Truncation(NamedTuple):
    """Hold where the ramp ends.

    cut       the first `cut` batches are the ramp
    found     whether a plateau follows
    doubtful  whether the mean of the others may hold a part of the ramp, or of an event
    left      the batch at which a first level was left, if one was found within MSER's ramp
    """

    cut: int
    found: bool
    doubtful: bool = False
    left: int | None = None


def truncation(rates: Floats, stalled: Bools, slow_start: int = 0) -> Truncation:
    """Return the ramp of a transfer.

    Args:
        rates: The rate of each batch.
        stalled: Which of them hold a part of a stall. They say nothing of the plateau's level, but
            a level that ends in one was left.
        slow_start: How many batches slow start may last on this path.
    """
    return _before_stall(rates, stalled, _proposed(rates, stalled, slow_start))


def _proposed(rates: Floats, stalled: Bools, slow_start: int) -> Truncation:
    """Return the ramp by MSER, departures and fits, which need a level of some length."""
    kept = np.flatnonzero(~stalled)
    if len(kept) < 2:
        return Truncation(0, found=False)
    moving = rates[kept]
    middle = len(moving) // 2
    at_border = mser(moving, PRECISION) >= middle
    proposed = middle if at_border else mser(moving, PRECISION, SLACK)
    if not proposed:
        return Truncation(0, found=True, doubtful=_still_approaches(moving))
    event = _before_event(rates, kept, proposed, slow_start)
    if event is not None:
        return event
    cut, gradual = _without_level(moving, proposed, slow_start)
    if cut < proposed:
        doubtful = _differs(moving, cut, proposed) or _still_approaches(moving[cut:])
        return Truncation(int(kept[cut]), True, doubtful, left=int(kept[proposed]))
    if at_border:
        return Truncation(int(kept[cut]), found=False, doubtful=True)
    if gradual:
        return _settled(rates, kept, cut, slow_start)
    return Truncation(int(kept[cut]), True, _still_approaches(moving[cut:]))


def _before_stall(rates: Floats, stalled: Bools, found: Truncation) -> Truncation:
    """Return a ramp that ends before the first stall that came after the plateau's height.

    Slow start may reach the plateau for a few batches only, fall back after its losses, and recover
    in bursts. That is no level, but a stall in it is one, and not a part of the ramp.
    """
    after = ~stalled[found.cut :]
    if not found.cut or not after.any():
        return found
    high = (rates >= HEIGHT * float(rates[found.cut :][after].mean())) & ~stalled
    reached = np.flatnonzero(high[: found.cut - 1] & high[1 : found.cut])
    if not len(reached) or not stalled[reached[0] : found.cut].any():
        return found
    return found._replace(cut=int(reached[0]), doubtful=True)


def _before_event(rates: Floats, kept: Int64s, proposed: int, slow_start: int) -> Truncation | None:
    """Return the ramp before the first level that was left within the proposed one; None if there
    was none."""
    left = first_departure(rates, int(kept[proposed]), slow_start)
    if left is None:
        return None
    moving = rates[kept]
    cut = min(proposed, _reached(moving, int(np.searchsorted(kept, left))))
    return Truncation(int(kept[cut]), True, _differs(moving, cut, proposed), left)


def _without_level(moving: Floats, proposed: int, slow_start: int) -> tuple[int, bool]:
    """Return the proposed cut, or an earlier one where a level lies within what it cuts off; and
    whether a gradual approach ends there."""
    plateau = float(moving[proposed:].mean())
    spread, correlation = noise_of(moving[max(proposed, len(moving) // 2) :])
    noise = spread**2 * correlation
    low, high = (_first_at(moving, share * plateau) for share in RISE)
    earlier = mser(moving[:proposed], PRECISION, SLACK, max(0, proposed - LEAST_LEVEL // 2))
    from_below = float(moving[earlier:proposed].mean()) <= plateau
    rising = from_below and proposed - high <= MAX_REST_OF_RISE * (high - low + 1)
    since = min(low if rising else high, proposed - 1)
    part = moving[since:]
    gradual = approach(part)
    level = first_level(part, LEAST_LEVEL, min(len(part) // 2, 3 * proposed))
    # the rate's rise speaks for an approach; without one, the approach must fit better
    handicap = -BETTER * noise if rising else BETTER * noise
    if gradual.gain > SIGNIFICANT * noise and gradual.squares + handicap < level.squares:
        return proposed, True
    end: int | None = since + level.length
    clear = level.squares + BETTER * noise < gradual.squares
    if not (clear and since + level.length <= proposed and _is_calm(moving[since:end])):
        held_high = proposed - high >= LEAST_LEVEL
        if not held_high and not _is_even(moving[earlier:proposed]):
            return proposed, False
        end = _end_of_calm(moving, high if held_high else earlier, proposed)
    if end is None:
        return proposed, False
    if proposed <= slow_start and float(moving[end - LEAST_LEVEL : end].mean()) < LOW * plateau:
        return proposed, False
    return min(proposed - 1, _reached(moving, end)), False


def _settled(rates: Floats, kept: Int64s, cut: int, slow_start: int) -> Truncation:
    """Return a ramp that also holds the rest of a gradual approach; at most half of the time.

    MSER stops where what is left of an approach drowns in the noise, and so leaves a bias of the
    size of the noise. But the fit to all of it tells how much is left.
    """
    moving = rates[kept]
    n, plateau = len(moving), float(moving[cut:].mean())
    since = _first_at(moving, plateau / 2)
    if plateau <= 0 or cut - since < 3:
        return Truncation(int(kept[cut]), True, _still_approaches(moving[cut:]))
    spread, correlation = noise_of(moving[cut:])
    fitted = approach(moving[since:], spread**2 * correlation)
    error = float(np.sqrt(long_run_variance(moving[cut:]) / (n - cut))) / plateau
    allowed = max(TOLERANCE, ERRORS * error)
    most = max(MAX_REMAINDER, MAX_REMAINDER_ERRORS * error)
    later, remainder = cut, 0.0
    for later in range(cut, n // 2):
        remainder = fitted.remainder(later - since, n - since) / plateau
        if remainder <= allowed:
            break
    if later > cut:
        left = first_departure(rates, int(kept[later]), slow_start)
        if left is not None and left < kept[cut]:
            event = _before_event(rates, kept, later, slow_start)
            assert event is not None
            return event
        if left is not None:  # what comes after the approach is no part of it
            return Truncation(int(kept[cut]), True, doubtful=True)
    doubtful = remainder > max(allowed, DOUBTFUL * most) or _still_approaches(moving[later:])
    return Truncation(int(kept[later]), remainder <= most, doubtful)


def _still_approaches(moving: Floats) -> bool:
    """Return whether an approach is left in the rates."""
    spread, correlation = noise_of(moving)
    return approach(moving).gain > SIGNIFICANT * spread**2 * correlation


def _differs(moving: Floats, start: int, end: int) -> bool:
    """Return whether the batches from `start` to `end` change the mean of all from `start` on."""
    if end <= start:
        return False
    plateau = float(moving[end:].mean())
    change = abs(float(moving[start:end].mean()) - plateau)
    spread, correlation = noise_of(moving[end:])
    significant = change > MIN_ERRORS * spread * np.sqrt(correlation / (end - start))
    effect = change * (end - start) / (len(moving) - start)
    return bool(significant and effect > PRECISION * abs(plateau))


def _reached(moving: Floats, end: int) -> int:
    """Return where the level that lasted until `end` had been reached: in the first stretch that is
    about level at this height, at its first batch of this height. Not in the burst that follows a
    gap, which would be counted without the gap."""
    before = moving[max(0, end - 2 * LEAST_LEVEL) : end]
    if not len(before):
        return 0
    level, spread = float(np.median(before)), float(before.std())
    since = 0
    if end >= LEAST_LEVEL:
        windows = np.lib.stride_tricks.sliding_window_view(moving[:end], LEAST_LEVEL)
        means = windows.mean(axis=1)
        calm = windows.std(axis=1) <= MAX_SCATTER * means
        here = np.flatnonzero(calm & (np.abs(means - level) <= MAX_OFF_LEVEL * level))
        since = int(here[0]) if len(here) else 0
    off = min(OFF_LEVEL * level + OFF_LEVEL_DEVIATIONS * spread, MAX_OFF_LEVEL * level)
    at_level = np.abs(moving[since:end] - level) <= off
    return since + int(np.argmax(at_level)) if at_level.any() else min(since, end - 1)


def _end_of_calm(moving: Floats, start: int, end: int) -> int | None:
    """Return where the first stretch without much scatter ends; None if there is none."""
    if end - start < LEAST_LEVEL:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(moving[start:end], LEAST_LEVEL)
    calm = np.flatnonzero(windows.std(axis=1) <= MAX_SCATTER * windows.mean(axis=1))
    return start + int(calm[0]) + LEAST_LEVEL if len(calm) else None


def _is_calm(rates: Floats) -> bool:
    return float(rates.std()) <= MAX_SCATTER * float(rates.mean())


def _is_even(rates: Floats) -> bool:
    """Return whether the rates are a level, going by their two halves."""
    if len(rates) < LEAST_LEVEL:
        return False
    early, late = (float(half.mean()) for half in np.array_split(rates, 2))
    return MIN_LEVELNESS * early < late < early / MIN_LEVELNESS


def _first_at(moving: Floats, rate: float) -> int:
    found = np.flatnonzero(moving >= rate)
    return int(found[0]) if len(found) else 0
