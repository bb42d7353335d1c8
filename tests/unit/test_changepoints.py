"""Test where the level of a series is found to change, and what does not count as a change."""

from __future__ import annotations

import numpy as np
import pytest

from netmeasure.history.changepoints import MIN_RUNS, MIN_SEGMENT, Told, shifts
from support.nights import import_linear_algebra, rates


def setup_module() -> None:
    import_linear_algebra()


def places(values: list[float], least: float = 0.0) -> list[int]:
    return [shift.place for shift in shifts(values, least)]


def test_a_change_is_found_where_it_is() -> None:
    (found,) = shifts(rates((20, 1e9), (20, 0.9e9)))
    assert found.place == 20
    assert found.before == pytest.approx(1e9, rel=0.01)
    assert found.after == pytest.approx(0.9e9, rel=0.01)


def test_a_rise_is_a_change_too() -> None:
    assert places(rates((20, 1e9), (20, 1.1e9))) == [20]


def test_every_change_is_found() -> None:
    assert places(rates((15, 1e9), (15, 0.8e9), (15, 1e9))) == [15, 30]


@pytest.mark.parametrize("seed", range(20))
def test_runs_that_only_scatter_have_no_change(seed: int) -> None:
    assert places(rates((40, 1e9), scatter=0.03, seed=seed)) == []


@pytest.mark.parametrize("share", [0.05, 0.5, 20])
def test_a_run_that_is_off_is_no_change(share: float) -> None:
    values = rates((40, 1e9))
    for night in (0, 13, 27, 39):
        values[night] *= share
    assert places(values) == []


@pytest.mark.parametrize("off", [(36, 38), (37, 39), (38, 39)])
def test_two_of_the_newest_runs_that_are_off_are_mostly_no_change(off: tuple[int, int]) -> None:
    """Before the newest runs had the median of five, they were a change with every seed."""
    changes = 0
    for seed in range(40):
        values = rates((40, 1e9), scatter=0.03, seed=seed)
        for night in off:
            values[night] *= 0.5
        changes += bool(shifts(values, looked=39))
    assert changes <= 20


def test_a_large_change_is_told_as_soon_as_there_is_a_level() -> None:
    values = rates((30, 1e9), (MIN_SEGMENT, 0.8e9))
    assert places(values[: 30 + 1]) == []
    assert places(values) == [30]


def test_a_change_is_told_soon_and_stays_told() -> None:
    """Five runs of a new level are enough. Five older ones, which were checked before, are not."""
    values = rates((30, 1e9), (8, 0.95e9), scatter=0.02, seed=3)
    assert [shift.place for shift in shifts(values[:35], looked=34)] == [30]
    worse = rates((30, 1e9), (12, 0.98e9), scatter=0.02, seed=3)
    assert shifts(worse, looked=len(worse) - 1) == []
    assert [shift.place for shift in shifts(worse, told=[Told(30, False)])] == [30]
    assert shifts(worse, told=[Told(30, True)], looked=len(worse) - 1) == []


@pytest.mark.parametrize("seed", [82, 132, 138])
def test_a_change_after_a_told_one_is_found_as_well(seed: int) -> None:
    values = rates((20, 1e9), (15, 0.96e9), (5, 0.91e9), scatter=0.03, seed=seed)
    found = shifts(values, told=[Told(20, False)], looked=39)
    assert [shift.place for shift in found] == [20, 35]


def test_most_changes_of_5_percent_at_a_scatter_of_3_are_told_within_five_runs() -> None:
    """Before outliers were measured from the median of all runs, it was 130 of these 200."""
    told = 0
    for seed in range(200):
        values = rates((30, 1e9), (5, 0.95e9), scatter=0.03, seed=seed)
        told += any(abs(shift.place - 30) <= 5 for shift in shifts(values, looked=34))
    assert told >= 138


@pytest.mark.parametrize("side", [1, -1])
def test_a_long_tail_on_one_side_is_no_change(side: int) -> None:
    """When outliers were measured from their neighbours, it was a change in one of 20 histories."""
    generator = np.random.default_rng(7)
    histories = 1e9 * (1 + side * 0.01 * np.minimum(generator.lognormal(size=(400, 40)), 50))
    assert sum(bool(shifts(values.tolist(), looked=39)) for values in histories) <= 8


def test_a_level_that_came_back_is_two_changes() -> None:
    assert places(rates((15, 1e9), (10, 0.8e9), (15, 1e9))) == [15, 25]


def test_few_runs_tell_nothing() -> None:
    values = rates((MIN_RUNS // 2, 1e9), (MIN_RUNS // 2, 0.5e9))
    assert places(values[1:]) == []
    assert places(values) == [MIN_RUNS // 2]
    assert places([]) == []


def test_figures_that_are_zero_are_compared_by_their_difference() -> None:
    values = [0.0] * 20 + [0.02, 0.03, 0.01, 0.02, 0.03]
    (found,) = shifts(values, 0.0001)
    assert (found.place, found.before) == (20, 0.0)
    assert found.after == pytest.approx(0.022)


def test_a_constant_history_has_no_change() -> None:
    assert places([1e9] * 40) == []
    assert places([0.0] * 40) == []


def test_a_level_without_any_scatter_changes() -> None:
    """More than half of the runs are equal, so that the median deviation is 0."""
    assert places([1e9] * 25 + [0.9e9] * 15) == [25]


def test_the_least_scatter_keeps_last_digits_from_being_a_change() -> None:
    values = [1e9] * 20 + [1.0001e9] * 20
    assert places(values) == [20]
    assert places(values, 0.005) == []


@pytest.mark.parametrize("size", [1e-300, 1e-9, 1.0, 1e21, 1e300])
def test_the_unit_does_not_matter(size: float) -> None:
    values = [size * value for value in rates((20, 1.0), (20, 0.9))]
    assert places(values) == [20]
    assert places([0.0, *values]) in ([21], [1, 21])  # differences are compared, not ratios


def test_a_drift_is_no_error() -> None:
    values = np.linspace(1e9, 2e9, 40).tolist()
    found = shifts(values)
    assert found == sorted(found)
    assert all(shift.after > shift.before for shift in found)
