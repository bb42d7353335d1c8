"""Find how many of the first batches are the ramp: the approach to the first plateau, and nothing
else.

    d* = argmin over d <= n/2 of  1/(n-d)^2 * sum over i > d of (y_i - mean_d)^2

MSER (White, "An effective truncation heuristic for bias reduction in simulation output", Simulation
69 (1997) 323; White, Cobb and Spratt, "A comparison of five steady-state truncation heuristics",
WSC 2000) proposes the end of the ramp. A d* at the border n/2 means that no plateau was found
(Hoad, Robinson and Davies, WSC 2008). But MSER also cuts off everything before an outage, a dip or
a step in the first half, because the mean of the rest has a smaller standard error. Its proposal is
therefore a ramp only if the rate did not reach and leave a level within it:

1. `departures`: no level was left in a way that is impossible for an approach.
2. `approach`: an exponential approach fits as well as a level followed by another one. Which fit
   must be better depends on how fast the rate rose: an approach that rises quickly from 25 to 65 %
   of its plateau is soon over.

If a level was reached, the ramp ends where it was reached. More of a gradual approach is cut off
than MSER proposes, until its rest is small compared with the interval's width. `python -m
benchmarks.bench_steady` measures how well it works.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from netmeasure.analysis.approach import approach, first_level
from netmeasure.analysis.batches import Bools
from netmeasure.analysis.confidence import long_run_variance
from netmeasure.analysis.departures import LOW, first_departure, noise_of
from netmeasure.analysis.series import Floats, Int64s, median

#: A standard error of the mean that suffices: no more is cut off to reduce it further.
PRECISION = 5e-4
#: A score within 5 % of the least counts as equal, and the first such cut is taken. Otherwise the
#: accidents of the noise would determine MSER's cut.
SLACK = 0.05
#: The rest of a gradual ramp may reduce the rate by this much, as a share of the rate and of its
#: standard error; up to the second pair of limits, the verdict is still `steady`, with a lower
#: grade.
TOLERANCE = 2e-3
ERRORS = 0.5
MAX_REMAINDER = 0.01
MAX_REMAINDER_ERRORS = 2.0
#: A remainder above this share of that lowers the grade.
DOUBTFUL = 0.6
#: Two batches of this share of the plateau in a row have reached its height.
HEIGHT = 0.8
#: A level that was left lasted for at least this many batches and round trips: slow start may reach
#: the plateau for a shorter time, and fall back after the losses that it caused.
LEAST_LEVEL = 5
#: A level scatters by no more than this share of its mean, and its halves are about equal.
MAX_SCATTER = 0.25
MIN_LEVELNESS = 0.6
#: A level is reached within this share of it and so many standard deviations, but no more than...
OFF_LEVEL = 0.03
OFF_LEVEL_DEVIATIONS = 2.0
MAX_OFF_LEVEL = 0.25
#: The rise of an approach is measured between these shares of the plateau. An exponential approach
#: then takes up to three times as long until MSER's cut.
RISE = (0.25, 0.65)
MAX_REST_OF_RISE = 3
#: A rise that takes no more batches than this may be slow start, which doubles the rate each round
#: trip. It is then no part of the fits: a level after it would fit worse than an approach.
MAX_JUMP = 2
#: A fit is better, or clearly better, if it explains this many more variances of the noise, and
#: significant from this many on.
BETTER = 4.0
CLEARLY = 2.0
SIGNIFICANT = 12.0
#: The least difference, in standard errors, between the batches of MSER's ramp that were not cut
#: off and the rest.
MIN_ERRORS = 2.0

#: Whether a gradual approach fits clearly better than a level that was left, or about as well.
Fit = Literal["clear", "doubtful"]


def mser(rates: Floats, precision: float = 0.0, slack: float = 0.0, most: int | None = None) -> int:
    """Return how many leading values to cut off: 0 to `most`, which is n/2 by default.

    The statistic is the square of the mean's standard error. A standard error below `precision`
    times the mean, or a statistic within `slack` of the least, suffices, and the first such cut is
    taken: without noise, a later cut is always better, up to n/2. Scores equal to twelve digits
    count as equal, so that rounding does not decide. O(n), by suffix sums.
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
    doubtful  whether the mean of the other batches may include a part of the ramp, or of an event
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
        stalled: Which batches overlap a stall. These do not show the plateau's level, but a level
            that ends in a stall was left.
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
    cut, fit = _without_level(moving, proposed, slow_start)
    if cut < proposed:
        doubtful = _differs(moving, cut, proposed) or _still_approaches(moving[cut:])
        return Truncation(int(kept[cut]), True, doubtful, left=int(kept[proposed]))
    if at_border:
        return Truncation(int(kept[cut]), found=False, doubtful=True)
    if fit is not None:
        return _settled(rates, kept, cut, slow_start, fit)
    return Truncation(int(kept[cut]), True, _still_approaches(moving[cut:]))


