"""measure() and connect() against serve(), on loopback: what a good test gives at both ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import sockets
from netmeasure.peer.client.control import ClientControl
from netmeasure.peer.client.test import PeerTest
from netmeasure.protocol import Kind, Message
from netmeasure.workloads.base import Workload
from support.held import steps, told
from support.optional import known

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

BOTH_WAYS = ("upload", "download")
DIRECTIONS = ("upload", "download", "both")


@contextlib.asynccontextmanager
async def served(
    host: str | None = "127.0.0.1", **options: Any
) -> AsyncIterator[tuple[nm.Server, asyncio.Queue[nm.Result]]]:
    """A server on a free port, and the queue of its results."""
    results: asyncio.Queue[nm.Result] = asyncio.Queue()
    async with nm.serve(host, 0, on_result=results.put_nowait, **options) as server:
        yield server, results


def spec(
    direction: str = "upload",
    streams: int = 1,
    *,
    duration_s: float | None = 0.2,
    timing: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **more: Any,
) -> nm.TcpSpec:
    when = timing if timing is not None else {"duration_s": duration_s}
    return nm.TcpSpec(
        direction=direction,  # type: ignore[arg-type]
        streams=streams,
        timing=nm.Timing(**when),
        options=nm.SocketOptions(**(options or {})),
        **more,
    )


async def measured(wanted: nm.TcpSpec, host: str = "127.0.0.1") -> tuple[nm.Result, nm.Result]:
    """The results of one good test, of the client and of the server."""
    async with served(host) as (server, results):
        mine = await nm.measure(server.address, wanted)
        return mine, await results.get()


async def until(check: Callable[[], object]) -> None:
    """Wait for a condition that no event announces."""
    for _ in range(5000):
        if check():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen in 5 s")


def reports(result: nm.Result) -> Iterator[nm.StreamReport]:
    """Every stream as either end saw it."""
    yield from result.client.streams
    yield from result.server.streams


def ways(direction: str) -> tuple[str, ...]:
    return BOTH_WAYS if direction == "both" else (direction,)


# ---- the shape of a result --------------------------------------------------------------------


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


# ---- what ends a test -------------------------------------------------------------------------


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
def test_omitted_time_is_run_kept_and_left_out_of_the_rates(
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
    options = {"mss_bytes": 1448}  # the ten segments that the kernel does not pace are then small
    wanted = spec(
        direction, timing=timing, options=options, target_bps=80_000_000, block_bytes=16_384
    )
    mine, _ = run_once(measured(wanted))
    assert mine.complete
    flow = mine.flow
    assert flow.receiver.bytes == flow.sender.bytes
    # 0.2 s at 10 MB/s are omitted, but for a pause at their end; then 2 MB are sent, exactly
    assert 1_200_000 < flow.sender.bytes - 2_000_000 < 2_200_000
    assert flow.streams[0].sender.counted_bytes == 2_000_000
    assert flow.streams[0].receiver.counted_bytes == pytest.approx(2_000_000, rel=0.1)


# ---- how bytes are moved ----------------------------------------------------------------------


@pytest.mark.parametrize("receive_mode", ["copy", "discard"])
@pytest.mark.parametrize("send_mode", ["copy", "sendfile"])
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_modes_are_used_and_recorded_at_both_ends(
    run_once: RunLoop, direction: str, send_mode: str, receive_mode: str
) -> None:
    wanted = spec(direction, 2, duration_s=0.1, send_mode=send_mode, receive_mode=receive_mode)
    mine, theirs = run_once(measured(wanted))
    for flow in (*mine.flows, *theirs.flows):
        assert flow.receiver.bytes == flow.sender.bytes
        assert flow.receiver.bytes
    modes = {(report.role, report.mode) for report in reports(mine)}
    assert modes == {("sender", send_mode), ("receiver", receive_mode)}
    assert (theirs.spec.send_mode, theirs.spec.receive_mode) == (send_mode, receive_mode)


@pytest.mark.parametrize("name", ["reno", "cubic"])
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_congestion_control_is_set_at_both_ends(
    run_once: RunLoop, direction: str, name: str
) -> None:
    mine, _ = run_once(measured(spec(direction, duration_s=0.05, options={"congestion": name})))
    assert [known(report.socket).congestion for report in reports(mine)] == [name, name]


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_the_mss_limits_what_the_sender_sends(run_once: RunLoop, direction: str) -> None:
    mine, _ = run_once(measured(spec(direction, duration_s=0.05, options={"mss_bytes": 1000})))
    sizes = mine.flow.streams[0].sender.tcp_info.mss_bytes
    assert 900 < max(sizes) <= 1000


@pytest.mark.parametrize("wanted", [True, False])
def test_no_delay_is_set_at_both_ends(run_once: RunLoop, wanted: bool) -> None:
    mine, _ = run_once(measured(spec("both", duration_s=0.05, options={"no_delay": wanted})))
    assert [known(report.socket).no_delay for report in reports(mine)] == [wanted] * 4


def test_the_window_is_set_at_both_ends(run_once: RunLoop) -> None:
    window = 50_000
    mine, _ = run_once(measured(spec("both", duration_s=0.05, options={"window_bytes": window})))
    # the kernel doubles what is asked for (socket(7)) and reads that back
    for report in reports(mine):
        assert (known(report.socket).sndbuf_bytes, known(report.socket).rcvbuf_bytes) == (
            2 * window,
            2 * window,
        )
    plain, _ = run_once(measured(spec(duration_s=0.05)))
    assert all(known(report.socket).sndbuf_bytes != 2 * window for report in reports(plain))


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_connections_leave_from_the_bound_address(run_once: RunLoop, direction: str) -> None:
    options = {"bind_address": "127.0.0.3"}
    mine, theirs = run_once(measured(spec(direction, 2, duration_s=0.05, options=options)))
    for report in mine.client.streams:
        assert known(known(report.socket).local).startswith("127.0.0.3:")
    for report in mine.server.streams:
        assert known(report.socket).remote.startswith("127.0.0.3:")
    assert theirs.target.startswith("127.0.0.3:")


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that are free."""
    for _ in range(100):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            base = int(first.getsockname()[1])
            with contextlib.suppress(OSError):
                for offset in range(1, count):
                    stack.enter_context(socket.create_server(("127.0.0.1", base + offset)))
                return base
    raise AssertionError("no neighbouring ports are free")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_streams_leave_from_the_bound_ports(run_once: RunLoop, direction: str) -> None:
    count = 2 * len(ways(direction))
    base = free_ports(count)
    mine, _ = run_once(measured(spec(direction, 2, duration_s=0.05, options={"bind_port": base})))
    locals_ = [known(report.socket).local for report in mine.client.streams]
    assert locals_ == [f"127.0.0.1:{base + index}" for index in range(count)]
    # a stream has the same number at both ends, whichever of them was accepted first
    assert [known(report.socket).remote for report in mine.server.streams] == locals_


