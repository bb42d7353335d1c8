"""Observers at either end: which calls they get, in which order, and that the figures add up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.result import ErrorRecord
from support import iperf3

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


class Diary(nm.Observer):
    """An observer that records every call."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.controls: list[nm.Control] = []
        self.openings: list[nm.Opening] = []
        self.intervals: list[nm.Interval] = []
        self.results: list[nm.Result] = []
        self.failures: list[nm.NetmeasureError] = []
        self.refusals: list[ErrorRecord] = []
        self.over = asyncio.Event()

    def on_accepted(self, control: nm.Control) -> None:
        self.order.append("accepted")
        self.controls.append(control)

    def on_opening(self, opening: nm.Opening) -> None:
        self.order.append("opening")
        self.openings.append(opening)

    def on_interval(self, interval: nm.Interval) -> None:
        self.order.append("interval")
        self.intervals.append(interval)

    def on_failed(self, error: nm.NetmeasureError) -> None:
        self.order.append("failed")
        self.failures.append(error)

    def on_ended(self, result: nm.Result) -> None:
        self.order.append("ended")
        self.results.append(result)
        self.over.set()

    def on_refused(self, error: ErrorRecord) -> None:
        self.order.append("refused")
        self.refusals.append(error)
        self.over.set()

    def of(self, direction: str) -> list[nm.Interval]:
        return [interval for interval in self.intervals if interval.direction == direction]


@contextlib.asynccontextmanager
async def watched(**options: Any) -> AsyncIterator[tuple[nm.Server, asyncio.Queue[Diary]]]:
    """Provide a server whose tests are observed, and the queue of their diaries."""
    diaries: asyncio.Queue[Diary] = asyncio.Queue()

    def observe() -> Diary:
        diaries.put_nowait(diary := Diary())
        return diary

    async with nm.serve("127.0.0.1", 0, observe=observe, **options) as server:
        yield server, diaries


async def both_ends(spec: nm.TcpSpec | nm.UdpSpec, interval_s: float) -> tuple[Diary, Diary]:
    async with watched(interval_s=interval_s) as (server, diaries):
        mine = Diary()
        await nm.measure(server.address, spec, observer=mine)
        theirs = await diaries.get()
        await theirs.over.wait()
        return mine, theirs


def check_order(diary: Diary, *, failed: bool = False) -> None:
    end = ["failed", "ended"] if failed else ["ended"]
    assert diary.order[:2] == ["accepted", "opening"]
    assert diary.order[-len(end) :] == end
    assert set(diary.order[2 : -len(end)]) == {"interval"}


@pytest.mark.parametrize("direction", ["upload", "download", "both"])
@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_both_ends_are_watched(run: RunLoop, direction: Any, udp: bool) -> None:
    timing = nm.Timing(duration_s=0.3, interval_s=0.1)
    spec: nm.TcpSpec | nm.UdpSpec = nm.TcpSpec(direction=direction, streams=2, timing=timing)
    if udp:
        spec = nm.UdpSpec(direction=direction, streams=2, timing=timing, target_bps=10_000_000)
    mine, theirs = run(both_ends(spec, 0.05))
    check_order(mine)
    check_order(theirs)
    here, there = mine.openings[0], theirs.openings[0]
    assert (here.end, there.end) == ("client", "server")
    assert here.extended
    assert there.extended
    assert here.control.cookie == there.control.cookie == mine.controls[0].cookie
    assert (here.control.local, here.control.remote) == (there.control.remote, there.control.local)
    assert (here.control.mss_bytes or 0) > 500
    assert [s.id for s in here.streams] == [s.id for s in there.streams]
    for local, remote in zip(here.streams, there.streams, strict=True):
        assert (local.socket.local, local.socket.remote) == (
            remote.socket.remote,
            remote.socket.local,
        )
        assert {local.role, remote.role} == {"sender", "receiver"}
    assert there.spec.direction == direction
    assert abs(here.unix_s - there.unix_s) < 5
    result = mine.results[0]
    assert result.complete
    assert theirs.results[0].complete
    for flow in result.flows:
        up = flow.direction == "upload"
        for diary, sends in ((mine, up), (theirs, not up)):
            seen = diary.of(flow.direction)
            assert {i.counted_by for i in seen} == {"sender" if sends else "receiver"}
            assert [i.bytes for i in seen] == [sum(s.bytes for s in i.streams) for i in seen]
            assert {tuple(s.id for s in i.streams) for i in seen} == {
                tuple(s.id for s in flow.streams)
            }
            for interval in seen:
                for stream in interval.streams:
                    if udp:
                        assert stream.packets is not None
                        assert (stream.lost_packets is None) == sends
                        assert stream.rtt_ns is None
                    elif sends:
                        assert (stream.cwnd_bytes or 0) > 0
                        assert (stream.rtt_ns or 0) > 0
                        assert (stream.pmtu_bytes or 0) > 0
                        assert stream.retransmits is not None
                        assert stream.reordering_seen is not None
                    else:
                        assert stream.cwnd_bytes is None
                        assert stream.retransmits is None
        # every byte that either end counted is in one of its intervals
        ends = [{s.id: s for s in side.streams} for side in (result.client, result.server)]
        for diary, side in zip((mine, theirs), ends, strict=True):
            for index, stream in enumerate(flow.streams):
                counted = sum(i.streams[index].bytes for i in diary.of(flow.direction))
                report = side[stream.id]
                whole = report.bytes if report.role == "receiver" or udp else report.acked_bytes
                assert counted == whole


