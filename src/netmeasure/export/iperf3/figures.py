"""Compute the numbers of iperf3's summary from a Result, for its rows and its document.

Where iperf3's own number is wrong, the report has the right number in the same place:

- Bytes are those of the counted stretch (after the omitted time), over the time of the side that
  counted them: the receiver's over the receiver's, also in two-way tests. A TCP sender's are those
  that were acknowledged, so that the intervals add up to the total; never less than what arrived.
- Datagrams lost are all that were sent and did not come, up to the last one.
- Round trips and windows at the end cover all samples taken in the counted stretch, on the side
  that sent, if they are known here.

Unknown figures of the far side are 0, as in iperf3. With TCP, acknowledged bytes have arrived, and
bytes that have arrived were sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from netmeasure.analysis.loss import combine
from netmeasure.result import (
    Datagrams,
    FlowDirection,
    Interval,
    Loss,
    Result,
    SideReport,
    StreamInterval,
    StreamReport,
    StreamResult,
    TcpInfo,
)
from netmeasure.spec import UdpSpec

#: Below this the kernel's 10 ms ticks say nothing about a process's share of a CPU.
MIN_TICKS_NS = 200_000_000


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """Hold extremes of a TCP sender's samples in the counted stretch; 0: there are none."""

    cwnd_bytes: int = 0
    snd_wnd_bytes: int = 0
    max_rtt_us: int = 0
    min_rtt_us: int = 0
    mean_rtt_us: int = 0
    reorder: int = 0


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the final figures of a stream, or of all streams of a direction.

    `packets` were sent, and `lost` of them did not come; both are 0 if the receiver's counts are
    not known. `retransmits` is None if it is not known.
    """

    sent_bytes: int = 0
    sent_s: float = 0.0
    received_bytes: int = 0
    received_s: float = 0.0
    retransmits: int | None = None
    peaks: Peaks = Peaks()
    sent_packets: int = 0
    packets: int = 0
    lost: int = 0
    out_of_order: int = 0
    jitter_ms: float = 0.0

    @property
    def sent_bps(self) -> float:
        """Return the sending rate in bit/s; 0.0: the time is not known."""
        return self.sent_bytes * 8 / self.sent_s if self.sent_s > 0 else 0.0

    @property
    def received_bps(self) -> float:
        """Return the receiving rate in bit/s; 0.0: the time is not known."""
        return self.received_bytes * 8 / self.received_s if self.received_s > 0 else 0.0


class Observed:
    """Keep the figures of intervals that the end of the report needs, for each stream on which this
    end sends."""

    def __init__(self) -> None:
        self.omitted_retransmits: dict[int, int] = {}
        self.samples: dict[int, list[StreamInterval]] = {}

    def add(self, interval: Interval) -> None:
        """Keep the figures of an interval that the end of the report needs."""
        for stream in interval.streams:
            if stream.retransmits is not None and interval.omitted:
                known = self.omitted_retransmits.get(stream.id, 0)
                self.omitted_retransmits[stream.id] = known + stream.retransmits
            if stream.cwnd_bytes is not None and not interval.omitted:
                self.samples.setdefault(stream.id, []).append(stream)


class Direction(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the final figures of one direction, by stream id in order of creation."""

    direction: FlowDirection
    streams: Mapping[int, Ends]
    total: Ends
    sender_congestion: str | None = None
    receiver_congestion: str | None = None


def direction(
    result: Result, which: FlowDirection, ids: Sequence[int], seen: Observed
) -> Direction:
    """Return the final figures of the streams with these ids; unknown figures are 0.

    Args:
        result: The result of the test.
        which: The direction.
        ids: The streams' ids in order of creation.
        seen: The figures kept from the intervals.
    """
    flow = result.upload if which == "upload" else result.download
    found = {stream.id: stream for stream in flow.streams} if flow else {}
    streams = [found.get(i, StreamResult(id=i)) for i in ids]
    ends = {stream.id: _ends(result, stream, seen) for stream in streams}
    whole = total(ends.values())
    unseen = not any(one.receiver and one.receiver.datagrams for one in streams)
    if flow is not None and flow.loss is not None and unseen:
        whole = _of_flow(whole, flow.loss, flow.receiver.bytes)
        ends = dict.fromkeys(ends, whole) if len(ends) == 1 else ends
    return Direction(
        direction=which,
        streams=ends,
        total=whole,
        sender_congestion=_congestion(stream.sender for stream in streams),
        receiver_congestion=_congestion(stream.receiver for stream in streams),
    )


