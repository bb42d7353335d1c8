"""Test that many streams of a test start together, and what their reports hold."""

from __future__ import annotations

import pytest

import netmeasure as nm
from netmeasure.clock import MILLISECOND_NS
from support.measured import BOTH_WAYS, RunLoop, measured, spec
from support.optional import known

STREAMS, SLOW_BPS = 96, 1_000_000


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_they_start_together(run_once: RunLoop, direction: str) -> None:
    """Each of them takes as much of the CPUs as it gets, as soon as it has started, so that the
    others wait for a CPU. They wait for nothing else: not for their turn at a lock, as they did,
    for all of the test."""
    mine, _ = run_once(measured(spec(direction, STREAMS, duration_s=0.5)))
    assert mine.complete
    for stream in mine.flow.streams:
        sender = known(stream.sender)
        without_cpu_ns = known(known(sender.thread).wait_ns)[0]
        assert known(sender.first_ns) - without_cpu_ns < 50 * MILLISECOND_NS


def test_their_reports_have_fewer_samples(run_once: RunLoop) -> None:
    mine, _ = run_once(measured(spec("upload", STREAMS, duration_s=1, target_bps=SLOW_BPS)))
    for stream in mine.flow.streams:
        for report in (known(stream.sender), known(stream.receiver)):
            moments = known(report.thread).at_ns
            assert known(report.tcp_info).at_ns == (*moments[:-1:2], moments[-1])


@pytest.mark.parametrize(("streams", "width_ms"), [(8, 1), (96, 3)])
def test_their_buckets_are_wider(run_once: RunLoop, streams: int, width_ms: int) -> None:
    """The duration is planned, and the test is stopped before it is over."""

    async def main() -> nm.Result:
        wanted = spec("upload", streams, duration_s=3, target_bps=SLOW_BPS)
        async with (
            nm.serve("127.0.0.1", 0) as server,
            nm.connect(server.address) as client,
            client.run(wanted) as run,
        ):
            async for _ in run:
                break
            run.stop()
            return await run.wait()

    for stream in run_once(main()).flow.streams:
        for report in (known(stream.sender), known(stream.receiver)):
            assert known(report.series).width_ns == width_ms * MILLISECOND_NS
            assert known(report.series).total_bytes == report.bytes
