"""From what the two ends saw to the flows of a Result: pure functions, the same on both ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
from netmeasure.spec import MAX_DATAGRAM_BYTES, MAX_DURATION_S, Spec, TcpSpec, UdpSpec

#: At a low rate, a TCP sender hands this much to its kernel at a time; two pieces may go together.
PIECE_BYTES = 2 * 1460


def build_flows(
    spec: Spec,
    directions: Sequence[FlowDirection],
    client: SideReport,
    server: SideReport,
    client_origin_ns: int | None,
    *,
    ids: Sequence[int] | None = None,
    counted_ns: int | None = None,
) -> tuple[Flow, ...]:
    """One Flow for each direction that was measured. `client_origin_ns` is the moment that the
    client's reports count from, counted from its first attempt; None when that is not known.
    `ids` are the streams' numbers, in the order of `directions`, where they are not iperf3's.
    `counted_ns` after the omitted time the steady state ends, where a look has ended the test."""
    ids = tuple(stream_ids(len(directions))) if ids is None else ids
    found: list[Flow] = []
    for direction in dict.fromkeys(directions):
        wanted = [i for i, d in zip(ids, directions, strict=True) if d == direction]
        upload = direction == "upload"
        senders = _pick(client if upload else server, wanted, "sender")
        receivers = _pick(server if upload else client, wanted, "receiver")
        if senders or receivers:
            here, there = (client, server) if upload else (server, client)
            found.append(
                _flow(
                    spec,
                    direction,
                    wanted,
                    senders,
                    receivers,
                    senders if upload else receivers,
                    client_origin_ns,
                    (here.resources, there.resources),
                    counted_ns,
                )
            )
    return tuple(found)


def steady_so_far(spec: Spec, counted: Sequence[StreamReport], span_ns: int) -> Steady | None:
    """The steady state of one direction over the first `span_ns` after the omitted time, from the
    reports of one end while the test goes on. None: nothing has come yet."""
    series = analysis.series.total([s.series for s in counted if s.series is not None])
    found = _split(spec, series, counted, counted, span_ns, None) if series else None
    return found.steady if found else None


def _pick(side: SideReport, ids: Iterable[int], role: Role) -> dict[int, StreamReport]:
    return {s.id: s for s in side.streams if s.id in ids and s.role == role}


def _flow(
    spec: Spec,
    direction: FlowDirection,
    ids: Sequence[int],
    senders: dict[int, StreamReport],
    receivers: dict[int, StreamReport],
    client_streams: dict[int, StreamReport],
    client_origin_ns: int | None,
    resources: tuple[Resources | None, Resources | None],
    counted_ns: int | None,
) -> Flow:
    udp = isinstance(spec, UdpSpec)
    counted_by, counted = _counting_side(senders, receivers, udp=udp)
    series = analysis.series.total([s.series for s in counted if s.series is not None])
    due_ns = _due_ns(spec, senders, receivers)
    sender_pauses = pauses("sender", list(senders.values()), spacing_ns(spec))
    receiver_pauses = pauses("receiver", list(receivers.values()))
    split = None
    if series is not None:
        split = _split(spec, series, counted, list(senders.values()), counted_ns, due_ns)
    if split is not None and counted_ns is not None and spec.timing.until is not None:
        split = split._replace(steady=analysis.sequential.stated(split.steady, spec.timing.until))
    return Flow(
        direction=direction,
        streams=tuple(
            StreamResult(
                id=i,
                sender=senders.get(i),
                receiver=receivers.get(i),
                steady=_part(
                    spec,
                    split.steady if split else None,
                    receivers.get(i) if counted_by == "receiver" else senders.get(i),
                    senders.get(i),
                ),
            )
            for i in ids
        ),
        counted_by=counted_by if series else None,
        series=series,
        ramp=split.ramp if split else None,
        steady=split.steady if split else None,
        tail=split.tail if split else None,
        averages=_averages(
            counted or list(receivers.values()),
            list(client_streams.values()),
            client_origin_ns,
            due_ns,
        ),
        sender=_totals(senders.values()),
        receiver=_totals(receivers.values()),
        loss=loss.combine(spec, senders, receivers) if isinstance(spec, UdpSpec) else None,
        limits=analysis.bottleneck.limits(
            list(senders.values()),
            list(receivers.values()),
            split.steady.goodput_bps if split else None,
            spec.target_bps if isinstance(spec, TcpSpec | UdpSpec) else None,
            variation=_variation(series, split.steady) if series and split else None,
            pauses=(*sender_pauses, *receiver_pauses),
        ),
        pauses=(*sender_pauses, *receiver_pauses),
        intervals=_intervals(
            spec,
            series,
            counted,
            due_ns,
            analysis.course.End(list(senders.values()), resources[0], sender_pauses),
            analysis.course.End(list(receivers.values()), resources[1], receiver_pauses),
        ),
        ceiling=flow_ceiling(spec, senders.values(), receivers.values()),
    )


def _variation(series: Series, whole: Steady) -> float | None:
    curve = analysis.series.curve(series, whole.end_ns)
    return analysis.bottleneck.variation(curve, whole.start_ns, whole.end_ns)


def _intervals(
    spec: Spec,
    series: Series | None,
    counted: Sequence[StreamReport],
    due_ns: int | None,
    sender: analysis.course.End,
    receiver: analysis.course.End,
) -> tuple[FlowInterval, ...]:
    """The flow in the course of the run, in reporting periods long enough for a verdict."""
    if series is None:
        return ()
    transfer = _curve(series, counted, due_ns)
    period_ns = analysis.course.joined_period_ns(
        nanoseconds(spec.timing.interval_s), int(transfer.at_ns[-1]), sender.streams
    )
    period_s = min(seconds(period_ns), float(MAX_DURATION_S))
    return analysis.course.intervals(
        edges_ns(replace(spec.timing, interval_s=period_s)),
        transfer,
        nanoseconds(spec.timing.omit_s),
        sender,
        receiver,
        spec.target_bps if isinstance(spec, TcpSpec | UdpSpec) else None,
    )


def _counting_side(
    senders: dict[int, StreamReport], receivers: dict[int, StreamReport], *, udp: bool
) -> tuple[Role, list[StreamReport]]:
    """The receiver is the truth; a TCP sender's acknowledged bytes are the next best. What a UDP
    sender has sent says nothing of what arrived."""
    received = list(receivers.values())
    if udp or any(stream.series is not None for stream in received):
        return "receiver", received
    return "sender", list(senders.values())


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


def _curve(
    series: Series, counted: Sequence[StreamReport], due_ns: int | None
) -> analysis.series.Curve:
    last = max((s.last_ns for s in counted if s.last_ns is not None), default=None)
    return analysis.series.waited(analysis.series.curve(series, last), due_ns)


def _split(
    spec: Spec,
    series: Series,
    counted: Sequence[StreamReport],
    senders: Sequence[StreamReport],
    span_ns: int | None,
    due_ns: int | None,
) -> analysis.steady.Split | None:
    transfer = _curve(series, counted, due_ns)
    start = series.origin_ns + nanoseconds(spec.timing.omit_s)
    if isinstance(spec, UdpSpec) and not spec.timing.omit_s:
        # the first datagram of each stream stands for no time before it: n of them, n - 1 gaps
        start += series.width_ns
    if span_ns is None and spec.limit_s is not None:
        span_ns = nanoseconds(spec.limit_s)
    end = int(transfer.at_ns[-1]) if span_ns is None else start + span_ns
    return analysis.steady.split(
        transfer,
        start,
        end,
        bucket_ns=series.width_ns,
        rtt_ns=_base_rtt_ns(senders),
        grain_bytes=_grain(spec, senders),
    )


def _part(
    spec: Spec, whole: Steady | None, counted: StreamReport | None, sender: StreamReport | None
) -> Steady | None:
    """A stream's part of the steady state of all."""
    if whole is None or counted is None or counted.series is None or not counted.series.bytes:
        return None
    senders = [sender] if sender else []
    return analysis.steady.within(
        analysis.series.curve(counted.series, counted.last_ns),
        whole,
        rtt_ns=_base_rtt_ns(senders),
        grain_bytes=_grain(spec, senders),
    )


