"""Test losses, copies and reordering of datagrams on a line that counts what it does: our figures
must be exactly the line's."""

from __future__ import annotations

import queue
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import pytest

import netmeasure as nm
from support import relay
from support.elsewhere import loop_on
from support.optional import known
from support.relay import Counts, Fates, Relay

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(
        relay.available() is not None, reason=relay.available() or "the relay works"
    ),
]

SIZE = 1000  # hellos and answers are shorter: on the line, datagrams of this size are data
PER_SECOND = 2000
SPAN_S = 0.5

Direction = Literal["upload", "download", "both"]
RunOn = Callable[[Coroutine[Any, Any, Any]], Any]

each_direction = pytest.mark.parametrize("direction", ["upload", "download", "both"])
both_ways = pytest.mark.parametrize("direction", ["upload", "download"])


def spec(direction: Direction, *, timing: nm.Timing | None = None, **more: Any) -> nm.UdpSpec:
    return nm.UdpSpec(
        direction=direction,
        timing=timing or nm.Timing(duration_s=SPAN_S),
        datagram_bytes=SIZE,
        target_pps=PER_SECOND,
        **more,
    )


def measured(line: Relay, wanted: nm.UdpSpec) -> nm.Result:
    """Run a test of our client with our server; then the line's counts are in `line.counts`."""
    ended: queue.SimpleQueue[nm.Result] = queue.SimpleQueue()
    with loop_on(line, "server") as there, loop_on(line, "client") as here:
        server = there(nm.serve(None, 0, on_result=ended.put).__aenter__())
        try:
            result: nm.Result = here(
                nm.measure(line.server.address, wanted, port=server.port),
            )
            theirs = ended.get(timeout=10)
        finally:
            there(server.close())
    line.stop()
    assert result.complete
    assert theirs.complete, theirs.error
    assert [flow.loss for flow in theirs.flows] == [flow.loss for flow in result.flows]
    return result


def way(line: Relay, flow: nm.Flow) -> Counts:
    counts = line.counts["up" if flow.direction == "upload" else "down"]
    # the line lost packets only on purpose
    assert (counts.overrun_packets, counts.held_packets) == (0, 0)
    assert (counts.watched.queue_dropped_packets, counts.watched.refused_packets) == (0, 0)
    return counts


def check_counts(flow: nm.Flow, fates: Fates) -> nm.result.Loss:
    """Check the sent, received and lost datagrams against the line's counts.

    A receiver that gets no CPU for long may lose datagrams in its own socket's buffer. They are
    lost as well, and counted separately."""
    loss = flow.loss
    assert loss is not None
    assert None not in (loss.sent_packets, loss.received_packets, loss.lost_packets)
    singly = fates.forwarded_packets - fates.duplicated_packets
    assert loss.sent_packets == singly + fates.lost_packets
    assert loss.lost_packets == fates.lost_packets + (loss.host_dropped_packets or 0)
    assert loss.received_packets == loss.sent_packets - loss.lost_packets
    assert flow.sender.bytes == loss.sent_packets * SIZE
    assert flow.receiver.bytes == loss.received_packets * SIZE
    return loss


@each_direction
def test_what_the_line_lost_is_lost_and_nothing_else(direction: Direction) -> None:
    with Relay(loss=0.1, seed=3, watch=SIZE, only_watched=True) as line:
        result = measured(line, spec(direction, timing=nm.Timing(total_blocks=1000)))
    for flow in result.flows:
        fates = way(line, flow).watched
        assert fates.lost_packets > 50
        loss = check_counts(flow, fates)
        assert (loss.duplicate_packets, loss.reordered_packets) == (0, 0)
        assert loss.loss_ratio == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(("direction", "seed"), [("upload", 47), ("download", 208)])
def test_a_line_that_loses_handshake_and_control_messages_too(
    direction: Direction, seed: int
) -> None:
    """Each of these seeds loses one of the first packets in each direction, before any data, and
    later packets of any kind."""
    with Relay(loss=0.05, seed=seed, watch=SIZE) as line:
        result = measured(line, spec(direction, timing=nm.Timing(total_blocks=1000)))
    (flow,) = result.flows
    counts = way(line, flow)
    assert counts.watched.lost_packets > 20
    check_counts(flow, counts.watched)
    others = sum(c.lost_packets - c.watched.lost_packets for c in line.counts.values())
    assert others > 0


