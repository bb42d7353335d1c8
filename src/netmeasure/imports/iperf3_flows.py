"""Read the figures of each direction and stream from a document of iperf3."""

from __future__ import annotations

from collections.abc import Sequence

from netmeasure.imports.iperf3_document import Document, address
from netmeasure.imports.members import Members, all_known
from netmeasure.result import (
    Averages,
    Flow,
    FlowInterval,
    Loss,
    Role,
    SocketFacts,
    Steady,
    StreamReport,
    StreamResult,
    TcpInfo,
    Totals,
)

#: The suffix of the other direction's sums in a test of both directions.
_OTHER_WAY = "_bidir_reverse"
_SUMS = ("sum", "sum_sent", "sum_received")


def flow_of(document: Document, sends: bool, streams: Sequence[tuple[int, Members]]) -> Flow:
    """Return the flow in one direction."""
    role: Role = "sender" if sends else "receiver"
    periods = _periods(document, sends)
    found = tuple(_stream(document, sends, index, stream) for index, stream in streams)
    sums = _sums(document, sends)
    sent = sums.get("sum_sent")
    received = sums.get("sum_received", None if sends else sums.get("sum"))
    rate = seconds = moved = None
    if received is not None:
        rate, seconds = received.number("bits_per_second"), received.number("end")
        moved = received.count("bytes")
    if not document.complete and not moved:
        rate = seconds = moved = None  # no report of the other end: iperf3 writes 0
    start_ns = round(document.omit_s * 1e9)
    steady = None
    if rate is not None and seconds and moved:
        batches = max(1, sum(not period.omitted for period in periods))
        steady = Steady(
            verdict="too_short",
            start_ns=start_ns,
            end_ns=start_ns + round(seconds * 1e9),
            bytes=moved,
            goodput_bps=float(rate),
            batches=batches,
            batch_ns=round(seconds * 1e9 / batches),
        )
    whole = document.omit_s == 0
    retransmits = None if sent is None else sent.count("retransmits")
    sent_bytes = None if sent is None else sent.count("bytes")
    if sent_bytes is None and sends and "sum" in sums:
        sent_bytes = sums["sum"].count("bytes")
    return Flow(
        direction=document.direction(sends),
        streams=found,
        counted_by=role if periods else None,
        steady=steady,
        no_steady="no_series" if steady is None else None,
        averages=Averages(after_omit_bps=None if rate is None else float(rate)),
        sender=Totals(bytes=sent_bytes if whole else None, retransmits=retransmits),
        receiver=Totals(bytes=moved if whole else None),
        loss=_loss(sums, streams) if document.udp else None,
        intervals=periods,
    )


def _sums(document: Document, sends: bool) -> dict[str, Members]:
    """Return the sums of one direction by their names.

    A test of both directions has two of each sum. The names of one direction's sums are plain
    ("sum_sent"); those of the other direction end in "_bidir_reverse".
    """
    both = any(name + _OTHER_WAY in document.end for name in _SUMS)
    plain = not both or sends == document.sends(document.end.object("sum_sent"))
    suffix = "" if plain else _OTHER_WAY
    return {
        name: document.end.object(name + suffix) for name in _SUMS if name + suffix in document.end
    }


def _stream(document: Document, sends: bool, index: int, stream: Members) -> StreamResult:
    """Return the reports of both ends of a stream, as far as the document has them."""
    number = 1 if index == 0 else index + 2
    own: Role = "sender" if sends else "receiver"
    reports: dict[Role, StreamReport] = {}
    for role in ("sender", "receiver"):
        part = stream.object("udp" if document.udp else role)
        known = part.count("bytes")
        if document.udp and role != own:
            known = None  # this part has the count of bytes of this end
        if not document.complete and role != own and not known:
            known = None
        if known is None and role != own:
            continue
        seconds = part.number("seconds")
        reports[role] = StreamReport(
            id=number,
            role=role,
            bytes=known if document.omit_s == 0 else None,
            counted_bytes=known,
            counted_from_ns=round(document.omit_s * 1e9) if seconds else None,
            counted_to_ns=round((document.omit_s + seconds) * 1e9) if seconds else None,
            retransmits=part.count("retransmits") if role == "sender" else None,
            tcp_info=_tcp_info(document, index) if role == own == "sender" else None,
            socket=_socket(document, index, role) if role == own else None,
        )
    return StreamResult(id=number, sender=reports.get("sender"), receiver=reports.get("receiver"))


