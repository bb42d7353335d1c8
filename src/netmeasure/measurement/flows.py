"""Build the flows of a Result from the reports of both ends: pure functions, the same at either
end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Literal, NamedTuple

from msgspec.structs import replace

from netmeasure import analysis
from netmeasure.analysis import loss
from netmeasure.analysis.flow_ceiling import flow_ceiling
from netmeasure.analysis.pauses import LEAST_NS as PAUSE_NS, pauses
from netmeasure.clock import nanoseconds, seconds
from netmeasure.measurement.intervals import edges_ns
from netmeasure.protocol import stream_ids
from netmeasure.result import (
    Averages,
    Flow,
    FlowDirection,
    FlowInterval,
    Role,
    Series,
    SideReport,
    Steady,
    StreamReport,
    StreamResult,
    Totals,
)
from netmeasure.result.resources import Resources
from netmeasure.result.steady import LEAST_STRETCH_NS
from netmeasure.spec import (
    MAX_DATAGRAM_BYTES,
    MAX_DURATION_S,
    FetchSpec,
    Spec,
    TcpSpec,
    UdpSpec,
)

#: At a low rate, a TCP sender hands this much to its kernel at a time; two pieces may go together.
PIECE_BYTES = 2 * 1460


class Measured(NamedTuple):
    """Hold everything that the flows of a test are made of.

    client_origin_ns  the moment that the client's reports count from, counted from its first
                      attempt; None where that is unknown
    ids               the streams' numbers in the order of `directions`; None: those of iperf3
    counted_ns        where a look has ended the test, the time after the omitted one at which the
                      steady state ends
    """

    spec: Spec
    directions: Sequence[FlowDirection]
    client: SideReport
    server: SideReport
    client_origin_ns: int | None = None
    ids: Sequence[int] | None = None
    counted_ns: int | None = None


class _Counted(NamedTuple):
    """Hold the reports of the end that counted one direction's bytes, and those of its senders."""

    spec: Spec
    series: Series
    reports: Sequence[StreamReport]
    senders: Sequence[StreamReport]
    due_ns: int | None = None

    @property
    def curve(self) -> analysis.series.Curve:
        """Return the bytes over time, to the moment at which the last ones were due."""
        last = max((s.last_ns for s in self.reports if s.last_ns is not None), default=None)
        return analysis.series.waited(analysis.series.curve(self.series, last), self.due_ns)

    @property
    def last_ns(self) -> int | None:
        """Return when the last bytes came, or were due."""
        moments = [s.last_ns for s in self.reports if s.last_ns is not None]
        return max((*moments, self.due_ns or 0)) if moments else None


class _Way(NamedTuple):
    """Hold one direction of a test: its streams by their numbers, at both ends, and both hosts'
    use."""

    spec: Spec
    direction: FlowDirection
    ids: Sequence[int]
    senders: dict[int, StreamReport]
    receivers: dict[int, StreamReport]
    sender_use: Resources | None
    receiver_use: Resources | None

    @property
    def client_streams(self) -> Sequence[StreamReport]:
        """Return the client's reports."""
        return list((self.senders if self.direction == "upload" else self.receivers).values())

    @property
    def target_bps(self) -> int | None:
        """Return the bitrate that was asked for, None where none was."""
        return self.spec.target_bps if isinstance(self.spec, TcpSpec | UdpSpec) else None

    @property
    def counted_by(self) -> Role:
        """Return the end that counts: the receiver, where it has a series. The acknowledged bytes
        of a TCP sender are the next best; what a UDP sender has sent says nothing of what
        arrived."""
        udp = isinstance(self.spec, UdpSpec)
        if udp or any(stream.series is not None for stream in self.receivers.values()):
            return "receiver"
        return "sender"

    @property
    def counting(self) -> dict[int, StreamReport]:
        """Return the reports of the end that counts."""
        return self.receivers if self.counted_by == "receiver" else self.senders

    def ends(self) -> tuple[analysis.course.End, analysis.course.End]:
        """Return the sender's end and the receiver's, with the times when their hosts stood
        still."""
        senders, receivers = list(self.senders.values()), list(self.receivers.values())
        pauses_there = pauses("sender", senders, spacing_ns(self.spec))
        pauses_here = pauses("receiver", receivers)
        return (
            analysis.course.End(senders, self.sender_use, pauses_there),
            analysis.course.End(receivers, self.receiver_use, pauses_here),
        )


def build_flows(measured: Measured) -> tuple[Flow, ...]:
    """Return one Flow for each direction that was measured."""
    directions, ids = measured.directions, measured.ids
    numbers = tuple(stream_ids(len(directions))) if ids is None else ids
    ways = [
        _way(measured, way, [i for i, d in zip(numbers, directions, strict=True) if d == way])
        for way in dict.fromkeys(directions)
    ]
    return tuple(_flow(measured, way) for way in ways if way.senders or way.receivers)