def total(ends: Iterable[Ends]) -> Ends:
    """Return the sum over streams; times are the longest and jitter is the mean, as in iperf3."""
    parts = list(ends)
    known = [part.retransmits for part in parts if part.retransmits is not None]
    return Ends(
        sent_bytes=sum(part.sent_bytes for part in parts),
        sent_s=max((part.sent_s for part in parts), default=0.0),
        received_bytes=sum(part.received_bytes for part in parts),
        received_s=max((part.received_s for part in parts), default=0.0),
        retransmits=sum(known) if known and len(known) == len(parts) else None,
        sent_packets=sum(part.sent_packets for part in parts),
        packets=sum(part.packets for part in parts),
        lost=sum(part.lost for part in parts),
        out_of_order=sum(part.out_of_order for part in parts),
        jitter_ms=sum(part.jitter_ms for part in parts) / len(parts) if parts else 0.0,
    )


def _of_flow(whole: Ends, loss: Loss, received_bytes: int | None) -> Ends:
    """Return sums with the losses of a UDP flow, for a result read from iperf3's document, which
    does not have the losses of each stream."""
    sent = whole.sent_packets if loss.sent_packets is None else loss.sent_packets
    return msgspec.structs.replace(
        whole,
        received_bytes=whole.received_bytes if received_bytes is None else received_bytes,
        sent_packets=sent,
        packets=sent,
        lost=max(0, loss.lost_packets or 0),
        out_of_order=loss.reordered_packets or 0,
        jitter_ms=(loss.jitter_ns or 0) / 1e6,
    )


def cpu_percent(side: SideReport) -> tuple[float, float, float]:
    """Return the CPU time of one end in percent: total, user, system; 0: unknown.

    It is the CPU time of the whole process during the data phase, as in iperf3, if this process ran
    only one test and this was long enough for the kernel's ticks. Otherwise it is the CPU time of
    the traffic threads.
    """
    seen = side.resources
    if seen is not None and side.concurrent_tests in (None, 0, 1) and len(seen.at_ns) > 1:
        span = seen.at_ns[-1] - seen.at_ns[0]
        if span >= MIN_TICKS_NS:
            user = 100 * seen.spent_ns("process_user_ns") / span
            system = 100 * seen.spent_ns("process_system_ns") / span
            return user + system, user, system
    if not side.duration_ns or side.cpu_user_ns is None or side.cpu_system_ns is None:
        return 0.0, 0.0, 0.0
    user = 100 * side.cpu_user_ns / side.duration_ns
    system = 100 * side.cpu_system_ns / side.duration_ns
    return user + system, user, system


# ---- one stream ----------------------------------------------------------------------------------


def _ends(result: Result, stream: StreamResult, seen: Observed) -> Ends:
    times = [_seconds(stream.sender), _seconds(stream.receiver)]
    known = [time for time in times if time is not None]
    fallback = known[0] if known else 0.0
    sent_s, received_s = (fallback if time is None else time for time in times)
    ends = Ends(sent_s=sent_s, received_s=received_s)
    if isinstance(result.spec, UdpSpec):
        return _udp_ends(result.spec, stream, ends)
    return _tcp_ends(result, stream, ends, seen)


def _seconds(report: StreamReport | None) -> float | None:
    if report is None or report.counted_ns is None:
        return None
    return report.counted_ns / 1e9


def _tcp_ends(result: Result, stream: StreamResult, ends: Ends, seen: Observed) -> Ends:
    sender, receiver = stream.sender, stream.receiver
    acknowledged = (sender.counted_bytes if sender else None) or 0
    received = receiver.counted_bytes if receiver else None
    arrived = acknowledged if received is None else received
    return msgspec.structs.replace(
        ends,
        sent_bytes=max(acknowledged, arrived),
        received_bytes=arrived,
        retransmits=_retransmits(sender, seen.omitted_retransmits.get(stream.id)),
        peaks=_peaks(sender, seen.samples.get(stream.id, ())),
    )