def test_the_server_keeps_its_own_period(run: RunLoop) -> None:
    spec = nm.TcpSpec(timing=nm.Timing(duration_s=0.25, interval_s=60))
    mine, theirs = run(both_ends(spec, 0.1))
    assert len(mine.intervals) == 1
    edges = [interval.end_ns for interval in theirs.intervals]
    whole = edges[:-1]
    assert whole == [100_000_000 * (n + 1) for n in range(len(whole))]
    assert len(whole) >= 2
    assert 0 < edges[-1] - whole[-1] <= 100_000_000


def test_an_interval_of_a_day_gives_one_interval_at_the_end(run_once: RunLoop) -> None:
    spec = nm.TcpSpec(timing=nm.Timing(duration_s=0.2))
    _, theirs = run_once(both_ends(spec, 86_400))
    assert len(theirs.intervals) == 1


def test_omitted_intervals_are_marked_at_the_server_too(run_once: RunLoop) -> None:
    spec = nm.TcpSpec(timing=nm.Timing(duration_s=0.2, omit_s=0.15))
    _, theirs = run_once(both_ends(spec, 0.1))
    marks = [(i.end_ns // 1_000_000, i.omitted) for i in theirs.intervals]
    assert marks[:4] == [(100, True), (150, True), (250, False), (350, False)]


def test_a_test_that_the_client_aborts_is_reported_with_its_reason(run: RunLoop) -> None:
    async def main() -> Diary:
        async with watched(interval_s=0.05) as (server, diaries):
            spec = nm.TcpSpec(timing=nm.Timing(interval_s=0.1))
            async with nm.connect(server.address) as client, client.run(spec) as running:
                async for _ in running:
                    break
                await running.abort()
            diary = await diaries.get()
            await diary.over.wait()
            return diary

    diary = run(main())
    check_order(diary, failed=True)
    result = diary.results[0]
    assert not result.complete
    assert result.error is not None
    assert result.error.code == "peer_terminated"
    assert sum(i.bytes for i in diary.intervals) == result.server.streams[0].bytes


def test_wrong_parameters_are_refused(run: RunLoop) -> None:
    async def main() -> Diary:
        async with watched() as (server, diaries):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"a" * 36 + b"\0")
            assert await reader.readexactly(1) == b"\x09"
            writer.write((9).to_bytes(4, "big") + b'{"len":0}')
            assert (await reader.readexactly(5))[:1] == b"\xfe"
            diary = await diaries.get()
            await diary.over.wait()
            writer.close()
            await writer.wait_closed()
            return diary

    diary = run(main())
    assert diary.order == ["accepted", "failed", "refused"]
    assert [error.number for error in diary.failures] == [7]
    assert diary.refusals[0].number == 7


def test_an_error_that_the_server_reports_has_its_number(run_once: RunLoop) -> None:
    """A bare socket takes the place of the server, and refuses the test with error 27."""

    async def main() -> Diary:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            diary = Diary()
            port = listener.getsockname()[1]
            task = asyncio.create_task(nm.measure("127.0.0.1", port=port, observer=diary))
            loop = asyncio.get_running_loop()
            sock, _ = await loop.sock_accept(listener)
            with sock:
                await loop.sock_sendall(sock, b"\xfe" + (27).to_bytes(4, "big") + bytes(4))
                with pytest.raises(nm.PeerRefusedError) as caught:
                    await task
            assert caught.value.number == 27
            return diary

    diary = run_once(main())
    assert diary.order == ["failed", "ended"]
    assert isinstance(diary.failures[0], nm.PeerRefusedError)
    assert diary.results[0].error is not None
    assert diary.results[0].error.number == 27


@pytest.mark.interop
@pytest.mark.parametrize("options", [(), ("-R",), ("--bidir",), ("-u", "-b", "10M")], ids=str)
def test_a_plain_iperf3_client_is_watched(run_once: RunLoop, options: tuple[str, ...]) -> None:
    async def main() -> tuple[Diary, dict[str, Any]]:
        async with watched(interval_s=0.5) as (server, diaries):
            report = await asyncio.to_thread(
                iperf3.client, "127.0.0.1", server.port, "-t", "1", "-P", "2", *options
            )
            diary = await diaries.get()
            await diary.over.wait()
            return diary, report

    diary, report = run_once(main())
    check_order(diary)
    opening = diary.openings[0]
    assert not opening.extended
    assert opening.peer == nm.result.Host(program="iperf3", version="3.12")
    assert opening.control.cookie == report["start"]["cookie"]
    there = {(c["local_port"], c["remote_port"]) for c in report["start"]["connected"]}
    assert there == {
        (int(s.socket.remote.rpartition(":")[2]), int(s.socket.local.rpartition(":")[2]))
        for s in opening.streams
        if s.socket.remote and s.socket.local
    }
    for flow in diary.results[0].flows:
        seen = diary.of(flow.direction)
        # intervals up to 0.5 s, 1.0 s and so on; iperf3 may begin and end late
        whole = [interval.end_ns for interval in seen[:-1]]
        assert whole == [500_000_000 * (n + 1) for n in range(len(whole))]
        assert 0 < seen[-1].end_ns - whole[-1] <= 500_000_000
        counted = sum(interval.bytes for interval in seen)
        numbers = {stream.id for stream in flow.streams}
        own = [s for s in diary.results[0].server.streams if s.id in numbers]
        assert counted == sum(s.delivered_bytes or s.bytes or 0 for s in own)


@pytest.mark.interop
def test_a_plain_iperf3_server_is_watched(run_once: RunLoop) -> None:
    async def main(port: int) -> Diary:
        diary = Diary()
        await nm.measure(
            "127.0.0.1", nm.TcpSpec(timing=nm.Timing(duration_s=0.5)), port=port, observer=diary
        )
        return diary

    with iperf3.server() as server:
        diary = run_once(main(server.port))
    check_order(diary)
    assert not diary.openings[0].extended
    assert diary.openings[0].peer.program == "iperf3"
