"""Find where the rate left a level that it had reached: an outage, a dip, a step, a burst.

An approach to a plateau slows down: the rate gains at most as much in a period as in the period
before, and never decreases. Take two adjacent periods of equal length with about the same rate: in
an approach, the rate after them lies between the second mean and the straight line through both. If
the rate is significantly outside, it has left the level. The test is made at every batch, for
several lengths of the two periods and of the period after them. It is a scan of moving sums, as for
change points (Eichinger and Kirch, "A MOSUM procedure for the estimation of multiple random change
points", Bernoulli 24 (2018) 526), but against the bounds of an approach that slows down.
"""

from __future__ import annotations

import numpy as np

from netmeasure.analysis.confidence import correlation_time
from netmeasure.analysis.series import Floats, median

#: Lengths of each of the two periods, and of the period after them, in batches.
LENGTHS = (2, 4, 6, 8, 12, 16, 24, 32)
FOLLOWING = (1, 2, 4, 8, 16, 32)
#: The period after them is at most this many times as long as each of the two.
MAX_FOLLOWING = 4
#: A departure is at least this many standard errors (many, since many places are tested) and this
#: share of the level.
MIN_ERRORS = 5.5
MIN_DEPARTURE = 0.04
#: Two periods are level if they differ by no more than this share, in addition to the noise.
MAX_SLOPE = 0.15
#: A level scatters by no more than this share of its mean.
MAX_SCATTER = 0.35
#: A level shorter than this, in both periods together, counts only at the height of the plateau.
SHORT = 8
MAX_OFF_PLATEAU = 0.1
MIN_OFF_PLATEAU = 0.02
#: Below this share of the plateau there is no level while slow start may last, ...
LOW = 0.25
#: ... and less than this never is.
NOTHING = 0.02
#: The standard deviation within a few batches is taken as at least this share of the plateau's.
MIN_DEVIATION = 0.5
#: The least scatter to assume, as a share of the level.
MIN_SPREAD = 1e-3
#: Deviations are limited to this many standard deviations.
OUTLYING = 4.0
#: From a median absolute deviation to the standard deviation of normal noise.
NORMAL = 1.4826


def noise_of(plateau: Floats) -> tuple[float, float]:
    """Return the standard deviation and the correlation time (in batches) of the rates of a
    plateau, both without outliers."""
    level = median(plateau)
    spread = NORMAL * median(np.abs(plateau - level))
    usual = plateau.clip(level - OUTLYING * spread, level + OUTLYING * spread)
    longest = max(1.0, len(plateau) / 20)
    return max(spread, MIN_SPREAD * abs(level)), min(correlation_time(usual), longest)


def first_departure(rates: Floats, cut: int, slow_start: int = 0) -> int | None:
    """Return the first batch before `cut` at which a level was left; None if there is none.

    Args:
        rates: All batches, including those in which nothing arrived.
        cut: Where the plateau begins, as far as known; the noise is estimated from the batches
            after it.
        slow_start: How many batches slow start may last. Until then a low rate is no level.
    """
    if cut < 2 * LENGTHS[0] + 1:
        return None
    scan = _Scan(rates, cut)
    found = [
        place
        for length in LENGTHS
        if 2 * length < cut
        for place in scan.departures(length, slow_start)
    ]
    return min(found, default=None)


