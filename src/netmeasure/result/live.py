"""What is told while a test goes on."""

from __future__ import annotations

import msgspec

from netmeasure.result.flows import FlowDirection
from netmeasure.result.sides import Role
from netmeasure.result.steady import Stretch


class StreamInterval(msgspec.Struct, frozen=True, kw_only=True):
    """One stream's part of an Interval. Counts are new ones of the period.

    bytes              as in Interval
    retransmits        segments sent again, SYNs not counted (TCP, where this side sends)
    cwnd_bytes to reordering_seen
                       of TCP_INFO, read at the period's end (TCP, where this side sends);
                       `reordering_seen` counts since the connection's start
    packets            UDP: sent or received
    lost_packets, reordered_packets   UDP, where this side receives; a datagram that comes late
                       after all makes the first negative
    jitter_ns          the running value (RFC 3550) at the period's end
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
    """One live reporting period of one direction. Its ends are read, not assumed.

    Counted at this side: bytes received, or bytes acknowledged where this side sends. Moments count
    from this side's origin; `retransmits` is of the streams that this side sends on. UDP: `packets`
    sent or received; `lost_packets` (new ones, less those that came late after all) and `jitter_ns`
    (RFC 3550, at the interval's end) only where this side receives: the course of the losses at
    the far side is in the result, as its `DatagramHistory`. `streams` in order of creation.
    """

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
        return tuple(stream.bytes for stream in self.streams)