#: On loopback a segment is of 64 KiB: too coarse for these rates, and the kernel does not pace the
#: first ten of them.
PACED: dict[str, Any] = {"duration_s": 1.0, "options": {"mss_bytes": 1448}}


@pytest.mark.rates
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_target_bitrate_is_kept(run_once: RunLoop, direction: str) -> None:
    mine, theirs = run_once(measured(spec(direction, target_bps=50_000_000, **PACED)))
    assert theirs.spec.target_bps == 50_000_000
    for flow in mine.flows:
        assert flow.steady.goodput_bps == pytest.approx(50e6, rel=0.03)
        assert flow.streams[0].sender.socket.pacing_bps == 50_000_000


@pytest.mark.rates
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_the_target_bitrate_is_of_each_stream(run_once: RunLoop, direction: str) -> None:
    mine, _ = run_once(measured(spec(direction, 3, target_bps=20_000_000, **PACED)))
    assert mine.flow.steady.goodput_bps == pytest.approx(60e6, rel=0.03)


@pytest.mark.rates
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_the_target_bitrate_is_the_average_too(run_once: RunLoop, direction: str) -> None:
    mine, _ = run_once(measured(spec(direction, target_bps=50_000_000, **PACED)))
    assert mine.flow.averages.after_omit_bps == pytest.approx(50e6, rel=0.05)


