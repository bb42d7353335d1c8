"""Test the analysis on real series, recorded on emulated paths: see benchmarks/bench_paths.py."""

from __future__ import annotations

import pytest
from benchmarks.recordings import Recording, faults, load_all

RECORDINGS = load_all()
LONG = {name: one for name, one in RECORDINGS.items() if one.path.claims}
GAINING = {name: one for name, one in RECORDINGS.items() if not one.path.claims}

each = pytest.mark.parametrize("recording", RECORDINGS.values(), ids=RECORDINGS)
each_long = pytest.mark.parametrize("recording", LONG.values(), ids=LONG)


def test_there_are_all_kinds() -> None:
    assert {one.path.congestion for one in LONG.values()} == {"reno", "cubic", "bbr"}
    assert {one.path.rtt_ms for one in LONG.values()} == {2, 20, 50, 150}
    assert {one.judge().full for one in LONG.values()} == {True, False}
    assert len(GAINING) >= 2


@each
def test_it_says_where_it_comes_from(recording: Recording) -> None:
    assert recording.command.startswith("python -m benchmarks.bench_paths")
    assert recording.date
    assert recording.linux


@each
def test_both_counts_are_of_the_same_bytes(recording: Recording) -> None:
    """The kernel's count includes unnecessary retransmissions, and segments of the control
    connection."""
    received, counted = recording.series.total_bytes, recording.kernel.total_bytes
    assert received <= counted + 20 * recording.mss_bytes  # those of the first moment
    assert counted <= 1.02 * received


@each_long
def test_the_steady_rate_is_the_paths(recording: Recording) -> None:
    found = recording.judge()
    assert faults(recording, found) == []
    assert found.steady.verdict in ("steady", "shifted")
    assert found.error == pytest.approx(0, abs=0.01)
    assert found.holds


@each_long
@pytest.mark.parametrize("seconds", [8, 12, 18])
def test_a_shorter_run_of_a_full_path_is_as_steady(recording: Recording, seconds: float) -> None:
    found = recording.judge(seconds)
    if found.full:
        assert found.steady.verdict == "steady"
        assert found.error == pytest.approx(0, abs=0.01)
    else:  # it may well be: but by how much, only the future tells
        assert found.kernel_error == pytest.approx(0, abs=0.01)


@each_long
@pytest.mark.parametrize("round_trips", [1, 4, 7, 10, 15, 30])
def test_the_first_round_trips_are_never_steady(recording: Recording, round_trips: int) -> None:
    found = recording.judge(round_trips * recording.path.rtt_ms / 1000)
    assert found.steady.verdict in ("too_short", "not_steady")


@pytest.mark.parametrize("recording", GAINING.values(), ids=GAINING)
def test_a_rate_that_still_grows_is_not_steady(recording: Recording) -> None:
    found = recording.judge()
    assert faults(recording, found) == []
    assert found.steady.verdict in ("too_short", "not_steady")
    assert found.steady.goodput_bps < 0.9 * recording.path.payload_bps
