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
from netmeasure.imports.iperf3_document import Document, address
from netmeasure.imports.iperf3_flows import flow_of
from netmeasure.imports.members import Members
from netmeasure.result import ErrorRecord, Host, Result, SideReport, StreamReport
from netmeasure.result.plausible import check_plausible
from netmeasure.spec import PeerSpec, TcpSpec, Timing, UdpSpec

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


def _result(value: dict[str, Any]) -> Result:
    """Return the result of one whole document."""
    document = Document(value)
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
    flows = tuple(flow_of(document, sends, ends[sends]) for sends in order)
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


def _host(document: Document) -> Host:
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


def _spec(document: Document, ways: set[bool]) -> PeerSpec:
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


def _started_at(document: Document) -> str:
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


def _target(document: Document) -> str:
    name = "accepted_connection" if document.at_server else "connecting_to"
    other = document.start.object(name)
    return address(other.text("host"), other.count("port")) or ""


def _error(document: Document) -> ErrorRecord | None:
    if document.error is None:
        return None
    message = document.error.removeprefix("error - ")
    code = next((code for words, code in _CODES if words in message.lower()), "failed")
    connecting = "unable to connect" in message or "unable to send control" in message
    return ErrorRecord(code=code, message=message, phase="connect" if connecting else None)


def _notes(document: Document) -> tuple[str, ...]:
    notes = [
        f"read from the JSON of {document.version}: it has no set-up times, and one rate for the"
        " whole test, ramp included"
    ]
    if document.omit_s:
        notes.append("bytes of the omitted time are not in the document")
    if not document.complete and document.error is None:
        notes.append("the document ends before the end of the test")
    return tuple(notes)
