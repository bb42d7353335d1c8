"""Test the summary's numbers where iperf3's are wrong, and how unknown values are shown."""

from __future__ import annotations

from typing import Any

import pytest

from netmeasure.export.iperf3 import figures
from netmeasure.result import (
    Datagrams,
    Flow,
    FlowDirection,
    Interval,
    Result,
    SideReport,
    SocketFacts,
    StreamInterval,
    StreamReport,
    StreamResult,
    TcpInfo,
)
from netmeasure.result.resources import Resources
from netmeasure.spec import PeerSpec, TcpSpec, Timing, UdpSpec

S = 10**9


def sender(counted: int, seconds: float, **more: Any) -> StreamReport:
    return StreamReport(id=1, role="sender", **counting(counted, seconds), **more)


def receiver(counted: int, seconds: float, **more: Any) -> StreamReport:
    return StreamReport(id=1, role="receiver", **counting(counted, seconds), **more)


def counting(counted: int, seconds: float, start: int = 0) -> dict[str, Any]:
    end = start + round(seconds * S)
    return {"counted_bytes": counted, "counted_from_ns": start, "counted_to_ns": end}


def ends(
    sent: StreamReport | None,
    received: StreamReport | None,
    spec: PeerSpec | None = None,
    seen: figures.Observed | None = None,
) -> figures.Ends:
    stream = StreamResult(id=1, sender=sent, receiver=received)
    result = Result(
        spec=spec or TcpSpec(),
        complete=True,
        started_at="",
        target="",
        flows=(Flow(direction="upload", streams=(stream,)),),
    )
    found = figures.direction(result, "upload", [1], seen or figures.Observed())
    assert found.total == figures.total([found.streams[1]])
    return found.streams[1]


# ---- bytes and times ----


def test_each_side_has_its_own_time() -> None:
    """iperf3's forward receiver has a time that is a round trip too long, and its two-way tests
    swap the times."""
    of = ends(sender(2_000_000, 2.0), receiver(2_000_000, 2.5))
    assert (of.sent_s, of.received_s) == (2.0, 2.5)
    assert (of.sent_bps, of.received_bps) == (8_000_000, 6_400_000)


def test_what_arrived_was_sent() -> None:
    of = ends(sender(1_000, 1.0), receiver(1_100, 1.0))
    assert (of.sent_bytes, of.received_bytes) == (1_100, 1_100)


def test_what_was_sent_and_did_not_arrive_in_time_is_not_received() -> None:
    of = ends(sender(1_100, 1.0), receiver(1_000, 1.0))
    assert (of.sent_bytes, of.received_bytes) == (1_100, 1_000)


def test_without_the_far_side_what_was_acknowledged_has_arrived() -> None:
    of = ends(sender(1_000, 1.0, retransmits=3), None)
    assert (of.sent_bytes, of.received_bytes, of.received_s) == (1_000, 1_000, 1.0)
    assert of.retransmits == 3


def test_without_the_far_side_what_has_arrived_was_sent() -> None:
    of = ends(None, receiver(1_000, 1.0))
    assert (of.sent_bytes, of.received_bytes, of.sent_s) == (1_000, 1_000, 1.0)
    assert of.retransmits is None


def test_nothing_at_all() -> None:
    of = ends(None, None)
    assert (of.sent_bytes, of.sent_bps, of.received_bps) == (0, 0.0, 0.0)


# ---- retransmissions, windows, round trips ----


def test_retransmissions_of_the_omitted_time_are_left_out() -> None:
    seen = figures.Observed()
    for omitted, count in ((True, 5), (False, 2)):
        stream = StreamInterval(id=1, bytes=1, retransmits=count, cwnd_bytes=count)
        seen.add(interval(stream, omitted))
    spec = TcpSpec(timing=Timing(duration_s=1, omit_s=1))
    of = ends(sender(10, 1.0, retransmits=7), receiver(10, 1.0), spec, seen)
    assert of.retransmits == 2
    assert of.peaks.cwnd_bytes == 2