@pytest.mark.rates  # a busy machine sends too few datagrams
@both_ways
def test_copies_and_overtaking_hide_no_loss(direction: Direction) -> None:
    """iperf3 takes a copy for a datagram that came late, and reports one loss too few."""
    fates: dict[str, Any] = {"loss": 0.1, "duplicate": 0.1, "reorder": 0.1}
    with Relay(**fates, seed=5, watch=SIZE, only_watched=True) as line:
        result = measured(line, spec(direction))
    (flow,) = result.flows
    truth = way(line, flow).watched
    loss = check_counts(flow, truth)
    for count in (truth.lost_packets, truth.duplicated_packets, truth.reordered_packets):
        assert count > 50
    if not loss.host_dropped_packets:
        assert loss.duplicate_packets == truth.duplicated_packets
        assert loss.reordered_packets == truth.reordered_packets


def test_every_datagram_twice_is_no_loss_and_no_more_than_was_sent() -> None:
    with Relay(duplicate=1, watch=SIZE, only_watched=True) as line:
        result = measured(line, spec("upload"))
    loss = check_counts(result.flow, way(line, result.flow).watched)
    if not loss.host_dropped_packets:
        assert loss.duplicate_packets == loss.sent_packets == loss.received_packets


@both_ways
def test_streams_add_up(direction: Direction) -> None:
    with Relay(loss=0.2, duplicate=0.1, seed=7, watch=SIZE, only_watched=True) as line:
        result = measured(line, spec(direction, streams=3))
    (flow,) = result.flows
    loss = check_counts(flow, way(line, flow).watched)
    assert len(flow.streams) == 3
    ends = [
        (known(known(stream.sender).datagrams), known(known(stream.receiver).datagrams))
        for stream in flow.streams
    ]
    assert sum(sent.packets for sent, _ in ends) == loss.sent_packets
    assert sum(came.packets for _, came in ends) == loss.received_packets
    for sent, came in ends:
        assert 0 < known(came.packets) < known(sent.packets)


@pytest.mark.parametrize("offload", [True, False])
def test_trains_of_datagrams_are_counted_one_by_one(offload: bool) -> None:
    """The kernel cuts a train before the line; the losses within a train are counted exactly."""
    with Relay(loss=0.3, seed=9, watch=SIZE, only_watched=True) as line:
        result = measured(line, spec("upload", offload=offload, burst_datagrams=20))
    check_counts(result.flow, way(line, result.flow).watched)


@both_ways
def test_omitted_losses_are_left_out_and_the_others_are_all_there(direction: Direction) -> None:
    """The first 100 datagrams are lost, all of them in the omitted time."""
    timing = nm.Timing(omit_s=0.25, total_blocks=600)
    with Relay(gap=(1, 100), watch=SIZE, only_watched=True) as line:
        result = measured(line, spec(direction, timing=timing))
    (flow,) = result.flows
    truth = way(line, flow).watched
    assert truth.lost_packets == 100
    assert flow.loss is not None
    assert flow.loss.lost_packets == flow.loss.host_dropped_packets == 0
    (stream,) = flow.streams
    assert stream.receiver is not None
    assert stream.receiver.datagrams is not None
    assert stream.receiver.datagrams.lost_packets == 100
    sent = truth.forwarded_packets + truth.lost_packets
    assert stream.sender is not None
    assert stream.sender.datagrams is not None
    assert stream.sender.datagrams.packets == sent
    assert flow.loss.sent_packets == sent - known(
        stream.receiver.datagrams.omitted_highest_sequence
    )


@both_ways
def test_a_limit_in_datagrams_counts_what_is_sent(direction: Direction) -> None:
    """The limit is on sent datagrams, not on received ones: otherwise a test on a line that loses
    everything would never end."""
    timing = nm.Timing(total_blocks=400)
    with Relay(loss=0.5, seed=2, watch=SIZE, only_watched=True) as line:
        result = measured(line, spec(direction, timing=timing))
    loss = check_counts(result.flow, way(line, result.flow).watched)
    assert loss.sent_packets == 400
    assert loss.lost_packets is not None
    assert loss.lost_packets > 100
