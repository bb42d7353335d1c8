"""Test change points against an exhaustive search, and test the detection of drift."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from netmeasure.analysis.changes import (
    MAX_CHANGES,
    MIN_LEVEL,
    MIN_SEGMENT,
    change_points,
    changed,
    drifts,
    segments,
    slopes,
)

counts = st.lists(st.integers(0, 10**11), max_size=90).map(lambda n: np.array(n, dtype=float))


def noisy(levels: dict[float, int], deviation: float, seed: int = 0) -> np.ndarray:
    rates = np.concatenate([np.full(length, level) for level, length in levels.items()])
    return rates * (1 + deviation * np.random.default_rng(seed).standard_normal(len(rates)))


def residue(rates: np.ndarray, places: tuple[int, ...]) -> float:
    return sum(float(((part - part.mean()) ** 2).sum()) for part in np.split(rates, places))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 100), min_size=6, max_size=14), st.integers(1, 3))
def test_segments_are_the_best_there_are(values: list[int], least: int) -> None:
    rates = np.array(values, dtype=float)
    for number, places in enumerate(segments(rates, 3, least), 1):
        assert len(places) == number
        best = min(
            residue(rates, chosen)
            for chosen in combinations(range(1, len(rates)), number)
            if min(np.diff([0, *chosen, len(rates)])) >= least
        )
        assert min(np.diff([0, *places, len(rates)])) >= least
        assert residue(rates, tuple(places)) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("n", [0, 1, MIN_SEGMENT, 2 * MIN_SEGMENT - 1])
def test_no_room_for_two_levels(n: int) -> None:
    assert segments(np.arange(float(n)), MAX_CHANGES, MIN_SEGMENT) == []
    assert change_points(np.arange(float(n))) == ()


def test_a_step_is_found_where_it_is() -> None:
    assert change_points(noisy({1.0: 80, 0.9: 120}, 0.005)) == (80,)
    assert change_points(noisy({1.0: 80, 0.9: 60, 1.1: 60}, 0.005)) == (80, 140)


def test_a_small_change_is_none() -> None:
    assert change_points(noisy({1.0: 100, 0.985: 100}, 0.0001)) == ()


def test_a_short_outage_is_none() -> None:
    rates = noisy({1.0: 200}, 0.02)
    rates[100:105] = 0
    assert change_points(rates) == ()


@given(st.integers(0, 200), st.floats(0, 1e12))
def test_a_constant_has_none(n: int, value: float) -> None:
    assert change_points(np.full(n, value)) == ()
    assert not drifts(np.full(n, value))


@settings(deadline=None)
@given(counts, st.sampled_from([1e-3, 1.0, 1e6]))
def test_any_counts_in_any_unit(rates: np.ndarray, unit: float) -> None:
    found = change_points(rates)
    assert list(found) == sorted(set(found))
    assert len(found) <= MAX_CHANGES
    if found:
        assert min(np.diff([0, *found, len(rates)])) >= MIN_SEGMENT
    assert len(change_points(rates * unit)) == len(found)
    assert drifts(rates) in (True, False)


def test_drift() -> None:
    run = np.linspace(0, 1, 200)
    noise = 1 + 0.02 * np.random.default_rng(1).standard_normal(200)
    assert drifts((1 + 0.2 * run) * noise)
    assert drifts((1.2 - 0.2 * run) * noise)
    assert not drifts(noise)
    assert not drifts(run[:10])


def test_a_creep_that_goes_one_way_is_a_drift_sooner() -> None:
    run = np.linspace(0, 1, 200)
    noise = 1 + 0.01 * np.random.default_rng(1).standard_normal(200)
    assert drifts((1 + 0.05 * run) * noise)
    assert drifts((1 - 0.05 * run) * noise)
    assert not drifts((1 + 0.015 * run) * noise)
    there_and_back = np.concatenate([run[:100], run[100:][::-1]])
    assert not drifts((1 + 0.05 * there_and_back) * noise)
    assert not drifts((1 + 0.05 * run) * (1 + 20 * (noise - 1)))  # the noise hides the drift


def test_stairs_and_slopes_are_told_apart() -> None:
    run = np.linspace(0, 1, 200)
    noise = 1 + 0.02 * np.random.default_rng(1).standard_normal(200)
    slope = (1 + 0.5 * run) * noise
    for places in segments(slope, 3, MIN_SEGMENT):
        assert slopes(slope, list(map(int, places)))
    for stairs in ({1.0: 100, 0.9: 100}, {1.0: 60, 1.1: 70, 1.2: 70}):
        rates = noisy(stairs, 0.02)
        assert not slopes(rates, change_points(rates))


def test_a_short_first_level_is_one_where_its_end_is_known() -> None:
    rates = noisy({1.5: 7, 1.0: 193}, 0.02)
    assert 7 not in change_points(rates)
    assert changed(rates, 7)
    assert not changed(rates, 100)
    assert not changed(rates, MIN_LEVEL - 1)
    assert not changed(noisy({1.0: 200}, 0.02), 7)
    assert not changed(np.zeros(50), 7)