def steady_so_far(spec: Spec, counted: Sequence[StreamReport], span_ns: int) -> Steady | None:
    """Return the steady state of one direction over the first `span_ns` after the omitted time,
    from the reports of one end while the test goes on; None if no bytes have come yet."""
    series = analysis.series.total([s.series for s in counted if s.series is not None])
    found = _split(_Counted(spec, series, counted, counted), span_ns) if series else None
    return found.steady if found else None


def _way(measured: Measured, direction: FlowDirection, ids: Sequence[int]) -> _Way:
    sending, receiving = measured.client, measured.server
    if direction == "download":
        sending, receiving = receiving, sending
    return _Way(
        spec=measured.spec,
        direction=direction,
        ids=ids,
        senders=_pick(sending, ids, "sender"),
        receivers=_pick(receiving, ids, "receiver"),
        sender_use=sending.resources,
        receiver_use=receiving.resources,
    )


def _pick(side: SideReport, ids: Iterable[int], role: Role) -> dict[int, StreamReport]:
    return {s.id: s for s in side.streams if s.id in ids and s.role == role}


def _flow(measured: Measured, way: _Way) -> Flow:
    spec = measured.spec
    due_ns = _due_ns(spec, way.senders, way.receivers)
    counted = _counted(way, due_ns)
    split = _stated_split(counted, measured.counted_ns) if counted else None
    sender, receiver = way.ends()
    paused = (*sender.pauses, *receiver.pauses)
    return Flow(
        direction=way.direction,
        streams=tuple(_stream(way, number, split.steady if split else None) for number in way.ids),
        counted_by=way.counted_by if counted else None,
        series=counted.series if counted else None,
        ramp=split.ramp if split else None,
        steady=split.steady if split else None,
        no_steady=None if split else _no_steady(way),
        tail=split.tail if split else None,
        averages=_averages(
            list(way.counting.values()) or list(way.receivers.values()),
            way.client_streams,
            measured.client_origin_ns,
            due_ns,
            by_url=isinstance(spec, FetchSpec),
        ),
        sender=_totals(sender.streams),
        receiver=_totals(receiver.streams),
        loss=loss.combine(spec, way.senders, way.receivers) if isinstance(spec, UdpSpec) else None,
        limits=analysis.bottleneck.limits(
            sender.streams,
            receiver.streams,
            split.steady.goodput_bps if split else None,
            way.target_bps,
            variation=_variation(counted.series, split.steady) if counted and split else None,
            pauses=paused,
        ),
        pauses=paused,
        intervals=_intervals(counted, sender, receiver, way.target_bps) if counted else (),
        ceiling=flow_ceiling(spec, way.senders.values(), way.receivers.values()),
    )


def _counted(way: _Way, due_ns: int | None) -> _Counted | None:
    """Return what a direction was counted by, None where no end has a series."""
    reports = list(way.counting.values())
    series = analysis.series.total([s.series for s in reports if s.series is not None])
    if series is None:
        return None
    return _Counted(way.spec, series, reports, list(way.senders.values()), due_ns)


def _no_steady(way: _Way) -> Literal["no_bytes", "too_short", "no_series"]:
    """Return why a flow has no steady state."""
    reports = [*way.senders.values(), *way.receivers.values()]
    if not any(report.delivered_bytes for report in reports):
        return "no_bytes"
    known = any(report.series is not None for report in way.counting.values())
    return "too_short" if known else "no_series"


def _stated_split(counted: _Counted, counted_ns: int | None) -> analysis.steady.Split | None:
    """Return the parts of a flow. The steady bitrate of a test that a look has ended is stated with
    the margin that the look was for."""
    split, until = _split(counted, counted_ns), counted.spec.timing.until
    if split is not None and counted_ns is not None and until is not None:
        return split._replace(steady=analysis.sequential.stated(split.steady, until))
    return split


def _stream(way: _Way, number: int, whole: Steady | None) -> StreamResult:
    sender = way.senders.get(number)
    return StreamResult(
        id=number,
        sender=sender,
        receiver=way.receivers.get(number),
        steady=_part(way.spec, whole, way.counting.get(number), sender),
    )


def _variation(series: Series, whole: Steady) -> analysis.bottleneck.Variation | None:
    curve = analysis.series.curve(series, whole.end_ns)
    return analysis.bottleneck.variation(curve, whole.start_ns, whole.end_ns, whole.stalls)