def _before_stall(rates: Floats, stalled: Bools, found: Truncation) -> Truncation:
    """Return a ramp that ends before the first stall that came after the plateau's height.

    Slow start may reach the plateau for a few batches only, fall back after its losses, and recover
    in bursts. This is not a level. But a stall in this time is a stall, and not a part of the ramp.
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
    """Return the ramp before the first level that was left within the proposed ramp; None: there is
    no such level."""
    left = first_departure(rates, int(kept[proposed]), slow_start)
    if left is None:
        return None
    moving = rates[kept]
    cut = min(proposed, _reached(moving, int(np.searchsorted(kept, left))))
    return Truncation(int(kept[cut]), True, _differs(moving, cut, proposed), left)


def _without_level(moving: Floats, proposed: int, slow_start: int) -> tuple[int, Fit | None]:
    """Return the proposed cut, or an earlier one if a level lies before the proposed cut; and
    how well a gradual approach fits. None: it fits less well than a level, or there is none."""
    plateau = float(moving[proposed:].mean())
    spread, correlation = noise_of(moving[max(proposed, len(moving) // 2) :])
    noise = spread**2 * correlation
    low, high = (_first_at(moving, share * plateau) for share in RISE)
    earlier = mser(moving[:proposed], PRECISION, SLACK, max(0, proposed - LEAST_LEVEL // 2))
    from_below = float(moving[earlier:proposed].mean()) <= plateau
    rising = from_below and proposed - high <= MAX_REST_OF_RISE * (high - low + 1)
    # within two batches, slow start rises as far, whatever follows
    slow = rising and high - low > MAX_JUMP
    since = min(low if slow else high, proposed - 1)
    part = moving[since:]
    gradual = approach(part)
    level = first_level(part, LEAST_LEVEL, min(len(part) // 2, 3 * proposed))
    early = _noise_between_neighbours(moving[since:proposed], noise, correlation)
    # a fast rise indicates an approach; without one, the approach must fit better
    handicap = -BETTER * min(noise, early) if rising else BETTER * max(noise, early)
    if gradual.gain > SIGNIFICANT * noise and gradual.squares + handicap < level.squares:
        clear = level.squares - gradual.squares >= CLEARLY * max(noise, early)
        return proposed, "clear" if clear else "doubtful"
    end: int | None = since + level.length
    clear = level.squares + BETTER * noise < gradual.squares
    if not (clear and since + level.length <= proposed and _is_calm(moving[since:end])):
        held_high = proposed - high >= LEAST_LEVEL
        if not held_high and not _is_even(moving[earlier:proposed]):
            return proposed, None
        end = _end_of_calm(moving, high if held_high else earlier, proposed)
    if end is None:
        return proposed, None
    if proposed <= slow_start and float(moving[end - LEAST_LEVEL : end].mean()) < LOW * plateau:
        return proposed, None
    return min(proposed - 1, _reached(moving, end)), None


def _noise_between_neighbours(rates: Floats, otherwise: float, correlation: float) -> float:
    """Return the variance of a few rates from the differences between neighbours, which a slope
    hardly changes. Before an event, the scatter may differ from that of the plateau."""
    if len(rates) < LEAST_LEVEL:
        return otherwise
    return float((np.diff(rates) ** 2).mean()) / 2 * correlation


def _settled(rates: Floats, kept: Int64s, cut: int, slow_start: int, fit: Fit) -> Truncation:
    """Return a ramp that also holds the rest of a gradual approach; at most half of the time. If
    the fit is doubtful, only say whether the approach ends in this time.

    MSER stops where the rest of an approach disappears in the noise, and so leaves a bias of the
    size of the noise. The fit to the whole approach estimates this rest.
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
    if fit == "doubtful":
        # a slow change after a level looks the same: no more of it is cut off, but a rate that
        # still changes beyond the middle has not reached its plateau, whichever of the two it is
        return Truncation(int(kept[cut]), remainder <= most, _still_approaches(moving[cut:]))
    if later > cut:
        left = first_departure(rates, int(kept[later]), slow_start)
        if left is not None and left < kept[cut]:
            event = _before_event(rates, kept, later, slow_start)
            assert event is not None
            return event
        if left is not None:  # the batches after the approach are not a part of it
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
    """Return where the rate reached the level that lasted until `end`: at the first batch of this
    height in the first level stretch of this height. This excludes the burst after a gap, which
    would be counted without the gap."""
    before = moving[max(0, end - 2 * LEAST_LEVEL) : end]
    if not len(before):
        return 0
    level, spread = median(before), float(before.std())
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
    """Return where the first stretch without much scatter ends; None: there is none."""
    if end - start < LEAST_LEVEL:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(moving[start:end], LEAST_LEVEL)
    calm = np.flatnonzero(windows.std(axis=1) <= MAX_SCATTER * windows.mean(axis=1))
    return start + int(calm[0]) + LEAST_LEVEL if len(calm) else None


def _is_calm(rates: Floats) -> bool:
    return float(rates.std()) <= MAX_SCATTER * float(rates.mean())


def _is_even(rates: Floats) -> bool:
    """Return whether the rates are a level, by a comparison of their two halves."""
    if len(rates) < LEAST_LEVEL:
        return False
    early, late = (float(half.mean()) for half in np.array_split(rates, 2))
    return MIN_LEVELNESS * early < late < early / MIN_LEVELNESS


def _first_at(moving: Floats, rate: float) -> int:
    found = np.flatnonzero(moving >= rate)
    return int(found[0]) if len(found) else 0
