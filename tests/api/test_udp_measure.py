"""UDP by the library, on loopback: what a successful test gives at both ends."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import hello
from netmeasure.engine.addresses import Address
from support.held import steps, told
from support.measured import BOTH_WAYS, DIRECTIONS, RunLoop, live, measured, served
from support.optional import known

SIZE = 1000
PER_SECOND = 2000

each_direction = pytest.mark.parametrize("direction", DIRECTIONS)
both_ways = pytest.mark.parametrize("direction", BOTH_WAYS)


def spec(
    direction: str = "upload",
    streams: int = 1,
    *,
    timing: dict[str, Any] | None = None,
    **more: Any,
) -> nm.UdpSpec:
    """Return a test of 0.2 s with 2000 small datagrams per second, unless arguments change it."""
    wanted: dict[str, Any] = {"datagram_bytes": SIZE, "target_pps": PER_SECOND, **more}
    return nm.UdpSpec(
        direction=direction,  # type: ignore[arg-type]
        streams=streams,
        timing=nm.Timing(**(timing or {"duration_s": 0.2})),
        **wanted,
    )


def ways(direction: str) -> tuple[str, ...]:
    return BOTH_WAYS if direction == "both" else (direction,)


def numbers(flow: nm.Flow) -> tuple[int, int, int]:
    """Return (sent, received, lost), all of which must be known."""
    loss = flow.loss
    assert loss is not None
    assert loss.sent_packets is not None
    assert loss.received_packets is not None
    assert loss.lost_packets is not None
    return loss.sent_packets, loss.received_packets, loss.lost_packets


def ends(flow: nm.Flow) -> Iterator[tuple[nm.StreamReport, nm.StreamReport]]:
    """Yield for each stream the reports of its sender and its receiver."""
    for stream in flow.streams:
        assert stream.sender is not None
        assert stream.receiver is not None
        yield stream.sender, stream.receiver


def notes(result: nm.Result) -> list[str]:
    """Return the notes except those on stalls, which a busy machine causes."""
    return [note for note in result.notes if "after stalls" not in note]


# ---- the shape of a result ----------------------------------------------------------------------


@pytest.mark.rates
@each_direction
def test_a_test_is_complete_and_both_ends_agree(run: RunLoop, direction: str) -> None:
    streams = 3
    mine, theirs = run(measured(spec(direction, streams)))
    for result in (mine, theirs):
        assert result.complete
        assert result.error is None
        assert notes(result) == []
        assert result.peer_extended
        assert [flow.direction for flow in result.flows] == list(ways(direction))
    for flow, seen in zip(mine.flows, theirs.flows, strict=True):
        sent, received, lost = numbers(flow)
        assert (sent, received, lost) == numbers(seen)
        assert sent == received + lost
        # here, only the buffer of our own socket can lose datagrams
        assert flow.loss is not None
        assert lost == flow.loss.host_dropped_packets
        assert flow.loss.duplicate_packets == flow.loss.reordered_packets == 0
        assert flow.counted_by == "receiver"
        assert flow.sender.bytes == sent * SIZE
        assert flow.receiver.bytes == received * SIZE
        assert flow.series is not None
        assert flow.series.total_bytes == flow.receiver.bytes
        assert len(flow.streams) == streams
        for sender, receiver in ends(flow):
            assert sender.datagrams is not None
            assert receiver.datagrams is not None
            assert sender.series is not None
            assert receiver.series is not None
            assert sender.bytes == sender.datagrams.packets * SIZE == sender.series.total_bytes
            assert receiver.bytes == receiver.datagrams.packets * SIZE
            assert receiver.bytes == receiver.series.total_bytes
            assert sender.end_reason == "deadline"
            assert sender.acked_bytes is None
    assert mine.client == theirs.client
    assert mine.server == theirs.server


@each_direction
def test_set_up_is_kept_in_phases_and_in_their_order(run_once: RunLoop, direction: str) -> None:
    streams = 2
    mine, _ = run_once(measured(spec(direction, streams, timing={"duration_s": 0.1})))
    count = streams * len(ways(direction))
    assert steps(mine).count("start") == (direction != "download")
    phases = [phase for phase in told(mine) if phase.name != "start"]
    names = [phase.name for phase in phases]
    assert names == ["resolve", "connect", "control", *["hello"] * count, *["first_byte"] * count]
    streams_named = {f"stream {n}" for n in [1, *range(3, count + 2)]}
    hellos, first_bytes = phases[3 : 3 + count], phases[3 + count :]
    for group in (hellos, first_bytes):
        assert {phase.connection for phase in group} == streams_named
    for before, after in itertools.pairwise(phases[:4]):
        assert before.end_ns <= after.start_ns
    assert max(p.end_ns for p in hellos) <= min(p.start_ns for p in first_bytes)
    sends = {s.id: s.role == "sender" for s in mine.client.streams}
    for phase in first_bytes:
        number = int(phase.connection.split()[1])
        assert phase.detail == ("sent" if sends[number] else "received")
    assert mine.set_up_ns == min(
        p.end_ns for p in first_bytes if int(p.connection.split()[1]) in flow_ids(mine.flows[0])
    )


def flow_ids(flow: nm.Flow) -> set[int]:
    return {stream.id for stream in flow.streams}


@each_direction
def test_a_real_result_survives_json(run_once: RunLoop, direction: str) -> None:
    for result in run_once(measured(spec(direction, 2, timing={"duration_s": 0.1, "omit_s": 0.1}))):
        assert isinstance(result.spec, nm.UdpSpec)
        assert result.flows[0].loss is not None
        again = nm.Result.from_json(result.to_json())
        assert again == result
        assert again.flows[0].loss == result.flows[0].loss


@both_ways
def test_the_history_of_the_losses_ends_with_the_total(run_once: RunLoop, direction: str) -> None:
    mine, _ = run_once(measured(spec(direction)))
    for _, receiver in ends(mine.flow):
        assert receiver.datagrams is not None
        history = receiver.datagrams.history
        assert history is not None
        assert history.packets[-1] == receiver.datagrams.packets
        assert history.highest_sequence[-1] == receiver.datagrams.highest_sequence
        assert list(history.at_ns) == sorted(history.at_ns)
        assert list(history.packets) == sorted(history.packets)


# ---- what ends a test ---------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [1, 3])
def test_a_limit_in_datagrams_is_exact(run_once: RunLoop, streams: int) -> None:
    mine, theirs = run_once(measured(spec("both", streams, timing={"total_blocks": 101})))
    assert mine.complete
    assert theirs.complete
    for flow in (*mine.flows, *theirs.flows):
        sent, received, lost = numbers(flow)
        assert sent == received + lost == 101
        assert flow.sender.bytes == 101 * SIZE
        assert {sender.end_reason for sender, _ in ends(flow)} == {"budget"}


@pytest.mark.parametrize(("total", "packets"), [(1, 1), (100 * SIZE, 100), (100 * SIZE + 1, 101)])
def test_a_limit_in_bytes_is_met_with_whole_datagrams(
    run_once: RunLoop, total: int, packets: int
) -> None:
    mine, _ = run_once(measured(spec("both", timing={"total_bytes": total})))
    for flow in mine.flows:
        assert numbers(flow)[0] == packets
        assert flow.sender.bytes == packets * SIZE


@both_ways
def test_omitted_datagrams_are_counted_separately(run_once: RunLoop, direction: str) -> None:
    timing = {"duration_s": 0.2, "omit_s": 0.2, "interval_s": 0.05}
    seen, result = run_once(live(spec(direction, timing=timing)))
    (flow,) = result.flows
    sent, received, lost = numbers(flow)
    ((sender, receiver),) = ends(flow)
    assert sender.datagrams is not None
    assert receiver.datagrams is not None
    omitted = receiver.datagrams.omitted_packets
    assert omitted
    assert omitted + received == receiver.datagrams.packets
    assert sent == received + lost < sender.datagrams.packets
    assert sender.datagrams.packets == sent + known(receiver.datagrams.omitted_highest_sequence)
    assert receiver.series is not None
    assert receiver.counted_from_ns == receiver.series.origin_ns + 200_000_000
    assert [i.omitted for i in seen[:5]] == [True, True, True, True, False]


@each_direction
def test_an_early_stop_gives_a_complete_result_with_a_note(
    run_once: RunLoop, direction: str
) -> None:
    timing = {"duration_s": 60, "interval_s": 0.05}
    _, result = run_once(live(spec(direction, 2, timing=timing), stop_after=2))
    assert result.complete
    assert notes(result) == ["stopped early by the user"]
    for flow in result.flows:
        sent, received, lost = numbers(flow)
        assert sent == received + lost > 0


# ---- live ---------------------------------------------------------------------------------------


@each_direction
def test_live_intervals_sum_to_the_total(run_once: RunLoop, direction: str) -> None:
    timing = {"duration_s": 0.3, "interval_s": 0.05}
    seen, result = run_once(live(spec(direction, 2, timing=timing)))
    for flow in result.flows:
        own = [interval for interval in seen if interval.direction == flow.direction]
        here = "sender" if flow.direction == "upload" else "receiver"
        total = flow.sender.bytes if here == "sender" else flow.receiver.bytes
        assert {interval.counted_by for interval in own} == {here}
        assert sum(interval.bytes for interval in own) == total
        assert sum(interval.packets or 0 for interval in own) * SIZE == total
        assert own[0].start_ns == 0
        for before, after in itertools.pairwise(own):
            assert before.end_ns == after.start_ns
        if here == "receiver":
            tail = numbers(flow)[0] - sum(
                r.datagrams.highest_sequence or 0 for _, r in ends(flow) if r.datagrams
            )
            seen_lost = sum(interval.lost_packets or 0 for interval in own)
            assert seen_lost == numbers(flow)[2] - tail
        else:
            assert {interval.lost_packets for interval in own} == {None}


# ---- rate, size and offload ---------------------------------------------------------------------


@pytest.mark.rates
def test_the_target_in_datagrams_per_second_is_kept(run_once: RunLoop) -> None:
    mine, theirs = run_once(measured(spec("both", 2, timing={"duration_s": 0.5})))
    for flow in (*mine.flows, *theirs.flows):
        for sender, _ in ends(flow):
            assert sender.datagrams is not None
            assert sender.datagrams.target_bps == PER_SECOND * SIZE * 8
            # the planned number, less what the sender skipped after it had no CPU for long
            due = PER_SECOND * (0.5 - (sender.datagrams.skipped_ns or 0) / 1e9)
            assert sender.datagrams.packets == pytest.approx(due, abs=25)


@pytest.mark.rates
def test_the_target_bitrate_is_kept(run_once: RunLoop) -> None:
    wanted = spec("both", timing={"duration_s": 0.5}, target_pps=None, target_bps=8_000_000)
    mine, _ = run_once(measured(wanted))
    for sender, _ in itertools.chain(*map(ends, mine.flows)):
        assert sender.datagrams is not None
        due = 1000 * (0.5 - (sender.datagrams.skipped_ns or 0) / 1e9)
        assert sender.datagrams.packets == pytest.approx(due, abs=13)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_datagram_is_by_default_no_longer_than_a_jumbo_frame_takes(
    run_once: RunLoop, host: str
) -> None:
    """Loopback would take more; for shorter MTUs, see network/test_udp_paths.py."""
    wanted = spec("both", timing={"total_blocks": 20}, datagram_bytes=None, target_pps=200)
    mine, theirs = run_once(measured(wanted, host))
    assert mine.spec.datagram_bytes == theirs.spec.datagram_bytes == 9000 - 28
    assert notes(mine) == []
    for flow in mine.flows:
        assert numbers(flow)[0] == 20
        assert flow.sender.bytes == 20 * 8972


@pytest.mark.parametrize("offload", [True, False])
@both_ways
def test_offload_is_used_as_asked_and_counts_the_same(
    run_once: RunLoop, direction: str, offload: bool
) -> None:
    more: dict[str, Any] = {
        "offload": offload,
        "burst_datagrams": 10,
        "timing": {"total_blocks": 300},
    }
    mine, theirs = run_once(measured(spec(direction, **more)))
    assert mine.spec.offload == theirs.spec.offload == offload
    ((sender, receiver),) = ends(mine.flow)
    assert sender.datagrams is not None
    assert receiver.datagrams is not None
    assert (sender.datagrams.offload, receiver.datagrams.offload) == (offload, offload)
    assert sender.datagrams.offload_error is None
    sent, received, lost = numbers(mine.flow)
    assert sent == received + lost == 300
    most = 10 * SIZE + PER_SECOND // 100 * SIZE  # after a late wake-up, 10 ms are made up for
    assert 10 * SIZE <= known(sender.datagrams.largest_burst_bytes) <= most


@pytest.mark.parametrize("size", [16, 64, 1472, 65_507])
def test_every_size_is_sent_whole(run_once: RunLoop, size: int) -> None:
    timing = {"total_blocks": 30}
    mine, _ = run_once(measured(spec("both", timing=timing, datagram_bytes=size)))
    for flow in mine.flows:
        sent, received, lost = numbers(flow)
        assert sent == received + lost == 30
        assert flow.receiver.bytes == received * size


@both_ways
def test_as_fast_as_possible_still_counts_exactly(run_once: RunLoop, direction: str) -> None:
    more: dict[str, Any] = {
        "target_pps": None,
        "target_bps": None,
        "timing": {"total_blocks": 50_000},
    }
    mine, _ = run_once(measured(spec(direction, **more)))
    sent, received, lost = numbers(mine.flow)
    assert sent == received + lost == 50_000
    assert mine.flow.receiver.bytes == received * SIZE


def test_ipv6(run_once: RunLoop) -> None:
    mine, theirs = run_once(measured(spec("both", 2), host="::1"))
    for result in (mine, theirs):
        assert result.complete
        for report in result.client.streams:
            assert report.socket is not None
            assert (report.socket.local or "").startswith("[::1]:")
    for flow in mine.flows:
        sent, received, lost = numbers(flow)
        assert sent == received + lost > 0


def test_streams_leave_from_the_bound_address(run_once: RunLoop) -> None:
    """They reach the server, which expects them from the address of the control connection."""
    options = nm.SocketOptions(bind_address="127.0.0.3")
    mine, theirs = run_once(measured(spec("both", 2, options=options)))
    for report in mine.client.streams:
        assert report.socket is not None
        assert (report.socket.local or "").startswith("127.0.0.3:")
    assert theirs.complete


def test_many_runs_at_once_do_not_mix(run: RunLoop) -> None:
    async def main() -> None:
        limits = [40 + i for i in range(12)]
        async with served() as (server, results), nm.connect(server.address) as client:

            async def one(index: int, packets: int) -> nm.Result:
                wanted = spec(DIRECTIONS[index % 3], timing={"total_blocks": packets})
                async with client.run(wanted) as running:
                    return await running.wait()

            mine = await asyncio.gather(*itertools.starmap(one, enumerate(limits)))
            theirs = [await results.get() for _ in limits]
        for result, packets in zip(mine, limits, strict=True):
            for flow in result.flows:
                sent, received, lost = numbers(flow)
                assert sent == received + lost == packets
        assert {t.client for t in theirs} == {m.client for m in mine}

    run(main())


def test_a_cancelled_run_leaves_nothing(run: RunLoop) -> None:
    async def main() -> None:
        async with served() as (server, results):
            wanted = spec("both", 2, timing={"duration_s": 60, "interval_s": 0.02})
            async with nm.connect(server.address) as client:
                async with client.run(wanted) as running:
                    async for _ in running:
                        break
                    await running.abort()
                assert running.result is not None
                assert not running.result.complete
                (upload,) = (f for f in running.result.flows if f.direction == "upload")
                # the server's counts have not come, so it is not known whether any bytes did
                assert upload.no_steady == "no_series"
            theirs = await results.get()
            assert not theirs.complete

    run(main())


# ---- a hello and what comes instead of its answer -----------------------------------------------


def test_data_that_come_instead_of_the_answer_are_not_lost(run: RunLoop) -> None:
    """The answer was lost, and the server already sends data, which must stay in the socket."""

    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine,
        ):
            server.bind(("127.0.0.1", 0))
            mine.connect(server.getsockname())
            for sock in (server, mine):
                sock.setblocking(False)
            address = Address(socket.AF_INET, server.getsockname())
            greeting = asyncio.create_task(hello.greet(mine, address, b"9876", 10))
            await loop.sock_recv(server, 100)
            server.connect(mine.getsockname())
            sent = [b"x", bytes(16), bytes(1000)]
            for data in sent:
                server.send(data)
            await greeting
            return [mine.recv(2000) for _ in sent[1:]]

    assert run(main()) == [bytes(16), bytes(1000)]


# ---- wrong specifications -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"datagram_bytes": 15}, "datagram size"),
        ({"datagram_bytes": 65_508}, "datagram size"),
        ({"datagram_bytes": 1000.5}, "datagram bytes"),
        ({"target_bps": 0}, "target bitrate"),
        ({"target_pps": 0}, "packet rate"),
        ({"target_pps": 5, "target_bps": 5}, "only one"),
        ({"burst_datagrams": 0}, "burst"),
        ({"burst_datagrams": 1001}, "burst"),
        ({"spin_us": 1001}, "spin"),
        ({"spin_us": -1}, "spin"),
        ({"streams": 1025}, "streams"),
        ({"direction": "sideways"}, "upload, download, both"),
        ({"offload": "yes"}, "offload"),
        ({"options": nm.SocketOptions(congestion="cubic")}, "option of TCP"),
        ({"options": nm.SocketOptions(mss_bytes=1000)}, "option of TCP"),
        ({"options": nm.SocketOptions(no_delay=True)}, "option of TCP"),
    ],
)
def test_a_wrong_specification_says_what_is_wrong(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(nm.SpecError, match=words):
        nm.UdpSpec(**wrong)
