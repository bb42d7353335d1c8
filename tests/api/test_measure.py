"""measure() and connect() against serve(), on loopback: what a successful test gives at both
ends."""

from __future__ import annotations

import asyncio
import itertools
import socket

import pytest

import netmeasure as nm
from support.held import steps, told
from support.measured import BOTH_WAYS, DIRECTIONS, RunLoop, measured, served, spec, ways
from support.optional import known

# ---- the shape of a result -----------------------------------------------------------------------


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_test_is_complete_and_both_ends_agree(run: RunLoop, direction: str, streams: int) -> None:
    mine, theirs = run(measured(spec(direction, streams)))
    for result in (mine, theirs):
        assert result.complete
        assert result.error is None
        assert result.notes == ()
        assert result.peer_extended
        assert [flow.direction for flow in result.flows] == list(ways(direction))
        assert result.client.host == result.server.host
        assert result.server.host.program == "netmeasure"
    for flow, seen in zip(mine.flows, theirs.flows, strict=True):
        assert flow.counted_by == seen.counted_by == "receiver"
        assert flow.receiver.bytes
        assert flow.sender.bytes == flow.sender.acked_bytes == flow.receiver.bytes
        assert seen.sender.bytes == seen.receiver.bytes == flow.receiver.bytes
        assert len(flow.streams) == streams
        for stream in flow.streams:
            assert stream.sender is not None
            assert stream.receiver is not None
            assert stream.receiver.bytes
            assert stream.sender.bytes == stream.receiver.bytes
            assert stream.sender.acked_bytes == stream.receiver.bytes
            assert stream.receiver.series is not None
            assert stream.receiver.series.total_bytes == stream.receiver.bytes
            assert (stream.sender.end_reason, stream.receiver.end_reason) == ("deadline", "eof")
        assert flow.series is not None
        assert flow.series.total_bytes == flow.receiver.bytes
        assert flow.steady is not None
        assert flow.steady.goodput_bps > 0
        assert (flow.streams, flow.steady) == (seen.streams, seen.steady)
    count = streams * len(ways(direction))
    assert [report.id for report in mine.client.streams] == [1, *range(3, count + 2)]
    assert mine.client == theirs.client
    assert mine.server == theirs.server


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_set_up_is_kept_in_phases_and_in_their_order(
    run_once: RunLoop, direction: str, streams: int
) -> None:
    mine, theirs = run_once(measured(spec(direction, streams, duration_s=0.1)))
    count = streams * len(ways(direction))
    numbers = [1, *range(3, count + 2)]
    assert steps(mine).count("start") == (direction != "download")
    phases = [phase for phase in told(mine) if phase.name != "start"]
    names = [phase.name for phase in phases]
    assert names == ["resolve", "connect", "control", *["connect"] * count, *["first_byte"] * count]
    assert [phase.connection for phase in phases[:3]] == ["control"] * 3
    opened, first_bytes = phases[3 : 3 + count], phases[3 + count :]
    assert {p.connection for p in opened} == {f"stream {n}" for n in numbers}
    assert {p.connection for p in first_bytes} == {f"stream {n}" for n in numbers}

    for before, after in itertools.pairwise(phases[:4]):
        assert before.duration_ns > 0
        assert before.end_ns <= after.start_ns
    assert max(p.end_ns for p in opened) <= min(p.start_ns for p in first_bytes)
    for phase in phases:
        assert phase.side == "client"
        if phase.name == "connect":
            assert phase.syn_retransmits == 0
            assert phase.address == mine.target
    assert mine.syn_retransmits == 0

    sends = {s.id: s.role == "sender" for s in mine.client.streams}
    for phase in first_bytes:
        number = int(phase.connection.split()[1])
        assert phase.detail == ("acknowledged" if sends[number] else "received")
    for flow in mine.flows:
        ids = {f"stream {stream.id}" for stream in flow.streams}
        first = min(p.end_ns for p in first_bytes if p.connection in ids)
        # a receiving thread counts bytes later than the kernel has them
        assert flow.averages.set_up_ns is not None
        assert flow.averages.set_up_ns >= first
    assert theirs.setup == ()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_set_up_lowers_the_average_that_counts_from_the_first_attempt(
    run_once: RunLoop, direction: str
) -> None:
    mine, _ = run_once(measured(spec(direction)))
    for flow in mine.flows:
        average = flow.averages
        assert average.from_first_attempt_bps is not None
        assert average.from_first_byte_bps is not None
        assert 0 < average.from_first_attempt_bps < average.from_first_byte_bps
        assert average.after_omit_bps == pytest.approx(average.from_first_byte_bps)
        assert average.set_up_ns is not None
        whole_ns = flow.receiver.bytes * 8e9 / average.from_first_attempt_bps
        own = [s.last_ns for s in mine.client.streams if s.id in {t.id for t in flow.streams}]
        assert whole_ns > average.set_up_ns
        assert whole_ns > max(filter(None, own))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_real_result_survives_json(run_once: RunLoop, direction: str) -> None:
    for result in run_once(measured(spec(direction, 2, duration_s=0.1))):
        assert result.server.streams[0].tcp_info is not None
        assert nm.Result.from_json(result.to_json()) == result


