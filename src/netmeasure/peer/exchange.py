"""Convert reports for the exchange of results: this end's report to the protocol's form, and the
peer's to a SideReport."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import msgspec
from msgspec.structs import replace

from netmeasure.clock import nanoseconds
from netmeasure.protocol import PeerResults, PeerStream, results_limit_bytes, stream_ids
from netmeasure.result import (
    Datagrams,
    FlowDirection,
    Host,
    Role,
    Series,
    SideReport,
    SocketFacts,
    StreamReport,
)

#: Full columns of all streams are sent up to this total of numbers; above it, coarser columns.
MAX_WIRE_NUMBERS = 200_000
#: The size of each stream in iperf3's own part of the results.
_PLAIN_STREAM_BYTES = 512
#: The longest possible test (30 years).
MAX_SECONDS = 1e9
#: A larger CPU use, in percent of one CPU, is impossible.
MAX_CPU_PERCENT = 1_000_000


def wire_results(
    side: SideReport, *, own: SideReport | None, peer: PeerResults | None = None
) -> PeerResults:
    """Return this end's report with iperf3's names, and for a netmeasure peer also the report
    `own`, which is `side` within the protocol's limits, under netmeasure's own key.

    `bytes` is the number of bytes that arrived: for a sender the acknowledged bytes, since data in
    a socket buffer are not transferred. A plain iperf3 client (`peer`) also receives what arrives
    just after the time of the test, and shows both numbers beside each other: what it has received
    has arrived, up to all that was sent. `end_time` is the time in which they arrived.

    A receiver of datagrams that has the sender's results (`peer`) reports the number of sent
    datagrams as `packets`, so that the other end also shows losses at the end, even if all
    datagrams were lost.
    """
    wall_ns = side.duration_ns or 0
    user, system = (
        100 * (ns or 0) / wall_ns if wall_ns else 0.0
        for ns in (side.cpu_user_ns, side.cpu_system_ns)
    )
    sends = any(stream.role == "sender" for stream in side.streams)
    knows = all(s.retransmits is not None for s in side.streams if s.role == "sender")
    theirs = {stream.id: stream for stream in peer.streams} if peer else {}
    congestion = next((s.socket.congestion for s in side.streams if s.socket), None)
    return PeerResults(
        cpu_util_total=user + system,
        cpu_util_user=user,
        cpu_util_system=system,
        sender_has_retransmits=-1 if not sends else 1 if knows else 0,
        congestion_used=congestion,
        streams=tuple(
            _wire_stream(stream, theirs.get(stream.id), plain=own is None)
            for stream in side.streams
        ),
        netmeasure=own,
    )


def _wire_stream(stream: StreamReport, theirs: PeerStream | None, *, plain: bool) -> PeerStream:
    span_ns = stream.counted_ns or stream.counted_to_ns or 0
    sends = stream.role == "sender"
    arrived = stream.counted_bytes or 0
    if sends and plain and theirs is not None and arrived < theirs.bytes <= (stream.bytes or 0):
        arrived = theirs.bytes
    wire = PeerStream(
        id=stream.id,
        bytes=arrived,
        retransmits=stream.retransmits if sends and stream.retransmits is not None else -1,
        jitter=0.0,
        errors=0,
        omitted_errors=0,
        packets=0,
        omitted_packets=0,
        start_time=0.0,
        end_time=span_ns / 1e9,
    )
    counts = stream.datagrams
    if counts is None:
        return wire
    if sends:
        return replace(wire, packets=counts.packets)
    highest = max(counts.highest_sequence or 0, theirs.packets if theirs else 0)
    omitted_highest = counts.omitted_highest_sequence or 0
    return replace(
        wire,
        jitter=(counts.jitter_ns or 0) / 1e9,
        packets=highest,
        errors=highest - counts.packets,
        omitted_packets=omitted_highest,
        omitted_errors=omitted_highest - (counts.omitted_packets or 0),
    )


def within_limits(side: SideReport) -> SideReport:
    """Return a report, with coarser columns if it has so many streams that it would exceed the
    limits of the protocol."""
    limit_bytes = results_limit_bytes(len(side.streams)) - len(side.streams) * _PLAIN_STREAM_BYTES
    numbers = _numbers(side)
    factor = -(-numbers // MAX_WIRE_NUMBERS) or 1
    slim: SideReport = _coarser(side, factor)
    # a column keeps its first and last item, so many short ones shrink by less than the factor
    while factor < numbers and (
        _numbers(slim) > MAX_WIRE_NUMBERS or len(msgspec.json.encode(slim)) > limit_bytes
    ):
        factor *= 2
        slim = _coarser(side, factor)
    return slim


def _numbers(value: object) -> int:
    """Return how many numbers the columns in a value hold."""
    if isinstance(value, msgspec.Struct):
        return sum(_numbers(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, tuple):
        held = isinstance(value[0], msgspec.Struct) if value else False
        return sum(map(_numbers, value)) if held else len(value)
    return 0


def _coarser(value: Any, factor: int) -> Any:
    """Return a report, or a part of it, with wider buckets in time series. Of other columns, which
    are cumulative counts or times, it has every `factor`th item and the last one."""
    if factor == 1:
        return value
    if isinstance(value, Series):
        counts = value.bytes
        factor = min(factor, len(counts) or 1)
        merged = tuple(map(sum, zip_longest(*[iter(counts)] * factor, fillvalue=0)))
        return replace(value, width_ns=value.width_ns * factor, bytes=merged)
    if isinstance(value, msgspec.Struct):
        thin = (lambda part: _thinned(part, factor)) if hasattr(value, "at_ns") else None
        changes = {}
        for name in value.__struct_fields__:
            part = getattr(value, name)
            changes[name] = thin(part) if thin is not None else _coarser(part, factor)
        return replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(_coarser(part, factor) for part in value)
    return value


def _thinned(column: Any, factor: int) -> Any:
    if not isinstance(column, tuple) or not column:
        return column
    kept = column[::factor]
    return kept if (len(column) - 1) % factor == 0 else (*kept, column[-1])


def peer_report(
    results: PeerResults | None,
    directions: Sequence[FlowDirection],
    peer_is: str,
    version: str | None = None,
    *,
    udp: bool = False,
) -> SideReport:
    """Return the peer's report: the complete one of a netmeasure peer, otherwise the figures in
    iperf3's results. The CPU time of an iperf3 is that of its whole process, and all its streams
    have the same congestion control."""
    if results is None:
        return SideReport()
    if results.netmeasure is not None:
        return results.netmeasure
    by_id = {stream.id: stream for stream in results.streams}
    reports: list[StreamReport] = []
    for stream_id, direction in zip(stream_ids(len(directions)), directions, strict=True):
        sends = (direction == "upload") == (peer_is == "client")
        stream = by_id.get(stream_id)
        if stream is not None:
            report = _from_wire(stream, "sender" if sends else "receiver", udp=udp)
            reports.append(replace(report, socket=_socket(results)))
    wall_s = max(
        (s.end_time for s in results.streams if s.end_time and _believable(s.end_time)), default=0.0
    )
    return SideReport(
        host=Host(program="iperf3", version=version),
        streams=tuple(reports),
        duration_ns=nanoseconds(wall_s) or None,
        cpu_user_ns=_share_ns(results.cpu_util_user, wall_s),
        cpu_system_ns=_share_ns(results.cpu_util_system, wall_s),
    )


def _share_ns(percent: float, wall_s: float) -> int | None:
    """Return a CPU share as time; None: the share is impossible."""
    known = wall_s > 0 and 0 <= percent <= MAX_CPU_PERCENT
    return nanoseconds(wall_s * percent / 100) if known else None


def _believable(seconds: float) -> bool:
    """Return whether a time is possible for a test."""
    return 0 <= seconds <= MAX_SECONDS


def _socket(results: PeerResults) -> SocketFacts | None:
    name = results.congestion_used
    return SocketFacts(congestion=name) if name else None


def _from_wire(stream: PeerStream, role: Role, *, udp: bool) -> StreamReport:
    start, end = stream.start_time or 0.0, stream.end_time or 0.0
    knows_time = end > 0 and _believable(start) and _believable(end)
    return StreamReport(
        id=stream.id,
        role=role,
        bytes=stream.bytes,
        counted_bytes=stream.bytes,
        counted_from_ns=nanoseconds(start) if knows_time else None,
        counted_to_ns=nanoseconds(end) if knows_time else None,
        retransmits=stream.retransmits if role == "sender" and stream.retransmits >= 0 else None,
        datagrams=_datagrams_from_wire(stream, role) if udp else None,
    )


def _datagrams_from_wire(stream: PeerStream, role: Role) -> Datagrams:
    """Return the counts of datagrams. iperf3 reports the highest number and how many numbers below
    it are missing. It counts duplicates as late datagrams, so it may report fewer than were lost.
    Versions before 3.14 do not report the omitted part."""
    if role == "sender":
        return Datagrams(packets=stream.packets, omitted_packets=stream.omitted_packets)
    omitted = None
    if stream.omitted_packets is not None and stream.omitted_errors is not None:
        omitted = stream.omitted_packets - stream.omitted_errors
    return Datagrams(
        packets=stream.packets - stream.errors,
        omitted_packets=omitted,
        highest_sequence=stream.packets,
        omitted_highest_sequence=stream.omitted_packets,
        lost_packets=stream.errors,
        jitter_ns=nanoseconds(stream.jitter) if _believable(stream.jitter) else None,
    )
