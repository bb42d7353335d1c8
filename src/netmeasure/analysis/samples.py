"""Compute means of a few independent values, such as the rates of several runs, and their ratio.

The runs' means are the sample; the confidence interval of a single run is not used. Ratios are
of geometric means, from the logarithms, with Welch's t. Kalibera and Jones, "Rigorous benchmarking
in reasonable time", ISMM 2013; Welch, Biometrika 34 (1947) 28.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The default coverage of an interval.
LEVEL = 0.95
#: More runs are not practicable: the scatter is too large for the desired precision.
MAX_RUNS = 1000
_MAX_EXPONENT = 700.0  # of e, within a float


class Estimate(msgspec.Struct, frozen=True):
    """Hold a value and its confidence interval.

    Attributes:
        value: The value.
        low: The lower end of the interval; None: there is none.
        high: Its upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Return half the width of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def holds(self, value: float) -> bool:
        """Return whether the interval contains this value; True without an interval."""
        return self.low is None or self.high is None or self.low <= value <= self.high


def mean(values: Sequence[float], level: float = LEVEL) -> Estimate | None:
    """Return the arithmetic mean, with Student's t; None for no values."""
    if not values:
        return None
    middle = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(middle)
    half = t_quantile(level, len(values) - 1) * math.sqrt(_variance(values) / len(values))
    return Estimate(middle, middle - half, middle + half)


def difference(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Estimate | None:
    """Return the mean of `b` less the mean of `a`, with Welch's t. None: `a` or `b` is empty."""
    if not a or not b:
        return None
    middle = math.fsum(b) / len(b) - math.fsum(a) / len(a)
    half = _half(a, b, level)
    return Estimate(middle) if half is None else Estimate(middle, middle - half, middle + half)


def ratio(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Estimate | None:
    """Return the geometric mean of `b` over that of `a`, with Welch's t on the logarithms.

    If a value is 0, it has no logarithm: the result is then the ratio of the arithmetic means,
    without an interval. None: `a` or `b` is empty, or all of `a` is 0.
    """
    if not a or not b or not any(a):
        return None
    if min(*a, *b) <= 0:
        # not the quotient of two means, which is 0 for the smallest floats
        means = math.fsum(b) / math.fsum(a) * (len(a) / len(b))
        return Estimate(min(means, math.exp(_MAX_EXPONENT)))
    logs = difference(_logs(a), _logs(b), level)
    assert logs is not None
    if logs.low is None or logs.high is None:
        return Estimate(_exp(logs.value))
    return Estimate(_exp(logs.value), _exp(logs.low), _exp(logs.high))


def runs_needed(a: Sequence[float], b: Sequence[float], margin: float) -> int | None:
    """Return how many runs of each side are needed to know the ratio to +-`margin`, if they scatter
    as these do.

    None: these runs do not suffice for an estimate, or it is above MAX_RUNS.
    """
    if len(a) < 2 or len(b) < 2 or min(*a, *b) <= 0:
        return None
    scatter = _variance(_logs(a)) + _variance(_logs(b))
    wanted = math.log1p(margin)

    def is_enough(runs: int) -> bool:
        return t_quantile(LEVEL, 2 * runs - 2) * math.sqrt(scatter / runs) <= wanted

    if not is_enough(MAX_RUNS):
        return None
    few, enough = 1, MAX_RUNS
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if is_enough(middle) else (middle, enough)
    return enough


@lru_cache(maxsize=4096)
def t_quantile(level: float, freedom: float) -> float:
    """Return the t that Student's distribution with `freedom` (1 or more) degrees of freedom is
    within +-t of with probability `level`.

    With t = sqrt(freedom) tan(angle) the distribution is an integral of cos(angle)^(freedom - 1)
    (Abramowitz and Stegun 26.7), smooth enough for Gauss's rule; the angle is found by bisection.
    """
    import numpy as np  # imported here, since the command line imports this module before any test

    nodes, weights = _gauss()
    norm = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)

    def within(angle: float) -> float:
        values = np.cos(angle * (nodes + 1) / 2) ** (freedom - 1)
        return float(2 * norm * angle / 2 * (weights @ values))

    low, high = 0.0, min(math.pi / 2, 40 / math.sqrt(freedom))  # beyond: less than 1e-16
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


@lru_cache(maxsize=1)
def _gauss() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return 64 nodes and weights of Gauss's rule, which take longer than a quantile by them."""
    from numpy.polynomial.legendre import leggauss

    nodes, weights = leggauss(64)
    return nodes, weights


def _half(a: Sequence[float], b: Sequence[float], level: float) -> float | None:
    """Return half the width of Welch's interval of a difference of means."""
    if len(a) < 2 or len(b) < 2:
        return None
    of_a, of_b = _variance(a) / len(a), _variance(b) / len(b)
    both = of_a + of_b
    if both <= 0:
        return 0.0
    # as shares, since squares of small variances would underflow
    share = of_a / both
    freedom = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))
    return t_quantile(level, freedom) * math.sqrt(both)


def _variance(values: Sequence[float]) -> float:
    middle = math.fsum(values) / len(values)
    return math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)


def _logs(values: Sequence[float]) -> list[float]:
    return [math.log(value) for value in values]


def _exp(value: float) -> float:
    return math.exp(max(-_MAX_EXPONENT, min(value, _MAX_EXPONENT)))
