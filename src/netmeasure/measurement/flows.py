"""Build the flows of a Result from the reports of both ends.

These are pure functions, and both ends use the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Literal, NamedTuple

from msgspec.structs import replace

from netmeasure import analysis
from netmeasure.analysis import loss
from netmeasure.analysis.flow_ceiling import flow_ceiling
from netmeasure.analysis.pauses import pauses
from netmeasure.clock import nanoseconds, seconds
from netmeasure.measurement.averages import averages
from netmeasure.measurement.due import due_ns, spacing_ns
from netmeasure.measurement.intervals import edges_ns
from netmeasure.protocol import stream_ids
from netmeasure.result import (
    Flow,
    FlowDirection,
    FlowInterval,
    Limits,
    Loss,
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
from netmeasure.spec import MAX_DURATION_S, FetchSpec, RequestSpec, RrSpec, Spec, TcpSpec, UdpSpec


class Measured(NamedTuple):
    """Hold everything that the flows of a test are made of.

    client_origin_ns  from the client's first attempt to the zero of its reports' times; None:
                      unknown
    ids               the streams' numbers in the order of `directions`; None: the numbers that
                      iperf3 gives
    counted_ns        if `--until` ended the test, the end of the steady state, counted from the end
                      of the omitted time
    """

    spec: Spec
    directions: Sequence[FlowDirection]
    client: SideReport
    server: SideReport
    client_origin_ns: int | None = None
    ids: Sequence[int] | None = None
    counted_ns: int | None = None


class _Counted(NamedTuple):
    """Hold the reports of the end that counted one direction's bytes, and the reports of the
    direction's senders."""

    spec: Spec
    series: Series
    reports: Sequence[StreamReport]
    senders: Sequence[StreamReport]
    due_ns: int | None = None

    @property
    def curve(self) -> analysis.series.Curve:
        """Return the bytes over time, up to the moment when the last bytes were due."""
        last = max((s.last_ns for s in self.reports if s.last_ns is not None), default=None)
        return analysis.series.waited(analysis.series.curve(self.series, last), self.due_ns)

    @property
    def last_ns(self) -> int | None:
        """Return when the last bytes arrived or were due."""
        moments = [s.last_ns for s in self.reports if s.last_ns is not None]
        return max((*moments, self.due_ns or 0)) if moments else None


class _Way(NamedTuple):
    """Hold one direction of a test: the streams of both ends by number, and the resources that both
    hosts used."""

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
        """Return the bitrate that the user asked for, per stream; None if there is none."""
        return self.spec.target_bps if isinstance(self.spec, TcpSpec | UdpSpec) else None

    @property
    def counted_by(self) -> Role:
        """Return the end whose counts are used: the receiver, if it has a series.

        Otherwise, for TCP, it is the sender, with the acknowledged bytes. The bytes that a UDP
        sender sent do not show how many arrived.
        """
        if isinstance(self.spec, RrSpec) and self.spec.over_udp:
            # the sender counts responses, of which some may be lost although their requests arrived
            return "sender"
        udp = isinstance(self.spec, UdpSpec)
        if udp or any(stream.series is not None for stream in self.receivers.values()):
            return "receiver"
        return "sender"

    @property
    def counting(self) -> dict[int, StreamReport]:
        """Return the reports of the end that `counted_by` names."""
        return self.receivers if self.counted_by == "receiver" else self.senders

    def ends(self) -> tuple[analysis.bottleneck.End, analysis.bottleneck.End]:
        """Return both ends, the sender first, with the pauses of their hosts."""
        senders, receivers = list(self.senders.values()), list(self.receivers.values())
        pauses_there = pauses("sender", senders, spacing_ns(self.spec))
        pauses_here = pauses("receiver", receivers)
        return (
            analysis.bottleneck.End(senders, self.sender_use, pauses_there),
            analysis.bottleneck.End(receivers, self.receiver_use, pauses_here),
        )


def build_flows(measured: Measured, *, analysed: bool = True) -> tuple[Flow, ...]:
    """Return one Flow for each direction that was measured. If not `analysed`, nothing is computed
    from the recorded series: the flows hold the reports of their streams, the sums of their counts,
    and the loss."""
    directions, ids = measured.directions, measured.ids
    numbers = tuple(stream_ids(len(directions))) if ids is None else ids
    ways = [
        _way(measured, way, [i for i, d in zip(numbers, directions, strict=True) if d == way])
        for way in dict.fromkeys(directions)
    ]
    return tuple(
        _flow(measured, way) if analysed else _sums(way)
        for way in ways
        if way.senders or way.receivers
    )


def steady_so_far(spec: Spec, counted: Sequence[StreamReport], span_ns: int) -> Steady | None:
    """Return the steady state of one direction over the first `span_ns` after the omitted time,
    from the reports of one end while the test goes on; None if no bytes have come yet."""
    series = analysis.series.total([s.series for s in counted if s.series is not None])
    if not series:
        return None
    found = _split(_Counted(spec, series, counted, counted), span_ns, so_far=True)
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


def _sums(way: _Way) -> Flow:
    return Flow(
        direction=way.direction,
        streams=tuple(_stream(way, number, None) for number in way.ids),
        sender=_totals(way.senders.values()),
        receiver=_totals(way.receivers.values()),
        loss=_loss(way),
    )