def _periods(document: Document, sends: bool) -> tuple[FlowInterval, ...]:
    """Return the reporting periods of one direction. iperf3 restarts its counts after the omitted
    time."""
    found: list[FlowInterval] = []
    omitted_s = 0.0
    for period in document.intervals:
        for name in ("sum", f"sum{_OTHER_WAY}"):
            if name not in period:
                continue
            part = period.object(name)
            if document.sends(part) != sends:
                continue
            start, end, moved = part.number("start"), part.number("end"), part.count("bytes")
            if start is None or end is None or moved is None or end < start:
                continue
            omitted = bool(part.flag("omitted"))
            if omitted:
                omitted_s = max(omitted_s, end)
            shift = 0.0 if omitted else omitted_s
            found.append(
                FlowInterval(
                    start_ns=round((start + shift) * 1e9),
                    end_ns=round((end + shift) * 1e9),
                    bytes=moved,
                    omitted=omitted,
                )
            )
    return tuple(found)


def _tcp_info(document: Document, index: int) -> TcpInfo | None:
    """Return the figures of the sender's kernel at the end of each period."""
    rows: list[Members] = []
    moments: list[int] = []
    omitted_s = 0.0
    for period in document.intervals:
        streams = period.objects("streams")
        if index >= len(streams) or (end := streams[index].number("end")) is None:
            return None
        omitted = bool(streams[index].flag("omitted"))
        if omitted:
            omitted_s = max(omitted_s, end)
        rows.append(streams[index])
        moments.append(round((end + (0.0 if omitted else omitted_s)) * 1e9))

    def column(name: str, scale: int = 1) -> tuple[int, ...] | None:
        values = (row.count(name) for row in rows)
        return all_known(None if value is None else value * scale for value in values)

    found = TcpInfo(
        at_ns=tuple(moments),
        rtt_ns=column("rtt", 1000),
        rttvar_ns=column("rttvar", 1000),
        cwnd_bytes=column("snd_cwnd"),
        snd_wnd_bytes=column("snd_wnd"),
        pmtu_bytes=column("pmtu"),
    )
    return found if found.rtt_ns is not None or found.cwnd_bytes is not None else None


def _loss(sums: dict[str, Members], streams: Sequence[tuple[int, Members]]) -> Loss | None:
    """Return the counts of datagrams: the receiver's if the document has both."""
    part = sums.get("sum_received") or sums.get("sum")
    if part is None or (packets := part.count("packets")) is None:
        return None
    lost = part.count("lost_packets")
    jitter_ms = part.number("jitter_ms")
    if lost is not None and lost > packets:
        lost = None
    reordered = [stream.object("udp").count("out_of_order") for _, stream in streams]
    return Loss(
        sent_packets=packets,
        received_packets=None if lost is None else packets - lost,
        lost_packets=lost,
        reordered_packets=sum(n or 0 for n in reordered) if None not in reordered else None,
        jitter_ns=None if jitter_ms is None else round(jitter_ms * 1e6),
    )


def _socket(document: Document, index: int, role: Role) -> SocketFacts | None:
    sockets = document.start.objects("connected")
    if index >= len(sockets):
        return None
    one = sockets[index]
    mss = document.start.count("tcp_mss") or document.start.count("tcp_mss_default")
    return SocketFacts(
        local=address(one.text("local_host"), one.count("local_port")),
        remote=address(one.text("remote_host"), one.count("remote_port")),
        congestion=document.end.text(f"{role}_tcp_congestion"),
        mss_bytes=mss or None,
        sndbuf_bytes=document.start.count("sndbuf_actual"),
        rcvbuf_bytes=document.start.count("rcvbuf_actual"),
    )
