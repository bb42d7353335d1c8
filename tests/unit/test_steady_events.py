"""Test that outages and steps are no ramp: a quick part of `python -m benchmarks.bench_steady`."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.recordings import Recording, load_all
from benchmarks.steady_events import Cell, analysed, cells, series, told

from netmeasure.analysis.approach import approach, first_level
from netmeasure.analysis.departures import first_departure
from netmeasure.analysis.series import Curve
from netmeasure.analysis.steady import split
from netmeasure.analysis.truncation import _noise_between_neighbours
from netmeasure.clock import SECOND_NS

RUNS = 12
SEED = 29
CHOSEN = [
    *cells((8,), (0.3, 1.0), (), (0.1, 0.3, 0.45), (0, 1), (0.01, 0.05), (1, 0.3)),
    *cells((4, 20), (0.5,), (0.5, 2), (0.15, 0.4), (0, 1), (0.05,), (1,)),
    *cells((60,), (1.0,), (0.3, 0.8), (0.1, 0.3), (0,), (0.05, 0.15), (3,)),
    *cells((8,), (1.0,), (0.5, 2), (0.3, 0.45, 0.6), (0,), (0.02,), (1,), rtts=(0.01, 0.1)),
]


@pytest.mark.parametrize("cell", CHOSEN, ids=[cell.name for cell in CHOSEN])
def test_an_event_is_told(cell: Cell) -> None:
    found = told(cell, RUNS, SEED)
    assert found.told >= RUNS - 1
    assert found.misleading == 0


@pytest.mark.parametrize(
    ("scatter", "change", "recovery_s"), [(0.15, 1.0, 0.0), (0.05, 3.0, 0.0), (0.15, 1.0, 1.0)]
)
def test_a_small_step_soon_after_slow_start_is_told(
    scatter: float, change: float, recovery_s: float
) -> None:
    """The first level lasts for 13 batches that scatter by half of the step."""
    cell = Cell("step", 1.25, 0.1, 4, recovery_s, scatter, change)
    found = told(cell, 40, SEED)
    assert found.told >= 37
    assert found.misleading == 0


@pytest.mark.parametrize(("scatter", "change"), [(0.15, 1.0), (0.05, 3.0)])
def test_a_slow_change_to_another_level_that_ends_beyond_the_middle_is_told(
    scatter: float, change: float
) -> None:
    """An approach fits it about as well, but that has not ended in the middle, either."""
    found = told(Cell("step", 2.0, 0.1, 4, 2.0, scatter, change), 100, SEED)
    assert found.told >= 99
    assert found.misleading == 0


def test_an_outage_with_a_slow_recovery_is_in_the_mean_and_a_stall() -> None:
    """The download is paced, and has 0.8 s without data at 3 of 12 s."""
    at = (np.arange(1200) + 0.5) / 100
    back = np.clip((at - 3.8) / 1.5, 0, 1)
    rates = np.where(at < 3, 1.0, np.where(at < 3.8, 0.0, back))[None, :]
    found = analysed(rates[0], 0.01, 0.02)
    assert found.ramp.duration_ns < SECOND_NS / 10
    (stall,) = found.steady.stalls
    assert stall.start_ns == 3 * SECOND_NS
    assert stall.duration_ns == pytest.approx(0.8 * SECOND_NS, abs=0.03 * SECOND_NS)
    assert found.steady.grade == "C"
    assert found.steady.goodput_bps == pytest.approx(1e9 * float(rates.mean()), rel=0.01)


def test_a_plateau_after_a_slow_start_has_no_false_alarm() -> None:
    cell = Cell("outage", 0.0, 0.5, 10.0, 0.0, 0.05, 1.0)
    rates, bucket_s = series(cell, np.random.default_rng(SEED), 50)
    found = [analysed(row, bucket_s, cell.rtt_s) for row in rates]
    assert {one.steady.verdict for one in found} == {"steady"}
    assert max(one.ramp.duration_ns for one in found) < SECOND_NS / 2
    # by accident, the first batches of one run in hundreds look like another level
    assert [one.steady.grade for one in found].count("A") >= 49


@pytest.mark.parametrize("begin", [0.3, 0.45, 0.6])
@pytest.mark.parametrize("recording", load_all().values(), ids=load_all())
def test_an_outage_in_a_recorded_transfer_is_told(recording: Recording, begin: float) -> None:
    """The test removes the bytes of 1 s."""
    if not recording.path.claims:
        return
    transfer = recording.curve()
    start_ns, end_ns = int(transfer.at_ns[0]), int(transfer.at_ns[-1])
    since = start_ns + round(begin * (end_ns - start_ns))
    counts = np.diff(transfer.bytes)
    counts[(transfer.at_ns[1:] > since) & (transfer.at_ns[1:] <= since + SECOND_NS)] = 0
    cut = Curve(transfer.at_ns, np.concatenate(([0.0], np.cumsum(counts))))
    found = split(
        cut,
        start_ns,
        end_ns,
        bucket_ns=recording.series.width_ns,
        rtt_ns=recording.rtt_ns,
        grain_bytes=recording.mss_bytes,
    )
    assert found is not None
    assert found.ramp.end_ns <= since
    assert any(abs(stall.start_ns - since) < SECOND_NS / 5 for stall in found.steady.stalls)
    assert found.steady.grade == "C"


def test_an_approach_and_a_level_are_told_apart() -> None:
    at = np.arange(200) + 0.5
    gradual, stepped = 1 - 0.8 * np.exp(-at / 20), np.where(at < 30, 0.5, 1.0)
    assert approach(gradual).squares < first_level(gradual, 5, 100).squares / 10
    assert approach(gradual).distance == pytest.approx(-0.8, rel=0.1)
    assert first_level(stepped, 5, 100).squares < approach(stepped).squares / 10
    assert first_level(stepped, 5, 100).length == pytest.approx(30, abs=6)
    assert first_level(stepped[:4], 5, 100).length == 4


def test_the_noise_between_neighbours_leaves_a_slope_out() -> None:
    noise = 0.1 * np.random.default_rng(SEED).standard_normal(400)
    slope = np.linspace(0, 4, 400)
    assert _noise_between_neighbours(noise + slope, 1.0, 1.0) == pytest.approx(0.01, rel=0.2)
    assert _noise_between_neighbours(noise, 1.0, 3.0) == pytest.approx(0.03, rel=0.2)
    assert _noise_between_neighbours(noise[:4], 7.0, 1.0) == 7.0


@pytest.mark.parametrize("level", [0.0, 0.5, 1.5])
def test_a_level_that_is_left_is_found_where_it_is(level: float) -> None:
    noise = 1 + 0.02 * np.random.default_rng(SEED).standard_normal(200)
    rates = np.ones(200)
    rates[60:66] = level
    found = first_departure(rates * noise, 90)
    assert found is not None
    assert 40 <= found <= 60
    assert first_departure(noise, 90) is None
    gradual = 1 - np.exp(-(np.arange(200) + 0.5) / 20)
    assert first_departure(gradual * noise, 90) is None


def test_the_interval_is_no_narrower_than_the_counting() -> None:
    transfer = Curve(
        np.arange(1001, dtype=np.int64) * 10_000_000, np.arange(1001, dtype=np.float64) * 1e6
    )
    found = split(transfer, 0, 10 * SECOND_NS, bucket_ns=10_000_000, grain_bytes=1448)
    assert found is not None
    assert found.steady.margin == pytest.approx(2 * 1448 / found.steady.bytes, rel=1e-6)


@pytest.mark.parametrize("round_trips", [12, 14, 17, 20])
@pytest.mark.parametrize("name", ["reno-150ms-20M-25s", "bbr-150ms-20M-25s"])
def test_an_outage_right_after_a_restless_slow_start_is_a_stall(
    name: str, round_trips: int
) -> None:
    """Losses in slow start make data arrive in bursts after the first moments at the full rate.

    No level lasts long in this time, but an outage of a second in it is no ramp.
    """
    recording = load_all()[name]
    transfer = recording.curve()
    start_ns = int(transfer.at_ns[0])
    since, end_ns = start_ns + round_trips * recording.rtt_ns, start_ns + 8 * SECOND_NS
    after = (transfer.at_ns[1:] - since) / SECOND_NS
    share = np.where(after <= 0, 1.0, np.clip(after - 1, 0, 1))  # back within a second
    counts = (np.diff(transfer.bytes) * share).round()
    found = split(
        Curve(transfer.at_ns, np.concatenate(([0.0], np.cumsum(counts)))),
        start_ns,
        end_ns,
        bucket_ns=recording.series.width_ns,
        rtt_ns=recording.rtt_ns,
        grain_bytes=recording.mss_bytes,
    )
    assert found is not None
    assert found.ramp.end_ns < since
    assert any(s.start_ns < since + SECOND_NS / 2 < s.end_ns for s in found.steady.stalls)
    assert found.steady.grade == "C"
