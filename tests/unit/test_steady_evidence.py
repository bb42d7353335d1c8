"""Test bias and coverage where the truth is known: a quick part of `benchmarks.bench_steady`.

The series are seeded, so they are the same every time; the bounds allow for the error of 100 runs.
"""

from __future__ import annotations

import pytest
from benchmarks.bench_steady import outcome
from benchmarks.steady_cases import CASES, FAMILIES, HELD_OUT

BY_NAME = {case.name: case for case in (*CASES, *FAMILIES, *HELD_OUT)}
RUNS = 100


@pytest.mark.parametrize("span_s", [2, 10, 60])
@pytest.mark.parametrize("name", [case.name for case in CASES if case.ramp])
def test_bias_of_every_ramp_is_at_most_one_percent(name: str, span_s: int) -> None:
    """In a single run, the noise alone makes 1 %."""
    found = outcome(BY_NAME[name], span_s, 40)
    assert abs(found.bias) <= 1
    assert found.verdicts["steady"] >= 90


@pytest.mark.parametrize(
    "name",
    [
        "plateau, 1000 tau",
        "plateau, 100 tau",
        "two time scales",
        "cubic sawtooth, 20 teeth",
        "heavy tails",
        "paced",
        "slow ramp",
    ],
)
def test_the_interval_holds_the_truth(name: str) -> None:
    found = outcome(BY_NAME[name], 10, RUNS)
    assert 89 <= found.coverage <= 100
    assert found.verdicts["shifted"] <= 2
    assert found.graded["C"] <= 20


@pytest.mark.parametrize("name", ["plateau, 20 tau", "slow start, one stall", "stalls of 50 ms"])
def test_too_little_to_go_by_is_graded_down(name: str) -> None:
    assert outcome(BY_NAME[name], 10, RUNS).graded["C"] >= 80


@pytest.mark.parametrize("name", [case.name for case in CASES if case.shift])
def test_a_shift_is_called_one(name: str) -> None:
    found = outcome(BY_NAME[name], 10, 40)
    assert found.verdicts["shifted"] >= 90
    assert found.graded["A"] + found.graded["B"] <= 10
    assert abs(found.bias) <= 1.5


@pytest.mark.parametrize(
    ("name", "span_s"),
    [
        ("approach of 15 %, 15 %", 60),
        ("approach of 12 %, 5 %", 60),
        ("overshoot of 20 % for 10 %, 10 %", 60),
        ("t(3), 100 tau", 60),
    ],
)
def test_what_is_left_of_an_approach_and_heavy_tails_are_in_the_interval(
    name: str, span_s: int
) -> None:
    """In 92 % of 100 runs with an A or B, less one standard error, the interval must contain the
    truth."""
    found = outcome(BY_NAME[name], span_s, RUNS)
    assert found.graded_coverage is not None
    assert found.graded_coverage >= 90


def test_a_run_of_four_seconds_gets_no_good_grade() -> None:
    """Half of such runs miss an event that happens every few seconds."""
    assert outcome(BY_NAME["stalls of 50 ms"], 4, 20).graded["C"] == 100
