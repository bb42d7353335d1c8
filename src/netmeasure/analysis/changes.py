"""Find changes of the rate's level: change points, and drift.

For each number of changes, dynamic programming finds the places with the least sum of squares
(segment neighbourhood: Auger and Lawrence, Bull. Math. Biology 51 (1989) 39; Bai and Perron, J.
Applied Econometrics 18 (2003) 1). The largest number is taken for which every change is large and
significant against the long-run variance of the residuals. The plain variance would split every
autocorrelated series into levels.

PELT (Killick, Fearnhead and Eckley, JASA 107 (2012) 1590) needs the long-run variance beforehand.
Only an estimate from first differences is unaffected by shifts, and it is too noisy with 200
batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netmeasure.analysis.confidence import MIN_VALUES, correlation_time, long_run_variance
from netmeasure.analysis.series import Floats, Int64s, median

MAX_CHANGES = 4
#: A change of level is at least 2 % and this many standard errors. The second limit rises with each
#: further fitted change, which may be fitted to noise.
MIN_CHANGE = 0.02
MIN_ERRORS = 6.0
ERRORS_PER_CHANGE = 1.0
#: It also moves the mean of the stretch by this share: 0.25 % is 5 % for a 20th of the time.
MIN_EFFECT = 0.0025
#: The least number of batches in a level.
MIN_SEGMENT = 12
#: The least number of batches in a level whose end is known.
MIN_LEVEL = 4
#: In a stretch without change points, a rate that changes by more than this share is not steady.
MAX_DRIFT = 0.05
DRIFT_ERRORS = 4.0
#: The standard error of a drift is increased by this number over the effective number of values:
#: the noise of few values is underestimated, since a straight line is fitted to each half.
FEW_VALUES = 12.0
#: The limit for a rate that rises (or falls) continuously. A sender that still increases its window
#: (reno adds one segment per round trip) may gain a few percent in a run and still be far from its
#: plateau.
MAX_CREEP = 0.01
#: Residuals are cut to this many median deviations, which are four standard deviations.
OUTLYING = 6.0
#: The standard error of a median over that of a mean, for normal noise.
MEDIANS_ERROR = 1.25


def segments(rates: Floats, most: int, least: int) -> list[Int64s]:
    """Return where the best-fitting levels begin, for 1, 2, ... `most` changes as far as the series
    is long enough.

    Each level has `least` rates or more. The time is O(most * n^2).
    """
    n = len(rates)
    most = min(most, n // least - 1)
    if most < 1:
        return []
    centred = rates - rates.mean()
    sums = np.concatenate(([0.0], np.cumsum(centred)))
    squares = np.concatenate(([0.0], np.cumsum(centred**2)))
    length = np.arange(n + 1)[None, :] - np.arange(n + 1)[:, None]
    costs = squares[None, :] - squares[:, None]
    costs -= (sums[None, :] - sums[:, None]) ** 2 / np.maximum(length, 1)
    costs[length < least] = np.inf
    best = costs[0]
    since: list[Int64s] = []
    found = []
    for count in range(1, most + 1):
        totals = best[:, None] + costs
        since.append(np.argmin(totals, axis=0))
        best = totals[since[-1], np.arange(n + 1)]
        places = [n]
        for step in reversed(since):
            places.append(int(step[places[-1]]))
        assert len(places) == count + 1
        found.append(np.array(places[:0:-1], dtype=np.int64))
    return found


def change_points(rates: Floats) -> tuple[int, ...]:
    """Return the indices at which the rate changed to another level and stayed there."""
    n = len(rates)
    mean = float(rates.mean()) if n else 0.0
    if mean <= 0:
        return ()
    rates = rates / mean
    taken: tuple[int, ...] = ()
    for places in segments(rates, MAX_CHANGES, MIN_SEGMENT):
        if _significant(rates, places):
            taken = tuple(int(place) for place in places)
    return taken


def changed(rates: Floats, place: int) -> bool:
    """Return whether the rate changed to another level at `place`, also near to an end."""
    mean = float(rates.mean())
    if mean <= 0 or not MIN_LEVEL <= place <= len(rates) - MIN_LEVEL:
        return False
    return _significant(rates / mean, np.array([place], dtype=np.int64))


def _significant(rates: Floats, places: Int64s) -> bool:
    """Return whether every one of these changes is significant."""
    begins = np.concatenate(([0], places))
    sizes = np.diff(np.concatenate((begins, [len(rates)])))
    means = np.add.reduceat(rates, begins) / sizes
    change = np.diff(means)
    least = np.maximum(MIN_EFFECT * len(rates) / np.minimum(sizes[1:], sizes[:-1]), MIN_CHANGE)
    if np.any(np.abs(change) < least):
        return False  # as most are, and the noise takes long to compute
    medians = np.array([median(part) for part in np.split(rates, places)])
    noise = _noise(rates - np.repeat(means, sizes))
    errors = np.sqrt(noise * (1 / sizes[1:] + 1 / sizes[:-1]))
    limit = (MIN_ERRORS + ERRORS_PER_CHANGE * (len(places) - 1)) * errors
    limit = np.maximum(limit, least)
    # a few short outages lower the mean of a part but not its median: the level is unchanged
    same = np.diff(medians) * np.sign(change) < np.abs(change) / 2
    return bool(np.all((np.abs(change) >= limit) & ~same))


def _noise(rest: Floats) -> float:
    """Return the long-run variance of the residuals, or the estimate from their autocorrelation
    time if that is larger: the fit has removed a part of the lowest frequencies."""
    return max(long_run_variance(rest), float(rest.var()) * correlation_time(rest))


def drifts(rates: Floats, limit: float = MAX_DRIFT) -> bool:
    """Return whether the rate drifts: its halves differ, or it rises or falls all the time.

    The halves differ by more than `limit` of the mean and more than four standard errors, which are
    larger for few independent values. The standard error is that of the noise around a straight
    line in each half, so that the drift does not contribute. With too few values the result is
    False.
    """
    if len(rates) < MIN_VALUES:
        return False
    halves = np.array_split(rates, 2)
    means = [float(half.mean()) for half in halves]
    rest = np.concatenate(list(map(_detrended, halves)))
    error = 2 * float(np.sqrt(_noise(rest) / len(rates)))
    error *= 1 + FEW_VALUES * correlation_time(rest) / len(rates)
    far = abs(means[1] - means[0]) > max(limit * float(rates.mean()), DRIFT_ERRORS * error)
    return far or _creeps(rates)


def _creeps(rates: Floats) -> bool:
    """Return whether the rate rises (or falls) from each quarter to the next one.

    Medians and noise without outliers are used, so that one short outage does not hide it.
    """
    steps = np.diff([median(quarter) for quarter in np.array_split(rates, 4)])
    if not (np.all(steps > 0) or np.all(steps < 0)):
        return False
    halves = np.array_split(rates, 2)
    rest = np.concatenate(list(map(_detrended, halves)))
    rest = rest - median(rest)
    usual = OUTLYING * median(np.abs(rest))
    error = 2 * MEDIANS_ERROR * float(np.sqrt(_noise(rest.clip(-usual, usual)) / len(rates)))
    change = abs(median(halves[1]) - median(halves[0]))
    return change > max(MAX_CREEP * float(rates.mean()), DRIFT_ERRORS * error)


def slopes(rates: Floats, places: Sequence[int]) -> bool:
    """Return whether a straight line fits better than the levels that begin at `places`. If so, the
    rate has a slope, and the levels are an artefact."""
    left = sum(float(((part - part.mean()) ** 2).sum()) for part in np.split(rates, places))
    return float((_detrended(rates) ** 2).sum()) < left


def _detrended(rates: Floats) -> Floats:
    """Return the residuals of a straight line."""
    at = np.arange(len(rates)) - (len(rates) - 1) / 2
    slope = float((at * rates).sum()) / float((at**2).sum())
    return np.asarray(rates - rates.mean() - slope * at, dtype=np.float64)
