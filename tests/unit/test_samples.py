"""Test means, differences and ratios of few values against published tables and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from netmeasure.analysis.samples import (
    Estimate,
    difference,
    mean,
    ratio,
    runs_needed,
    t_quantile,
)

#: Two-sided critical values of Student's t: NIST/SEMATECH e-Handbook of Statistical Methods,
#: 1.3.6.7.2, columns 0.95, 0.975 and 0.995 of one side.
TABLE = {
    1: (6.314, 12.706, 63.657),
    2: (2.920, 4.303, 9.925),
    3: (2.353, 3.182, 5.841),
    4: (2.132, 2.776, 4.604),
    5: (2.015, 2.571, 4.032),
    8: (1.860, 2.306, 3.355),
    10: (1.812, 2.228, 3.169),
    20: (1.725, 2.086, 2.845),
    30: (1.697, 2.042, 2.750),
    60: (1.671, 2.000, 2.660),
    100: (1.660, 1.984, 2.626),
}


@pytest.mark.parametrize("freedom", TABLE)
def test_quantiles_are_those_of_the_table(freedom: int) -> None:
    for level, expected in zip((0.90, 0.95, 0.99), TABLE[freedom], strict=True):
        assert t_quantile(level, freedom) == pytest.approx(expected, abs=0.0006)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.95, 0.999, 0.99999])
def test_quantiles_with_one_and_two_degrees_of_freedom_have_closed_forms(level: float) -> None:
    assert t_quantile(level, 1) == pytest.approx(math.tan(level * math.pi / 2), rel=1e-9)
    two = level * math.sqrt(2 / (1 - level**2))
    assert t_quantile(level, 2) == pytest.approx(two, rel=1e-9)


def test_quantiles_near_the_normal_distribution() -> None:
    assert t_quantile(0.95, 1e7) == pytest.approx(1.959964, abs=1e-5)


def test_quantiles_fall_between_whole_degrees_of_freedom() -> None:
    steps = [t_quantile(0.95, 1 + n / 10) for n in range(100)]
    assert steps == sorted(steps, reverse=True)


def test_a_mean() -> None:
    assert mean([]) is None
    assert mean([3.0]) == Estimate(3.0)
    found = mean([9.0, 10.0, 11.0])
    assert found is not None
    assert found.value == 10
    assert found.half == pytest.approx(4.303 / math.sqrt(3), abs=0.001)


def test_welchs_interval_is_the_textbooks() -> None:
    """NIST/SEMATECH e-Handbook 1.3.5.3 has the formulas; the figures are worked out by hand."""
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0]
    found = difference(a, b)
    assert found is not None
    assert found.value == 1
    # variances 2.5 and 4, of the means 0.5 and 4/3; (11/6)^2 / (0.25/4 + (16/9)/2) = 3.5328
    assert found.half == pytest.approx(t_quantile(0.95, 3.532847) * math.sqrt(11 / 6), rel=1e-6)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert difference([2.0] * 3, [5.0] * 3) == Estimate(3.0, 3.0, 3.0)
    found = ratio([2.0] * 3, [5.0] * 3)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((2.5, 2.5, 2.5))


def test_what_can_not_be_told_has_no_interval() -> None:
    assert ratio([], [1.0]) is None
    assert difference([1.0], []) is None
    assert ratio([0.0, 0.0], [1.0, 2.0]) is None
    single = ratio([2.0], [3.0, 3.0])
    assert single is not None
    assert single.value == pytest.approx(1.5)
    assert single.low is None
    assert ratio([2.0, 2.0], [0.0, 1.0]) == Estimate(0.25)
    assert difference([2.0], [3.0]) == Estimate(1.0)


def test_numbers_of_any_size() -> None:
    for scale in (1e-200, 1e200):
        found = ratio([scale, 1.01 * scale, scale], [scale, scale, 1.01 * scale])
        assert found is not None
        assert found.holds(1.0)
    far = ratio([1e-300, 1e300, 1.0], [1e300, 1e-300, 1.0])
    assert far is not None
    assert far.high is not None
    assert math.isfinite(far.high)


@pytest.mark.parametrize(("runs_a", "runs_b"), [(3, 3), (5, 5), (4, 12)])
@pytest.mark.parametrize("spread", [(0.01, 0.01), (0.002, 0.05)])
def test_the_interval_of_a_ratio_covers_the_truth(
    runs_a: int, runs_b: int, spread: tuple[float, float]
) -> None:
    """The coverage is the stated one; Welch's approximation errs on the safe side for few and
    unequal runs."""
    generator = np.random.default_rng(1)
    held = 0
    repetitions = 1500
    for _ in range(repetitions):
        a = np.exp(generator.normal(0, spread[0], runs_a)) * 1e9
        b = np.exp(generator.normal(0, spread[1], runs_b)) * 0.97e9
        found = ratio(list(a), list(b))
        assert found is not None
        held += found.holds(0.97)
    assert 0.93 < held / repetitions < 0.985


def test_runs_that_a_precision_takes() -> None:
    """This many runs are enough in about half of the cases; half as many are not."""
    generator = np.random.default_rng(2)

    def runs(count: int) -> list[float]:
        return list(np.exp(generator.normal(0, 0.03, count)))

    needed = runs_needed(runs(500), runs(500), 0.02)
    assert needed is not None
    # 1.98 * 0.03 * sqrt(2 / n) = 0.0198
    assert needed == pytest.approx(18.5, abs=2)
    assert runs_needed([1.0], [1.0, 2.0], 0.02) is None
    assert runs_needed([1.0, 1e6], [1.0, 1e6], 0.02) is None
    assert runs_needed([1.0, 1.0], [1.0, 1.0], 0.02) == 2
    assert runs_needed(runs(50), runs(50), 0.000_01) is None
