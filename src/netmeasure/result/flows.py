"""All data that went in one direction, from both ends."""

from __future__ import annotations

from typing import Literal

import msgspec

from netmeasure.result.ceiling import Ceiling
from netmeasure.result.datagrams import Loss
from netmeasure.result.limits import Limits
from netmeasure.result.pauses import Pause
from netmeasure.result.resources import HostUse
from netmeasure.result.sides import Role, Series, StreamReport, s_per_gb
from netmeasure.result.steady import Steady, Stretch

FlowDirection = Literal["upload", "download"]


class Averages(msgspec.Struct, frozen=True, kw_only=True):
    """The figures that other tools would have printed for the same transfer, in bit/s.

    from_first_attempt_bps  all bytes over the time since the client first tried to connect (curl's)
    from_first_byte_bps     all bytes over the time from the first to the last byte
    after_omit_bps          bytes after the omitted time over that time (iperf3's summary)
    set_up_ns               what the first of these counts and the second does not
    """

    from_first_attempt_bps: float | None = None
    from_first_byte_bps: float | None = None
    after_omit_bps: float | None = None
    set_up_ns: int | None = None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the streams of one side of a flow."""

    bytes: int | None = None
    acked_bytes: int | None = None
    retransmits: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None

    @property
    def threads_s_per_gb(self) -> float | None:
        """CPU time of the traffic threads, per 10^9 bytes of payload."""
        if self.cpu_user_ns is None or self.cpu_system_ns is None:
            return None
        moved = self.bytes if self.acked_bytes is None else self.acked_bytes
        return s_per_gb(self.cpu_user_ns + self.cpu_system_ns, moved)


class FlowInterval(Stretch, frozen=True, kw_only=True):
    """One reporting period of a flow, or several neighbours of them in a long run: what came, what
    held it back, what it cost each end.

    Moments and bytes are of the counting side (`Flow.counted_by`). The other side's figures are of
    the same stretch counted from its own start signal: half a round trip earlier or later. The
    first one starts at that signal, or with the first byte where that came before it.
    """

    omitted: bool = False
    limits: Limits | None = None
    sender: HostUse | None = None
    receiver: HostUse | None = None


class StreamResult(msgspec.Struct, frozen=True, kw_only=True):
    """One stream from both ends. `steady` is its part of the flow's steady state: over the same
    stretch of time, with a verdict and an interval of its own."""

    id: int
    sender: StreamReport | None = None
    receiver: StreamReport | None = None
    steady: Steady | None = None


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """All data that went in one direction.

    `counted_by` says which side's series the analysis used, and so whose clock `steady`, `ramp`,
    `tail` and `series` are on: the receiver's bytes where its series is known, else the bytes that
    the sender saw acknowledged. `pauses` are the stretches in which an end's own host kept its
    traffic threads from running, on that end's clock. `ceiling` is there where the spec knows the
    link's rate.
    """

    direction: FlowDirection
    streams: tuple[StreamResult, ...]
    counted_by: Role | None = None
    series: Series | None = None
    ramp: Stretch | None = None
    steady: Steady | None = None
    tail: Stretch | None = None
    averages: Averages = Averages()
    sender: Totals = Totals()
    receiver: Totals = Totals()
    loss: Loss | None = None
    limits: Limits | None = None
    pauses: tuple[Pause, ...] = ()
    intervals: tuple[FlowInterval, ...] = ()
    ceiling: Ceiling | None = None

    @property
    def delivered_bytes(self) -> int | None:
        """Bytes known to have reached the receiving side."""
        return self.sender.acked_bytes if self.receiver.bytes is None else self.receiver.bytes

    @property
    def ceiling_share(self) -> float | None:
        """The steady bitrate over the link's payload ceiling; None where either is unknown."""
        if self.steady is None or self.ceiling is None or not self.ceiling.payload_bps:
            return None
        return self.steady.goodput_bps / self.ceiling.payload_bps
