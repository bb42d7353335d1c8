"""Test the stalls and batches of a transfer, and the ramp before it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from netmeasure.analysis.batches import batches, stall_limit_ns, stalls, touched
from netmeasure.analysis.series import Curve, curve
from netmeasure.analysis.truncation import mser, truncation
from netmeasure.clock import MILLISECOND_NS, SECOND_NS
from netmeasure.result import Series, Stretch

BUCKET_NS = 10 * MILLISECOND_NS
NOTHING = np.zeros(200, dtype=bool)


def transfer(values: list[int] | np.ndarray) -> Curve:
    return curve(Series(origin_ns=0, width_ns=BUCKET_NS, bytes=tuple(int(n) for n in values)))


def spans(found: tuple[Stretch, ...]) -> list[tuple[int, int]]:
    assert all(one.bytes == 0 for one in found)
    return [(one.start_ns // BUCKET_NS, one.end_ns // BUCKET_NS) for one in found]


def test_stalls() -> None:
    values = [5] * 10 + [0] * 20 + [5] + [0] * 19 + [5] * 10 + [0] * 30
    one = transfer(values)
    end = len(values) * BUCKET_NS
    assert spans(stalls(one, 0, end, 20 * BUCKET_NS)) == [(10, 30), (60, 90)]
    assert spans(stalls(one, 0, end, 19 * BUCKET_NS)) == [(10, 30), (31, 50), (60, 90)]
    assert spans(stalls(one, 0, 80 * BUCKET_NS, 20 * BUCKET_NS)) == [(10, 30), (60, 80)]
    assert spans(stalls(one, 15 * BUCKET_NS, end, 20 * BUCKET_NS)) == [(60, 90)]
    assert stalls(one, end, end, 1) == ()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 10))
def test_stalls_are_the_silent_runs(values: list[int], least: int) -> None:
    runs, since = [], None
    for index, value in enumerate([*values, 1]):
        if value == 0 and since is None:
            since = index
        elif value and since is not None:
            if index - since >= least:
                runs.append((since, index))
            since = None
    found = stalls(transfer(values), 0, len(values) * BUCKET_NS, least * BUCKET_NS)
    assert spans(found) == runs


@pytest.mark.parametrize(
    ("gap_ns", "rtt_ns", "limit_ns"),
    [(0, None, 200), (0, 50, 200), (0, 100, 300), (30, 1, 300), (5.0, None, 200)],
)
def test_limit_of_a_stall(gap_ns: float, rtt_ns: int | None, limit_ns: int) -> None:
    """The limits are in milliseconds."""
    rtt = None if rtt_ns is None else rtt_ns * MILLISECOND_NS
    assert stall_limit_ns(gap_ns * MILLISECOND_NS, rtt) == limit_ns * MILLISECOND_NS


def test_touched() -> None:
    edges = np.arange(0, 60, 10)
    assert touched(edges, ()).tolist() == [False] * 5
    one = Stretch(start_ns=19, end_ns=30, bytes=0)
    assert touched(edges, (one,)).tolist() == [False, True, True, False, False]
    assert touched(edges[:1], (one,)).tolist() == []


def test_batches_hold_every_byte_but_the_last_part() -> None:
    parts = batches(transfer([3] * 25), 0, 25 * BUCKET_NS, 10 * BUCKET_NS)
    assert parts.edges_ns.tolist() == [0, SECOND_NS // 10, SECOND_NS // 5]
    assert parts.rates.tolist() == pytest.approx([2400, 2400])
    assert parts.since(1).edges_ns.tolist() == [SECOND_NS // 10, SECOND_NS // 5]
    assert len(batches(transfer([3]), 0, BUCKET_NS, 2 * BUCKET_NS).rates) == 0


# ---- the ramp ------------------------------------------------------------------------------------


def approach(constant: float) -> np.ndarray:
    rates: np.ndarray = 1 - np.exp(-(np.arange(200) + 0.5) / constant)
    return rates


def noisy(rates: np.ndarray, deviation: float = 0.01, seed: int = 0) -> np.ndarray:
    return rates + deviation * np.random.default_rng(seed).standard_normal(len(rates))


def test_the_rest_of_an_exponential_approach_is_cut_off_too() -> None:
    rates = noisy(approach(20), 0.05)
    found = truncation(rates, NOTHING)
    proposed = mser(rates)
    assert proposed < found.cut <= 100
    clean = approach(20)
    assert 1 - clean[found.cut :].mean() < 0.005 < 1 - clean[proposed:].mean()


def test_an_approach_that_is_too_slow_has_no_plateau() -> None:
    assert truncation(noisy(approach(20)), NOTHING).found
    assert not truncation(noisy(approach(60)), NOTHING).found


@pytest.mark.parametrize("level", [0.5, 0.8, 1.5])
def test_a_level_is_no_ramp(level: float) -> None:
    rates = noisy(np.concatenate([np.full(60, level), np.ones(140)]))
    found = truncation(rates, NOTHING)
    assert found.cut == 0
    assert found.left is not None
    assert 60 - 32 <= found.left <= 60
    assert found.doubtful


@pytest.mark.parametrize(("slow_start", "cut"), [(0, 0), (10, 0), (20, 20)])
def test_a_low_rate_is_a_ramp_as_long_as_slow_start_may_last(slow_start: int, cut: int) -> None:
    rates = noisy(np.concatenate([np.full(20, 0.1), np.ones(180)]))
    assert truncation(rates, NOTHING, slow_start).cut == cut


@given(st.lists(st.integers(0, 10**11), min_size=2, max_size=80), st.integers(0, 20))
def test_no_counts_make_it_cut_more_than_half(values: list[int], slow_start: int) -> None:
    rates = np.array(values, dtype=float)
    stalled = rates == 0
    found = truncation(rates, stalled, slow_start)
    assert 0 <= found.cut < len(rates)
    moving = int((~stalled).sum())
    assert int((~stalled[: found.cut]).sum()) <= moving // 2


def test_a_stall_is_no_ramp() -> None:
    rates = noisy(np.ones(200))
    rates[:6] = 0.2
    rates[60:80] = 0
    assert mser(rates) >= 80
    for stalled in (NOTHING, rates == 0):
        found = truncation(rates, stalled, 10)
        assert found.found
        assert 4 <= found.cut < 20


def test_a_short_departure_from_the_plateau_is_no_ramp() -> None:
    """MSER alone would leave out everything up to the departure."""
    rates = noisy(np.ones(200))
    rates[:6] = 0.2
    rates[80:85] = 0.5
    assert mser(rates) >= 85
    assert 4 <= truncation(rates, NOTHING, 10).cut < 20


def test_the_catching_up_after_a_gap_is_not_counted_without_the_gap() -> None:
    rates = noisy(np.ones(200))
    rates[:10] = [0.1, 0.2, 0.4, 0.8, 1.0, 0.3, 0.0, 1.5, 2.2, 1.0]
    rates[40:44] = [0.4, 0.0, 1.4, 2.2]
    assert truncation(rates, NOTHING).cut in (4, 9, 10)


@pytest.mark.parametrize("seed", range(20))
def test_an_approach_is_nowhere_a_departure(seed: int) -> None:
    found = truncation(noisy(approach(20), 0.03, seed), NOTHING)
    assert found.left is None
    assert found.cut > 40


def test_a_stall_before_the_plateau_goes_with_the_ramp() -> None:
    rates = np.ones(200)
    rates[:20] = np.linspace(0.01, 0.3, 20)
    rates[20:30] = 0
    assert truncation(rates, rates == 0).cut == 30


def test_nothing_but_stalls() -> None:
    assert not truncation(np.zeros(200), ~NOTHING).found