def test_retransmissions_of_a_far_sender_are_left_out_by_its_samples() -> None:
    info = TcpInfo(
        at_ns=(0, S // 2, S + 1, 2 * S), retransmits=(1, 4, 5, 9), rtt_ns=(9, 9, 4000, 2000)
    )
    report = StreamReport(
        id=1,
        role="sender",
        retransmits=8,
        syn_retransmits=1,
        tcp_info=info,
        **counting(10, 1.0, start=S),
    )
    of = ends(report, receiver(10, 1.0), TcpSpec(timing=Timing(duration_s=1, omit_s=1)))
    assert of.retransmits == 5  # 9 - 4: the SYN is in both of the kernel's numbers
    assert (of.peaks.min_rtt_us, of.peaks.mean_rtt_us, of.peaks.max_rtt_us) == (2, 3, 4)


def interval(stream: StreamInterval, omitted: bool) -> Interval:
    return Interval(
        direction="upload",
        counted_by="sender",
        start_ns=0,
        end_ns=S,
        bytes=stream.bytes,
        streams=(stream,),
        omitted=omitted,
    )


# ---- datagrams ----


def datagrams(sent: int | None, highest: int | None, came: int = 0) -> figures.Ends:
    spec = UdpSpec(datagram_bytes=100)
    out = into = None
    if sent is not None:
        out = sender(sent * 100, 1.0, datagrams=Datagrams(packets=sent, datagram_bytes=100))
    if highest is not None:
        counts = Datagrams(
            packets=came,
            highest_sequence=highest,
            omitted_highest_sequence=0,
            jitter_ns=2_000_000,
            reordered_packets=1,
        )
        into = receiver(came * 100, 1.0, datagrams=counts)
    return ends(out, into, spec)


def test_losses_at_the_end_are_losses() -> None:
    of = datagrams(sent=100, highest=90, came=85)
    assert (of.lost, of.packets, of.sent_packets) == (15, 100, 100)
    assert (of.sent_bytes, of.received_bytes) == (10_000, 8_500)
    assert (of.jitter_ms, of.out_of_order) == (2.0, 1)


def test_an_outage_at_the_end_is_time_in_which_nothing_came() -> None:
    """If half of the datagrams arrive in half of the time, the rate is half."""
    spec = UdpSpec(datagram_bytes=100)
    counts = Datagrams(packets=50, highest_sequence=50, omitted_highest_sequence=0)
    out = sender(10_000, 2.0, datagrams=Datagrams(packets=100, datagram_bytes=100))
    of = ends(out, receiver(5_000, 1.0, datagrams=counts), spec)
    assert (of.lost, of.received_s) == (50, 2.0)
    assert of.received_bps == of.sent_bps / 2
    whole = ends(out, receiver(10_000, 1.9, datagrams=Datagrams(packets=100)), spec)
    assert (whole.lost, whole.received_s) == (0, 1.9)  # the same in less time: a queue was emptied


def test_everything_lost_is_all_of_it() -> None:
    """iperf3 shows 0/0 (0%) for this."""
    of = datagrams(sent=100, highest=0)
    assert (of.lost, of.packets) == (100, 100)


def test_a_receiver_without_the_senders_count_has_what_it_saw() -> None:
    of = datagrams(sent=None, highest=90, came=85)
    assert (of.lost, of.packets, of.sent_bytes) == (5, 90, 9_000)


def test_a_sender_alone_says_nothing_of_losses() -> None:
    of = datagrams(sent=100, highest=None)
    assert (of.lost, of.packets, of.sent_packets, of.received_bytes) == (0, 0, 100, 0)


# ---- processor time ----


def side(span_ns: int, tests: int | None = 1) -> SideReport:
    return SideReport(
        duration_ns=S,
        cpu_user_ns=S // 10,
        cpu_system_ns=S // 5,
        concurrent_tests=tests,
        resources=Resources(
            at_ns=(0, span_ns),
            cpus=2,
            process_user_ns=(0, span_ns // 4),
            process_system_ns=(0, span_ns // 2),
            rss_bytes=(1, 1),
            host_user_ns=(0, 0),
            host_system_ns=(0, 0),
            host_softirq_ns=(0, 0),
            host_steal_ns=(0, 0),
            host_idle_ns=(0, 0),
        ),
    )


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (side(S), (75.0, 25.0, 50.0)),  # the process
        (side(S // 10), (30.0, 10.0, 20.0)),  # too short for its ticks: the threads
        (side(S, tests=3), (30.0, 10.0, 20.0)),  # others' tests in the same process
        (SideReport(), (0.0, 0.0, 0.0)),
    ],
)
def test_processor_time(report: SideReport, expected: tuple[float, float, float]) -> None:
    assert figures.cpu_percent(report) == pytest.approx(expected)


def test_the_names_of_congestion_controls_are_each_sides() -> None:
    def facts(name: str) -> SocketFacts:
        return SocketFacts(congestion=name)

    stream = StreamResult(
        id=1,
        sender=sender(1, 1.0, socket=facts("cubic")),
        receiver=receiver(1, 1.0, socket=facts("bbr")),
    )
    way: FlowDirection = "download"
    result = Result(
        spec=TcpSpec(direction="download"),
        complete=True,
        started_at="",
        target="",
        flows=(Flow(direction=way, streams=(stream,)),),
    )
    found = figures.direction(result, way, [1], figures.Observed())
    assert (found.sender_congestion, found.receiver_congestion) == ("cubic", "bbr")