def test_a_real_failure_survives_json(run_once: RunLoop) -> None:
    async def refused() -> nm.Result:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            with pytest.raises(nm.ConnectRefusedError) as caught:
                await nm.measure("127.0.0.1", spec(), port=bound.getsockname()[1])
        assert isinstance(caught.value.result, nm.Result)
        return caught.value.result

    result = run_once(refused())
    assert not result.complete
    assert result.error.code == "refused"
    assert nm.Result.from_json(result.to_json()) == result


def test_a_server_that_is_left_right_after_a_test_has_a_complete_result(run: RunLoop) -> None:
    results: list[nm.Result] = []

    async def main() -> None:
        async with nm.serve("127.0.0.1", 0, on_result=results.append) as server:
            await nm.measure(server.address, spec(duration_s=0.1))

    run(main())
    assert [(result.complete, result.error) for result in results] == [(True, None)]


# ---- many tests and streams ----------------------------------------------------------------------


def test_many_runs_at_once_in_one_process(run: RunLoop) -> None:
    async def main() -> None:
        async with served() as (server, results), nm.connect(server.address) as client:
            wanted = [spec(DIRECTIONS[i % 3], 1 + i % 2, duration_s=0.3) for i in range(9)]

            async def one(each: nm.TcpSpec) -> nm.Result:
                async with client.run(each) as running:
                    return await running.wait()

            mine = await asyncio.gather(*map(one, wanted))
            theirs = [await results.get() for _ in wanted]
            assert server.active_tests == 0
        for result, each in zip(mine, wanted, strict=True):
            assert result.complete
            assert result.spec == each
            for flow in result.flows:
                assert flow.receiver.bytes == known(flow.sender.bytes) > 0
        assert {t.client for t in theirs} == {m.client for m in mine}
        assert max(t.server.concurrent_tests or 0 for t in theirs) > 1

    run(main())


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_128_streams(run_once: RunLoop, direction: str) -> None:
    mine, theirs = run_once(measured(spec(direction, 128, duration_s=0.2)))
    assert mine.complete
    assert theirs.complete
    assert len(mine.flow.streams) == 128
    assert mine.flow.receiver.bytes == mine.flow.sender.bytes > 0
    for stream in mine.flow.streams:
        assert stream.receiver.bytes == stream.sender.bytes


# ---- tests that are too short for a rate ---------------------------------------------------------


ONE_BLOCK = nm.Timing(total_blocks=1)


@pytest.mark.parametrize(
    "spec",
    [nm.TcpSpec(timing=ONE_BLOCK, block_bytes=1), nm.UdpSpec(timing=ONE_BLOCK)],
    ids=["tcp", "udp"],
)
def test_bytes_that_come_at_once_have_no_rate(run: RunLoop, spec: nm.TcpSpec | nm.UdpSpec) -> None:
    """All bytes come at once, so neither a steady bitrate nor an average is meaningful."""

    async def main() -> nm.Result:
        async with nm.serve("127.0.0.1", 0) as server:
            return await nm.measure(server.address, spec)

    flow = run(main()).flow
    assert flow.steady is None
    assert flow.no_steady == "too_short"
    assert flow.averages.from_first_attempt_bps is None
    assert flow.averages.from_first_byte_bps is None


def test_a_client_does_not_keep_runs_that_have_ended(run_once: RunLoop) -> None:
    """A client that runs tests for a month must not keep the runs that have ended."""

    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server, nm.connect(server.address) as client:
            spec = nm.TcpSpec(timing=nm.Timing(total_bytes=1000))
            for _ in range(5):
                async with client.run(spec):
                    pass
            assert len(client._runs) == 1

    run_once(main())
