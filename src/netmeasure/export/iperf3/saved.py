"""Write saved results as the JSON that an iperf3 client would have written for the same tests."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from netmeasure.export.iperf3.document import JsonReport
from netmeasure.export.iperf3.report import host_port
from netmeasure.export.iperf3.settings import Settings
from netmeasure.observe import Control, Opening, OpenStream
from netmeasure.result import (
    Flow,
    FlowInterval,
    Interval,
    Result,
    Series,
    SocketFacts,
    StreamInterval,
    StreamReport,
    StreamResult,
    TcpInfo,
)
from netmeasure.spec import PeerSpec, RequestSpec, RrSpec, Spec, TcpSpec, UdpSpec
from netmeasure.version import IMITATED_IPERF3


def to_iperf3(results: Sequence[Result]) -> str:
    """Return one document for each run, one after another.

    Tests by URL and round trips have the shape of a TCP test. A figure of iperf3 that a result does
    not have is 0, as in iperf3.
    """
    return "".join(f"{_document(result)}\n" for result in results)


def _document(result: Result) -> str:
    host, port = host_port(result.target if "://" not in result.target else None)
    first = next((s for flow in result.flows for s in flow.streams), None)
    socket = _socket(None if first is None else _own(result, first))
    settings = Settings(
        end="client",
        version=f"iperf {IMITATED_IPERF3}",
        system=" ".join(
            filter(
                None,
                (
                    result.client.host.system,
                    result.client.host.hostname,
                    result.client.host.kernel,
                    result.client.host.machine,
                ),
            )
        ),
        host=host or result.target,
        port=port,
        interval_s=result.spec.timing.interval_s,
        netmeasure=True,
    )
    report = JsonReport(settings)
    spec, unix_s = _spec(result.spec), _unix_s(result.started_at)
    control = Control(local=socket.local or "", remote=socket.remote or "", cookie="")
    report.connected(control, spec, unix_s)
    if result.flows:
        report.opening(
            Opening(
                end="client",
                started_at=result.started_at,
                unix_s=unix_s,
                control=control,
                streams=tuple(_open_streams(result)),
                spec=spec,
                peer=result.server.host,
                extended=result.peer_extended,
            )
        )
        periods = [interval for flow in result.flows for interval in _intervals(result, flow, spec)]
        for interval in sorted(periods, key=lambda one: (one.start_ns, one.direction != "upload")):
            report.interval(interval)
    error = None
    if not result.complete:
        error = "interrupted" if result.error is None else result.error.message
    return "\n".join(report.ended(result, error=error))


def _spec(spec: Spec) -> PeerSpec:
    if isinstance(spec, TcpSpec | UdpSpec):
        return spec
    if isinstance(spec, RequestSpec):
        return TcpSpec(direction=spec.direction, timing=spec.timing, options=spec.options)
    rate = spec.target_bps if isinstance(spec, RrSpec) else None
    return TcpSpec(
        direction="upload" if isinstance(spec, RrSpec) else spec.direction,
        streams=spec.streams,
        timing=spec.timing,
        title=spec.title if isinstance(spec, RrSpec) else None,
        options=spec.options,
        target_bps=rate,
    )


def _unix_s(moment: str) -> float:
    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        return 0.0
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _own(result: Result, stream: StreamResult) -> StreamReport | None:
    """Return the client's report of a stream."""
    ends = [stream.sender, stream.receiver]
    mine = {report.id: report for report in result.client.streams}
    return next((end for end in ends if end is not None and mine.get(end.id) == end), None)


def _socket(report: StreamReport | None) -> SocketFacts:
    return report.socket if report is not None and report.socket is not None else SocketFacts()


def _open_streams(result: Result) -> Iterator[OpenStream]:
    for flow in result.flows:
        for stream in flow.streams:
            yield OpenStream(
                id=stream.id,
                role="sender" if flow.direction == "upload" else "receiver",
                socket=_socket(_own(result, stream)),
            )


# ---- intervals -----------------------------------------------------------------------------------


