"""Test a run while it goes on: live intervals, an early stop, and streams in any order."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import sockets
from netmeasure.peer.client.control import ClientControl
from netmeasure.peer.client.test import PeerTest
from netmeasure.protocol import Kind, Message
from netmeasure.workloads.base import Workload
from support.held import told
from support.measured import DIRECTIONS, RunLoop, live, served, spec, ways
from support.program import server
from support.waiting import until


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_live_intervals_sum_to_the_total(run: RunLoop, direction: str, streams: int) -> None:
    timing = {"duration_s": 0.3, "interval_s": 0.05}
    seen, result = run(live(spec(direction, streams, timing=timing)))
    for way in ways(direction):
        own = [interval for interval in seen if interval.direction == way]
        flow = result.upload if way == "upload" else result.download
        assert flow is not None
        assert len(own) >= 5
        assert sum(interval.bytes for interval in own) == flow.receiver.bytes
        by_stream = [sum(counts) for counts in zip(*(i.stream_bytes for i in own), strict=True)]
        assert by_stream == [stream.receiver.bytes for stream in flow.streams]
        assert own[0].start_ns == 0
        for before, after in itertools.pairwise(own):
            assert before.end_ns == after.start_ns
        # all but the last one, which lasts until the end of the data
        assert [i.end_ns for i in own[:-1]] == [n * 50_000_000 for n in range(1, len(own))]
        for interval in own:
            assert interval.counted_by == ("sender" if way == "upload" else "receiver")
            assert interval.bytes == sum(interval.stream_bytes)
            assert (interval.retransmits is None) == (way == "download")


@pytest.mark.parametrize("direction", ["download", "both"])
def test_intervals_begin_with_the_first_byte_where_the_start_was_noticed_late(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    """The native threads read from the beginning, while the program keeps its event loop busy."""
    start = Workload.start

    def start_late(workload: Workload) -> None:
        time.sleep(0.3)
        start(workload)

    monkeypatch.setattr(Workload, "start", start_late)
    timing = nm.Timing(duration_s=0.5, interval_s=0.05)
    wanted = nm.TcpSpec(direction=direction, target_bps=80_000_000, timing=timing)  # type: ignore[arg-type]

    async def run(address: str) -> tuple[list[nm.Interval], nm.Result]:
        async with nm.connect(address) as client, client.run(wanted) as running:
            seen = [interval async for interval in running if interval.direction == "download"]
        assert running.result is not None
        return seen, running.result

    with server() as (_, address):
        seen, result = run_once(run(address))
    assert sum(interval.bytes for interval in seen) == result.download.receiver.bytes
    assert len(seen) >= 9
    # 0.5 MB are due in each; all that came before the start signal would be 3.5 MB
    assert max(interval.bytes for interval in seen) < 2e6
    assert [i.end_ns for i in seen[:8]] == [n * 50_000_000 for n in range(1, 9)]


def test_no_interval_is_half_omitted(run_once: RunLoop) -> None:
    timing = {"duration_s": 0.2, "omit_s": 0.12, "interval_s": 0.05}
    seen, result = run_once(live(spec("download", timing=timing)))
    assert [i.omitted for i in seen[:6]] == [True, True, True, False, False, False]
    edges = [50, 100, 120, 170, 220]
    assert [i.end_ns for i in seen[:5]] == [edge * 1_000_000 for edge in edges]
    assert sum(interval.bytes for interval in seen) == result.flow.receiver.bytes


@pytest.mark.parametrize(
    "timing",
    [{"duration_s": 60}, {"total_bytes": 10**14}, {"duration_s": 60, "omit_s": 60}],
    ids=["duration", "bytes", "omit"],
)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_early_stop_gives_a_complete_result_with_a_note(
    run_once: RunLoop, direction: str, timing: dict[str, Any]
) -> None:
    wanted = spec(direction, 2, timing={**timing, "interval_s": 0.05})
    seen, result = run_once(live(wanted, stop_after=2))
    assert result.complete
    assert result.error is None
    assert result.notes == ("stopped early by the user",)
    assert result.client.duration_ns < 10e9
    for flow in result.flows:
        assert flow.receiver.bytes == flow.sender.bytes == flow.sender.acked_bytes > 0
        own = [interval.bytes for interval in seen if interval.direction == flow.direction]
        assert sum(own) == flow.receiver.bytes
        reasons = {stream.sender.end_reason for stream in flow.streams}
        assert reasons == {"stopped"}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_stop_before_the_data_phase_ends_it_as_it_begins(run: RunLoop, direction: str) -> None:
    async def main() -> nm.Result:
        async with served() as (server, results), nm.connect(server.address) as client:
            async with client.run(spec(direction, duration_s=60)) as running:
                running.stop()
            assert (await results.get()).complete
            assert running.result is not None
            return running.result

    result = run(main())
    assert result.complete
    assert result.notes == ("stopped early by the user",)


def test_a_run_that_is_over_can_be_asked_again(run_once: RunLoop) -> None:
    async def main() -> None:
        async with served() as (server, _), nm.connect(server.address) as client:
            async with client.run(spec(duration_s=0.05)) as running:
                first = await running.wait()
                assert await running.wait() is first
                running.stop()
                await running.abort()
            assert running.result is first
            assert first.complete

    run_once(main())


def test_data_that_arrives_before_the_start_signal_is_counted(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer, expect = PeerTest._transfer, ClientControl.expect
    workloads: list[Workload] = []

    async def noted(self: PeerTest, workload: Workload, *others: Any) -> None:
        workloads.append(workload)
        await transfer(self, workload, *others)

    async def overtaken(self: ClientControl, *kinds: Kind, **how: Any) -> Message:
        message = await expect(self, *kinds, **how)
        if Kind.TEST_RUNNING in kinds:
            await until(lambda: workloads[0].moved_bytes())
        return message

    monkeypatch.setattr(PeerTest, "_transfer", noted)
    monkeypatch.setattr(ClientControl, "expect", overtaken)
    timing = {"duration_s": 0.2, "interval_s": 0.05}
    seen, result = run_once(live(spec("download", timing=timing)))
    flow = result.flow
    first_byte = told(result)[-1]
    assert first_byte.name == "first_byte"
    assert flow.averages.set_up_ns is not None
    assert first_byte.end_ns <= flow.averages.set_up_ns
    assert first_byte.duration_ns >= 0
    assert seen[0].start_ns == 0
    assert sum(interval.bytes for interval in seen) == flow.receiver.bytes


def test_streams_keep_their_numbers_in_whatever_order_they_connect(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sockets.connect_one
    others: set[int] = set()

    async def first_is_last(*args: Any, port_offset: int | None = None) -> sockets.Connected:
        if port_offset == 0:
            await until(lambda: len(others) == 2)
        made = await connect(*args, port_offset=port_offset)
        if port_offset:
            others.add(port_offset)
        return made

    monkeypatch.setattr(sockets, "connect_one", first_is_last)
    timing = {"total_bytes": 2_000_000, "interval_s": 0.05}
    seen, result = run_once(live(spec("download", 3, timing=timing)))
    assert [stream.id for stream in result.flow.streams] == [1, 3, 4]
    for stream in result.flow.streams:
        assert stream.sender.socket.remote == stream.receiver.socket.local
    counts = [sum(column) for column in zip(*(i.stream_bytes for i in seen), strict=True)]
    assert counts == [stream.receiver.bytes for stream in result.flow.streams]
