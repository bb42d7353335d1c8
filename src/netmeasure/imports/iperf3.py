"""Read the JSON of iperf3, of every version since 3.1, as results.

A result has the values of the document; everything else is None. iperf3 gives one rate for the
whole test, so that the verdict on the steady state is "too_short" at best, and connection set-up is
unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from netmeasure.errors import ResultFormatError, SpecError
from netmeasure.imports.documents import joined
from netmeasure.imports.members import Members, all_known
from netmeasure.result import (
    Averages,
    ErrorRecord,
    Flow,
    FlowDirection,
    FlowInterval,
    Host,
    Loss,
    Result,
    Role,
    SideReport,
    SocketFacts,
    Steady,
    StreamReport,
    StreamResult,
    TcpInfo,
    Totals,
)
from netmeasure.result.plausible import check_plausible
from netmeasure.spec import PeerSpec, TcpSpec, Timing, UdpSpec

_MOST_STREAMS = 2048
#: Parts of iperf3's messages, and the codes of the errors that they mean.
_CODES = (
    ("connection refused", "refused"),
    ("timed out", "connect_timeout"),
    ("no route", "unreachable"),
    ("unreachable", "unreachable"),
    ("server is busy", "busy"),
    ("server has terminated", "peer_terminated"),
    ("closed unexpectedly", "peer_closed"),
    ("name or service", "name_not_found"),
)
#: The suffix of the other direction's sums in a test of both directions.
_OTHER_WAY = "_bidir_reverse"
_SUMS = ("sum", "sum_sent", "sum_received")


def results(values: Sequence[Any]) -> list[Result]:
    """Return the tests in documents (-J) and in lines (--json-stream), in order.

    Raises ResultFormatError, with the number of the document, if a document is not usable.
    """
    found: list[Result] = []
    for number, document in enumerate(joined(values), start=1):
        try:
            result = _result(document)
            check_plausible(result)
        except ResultFormatError as exc:
            which = f" (document {number})" if number > 1 else ""
            raise ResultFormatError(f"iperf3's JSON is not usable{which}: {exc}") from None
        found.append(result)
    return found


class _Document:
    """Read one document."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.whole = Members(value)
        self.start = self.whole.object("start")
        self.end = self.whole.object("end")
        self.intervals = self.whole.objects("intervals")
        self.test = self.start.object("test_start")
        self.error = self.whole.text("error")
        protocol = (self.test.text("protocol") or "TCP").upper()
        if protocol not in ("TCP", "UDP"):
            raise ResultFormatError(f"it is a test of {protocol[:20]}, and not of TCP or UDP")
        self.udp = protocol == "UDP"
        self.at_server = "accepted_connection" in self.start
        self.complete = self.error is None and "streams" in self.end
        self.omit_s = self.test.number("omit") or 0
        if len(self.end.objects("streams")) > _MOST_STREAMS:
            raise ResultFormatError("it has more streams than iperf3 can open")

    @property
    def version(self) -> str:
        """Return the program's name and version, as the document has them."""
        return (self.start.text("version") or "iperf3")[:40]

    def sends(self, part: Members) -> bool:
        """Return whether this end was the sender of a part's data."""
        told = part.flag("sender")
        if told is not None:
            return told
        return bool(self.test.flag("reverse")) == self.at_server

    def direction(self, sends: bool) -> FlowDirection:
        """Return a direction, seen from the client."""
        return "upload" if sends != self.at_server else "download"


def _result(value: dict[str, Any]) -> Result:
    """Return the result of one whole document."""
    document = _Document(value)
    ends: dict[bool, list[tuple[int, Members]]] = {}
    for index, stream in enumerate(document.end.objects("streams")):
        part = stream.object("udp" if document.udp else "sender")
        ends.setdefault(document.sends(part), []).append((index, stream))
    if not ends:
        for period in document.intervals:
            for index, stream in enumerate(period.objects("streams")):
                ways = ends.setdefault(document.sends(stream), [])
                if index not in [known for known, _ in ways]:
                    ways.append((index, Members({})))
    order = sorted(ends, key=document.direction, reverse=True)  # the upload first
    flows = tuple(_flow(document, sends, ends[sends]) for sends in order)
    own: list[StreamReport] = []
    far: list[StreamReport] = []
    for sends, flow in zip(order, flows, strict=True):
        for seen in flow.streams:
            for report, ours in ((seen.sender, sends), (seen.receiver, not sends)):
                if report is not None:
                    (own if ours else far).append(report)
    own_side = SideReport(host=_host(document), streams=tuple(own))
    far_side = SideReport(streams=tuple(far))
    sides = (far_side, own_side) if document.at_server else (own_side, far_side)
    return Result(
        spec=_spec(document, set(ends)),
        complete=document.complete,
        error=_error(document),
        started_at=_started_at(document),
        target=_target(document),
        flows=flows,
        client=sides[0],
        server=sides[1],
        notes=_notes(document),
    )