def _grain(spec: Spec, senders: Sequence[StreamReport]) -> int:
    """What arrives at once at the least: a datagram, or a segment."""
    if isinstance(spec, UdpSpec):
        return spec.datagram_bytes or 0
    sizes = [s.tcp_info.mss_bytes[-1] for s in senders if s.tcp_info and s.tcp_info.mss_bytes]
    return max(sizes, default=0)


def _base_rtt_ns(senders: Sequence[StreamReport]) -> int | None:
    known = [s.tcp_info.min_rtt_ns[-1] for s in senders if s.tcp_info and s.tcp_info.min_rtt_ns]
    return min(known, default=None)


def _averages(
    counted: Sequence[StreamReport],
    client_streams: Sequence[StreamReport],
    client_origin_ns: int | None,
    due_ns: int | None,
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
    return Averages(
        from_first_attempt_bps=_rate(delivered, from_attempt),
        from_first_byte_bps=_rate(
            delivered, None if first is None or last is None else last - first
        ),
        after_omit_bps=_rate(after_omit, max(windows, default=None)),
        set_up_ns=set_up,
    )


def _span(streams: Sequence[StreamReport]) -> tuple[int | None, int | None]:
    """When the first and the last byte were counted (received, or acknowledged)."""
    firsts = [s.series.origin_ns for s in streams if s.series is not None]
    lasts = [s.last_ns for s in streams if s.last_ns is not None]
    return min(firsts, default=None), max(lasts, default=None)


def _rate(count: int, span_ns: int | None) -> float | None:
    return count * 8e9 / span_ns if span_ns and span_ns > 0 else None


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
