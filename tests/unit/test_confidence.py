"""Test the precision of a mean against closed forms, and test which changes must not affect it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from netmeasure.analysis.confidence import (
    MIN_VALUES,
    QUANTILE,
    TERMS,
    contributors,
    correlation_time,
    long_run_variance,
    precision,
)

counts = st.lists(st.integers(0, 10**11), max_size=120).map(lambda n: np.array(n, dtype=float))
enough = st.lists(st.integers(0, 10**6), min_size=MIN_VALUES, max_size=120).map(
    lambda n: np.array(n, dtype=float)
)


def setup_module() -> None:
    """Start the threads of scipy's linear algebra before a test, for they stay."""
    import scipy.stats  # noqa: F401


def process(phi: float, n: int, seed: int) -> np.ndarray:
    """Return an AR(1) process with mean 100 and deviation 1."""
    generator = np.random.default_rng(seed)
    steps = generator.standard_normal(n) * np.sqrt(1 - phi**2)
    found = np.empty(n)
    last = generator.standard_normal()
    for i, step in enumerate(steps):
        found[i] = last = phi * last + step
    return 100 + found


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.5, 0.8])
def test_long_run_variance_of_a_known_process(phi: float) -> None:
    """The closed form is sigma^2 (1 + phi)/(1 - phi)."""
    found = np.mean([long_run_variance(process(phi, 1000, seed)) for seed in range(200)])
    assert found == pytest.approx((1 + phi) / (1 - phi), rel=0.15)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_correlation_time_of_a_known_process(phi: float) -> None:
    found = np.median([correlation_time(process(phi, 2000, seed)) for seed in range(50)])
    assert found == pytest.approx((1 + phi) / (1 - phi), rel=0.15)


def test_an_alternating_series_is_no_less_precise_than_independent_values() -> None:
    assert correlation_time(np.tile([1.0, 2.0], 50)) == 1


def test_a_cosine_is_one_coefficient() -> None:
    n = 100
    wave = np.cos(np.pi * 3 * (np.arange(n) + 0.5) / n)
    assert long_run_variance(5 + wave) == pytest.approx(n / 2 / TERMS)
    beyond = np.cos(np.pi * (TERMS + 1) * (np.arange(n) + 0.5) / n)
    assert long_run_variance(5 + beyond) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("phi", [-0.4, 0.0, 0.3, 0.8])
def test_half_width_is_by_its_formula(phi: float) -> None:
    rates = process(phi, 100, 1)
    found = precision(rates)
    assert found is not None
    variance, correlation = long_run_variance(rates), correlation_time(rates)
    if correlation > 1.5:
        variance = max(variance, 0.8 * correlation * float(rates.var(ddof=1)))
    expected = QUANTILE * np.sqrt(variance / 100) * (1 + 6 * correlation / 100)
    outlier = np.abs(rates - rates.mean()).max() - np.sqrt(2 * np.log(100)) * rates.std(ddof=1)
    expected = np.hypot(expected, max(0, outlier) * correlation / 100)
    assert found.half == pytest.approx(expected)


def test_one_outlier_more_or_fewer_is_within_the_interval() -> None:
    """The dips are regular, so no low frequency has them; still, a run may contain one dip
    fewer."""
    rates = np.ones(200)
    rates[::25] = 0.5
    found = precision(rates)
    assert found is not None
    assert found.half >= (0.48 - 3.3 * rates.std(ddof=1)) / 200 > 0


def test_the_quantile_is_scipys() -> None:
    from scipy import stats

    assert stats.t.ppf(0.975, TERMS) == pytest.approx(QUANTILE, abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e10, 0.1])
def test_a_constant_is_known_exactly(value: float) -> None:
    found = precision(np.full(50, value))
    assert found is not None
    assert found.half <= 1e-12 * value
    assert found.correlation == 1
    assert found.grade == "A"


@given(enough, st.sampled_from([1e-6, 0.5, 3.0, 1e9]))
def test_the_unit_does_not_matter(rates: np.ndarray, unit: float) -> None:
    one, other = precision(rates), precision(rates * unit)
    assert one is not None
    assert other is not None
    assert other.half == pytest.approx(one.half * unit, rel=1e-6, abs=1e-9 * unit)


@given(enough)
def test_the_direction_of_time_does_not_matter(rates: np.ndarray) -> None:
    assert long_run_variance(rates[::-1]) == pytest.approx(
        long_run_variance(rates), rel=1e-6, abs=1e-3
    )
    assert correlation_time(rates[::-1]) == pytest.approx(correlation_time(rates), rel=1e-6)


@given(enough, st.randoms(use_true_random=False))
def test_contributors_do_not_depend_on_the_order(rates: np.ndarray, order: object) -> None:
    shuffled = rates.copy()
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert contributors(shuffled) == pytest.approx(contributors(rates))


def test_contributors() -> None:
    assert contributors(np.zeros(0)) == 0
    assert contributors(np.full(30, 7.0)) == 30
    assert contributors(np.array([5.0] * 29 + [0.0])) == pytest.approx(1)
    assert contributors(np.tile([0.0, 1.0], 15)) == pytest.approx(30)
    normal = np.random.default_rng(0).standard_normal(30_000)
    assert contributors(normal) == pytest.approx(10_000, rel=0.05)


@given(counts)
def test_any_counts(rates: np.ndarray) -> None:
    found = precision(rates)
    if len(rates) < MIN_VALUES:
        assert found is None
        assert long_run_variance(rates) == 0
        return
    assert found is not None
    assert 0 <= found.half < float("inf")
    assert 1 <= found.correlation <= len(rates)
    assert 0 < contributors(rates) <= len(rates) * (1 + 1e-9)
    assert found.grade in "ABC"


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.7, 0.9])
def test_grades_go_by_independent_samples(phi: float) -> None:
    for seed in range(40):
        found = precision(process(phi, 200, seed))
        assert found is not None
        samples = 200 / found.correlation
        assert found.grade == ("A" if samples >= 50 else "B" if samples >= 30 else "C")


@pytest.mark.parametrize(("phi", "usual"), [(0.0, "A"), (0.9, "C")])
def test_usual_grades(phi: float, usual: str) -> None:
    grades = [found.grade for seed in range(40) if (found := precision(process(phi, 200, seed)))]
    assert sum(grade == usual for grade in grades) >= 38


def test_a_few_outliers_are_graded_down() -> None:
    rates = process(0.0, 200, 1)
    rates[[20, 90, 150]] = 0
    found = precision(rates)
    assert found is not None
    assert found.grade == "C"


def test_outliers_of_next_to_nothing_are_no_matter() -> None:
    rates = np.full(200, 1e9)
    rates[[20, 90, 150]] *= 1.01
    found = precision(rates)
    assert found is not None
    assert found.grade == "A"