class _Scan:
    """Hold the moving sums of a series, and the noise of its plateau."""

    def __init__(self, rates: Floats, cut: int) -> None:
        self._count = len(rates)
        self._cut = cut
        self._plateau = median(rates[cut:])
        self._scatter, self._correlation = noise_of(rates[cut:])
        self._sums = np.concatenate(([0.0], np.cumsum(rates)))
        self._squares = np.concatenate(([0.0], np.cumsum(rates**2)))

    def departures(self, length: int, slow_start: int) -> list[int]:
        """Return the first place at which a level of two periods of `length` was left, for each
        length of the period after them."""
        at = np.arange(2 * length, self._cut)
        first, second = self._mean(at - 2 * length, at - length), self._mean(at - length, at)
        inner = self._inner(at - 2 * length, at - length, at)
        local = np.sqrt(inner / max(1, 2 * length - 2))
        deviation = self._deviation(local, length)
        level = self._is_level(at, first, second, deviation, length, slow_start)
        level &= local <= MAX_SCATTER * second
        places = []
        for following in FOLLOWING:
            if following > MAX_FOLLOWING * length:
                break
            left = self._left(at, first, second, deviation, length, following)
            places += np.flatnonzero(level & left)[:1].tolist()
        return [int(at[place]) for place in places]

    def _is_level(
        self,
        at: np.ndarray,
        first: Floats,
        second: Floats,
        deviation: Floats,
        length: int,
        slow_start: int,
    ) -> np.ndarray:
        # a lower rate has less noise: with the plateau's noise, a slow start would count as level
        height = np.minimum(1, second / self._plateau) if self._plateau > 0 else 1.0
        usual = deviation * height
        error = usual * np.sqrt(2 * self._shrinking(length))
        level = np.abs(second - first) <= MAX_SLOPE * second + 2 * error
        if 2 * length < SHORT:
            error = deviation * np.sqrt(self._shrinking(2 * length))
            allowed = np.maximum(2 * error, MIN_OFF_PLATEAU * self._plateau)
            off = np.abs((first + second) / 2 - self._plateau)
            level &= off <= np.minimum(allowed, MAX_OFF_PLATEAU * self._plateau)
        level &= second > NOTHING * self._plateau
        level &= (second >= LOW * self._plateau) | (at > slow_start)
        return np.asarray(level)

    def _left(
        self,
        at: np.ndarray,
        first: Floats,
        second: Floats,
        deviation: Floats,
        length: int,
        following: int,
    ) -> np.ndarray:
        end = np.minimum(at + following, self._count)
        after = self._mean(at, end)
        # the straight line, at the middle of the period after them
        reach = (length + following) / (2 * length)
        trend = second - first
        low, high = second + np.minimum(0, trend * reach), second + np.maximum(0, trend * reach)
        own = np.maximum(deviation, self._scatter)
        if following >= SHORT:
            middle = (at + end) // 2
            local = np.sqrt(self._inner(at, middle, end) / (following - 2))
            own = self._deviation(local, following // 2)
        noise = own**2 * self._shrinking(following)
        known = deviation**2 * self._shrinking(length)
        near = np.sqrt(known + noise)  # of the second mean
        far = np.sqrt(known * ((1 + reach) ** 2 + reach**2) + noise)  # of the line
        rising = trend > 0
        below, above = low - after, after - high
        significant = below > MIN_ERRORS * np.where(rising, near, far)
        significant |= above > MIN_ERRORS * np.where(rising, far, near)
        return np.asarray(significant & (np.maximum(below, above) > MIN_DEPARTURE * second))

    def _mean(self, start: np.ndarray, end: np.ndarray) -> Floats:
        return np.asarray((self._sums[end] - self._sums[start]) / np.maximum(1, end - start))

    def _inner(self, start: np.ndarray, middle: np.ndarray, end: np.ndarray) -> Floats:
        """Return the sum of squares about the mean of each half."""
        squares = self._squares[end] - self._squares[start]
        squares -= (middle - start) * self._mean(start, middle) ** 2
        squares -= (end - middle) * self._mean(middle, end) ** 2
        return np.asarray(np.maximum(squares, 0))

    def _shrinking(self, count: int) -> float:
        """Return the variance of a mean of so many batches, as a share of that of one batch."""
        return min(1.0, max(self._correlation, 1.0) / count)

    def _deviation(self, local: Floats, length: int) -> Floats:
        """Return the standard deviation, corrected from `local`, the one about the means of two
        halves of `length` each. The means absorb a part of it, and an estimate from few values is
        uncertain.
        """
        lost = max(1.0, self._correlation) / length
        if lost > 0.5:
            return np.asarray(np.maximum(local, self._scatter))
        free = 2 * length * (1 - lost)
        larger = np.sqrt(free / max(1.0, free - 2) / (1 - lost))
        return np.asarray(np.maximum(larger * local, MIN_DEVIATION * self._scatter))
