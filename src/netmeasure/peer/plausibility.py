"""Check the counts in the peer's report against the counts of this end.

The peer is not trusted: impossible counts are not used, and a note reports them.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from netmeasure.clock import SECOND_NS, seconds
from netmeasure.result import Role, SideReport, StreamReport

#: A receiver may end before it has read all bytes that its kernel acknowledged, which are at most a
#: receive buffer. If its window is unknown, the largest TCP window is assumed (RFC 7323, 2.3).
LARGEST_WINDOW_BYTES = 2**30
#: The largest receive buffer of Linux' autotuning (net.ipv4.tcp_rmem of recent kernels).
USUAL_BUFFER_BYTES = 2**25
#: A receiver that did not read so many bytes, and this share of all, is reported.
UNREAD_BYTES, UNREAD = 2**20, 0.1
#: The most bytes that a sender wrote and the receiver never received: a send buffer, and as much in
#: flight.
UNSENT_BYTES = 2**28


class Believed(NamedTuple):
    """Hold the peer's report without impossible counts, and a note for each of these and for each
    count that is possible but contradicts what was acknowledged."""

    report: SideReport
    notes: tuple[str, ...]


def believed(own: SideReport, far: SideReport, far_name: str, *, omitted: bool) -> Believed:
    """Return the peer's report without its impossible counts.

    Args:
        own: This end's report.
        far: The peer's report.
        far_name: "server" or "client", for the notes.
        omitted: Whether the test has an omitted time, which iperf3 excludes from its counts.
    """
    mine = {stream.id: stream for stream in own.streams}
    notes: list[str] = []
    streams: list[StreamReport] = []
    for stream in far.streams:
        own_stream = mine.get(stream.id)
        doubt = _doubt(own_stream, stream, omitted=omitted)
        if doubt is not None:
            notes.append(
                f"the {far_name} reports that its stream {stream.id} {doubt}: impossible, not used"
            )
            stream = replace(
                stream,
                bytes=None,
                acked_bytes=None,
                counted_bytes=None,
                series=None,
                datagrams=None,
            )
        elif (unread := _unread(own_stream, stream, far_name, omitted=omitted)) is not None:
            notes.append(unread)
        elif (jitter_ns := _impossible_jitter(own_stream, stream)) is not None:
            notes.append(
                f"the {far_name} reports a jitter of {seconds(jitter_ns):.0f} s for its stream"
                f" {stream.id}: impossible, not used"
            )
            known = replace(stream.datagrams, jitter_ns=None)  # type: ignore[type-var]
            stream = replace(stream, datagrams=known)
        streams.append(stream)
    return Believed(replace(far, streams=tuple(streams)) if notes else far, tuple(notes))


def _doubt(own: StreamReport | None, far: StreamReport, *, omitted: bool) -> str | None:
    """Return an impossible claim of the peer, as the end of a sentence; None: there is none."""
    if own is None or own.role == far.role or own.bytes is None:
        return None
    if own.datagrams is not None:
        return _doubt_datagrams(own, far)
    if far.bytes is None:
        return None
    return (_doubt_receiver if far.role == "receiver" else _doubt_sender)(own, far, omitted=omitted)


def _doubt_receiver(own: StreamReport, far: StreamReport, *, omitted: bool) -> str | None:
    """Check that no more bytes were received than sent, and at most one buffer fewer than
    acknowledged."""
    assert own.bytes is not None
    assert far.bytes is not None
    if far.bytes > own.bytes:
        return f"received {far.bytes} bytes, but only {own.bytes} were sent"
    acked = own.counted_bytes if omitted else own.acked_bytes
    if acked is not None and far.bytes < acked - _window_bytes(own):
        return f"received {far.bytes} bytes, but its kernel acknowledged {acked}"
    return None


def _unread(
    own: StreamReport | None, far: StreamReport, far_name: str, *, omitted: bool
) -> str | None:
    """Return a note on a receiver whose kernel acknowledged many more bytes than it counts."""
    if own is None or far.role != "receiver" or own.role == far.role or far.bytes is None:
        return None
    acked = own.counted_bytes if omitted else own.acked_bytes
    if acked is None or acked - far.bytes <= max(UNREAD_BYTES, UNREAD * acked):
        return None
    return (
        f"the {far_name}'s kernel acknowledged {acked} bytes of stream {far.id}, and the {far_name}"
        f" counted {far.bytes}: it did not read the rest, or its count is wrong"
    )


def _doubt_sender(own: StreamReport, far: StreamReport, *, omitted: bool) -> str | None:
    assert own.bytes is not None
    assert far.bytes is not None
    if far.bytes < own.bytes and not omitted:
        return f"sent {far.bytes} bytes, but {own.bytes} were received"
    if far.bytes > own.bytes + UNSENT_BYTES:
        return f"sent {far.bytes} bytes, but only {own.bytes} were received"
    return None


def _doubt_datagrams(own: StreamReport, far: StreamReport) -> str | None:
    if own.datagrams is None or far.datagrams is None:
        return None
    sent, received = _by_role(own, far, "sender"), _by_role(own, far, "receiver")
    counted = received.datagrams
    assert counted is not None
    assert sent.datagrams is not None
    highest = counted.highest_sequence or 0
    if highest <= sent.datagrams.packets:
        return None
    if far.role == "receiver":
        return f"received {highest} datagrams, but only {sent.datagrams.packets} were sent"
    return f"sent {sent.datagrams.packets} datagrams, but number {highest} was received"


def _impossible_jitter(own: StreamReport | None, far: StreamReport) -> int | None:
    """Return a receiver's jitter that exceeds the time in which the datagrams were sent; None: it
    does not. Versions of iperf3 before 3.10 begin with the difference of the two hosts' clocks."""
    if own is None or far.role != "receiver" or far.datagrams is None:
        return None
    jitter_ns = far.datagrams.jitter_ns
    if jitter_ns is None or own.first_ns is None or own.last_ns is None:
        return None
    return jitter_ns if jitter_ns > max(own.last_ns - own.first_ns, SECOND_NS) else None


def _by_role(one: StreamReport, other: StreamReport, role: Role) -> StreamReport:
    return one if one.role == role else other


def _window_bytes(sender: StreamReport) -> int:
    """Return how many unread bytes the receiver's kernel may hold. This is at least a usual buffer:
    the window is the free part of the buffer, and all samples may be of a full one."""
    windows = sender.tcp_info.snd_wnd_bytes if sender.tcp_info else None
    return max(USUAL_BUFFER_BYTES, *windows) if windows else LARGEST_WINDOW_BYTES