def _intervals(
    counted: _Counted,
    sender: analysis.course.End,
    receiver: analysis.course.End,
    target_bps: int | None,
) -> tuple[FlowInterval, ...]:
    """Return the flow in reporting periods that are long enough for a verdict."""
    timing, curve = counted.spec.timing, counted.curve
    period_ns = analysis.course.joined_period_ns(
        nanoseconds(timing.interval_s), int(curve.at_ns[-1]), sender.streams
    )
    period_s = min(seconds(period_ns), float(MAX_DURATION_S))
    first_ns, last_ns = int(curve.at_ns[0]), int(curve.at_ns[-1])
    shortest_ns = counted.series.width_ns  # bytes of less than a bucket have no rate
    if last_ns - min(0, first_ns) < shortest_ns:
        return ()
    edges = edges_ns(replace(timing, interval_s=period_s))
    return analysis.course.intervals(
        takewhile(lambda edge_ns: edge_ns <= last_ns - shortest_ns, edges),
        curve,
        nanoseconds(timing.omit_s),
        sender,
        receiver,
        target_bps,
    )


def _due_ns(
    spec: Spec, senders: dict[int, StreamReport], receivers: dict[int, StreamReport]
) -> int | None:
    """Return until when data were due, on the receivers' clock; None where the last ones came.

    An outage at the end is a part of the test, though no byte tells of it; and so is a sender that
    stood still until its time was over.
    """
    due = [
        moment
        for number, receiver in receivers.items()
        if (sender := senders.get(number)) is not None and receiver.series is not None
        for moment in (
            _last_sent_ns(spec, sender, receiver, receiver.series),
            _planned_end_ns(spec, sender, receiver, receiver.series),
        )
        if moment is not None
    ]
    return max(due, default=None)


def _last_sent_ns(
    spec: Spec, sender: StreamReport, receiver: StreamReport, series: Series
) -> int | None:
    """Return when the last datagrams were sent, where they never came."""
    if not isinstance(spec, UdpSpec) or sender.datagrams is None or receiver.datagrams is None:
        return None
    highest = receiver.datagrams.highest_sequence
    if highest is None or sender.datagrams.packets <= highest:
        return None
    if sender.series is not None and sender.last_ns is not None:
        return series.origin_ns + sender.last_ns - sender.series.origin_ns
    if spec.limit_s is not None:  # a plain iperf3 has sent for as long as it was told to
        return series.origin_ns + nanoseconds(spec.timing.omit_s + spec.limit_s)
    return None


def _planned_end_ns(
    spec: Spec, sender: StreamReport, receiver: StreamReport, series: Series
) -> int | None:
    """Return the end of the sender's time, where nothing came for long before it.

    The sender has ended by its own deadline (`end_reason`): it was neither told to stop nor out of
    bytes, so the time was the test's to the end.
    """
    if spec.limit_s is None or sender.end_reason != "deadline" or receiver.last_ns is None:
        return None
    planned = series.origin_ns + nanoseconds(spec.timing.omit_s + spec.limit_s)
    silent_ns = planned - receiver.last_ns
    return planned if silent_ns > PAUSE_NS + 3 * spacing_ns(spec) else None


def spacing_ns(spec: Spec) -> int:
    """Return the longest time between two sends of a stream that the target rate asks for."""
    if isinstance(spec, UdpSpec):
        if spec.target_pps:
            return 1_000_000_000 // spec.target_pps
        return _sending_ns(spec.datagram_bytes or MAX_DATAGRAM_BYTES, spec.target_bps)
    if isinstance(spec, TcpSpec):
        return _sending_ns(PIECE_BYTES, spec.target_bps or spec.options.pacing_bps)
    return 0


def _sending_ns(size: int, rate_bps: int | None) -> int:
    return round(size * 8e9 / rate_bps) if rate_bps else 0


def _split(counted: _Counted, span_ns: int | None) -> analysis.steady.Split | None:
    """Return the parts of a flow: ramp, steady state, and the tail after `span_ns`."""
    spec, series, curve = counted.spec, counted.series, counted.curve
    start = series.origin_ns + nanoseconds(spec.timing.omit_s)
    if isinstance(spec, UdpSpec) and not spec.timing.omit_s:
        # the first datagram of each stream stands for no time before it: n of them, n - 1 gaps
        start += series.width_ns
    if span_ns is None and spec.limit_s is not None:
        span_ns = nanoseconds(spec.limit_s)
    end = int(curve.at_ns[-1]) if span_ns is None else start + span_ns
    least_ns = max(series.width_ns, LEAST_STRETCH_NS)  # bytes of a moment have no rate
    if counted.last_ns is not None and min(end, counted.last_ns) - start < least_ns:
        return None
    if min(end, int(curve.at_ns[-1])) - max(start, int(curve.at_ns[0])) < least_ns:
        return None
    return analysis.steady.split(
        curve,
        start,
        end,
        bucket_ns=series.width_ns,
        rtt_ns=_base_rtt_ns(counted.senders, counted.reports),
        grain_bytes=_grain(spec, counted.senders, counted.reports),
    )