def _intervals(result: Result, flow: Flow, spec: PeerSpec) -> Iterator[Interval]:
    sends = flow.direction == "upload"
    for period in flow.intervals:
        streams = _streams(flow, period, spec, sends)
        again = [one.retransmits for one in streams]
        packets = [one.packets for one in streams]
        lost = [one.lost_packets for one in streams]
        jitter = [one.jitter_ns for one in streams if one.jitter_ns is not None]
        yield Interval(
            start_ns=period.start_ns,
            end_ns=period.end_ns,
            bytes=period.bytes,
            direction=flow.direction,
            counted_by="sender" if sends else "receiver",
            streams=streams,
            omitted=period.omitted,
            retransmits=_sum(again),
            packets=_sum(packets),
            lost_packets=_sum(lost),
            jitter_ns=sum(jitter) // len(jitter) if jitter else None,
        )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _streams(
    flow: Flow, period: FlowInterval, spec: PeerSpec, sends: bool
) -> tuple[StreamInterval, ...]:
    """Return the streams' parts of a period; empty: the bytes of each stream are unknown."""
    shares = _shares(flow, period)
    if shares is None:
        return ()
    parts = []
    for stream, moved in zip(flow.streams, shares, strict=True):
        part = StreamInterval(id=stream.id, bytes=moved)
        if isinstance(spec, UdpSpec):
            part = _datagrams(part, stream, period, spec, sends)
        elif sends and stream.sender is not None and stream.sender.tcp_info is not None:
            part = _tcp(part, stream.sender, stream.sender.tcp_info, period)
        parts.append(part)
    return tuple(parts)


def _shares(flow: Flow, period: FlowInterval) -> list[int] | None:
    """Return the bytes of each stream in a period; their sum is that of the period."""
    if len(flow.streams) == 1:
        return [period.bytes]
    ends = [s.receiver if flow.counted_by == "receiver" else s.sender for s in flow.streams]
    series = [end.series if end is not None else None for end in ends]
    if not series or any(one is None for one in series):
        return None
    shares = [_moved(one, period.start_ns, period.end_ns) for one in series if one is not None]
    # the ends of buckets and periods differ
    shares[shares.index(max(shares))] += period.bytes - sum(shares)
    return shares if min(shares) >= 0 else None


def _moved(series: Series, start_ns: int, end_ns: int) -> int:
    def until(moment_ns: int) -> float:
        place = (moment_ns - series.origin_ns) / series.width_ns
        whole = min(max(int(place), 0), len(series.bytes))
        part = series.bytes[whole] * (place - whole) if 0 <= whole < len(series.bytes) else 0.0
        return sum(series.bytes[:whole]) + max(part, 0.0)

    return round(until(end_ns) - until(start_ns))


def _tcp(
    part: StreamInterval, report: StreamReport, info: TcpInfo, period: FlowInterval
) -> StreamInterval:
    last = bisect_right(info.at_ns, period.end_ns) - 1
    before = bisect_right(info.at_ns, period.start_ns) - 1
    if last < 0:
        return part
    again = None
    if info.retransmits is not None:
        base = info.retransmits[before] if before >= 0 else report.syn_retransmits or 0
        again = max(0, info.retransmits[last] - base)

    def at(column: tuple[int, ...] | None) -> int | None:
        return None if column is None else column[last]

    return StreamInterval(
        id=part.id,
        bytes=part.bytes,
        retransmits=again,
        cwnd_bytes=at(info.cwnd_bytes),
        snd_wnd_bytes=at(info.snd_wnd_bytes),
        rtt_ns=at(info.rtt_ns),
        rttvar_ns=at(info.rttvar_ns),
        pmtu_bytes=at(info.pmtu_bytes),
        reordering_seen=at(info.reordering_seen),
    )


def _datagrams(
    part: StreamInterval, stream: StreamResult, period: FlowInterval, spec: UdpSpec, sends: bool
) -> StreamInterval:
    receiver = stream.receiver.datagrams if stream.receiver is not None else None
    history = None if receiver is None else receiver.history
    sent = stream.sender.datagrams if stream.sender is not None else None
    size = (sent and sent.datagram_bytes) or spec.datagram_bytes
    if sends or history is None:
        return StreamInterval(
            id=part.id, bytes=part.bytes, packets=part.bytes // size if size else None
        )
    last = bisect_right(history.at_ns, period.end_ns) - 1
    before = bisect_right(history.at_ns, period.start_ns) - 1

    def grown(column: tuple[int, ...]) -> int:
        return (column[last] if last >= 0 else 0) - (column[before] if before >= 0 else 0)

    return StreamInterval(
        id=part.id,
        bytes=part.bytes,
        packets=grown(history.packets),
        lost_packets=grown(history.highest_sequence) - grown(history.packets),
        reordered_packets=grown(history.reordered_packets),
        jitter_ns=history.jitter_ns[last] if last >= 0 else None,
    )
