"""Test when a run may end by itself, and that the interval which it then states is correct.

The whole evidence is `python -m benchmarks.bench_steady`; this is a quick, seeded part of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
from benchmarks.stopping import CAP_S, CASES, ended
from hypothesis import given, strategies as st

from netmeasure.analysis.sequential import GROWTH, enough, look_times_s, stated
from netmeasure.result import Steady

BY_NAME = {case.name: case for case in CASES}
RUNS = 40
TARGET = 0.02


def steady(
    margin: float | None = 0.01,
    verdict: Literal["steady", "shifted", "not_steady", "too_short"] = "steady",
    grade: Literal["A", "B", "C"] | None = "A",
    rate: float = 1e9,
    samples: int = 100,
) -> Steady:
    interval = None if margin is None else (max(0.0, rate * (1 - margin)), rate * (1 + margin))
    return Steady(
        verdict=verdict,
        start_ns=0,
        end_ns=10**9,
        bytes=125_000_000,
        goodput_bps=rate,
        batches=100,
        batch_ns=10**7,
        confidence_interval=interval,
        grade=grade,
        autocorrelation_ns=None if margin is None else 10**9 // samples,
    )


@given(st.floats(0.001, 86_400))
def test_looks_grow_apart_and_leave_the_cap_to_itself(cap_s: float) -> None:
    times = list(look_times_s(cap_s))
    assert all(2 < time_s < cap_s for time_s in times)
    assert all(after == pytest.approx(GROWTH * before) for before, after in pairwise(times))
    assert len(times) < 40
    if cap_s > 5:
        assert times[1] < 5


def test_two_looks_in_a_row_must_be_narrow() -> None:
    wide, narrow = steady(0.021), steady(0.02)
    assert not enough([], TARGET)
    assert not enough([narrow], TARGET)
    assert not enough([narrow, wide], TARGET)
    assert not enough([narrow, wide, narrow], TARGET)
    assert not enough([None, narrow], TARGET)
    assert enough([None, wide, narrow, narrow], TARGET)


@pytest.mark.parametrize(
    "doubtful",
    [
        None,
        steady(verdict="shifted"),
        steady(verdict="not_steady"),
        steady(margin=None, verdict="too_short", grade=None),
        steady(0.011, grade="C"),
        steady(samples=29),
        steady(rate=0.0),
    ],
)
def test_only_a_steady_rate_that_is_well_known_ends_a_run(doubtful: Steady | None) -> None:
    assert enough([steady(grade="B"), steady(grade="A")], TARGET)
    assert enough([steady(0.01, grade="C"), steady(samples=30)], TARGET)
    assert not enough([steady(), doubtful], TARGET)
    assert not enough([doubtful, steady()], TARGET)


@given(st.floats(0, 3), st.floats(0.001, 0.5))
def test_what_is_claimed_is_never_less_than_the_target(margin: float, target: float) -> None:
    found = steady(margin)
    claimed = stated(found, target)
    assert claimed.margin == pytest.approx(max(margin, target))
    assert claimed.confidence_interval is not None
    assert claimed.confidence_interval[0] >= 0
    assert (claimed.goodput_bps, claimed.grade) == (found.goodput_bps, found.grade)


def test_doubts_are_for_an_interval_that_is_near_what_was_found() -> None:
    assert stated(steady(0.01, grade="C"), TARGET).grade == "B"
    assert stated(steady(0.011, grade="C"), TARGET).grade == "C"
    assert stated(steady(0.001, "shifted", "C"), TARGET).grade == "C"
    assert stated(steady(0.001, grade="C", samples=20), TARGET).grade == "C"


def test_an_unknown_interval_stays_unknown() -> None:
    assert stated(steady(None), TARGET) == steady(None)


@pytest.mark.parametrize(
    "name",
    [
        "smooth",
        "slow start",
        "tau 0.05 s, 10 %",
        "heavy tails",
        "sawtooth of 1 s",
        "30 ms hiccups, every 3 s",
    ],
)
def test_what_is_stated_holds_the_truth(name: str) -> None:
    """The bound is 92 % of 40 runs, less two standard errors."""
    found = ended(BY_NAME[name], RUNS, 7)
    assert found.held >= 84
    assert found.held >= found.bare
    assert found.median_s < CAP_S / 2


def test_a_smooth_rate_is_known_within_five_seconds() -> None:
    assert ended(BY_NAME["smooth"], RUNS, 7).late_s < 5


def test_a_rate_that_is_too_noisy_runs_to_the_cap() -> None:
    found = ended(BY_NAME["tau 0.5 s, 10 %"], 10, 7)
    assert found.capped >= 80
    assert found.held == pytest.approx(found.full, abs=20)