def _retransmits(sender: StreamReport | None, omitted: int | None) -> int | None:
    """Return the retransmissions after the omitted time.

    Those of the omitted time are known from the intervals, so that both add up, or from TCP_INFO.
    """
    if sender is None or sender.retransmits is None:
        return None
    if omitted is None:
        info, start = sender.tcp_info, sender.counted_from_ns
        before: list[int] = []
        if info is not None and info.retransmits is not None and start is not None:
            before = [n for at, n in zip(info.at_ns, info.retransmits, strict=True) if at < start]
        omitted = before[-1] - (sender.syn_retransmits or 0) if before else 0
    return max(0, sender.retransmits - omitted)


def _peaks(sender: StreamReport | None, samples: Sequence[StreamInterval]) -> Peaks:
    """Return the extremes of TCP_INFO's samples, which are more than intervals, and of intervals.

    With both, no interval shows more than the end does.
    """
    columns: dict[str, list[int]] = {
        name: [value for s in samples if (value := getattr(s, name)) is not None]
        for name in ("cwnd_bytes", "snd_wnd_bytes", "rtt_ns", "reordering_seen")
    }
    if sender is not None and sender.tcp_info is not None:
        for name, values in columns.items():
            values += _counted(sender.tcp_info, name, sender.counted_from_ns or 0)
    rtts = [(rtt + 500) // 1000 for rtt in columns["rtt_ns"] if rtt]
    return Peaks(
        cwnd_bytes=max(columns["cwnd_bytes"], default=0),
        snd_wnd_bytes=max(columns["snd_wnd_bytes"], default=0),
        max_rtt_us=max(rtts, default=0),
        min_rtt_us=min(rtts, default=0),
        mean_rtt_us=sum(rtts) // len(rtts) if rtts else 0,
        reorder=max(columns["reordering_seen"], default=0),
    )


def _counted(info: TcpInfo, name: str, start_ns: int) -> list[int]:
    column: tuple[int, ...] | None = getattr(info, name)
    if column is None:
        return []
    return [value for at, value in zip(info.at_ns, column, strict=True) if at >= start_ns]


def _udp_ends(spec: UdpSpec, stream: StreamResult, ends: Ends) -> Ends:
    sender, receiver = stream.sender, stream.receiver
    loss = combine(
        spec, {stream.id: sender} if sender else {}, {stream.id: receiver} if receiver else {}
    )
    size = _datagram_bytes(spec, sender, receiver)
    sent, came = loss.sent_packets, loss.received_packets
    if sent is None:  # an old iperf3 does not report which part was omitted
        sent = (sender.counted_bytes or 0) // size if sender and size else 0
    counted = receiver.counted_bytes if receiver else None
    # the last datagrams may be lost: they were due, but nothing arrived
    waited_s = max(ends.received_s, ends.sent_s) if loss.lost_packets else ends.received_s
    return msgspec.structs.replace(
        ends,
        received_s=waited_s,
        sent_bytes=sent * size,
        received_bytes=came * size if came is not None else counted or 0,
        sent_packets=sent,
        packets=sent if receiver else 0,
        lost=max(0, loss.lost_packets or 0),
        out_of_order=loss.reordered_packets or 0,
        jitter_ms=(loss.jitter_ns or 0) / 1e6,
    )


def _datagram_bytes(spec: UdpSpec, *reports: StreamReport | None) -> int:
    counts: list[Datagrams] = [r.datagrams for r in reports if r and r.datagrams]
    return next((c.datagram_bytes for c in counts if c.datagram_bytes), spec.datagram_bytes or 0)


def _congestion(reports: Iterable[StreamReport | None]) -> str | None:
    sockets = [report.socket for report in reports if report and report.socket]
    return next((socket.congestion for socket in sockets if socket.congestion), None)