def _flow(document: _Document, sends: bool, streams: Sequence[tuple[int, Members]]) -> Flow:
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


def _sums(document: _Document, sends: bool) -> dict[str, Members]:
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


def _stream(document: _Document, sends: bool, index: int, stream: Members) -> StreamResult:
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


def _periods(document: _Document, sends: bool) -> tuple[FlowInterval, ...]:
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


def _tcp_info(document: _Document, index: int) -> TcpInfo | None:
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


def _socket(document: _Document, index: int, role: Role) -> SocketFacts | None:
    sockets = document.start.objects("connected")
    if index >= len(sockets):
        return None
    one = sockets[index]
    mss = document.start.count("tcp_mss") or document.start.count("tcp_mss_default")
    return SocketFacts(
        local=_address(one.text("local_host"), one.count("local_port")),
        remote=_address(one.text("remote_host"), one.count("remote_port")),
        congestion=document.end.text(f"{role}_tcp_congestion"),
        mss_bytes=mss or None,
        sndbuf_bytes=document.start.count("sndbuf_actual"),
        rcvbuf_bytes=document.start.count("rcvbuf_actual"),
    )


def _address(host: str | None, port: int | None) -> str | None:
    if host is None:
        return None
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _host(document: _Document) -> Host:
    """Return the facts of the document's host, which are approximately `uname -a`."""
    version = document.version.removeprefix("iperf").strip()
    words = (document.start.text("system_info") or "").split()
    return Host(
        program="iperf3",
        version=version or None,
        hostname=words[1] if len(words) > 3 else None,
        system=words[0] if words else None,
        kernel=words[2] if len(words) > 3 else None,
        machine=words[-1] if len(words) > 3 else None,
    )


def _spec(document: _Document, ways: set[bool]) -> PeerSpec:
    """Return the specification of the test; options that a specification does not have are left
    out."""
    test = document.test
    sends = bool(test.flag("reverse")) == document.at_server
    both = bool(test.flag("bidir")) or len(ways) > 1
    direction = "both" if both else document.direction(next(iter(ways), sends))
    limits: dict[str, Any] = {}
    if total := test.count("bytes"):
        limits["total_bytes"] = total
    elif blocks := test.count("blocks"):
        limits["total_blocks"] = blocks
    elif seconds := test.number("duration"):
        limits["duration_s"] = float(seconds)
    timed = {**limits, "omit_s": float(document.omit_s)}
    size = test.count("blksize")
    rate = test.count("target_bitrate") or document.start.count("target_bitrate")
    kind: type[TcpSpec | UdpSpec] = UdpSpec if document.udp else TcpSpec
    wanted: dict[str, Any] = {
        "latency": False,
        "streams": test.count("num_streams"),
        "datagram_bytes" if document.udp else "block_bytes": size,
        "target_bps": rate or None,
        "title": document.whole.any_bytes("title"),
        "extra_data": document.whole.any_bytes("extra_data"),
    }
    spec: dict[str, Any] = {"direction": direction}
    if document.udp:
        spec["target_bps"] = None
    for name, value in wanted.items():
        if value is not None and _fits(kind, {**spec, name: value}):
            spec[name] = value
    try:
        spec["timing"] = Timing(**timed)
    except SpecError:
        pass
    return kind(**spec)


def _fits(kind: type[TcpSpec | UdpSpec], members: dict[str, Any]) -> bool:
    try:
        kind(**members)
    except SpecError:
        return False
    return True


def _started_at(document: _Document) -> str:
    stamp = document.start.object("timestamp")
    ms = stamp.count("timemillisecs")
    seconds = stamp.count("timesecs")
    if ms is None and seconds is not None:
        ms = seconds * 1000
    if ms is None:
        return ""
    try:
        moment = datetime.fromtimestamp(ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise ResultFormatError("start.timestamp is no time") from None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _target(document: _Document) -> str:
    name = "accepted_connection" if document.at_server else "connecting_to"
    other = document.start.object(name)
    return _address(other.text("host"), other.count("port")) or ""


def _error(document: _Document) -> ErrorRecord | None:
    if document.error is None:
        return None
    message = document.error.removeprefix("error - ")
    code = next((code for words, code in _CODES if words in message.lower()), "failed")
    connecting = "unable to connect" in message or "unable to send control" in message
    return ErrorRecord(code=code, message=message, phase="connect" if connecting else None)


def _notes(document: _Document) -> tuple[str, ...]:
    notes = [
        f"read from the JSON of {document.version}: it has no set-up times, and one rate for the"
        " whole test, ramp included"
    ]
    if document.omit_s:
        notes.append("bytes of the omitted time are not in the document")
    if not document.complete and document.error is None:
        notes.append("the document ends before the end of the test")
    return tuple(notes)
