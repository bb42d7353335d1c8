"""Stalls and batches of a transfer, and the ramp before it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from netmeasure.analysis.batches import batches, stall_limit_ns, stalls, touched
from netmeasure.analysis.series import Curve, curve
from netmeasure.analysis.truncation import interruptions, mser, settled, stepped, truncation
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
    """In milliseconds."""
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


def test_the_rest_of_an_exponential_approach_is_cut_off_too() -> None:
    rates = approach(20) + 0.05 * np.random.default_rng(0).standard_normal(200)
    raw = mser(rates)
    cut = settled(rates, raw)
    assert raw < cut <= 100
    clean = approach(20)
    assert 1 - clean[cut:].mean() < 0.005 < 1 - clean[raw:].mean()


@pytest.mark.parametrize("level", [0.0, 0.5, 1.5])
def test_nothing_more_is_cut_off_a_step(level: float) -> None:
    rates = np.concatenate([np.full(60, level), np.ones(140)])
    assert settled(rates, 60) == 60
    assert stepped(rates, 60)


@given(st.lists(st.integers(0, 10**11), min_size=2, max_size=80), st.floats(0, 0.5))
def test_no_counts_make_it_cut_less_or_more_than_half(values: list[int], part: float) -> None:
    rates = np.array(values, dtype=float)
    cut = int(part * len(rates))
    assert cut <= settled(rates, cut) <= max(cut, len(rates) // 2)
    assert stepped(rates, cut) in (True, False)


def test_an_approach_is_no_step() -> None:
    assert not stepped(approach(20), 50)
    assert not stepped(approach(20), 2)


def test_a_stall_is_no_ramp() -> None:
    rates = np.ones(200) + 0.01 * np.random.default_rng(0).standard_normal(200)
    rates[:6] = 0.3
    rates[60:80] = 0
    silent = rates == 0
    assert truncation(rates, NOTHING).raw >= 80
    assert 6 <= truncation(rates, silent).raw < 20
    assert truncation(rates, silent).found


def test_a_short_departure_from_the_plateau_is_no_ramp() -> None:
    """MSER would leave out everything up to it."""
    rates = np.ones(200) + 0.01 * np.random.default_rng(0).standard_normal(200)
    rates[:6] = 0.3
    rates[80:85] = 0.5
    assert mser(rates) >= 85
    found = truncation(rates, NOTHING)
    assert 6 <= found.raw < 20
    assert list(np.flatnonzero(found.blind)) == [80, 81, 82, 83, 84]


def test_a_departure_that_lasts_is_a_level() -> None:
    rates = np.ones(200) + 0.01 * np.random.default_rng(0).standard_normal(200)
    rates[60:80] = 0.5
    assert truncation(rates, NOTHING).cut >= 80


@pytest.mark.parametrize("seed", range(20))
def test_a_ramp_is_nowhere_an_interruption(seed: int) -> None:
    """Before its values there are none of the plateau's level."""
    noise = 0.05 * np.random.default_rng(seed).standard_normal(200)
    assert not interruptions(approach(20) + noise, 90)[:40].any()
    steps = np.repeat([0.2, 0.5, 0.8, 1.0], [20, 20, 20, 140])
    assert not interruptions(steps + noise, 60).any()


def test_a_stall_before_the_plateau_goes_with_the_ramp() -> None:
    rates = np.ones(200)
    rates[:20] = 0.3
    rates[20:30] = 0
    assert truncation(rates, rates == 0).cut == 30


def test_nothing_but_stalls() -> None:
    assert not truncation(np.zeros(200), ~NOTHING).found