def _flow(measured: Measured, way: _Way) -> Flow:
    spec = measured.spec
    due = due_ns(spec, way.senders, way.receivers)
    counted = _counted(way, due)
    split = _stated_split(counted, measured.counted_ns) if counted else None
    no_steady = None if split else _no_steady(way)
    sender, receiver = way.ends()
    return Flow(
        direction=way.direction,
        streams=tuple(_stream(way, number, split.steady if split else None) for number in way.ids),
        counted_by=way.counted_by if counted else None,
        series=counted.series if counted else None,
        ramp=split.ramp if split else None,
        steady=split.steady if split else None,
        no_steady=no_steady,
        tail=split.tail if split else None,
        averages=averages(
            list(way.counting.values()) or list(way.receivers.values()),
            way.client_streams,
            measured.client_origin_ns,
            due,
            by_url=isinstance(spec, FetchSpec),
        ),
        sender=_totals(sender.streams),
        receiver=_totals(receiver.streams),
        loss=_loss(way),
        # in round trips, responses decide when the next bytes leave, which TCP's figures don't show
        limits=None
        if isinstance(spec, RrSpec | RequestSpec)
        else _limits(sender, receiver, _steady_rate(way, counted, split), no_steady),
        pauses=(*sender.pauses, *receiver.pauses),
        intervals=_intervals(counted, sender, receiver, way.target_bps) if counted else (),
        ceiling=flow_ceiling(spec, way.senders.values(), way.receivers.values()),
    )


def _loss(way: _Way) -> Loss | None:
    spec = way.spec
    return loss.combine(spec, way.senders, way.receivers) if isinstance(spec, UdpSpec) else None


def _counted(way: _Way, due_ns: int | None) -> _Counted | None:
    """Return the reports from which a direction's figures are computed; None: neither end has a
    series."""
    reports = list(way.counting.values())
    series = analysis.series.total([s.series for s in reports if s.series is not None])
    if series is None:
        return None
    return _Counted(way.spec, series, reports, list(way.senders.values()), due_ns)


def _no_steady(way: _Way) -> Literal["no_bytes", "too_short", "no_series"]:
    """Return why a flow has no steady state."""
    reports = [*way.senders.values(), *way.receivers.values()]
    if not any(report.delivered_bytes for report in reports):
        # without the receiver's report, it is not known how many of the datagrams arrived
        unknown = all(report.delivered_bytes is None for report in reports)
        return "no_series" if unknown and any(report.bytes for report in reports) else "no_bytes"
    known = any(report.series is not None for report in way.counting.values())
    return "too_short" if known else "no_series"


def _limits(
    sender: analysis.bottleneck.End,
    receiver: analysis.bottleneck.End,
    rate: analysis.bottleneck.Rate,
    no_steady: Literal["no_bytes", "too_short", "no_series"] | None,
) -> Limits | None:
    """Return what limited a flow. Nothing is named for bytes that came within a moment: buffers
    take them, and the time in which they were read is not that of a transfer."""
    found = analysis.bottleneck.limits(sender, receiver, rate)
    if found is None or no_steady != "too_short":
        return found
    return replace(found, limited_by=None)


def _stated_split(counted: _Counted, counted_ns: int | None) -> analysis.steady.Split | None:
    """Return the parts of a flow. If `--until` ended the test, the steady bitrate has the requested
    margin."""
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


def _steady_rate(
    way: _Way, counted: _Counted | None, split: analysis.steady.Split | None
) -> analysis.bottleneck.Rate:
    """Return the rate of the steady state together with the requested rate."""
    if counted is None or split is None:
        return analysis.bottleneck.Rate(None, way.target_bps)
    steady = split.steady
    curve = analysis.series.curve(counted.series, steady.end_ns)
    varied = analysis.bottleneck.variation(curve, steady.start_ns, steady.end_ns, steady.stalls)
    return analysis.bottleneck.Rate(steady.goodput_bps, way.target_bps, varied)


def _intervals(
    counted: _Counted,
    sender: analysis.bottleneck.End,
    receiver: analysis.bottleneck.End,
    target_bps: int | None,
) -> tuple[FlowInterval, ...]:
    """Return the flow in reporting periods that are long enough to find a bottleneck in."""
    timing, curve = counted.spec.timing, counted.curve
    period_ns = analysis.course.joined_period_ns(
        nanoseconds(timing.interval_s), int(curve.at_ns[-1]), sender.streams
    )
    period_s = min(seconds(period_ns), float(MAX_DURATION_S))
    first_ns, last_ns = int(curve.at_ns[0]), int(curve.at_ns[-1])
    shortest_ns = counted.series.width_ns  # bytes within less than one bucket have no rate
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


def _split(
    counted: _Counted, span_ns: int | None, *, so_far: bool = False
) -> analysis.steady.Split | None:
    """Return the parts of a flow: ramp, steady state, and the tail after `span_ns`."""
    spec, series, curve = counted.spec, counted.series, counted.curve
    start = series.origin_ns + nanoseconds(spec.timing.omit_s)
    if isinstance(spec, UdpSpec) and not spec.timing.omit_s:
        # n datagrams span n - 1 gaps, so the bytes of the first one have no time
        start += series.width_ns
    if span_ns is None and spec.limit_s is not None:
        span_ns = nanoseconds(spec.limit_s)
    end = int(curve.at_ns[-1]) if span_ns is None else start + span_ns
    least_ns = max(series.width_ns, LEAST_STRETCH_NS)  # over less time, bytes have no rate
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
        so_far=so_far,
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
    """Return the least round-trip time of the path, from the senders' reports if they have it.

    Otherwise it is from the end that counted the bytes, which knows at least the handshake's.
    """
    for reports in (senders, counting):
        times = [s.tcp_info.min_rtt_ns[-1] for s in reports if s.tcp_info and s.tcp_info.min_rtt_ns]
        if times := [time for time in times if time > 0]:
            return min(times)
    return None


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
