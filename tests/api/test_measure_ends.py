"""Test the ends of a test: bytes, blocks or time; and the warm-up, which its figures exclude."""

from __future__ import annotations

import pytest

from support.measured import BOTH_WAYS, DIRECTIONS, RunLoop, measured, spec, ways
from support.optional import known


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("total", [1, 9_999_991])
def test_a_byte_limit_is_exact_in_each_direction(
    run_once: RunLoop, direction: str, streams: int, total: int
) -> None:
    mine, theirs = run_once(measured(spec(direction, streams, timing={"total_bytes": total})))
    assert mine.complete
    assert theirs.complete
    assert len(mine.flows) == len(ways(direction))
    for flow in (*mine.flows, *theirs.flows):
        assert flow.receiver.bytes == flow.sender.bytes == flow.sender.acked_bytes == total
        assert {s.sender.end_reason for s in flow.streams if s.sender} == {"budget"}
        for ends in zip(*((s.sender, s.receiver) for s in flow.streams), strict=True):
            # also where all bytes came at one moment
            assert sum(known(end).counted_bytes or 0 for end in ends) == total


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_block_limit_is_exact_in_each_direction(
    run_once: RunLoop, direction: str, streams: int
) -> None:
    wanted = spec(direction, streams, timing={"total_blocks": 37}, block_bytes=10_007)
    mine, theirs = run_once(measured(wanted))
    assert mine.complete
    assert theirs.complete
    for flow in (*mine.flows, *theirs.flows):
        assert flow.receiver.bytes == flow.sender.bytes == 37 * 10_007
        assert {s.sender.block_bytes for s in flow.streams if s.sender} == {10_007}


@pytest.mark.rates
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_duration_is_kept_by_the_senders(run_once: RunLoop, direction: str) -> None:
    mine, _ = run_once(measured(spec(direction, duration_s=0.3)))
    for flow in mine.flows:
        sender = flow.streams[0].sender
        assert sender is not None
        assert sender.series is not None
        assert 0.25e9 < len(sender.series.bytes) * sender.series.width_ns < 0.6e9


@pytest.mark.rates
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_omitted_time_is_in_the_series_but_not_in_the_rates(
    run_once: RunLoop, direction: str
) -> None:
    mine, theirs = run_once(measured(spec(direction, timing={"duration_s": 0.2, "omit_s": 0.2})))
    assert theirs.complete
    for flow in mine.flows:
        for stream in flow.streams:
            report = stream.receiver
            assert report is not None
            assert report.series is not None
            assert report.counted_from_ns == report.series.origin_ns + 200_000_000
            assert report.counted_ns == pytest.approx(0.2e9, rel=0.4)
            assert 0 < report.counted_bytes < report.bytes
            assert report.series.total_bytes == report.bytes
        counted = sum(s.receiver.counted_bytes for s in flow.streams)
        assert flow.averages.after_omit_bps == counted * 8e9 / flow.streams[0].receiver.counted_ns
        assert flow.sender.bytes == flow.receiver.bytes
        assert flow.steady.start_ns >= flow.series.origin_ns + 200_000_000


@pytest.mark.rates
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_a_byte_limit_does_not_count_omitted_time(run_once: RunLoop, direction: str) -> None:
    timing = {"total_bytes": 2_000_000, "omit_s": 0.2}
    options = {"mss_bytes": 1448}  # makes the ten segments small that are not paced
    wanted = spec(
        direction, timing=timing, options=options, target_bps=80_000_000, block_bytes=16_384
    )
    mine, _ = run_once(measured(wanted))
    assert mine.complete
    flow = mine.flow
    assert flow.receiver.bytes == flow.sender.bytes
    # 0.2 s at 10 MB/s are omitted, less a pause at the end of that time; then exactly 2 MB are sent
    assert 1_200_000 < flow.sender.bytes - 2_000_000 < 2_200_000
    assert flow.streams[0].sender.counted_bytes == 2_000_000
    assert flow.streams[0].receiver.counted_bytes == pytest.approx(2_000_000, rel=0.1)


@pytest.mark.rates
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_the_last_acknowledgement_is_not_delayed(run_once: RunLoop, direction: str) -> None:
    """A kernel delays an acknowledgement of little data by 40 ms and more, which would count as
    the sender's time."""
    wanted = spec(direction, timing={"total_bytes": 20_000}, target_bps=1_000_000, block_bytes=100)
    mine, _ = run_once(measured(wanted))
    (stream,) = mine.flow.streams
    assert stream.sender.counted_ns == pytest.approx(stream.receiver.counted_ns, abs=20e6)