def _part(
    spec: Spec, whole: Steady | None, counted: StreamReport | None, sender: StreamReport | None
) -> Steady | None:
    """Return a stream's part of the steady state of all streams."""
    if whole is None or counted is None or counted.series is None or not counted.series.bytes:
        return None
    senders = [sender] if sender else []
    return analysis.steady.within(
        analysis.series.curve(counted.series, counted.last_ns),
        whole,
        rtt_ns=_base_rtt_ns(senders, [counted]),
        grain_bytes=_grain(spec, senders, [counted]),
    )


def _grain(spec: Spec, senders: Sequence[StreamReport], counting: Sequence[StreamReport]) -> int:
    """Return the least number of bytes that arrive together: a datagram, or a segment."""
    if isinstance(spec, UdpSpec):
        return spec.datagram_bytes or 0
    for reports in (senders, counting):
        sizes = [s.tcp_info.mss_bytes[-1] for s in reports if s.tcp_info and s.tcp_info.mss_bytes]
        if sizes:
            return max(sizes)
    return 0


def _base_rtt_ns(senders: Sequence[StreamReport], counting: Sequence[StreamReport]) -> int | None:
    """Return the path's least round-trip time: of the senders where they tell it, else of the end
    that counted the bytes, which knows it from the handshake at the least."""
    for reports in (senders, counting):
        times = [s.tcp_info.min_rtt_ns[-1] for s in reports if s.tcp_info and s.tcp_info.min_rtt_ns]
        if times := [time for time in times if time > 0]:
            return min(times)
    return None


def _averages(
    counted: Sequence[StreamReport],
    client_streams: Sequence[StreamReport],
    client_origin_ns: int | None,
    due_ns: int | None,
    *,
    by_url: bool,
) -> Averages:
    """Return the figures that other tools would print for one direction.

    All of them end at the same moment, when the last byte had arrived or was due, so that the one
    that includes set-up can't exceed the others. That moment is on the counting side's clock; seen
    from the client it is the same time after the client's own start signal.

    Args:
        counted: The reports of the counting side.
        client_streams: The client's reports of the same streams.
        client_origin_ns: The client's start signal, from its first attempt; None: unknown.
        due_ns: When the last bytes were due that never came; None: all came.
        by_url: A downloader gives the time of a whole transfer, also where all bytes came at once.
            Of a test with a server, a moment with some bytes says nothing of a rate.
    """
    delivered = sum(s.delivered_bytes or 0 for s in counted)
    first, last = _span(counted)
    if last is not None:  # of datagrams, the last one stands for the time until the next
        last = max(last, due_ns or last, *(s.counted_to_ns or 0 for s in counted))
    after_omit = sum(s.counted_bytes or 0 for s in counted)
    windows = [s.counted_ns for s in counted if s.counted_ns]
    windows += [due_ns - s.counted_from_ns for s in counted if due_ns and s.counted_from_ns]
    from_attempt = set_up = None
    client_first, client_last = _span(client_streams)
    if client_origin_ns is not None and client_first is not None and client_last is not None:
        set_up = client_origin_ns + client_first
        from_attempt = client_origin_ns + max(client_last, client_last if last is None else last)
        if first is not None and last is not None:  # a first byte may precede the start signal
            from_attempt = max(from_attempt, last - first)
    from_byte = _rate(delivered, None if first is None or last is None else last - first)
    whole = _rate(delivered, from_attempt, 1) if by_url or from_byte is not None else None
    return Averages(
        from_first_attempt_bps=whole,
        from_first_byte_bps=from_byte,
        after_omit_bps=_rate(after_omit, max(windows, default=None)),
        set_up_ns=set_up,
    )


def _span(streams: Sequence[StreamReport]) -> tuple[int | None, int | None]:
    """Return when the first and the last byte were counted (received, or acknowledged)."""
    firsts = [s.series.origin_ns for s in streams if s.series is not None]
    lasts = [s.last_ns for s in streams if s.last_ns is not None]
    return min(firsts, default=None), max(lasts, default=None)


def _rate(count: int, span_ns: int | None, least_ns: int = LEAST_STRETCH_NS) -> float | None:
    return count * 8e9 / span_ns if span_ns is not None and span_ns >= least_ns else None


def _totals(streams: Iterable[StreamReport]) -> Totals:
    reports = list(streams)

    def known_sum(name: str) -> int | None:
        values = [getattr(stream, name) for stream in reports]
        return sum(values) if values and None not in values else None

    return Totals(
        bytes=known_sum("bytes"),
        acked_bytes=known_sum("acked_bytes"),
        retransmits=known_sum("retransmits"),
        cpu_user_ns=known_sum("cpu_user_ns"),
        cpu_system_ns=known_sum("cpu_system_ns"),
    )
