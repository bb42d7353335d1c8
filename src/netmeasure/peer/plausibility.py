"""Hold what the far end says it counted against what this end knows.

A peer is not trusted: counts that are impossible are not used, and a note reports them.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from netmeasure.result import Role, SideReport, StreamReport

#: A receiver may end before it has read what its kernel has acknowledged: at most a receive buffer.
#: Where its window is not known, it is taken to be the largest that TCP can have (RFC 7323, 2.3).
LARGEST_WINDOW_BYTES = 2**30
#: The most that Linux gives a receive buffer by itself (net.ipv4.tcp_rmem of recent kernels).
USUAL_BUFFER_BYTES = 2**25
#: What a sender has written and the receiver never got: a send buffer, and as much on its way.
UNSENT_BYTES = 2**28


class Believed(NamedTuple):
    """Hold the far end's report without impossible counts, and a note for each of those."""

    report: SideReport
    notes: tuple[str, ...]


def believed(own: SideReport, far: SideReport, far_name: str, *, omitted: bool) -> Believed:
    """Return the far end's report as far as this end can believe it.

    Args:
        own: this end's report.
        far: the far end's.
        far_name: "server" or "client", for the notes.
        omitted: the test has an omitted time, which iperf3 leaves out of its counts.
    """
    mine = {stream.id: stream for stream in own.streams}
    notes: list[str] = []
    streams: list[StreamReport] = []
    for stream in far.streams:
        doubt = _doubt(mine.get(stream.id), stream, omitted=omitted)
        if doubt is not None:
            notes.append(f"the {far_name} says of stream {stream.id} that it {doubt}: not believed")
            stream = replace(
                stream,
                bytes=None,
                acked_bytes=None,
                counted_bytes=None,
                series=None,
                datagrams=None,
            )
        streams.append(stream)
    return Believed(replace(far, streams=tuple(streams)) if notes else far, tuple(notes))


def _doubt(own: StreamReport | None, far: StreamReport, *, omitted: bool) -> str | None:
    """Return what a far end says that can't be, as the end of a sentence."""
    if own is None or own.role == far.role or own.bytes is None:
        return None
    if own.datagrams is not None:
        return _doubt_datagrams(own, far)
    if far.bytes is None:
        return None
    return (_doubt_receiver if far.role == "receiver" else _doubt_sender)(own, far, omitted=omitted)


def _doubt_receiver(own: StreamReport, far: StreamReport, *, omitted: bool) -> str | None:
    """TCP delivers no byte that was not sent, and all that it acknowledged but for one buffer."""
    assert own.bytes is not None
    assert far.bytes is not None
    if far.bytes > own.bytes:
        return f"received {far.bytes} bytes, of {own.bytes} that were sent"
    acked = own.counted_bytes if omitted else own.acked_bytes
    if acked is not None and far.bytes < acked - _window_bytes(own):
        return f"received {far.bytes} bytes, of {acked} that its kernel acknowledged"
    return None


def _doubt_sender(own: StreamReport, far: StreamReport, *, omitted: bool) -> str | None:
    assert own.bytes is not None
    assert far.bytes is not None
    if far.bytes < own.bytes and not omitted:
        return f"sent {far.bytes} bytes, of which {own.bytes} were received"
    if far.bytes > own.bytes + UNSENT_BYTES:
        return f"sent {far.bytes} bytes, of which only {own.bytes} were received"
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
        return f"received {highest} datagrams, of {sent.datagrams.packets} that were sent"
    return f"sent {sent.datagrams.packets} datagrams, and number {highest} was received"


def _by_role(one: StreamReport, other: StreamReport, role: Role) -> StreamReport:
    return one if one.role == role else other


def _window_bytes(sender: StreamReport) -> int:
    """Return what the receiver's kernel may hold unread: no less than usual buffers, for the window
    is what is left of one, and samples of it may all have been of a full one."""
    windows = sender.tcp_info.snd_wnd_bytes if sender.tcp_info else None
    return max(USUAL_BUFFER_BYTES, *windows) if windows else LARGEST_WINDOW_BYTES