# ---- addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_ipv6(run: RunLoop, direction: str) -> None:
    mine, theirs = run(measured(spec(direction, 2, duration_s=0.1), host="::1"))
    assert mine.complete
    assert mine.target.startswith("[::1]:")
    assert theirs.target.startswith("[::1]:")
    for flow in mine.flows:
        assert flow.receiver.bytes == known(flow.sender.bytes) > 0
    for report in reports(mine):
        assert known(known(report.socket).local).startswith("[::1]:")


@pytest.mark.parametrize(("family", "prefix"), [("ipv4", "127.0.0.1:"), ("ipv6", "[::1]:")])
def test_a_server_on_every_address_serves_both_families_on_one_port(
    run_once: RunLoop, family: str, prefix: str
) -> None:
    async def main() -> nm.Result:
        async with served(None) as (server, _):
            assert len({address.rpartition(":")[2] for address in server.addresses}) == 1
            host = "127.0.0.1" if family == "ipv4" else "::1"
            options = {"family": family}
            return await nm.measure(host, spec(duration_s=0.05, options=options), port=server.port)

    mine = run_once(main())
    assert mine.client.streams[0].socket.local.startswith(prefix)


@pytest.mark.parametrize("port", [-1, 0, 65_536, 70_000])
def test_an_impossible_port_is_refused(run_once: RunLoop, port: int) -> None:
    async def main() -> None:
        with pytest.raises(nm.SpecError):
            await nm.measure("127.0.0.1", spec(duration_s=0.05), port=port)

    run_once(main())


# ---- live -------------------------------------------------------------------------------------


async def live(wanted: nm.TcpSpec, stop_after: int = 0) -> tuple[list[nm.Interval], nm.Result]:
    """A run watched as it goes; stopped after so many intervals, if any."""
    seen: list[nm.Interval] = []
    async with (
        served() as (server, results),
        nm.connect(server.address) as client,
        client.run(wanted) as running,
    ):
        async for interval in running:
            seen.append(interval)
            if len(seen) == stop_after:
                running.stop()
        theirs = await results.get()
    assert theirs.complete
    assert running.result is not None
    return seen, running.result


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_live_intervals_sum_to_the_total(run: RunLoop, direction: str, streams: int) -> None:
    timing = {"duration_s": 0.3, "interval_s": 0.05}
    seen, result = run(live(spec(direction, streams, timing=timing)))
    for way in ways(direction):
        own = [interval for interval in seen if interval.direction == way]
        flow = result.upload if way == "upload" else result.download
        assert flow is not None
        assert 5 <= len(own) <= 20
        assert sum(interval.bytes for interval in own) == flow.receiver.bytes
        by_stream = [sum(counts) for counts in zip(*(i.stream_bytes for i in own), strict=True)]
        assert by_stream == [stream.receiver.bytes for stream in flow.streams]
        assert own[0].start_ns == 0
        for before, after in itertools.pairwise(own):
            assert before.end_ns == after.start_ns
        assert [i.end_ns for i in own[:5]] == [n * 50_000_000 for n in range(1, 6)]
        for interval in own:
            assert interval.counted_by == ("sender" if way == "upload" else "receiver")
            assert interval.bytes == sum(interval.stream_bytes)
            assert (interval.retransmits is None) == (way == "download")


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


def test_data_that_is_there_before_the_start_signal_is_in_its_place(
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


# ---- many -------------------------------------------------------------------------------------


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


# ---- what is too short for a rate ---------------------------------------------------------------


ONE_BLOCK = nm.Timing(total_blocks=1)


@pytest.mark.parametrize(
    "spec",
    [nm.TcpSpec(timing=ONE_BLOCK, block_bytes=1), nm.UdpSpec(timing=ONE_BLOCK)],
    ids=["tcp", "udp"],
)
def test_a_moment_has_no_rate(run: RunLoop, spec: nm.TcpSpec | nm.UdpSpec) -> None:
    """All bytes come at once: neither a steady bitrate nor an average says anything."""

    async def main() -> nm.Result:
        async with nm.serve("127.0.0.1", 0) as server:
            return await nm.measure(server.address, spec)

    flow = run(main()).flow
    assert flow.steady is None
    assert flow.no_steady == "too_short"
    assert flow.averages.from_first_attempt_bps is None
    assert flow.averages.from_first_byte_bps is None
