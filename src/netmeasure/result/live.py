"""Define the intervals that are reported while a test goes on."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from netmeasure.result.flows import FlowDirection
from netmeasure.result.sides import Role
from netmeasure.result.steady import Stretch


class StreamInterval(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one stream's part of an Interval. Counts are those of the period alone; None: unknown.

    Attributes:
        id: The stream's number, as in `StreamResult`.
        bytes: As in `Interval`.
        retransmits: Segments sent again, SYNs not counted (TCP, where this side sends).
        cwnd_bytes: Congestion window at the period's end (TCP_INFO, where this side sends).
        snd_wnd_bytes: The receiver's window at the period's end (TCP_INFO).
        rtt_ns: Smoothed round trip at the period's end (TCP_INFO, RFC 6298).
        rttvar_ns: Its variation (TCP_INFO, RFC 6298).
        pmtu_bytes: Path MTU at the period's end (TCP_INFO).
        reordering_seen: How often reordering was seen since the connection's start (TCP_INFO).
        packets: Datagrams sent or received (UDP).
        lost_packets: Datagrams newly missing (UDP, where this side receives). A datagram that comes
            late after all is subtracted, which can make the count negative.
        reordered_packets: Datagrams that came after one with a higher number (UDP, RFC 4737).
        jitter_ns: Running jitter at the period's end (UDP, RFC 3550 section 6.4.1).
    """

    id: int
    bytes: int
    retransmits: int | None = None
    cwnd_bytes: int | None = None
    snd_wnd_bytes: int | None = None
    rtt_ns: int | None = None
    rttvar_ns: int | None = None
    pmtu_bytes: int | None = None
    reordering_seen: int | None = None
    packets: int | None = None
    lost_packets: int | None = None
    reordered_packets: int | None = None
    jitter_ns: int | None = None


class Interval(Stretch, frozen=True, kw_only=True):
    """Hold one live reporting period of one direction. Its ends are read, not assumed.

    `bytes` are counted at this side: bytes received, or bytes acknowledged where this side sends.
    Moments count from this side's start signal, or from the first byte if that came earlier. The
    course of the losses at the far side is in the result, as its `DatagramHistory`.

    Attributes:
        direction: "upload" or "download", seen from the client.
        counted_by: The role of this side: "sender" or "receiver".
        streams: The streams in order of creation.
        omitted: Whether the period lies in the omitted time.
        retransmits: Segments sent again, over the streams that this side sends on (TCP).
        packets: Datagrams sent or received (UDP).
        lost_packets: Datagrams newly missing, less those that came late after all (UDP, where this
            side receives).
        jitter_ns: Running jitter at the period's end (UDP, where this side receives; RFC 3550).
    """

    derived: ClassVar[tuple[str, ...]] = ("duration_ns", "measured_bps")

    direction: FlowDirection
    counted_by: Role
    streams: tuple[StreamInterval, ...]
    omitted: bool = False
    retransmits: int | None = None
    packets: int | None = None
    lost_packets: int | None = None
    jitter_ns: int | None = None

    @property
    def stream_bytes(self) -> tuple[int, ...]:
        """Return the bytes of each stream, in order of creation."""
        return tuple(stream.bytes for stream in self.streams)
