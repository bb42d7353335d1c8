"""Define a flow: all data in one direction, with the reports of both ends."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from netmeasure.result.bottleneck import Limits
from netmeasure.result.brief import Brief
from netmeasure.result.ceiling import Ceiling
from netmeasure.result.datagrams import Loss
from netmeasure.result.pauses import Pause
from netmeasure.result.resources import HostUse
from netmeasure.result.sides import Role, Series, StreamReport, s_per_gb
from netmeasure.result.steady import Steady, Stretch

FlowDirection = Literal["upload", "download"]


class Averages(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the figures that other tools would print for the same transfer.

    They show why the figures of the tools differ; None: not known.

    Attributes:
        from_first_attempt_bps: All bytes over the time since the client first tried to connect, in
            bit/s: curl's speed.
        from_first_byte_bps: All bytes over the time from the first to the last byte, in bit/s.
        after_omit_bps: Bytes after the omitted time over that time, in bit/s: iperf3's summary.
        set_up_ns: The time of connection set-up, which `from_first_attempt_bps` includes and
            `from_first_byte_bps` does not.
    """

    from_first_attempt_bps: float | None = None
    from_first_byte_bps: float | None = None
    after_omit_bps: float | None = None
    set_up_ns: int | None = None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the sums over the streams of one side of a flow; None: not known of every stream.

    Attributes:
        bytes: Sender: bytes handed to its kernel. Receiver: bytes read.
        acked_bytes: Bytes that the receiver's kernel acknowledged (sender, TCP).
        retransmits: TCP segments sent again, SYNs not counted.
        cpu_user_ns: User time of the traffic threads.
        cpu_system_ns: System time of the traffic threads.
    """

    derived: ClassVar[tuple[str, ...]] = ("threads_s_per_gb",)

    bytes: int | None = None
    acked_bytes: int | None = None
    retransmits: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None

    @property
    def threads_s_per_gb(self) -> float | None:
        """Return the CPU seconds of the traffic threads per 10^9 bytes of payload."""
        if self.cpu_user_ns is None or self.cpu_system_ns is None:
            return None
        moved = self.bytes if self.acked_bytes is None else self.acked_bytes
        return s_per_gb(self.cpu_user_ns + self.cpu_system_ns, moved)


class FlowInterval(Stretch, frozen=True, kw_only=True):
    """Hold one reporting period of a flow: the bytes, the bottleneck, and the cost at each end.

    In a long run several neighbouring periods are joined. Times and bytes are those of the counting
    side (`Flow.counted_by`). The other side's figures cover the same period from its own start
    signal, which is half a round trip earlier or later. The first period starts at the start
    signal, or with the first byte if that arrived earlier.

    Attributes:
        omitted: Whether the period lies in the omitted time.
        limits: The bottleneck of the period; None: not known.
        sender: What the sender's process and host used; None: not known.
        receiver: What the receiver's process and host used; None: not known.
    """

    derived: ClassVar[tuple[str, ...]] = ("duration_ns", "measured_bps")

    omitted: bool = False
    limits: Limits | None = None
    sender: HostUse | None = None
    receiver: HostUse | None = None


class StreamResult(Brief, frozen=True, kw_only=True):
    """Hold one stream, with the reports of both ends.

    Attributes:
        id: The stream's number in iperf3's order (1, 3, 4, ...); by URL from 1.
        sender: The sending end's report; None: it sent none.
        receiver: The receiving end's report; None: it sent none.
        steady: The stream's part of the flow's steady state: over the same stretch of time, with a
            verdict and a confidence interval of its own.
    """

    id: int
    sender: StreamReport | None = None
    receiver: StreamReport | None = None
    steady: Steady | None = None


class Flow(Brief, frozen=True, kw_only=True):
    """Hold all data in one direction.

    The analysis uses the receiver's bytes if the receiver's series is known, and otherwise the
    acknowledged bytes of the sender. `counted_by` is the side that was used; the times of `series`,
    `ramp`, `steady` and `tail` are on that side's clock.

    Attributes:
        direction: "upload" or "download", seen from the client.
        streams: The streams in order of creation.
        counted_by: The side whose series the analysis used; None: neither has one.
        series: Bytes per time bucket, over all streams.
        ramp: The stretch before the steady state; None: nothing was counted.
        steady: The steady state and its bitrate.
        no_steady: Why there is no steady state. "no_bytes": no bytes were counted. "too_short": the
            time in which they arrived is too short for a rate. "no_series": neither end reported
            when they arrived. None: there is a steady state, or the flow was not analysed
            (`Observer.reads_analysis`).
        tail: The stretch after the steady state.
        averages: The figures that other tools would print.
        sender: Sums over the sending end of all streams.
        receiver: Sums over the receiving end of all streams.
        loss: Lost datagrams (UDP); None: TCP.
        limits: The bottleneck, and the figures that show it.
        pauses: Stretches in which an end's own host kept its traffic threads from running, on that
            end's clock.
        intervals: The flow over time, in reporting periods.
        ceiling: The link's payload ceiling, if the specification has the link's rate.
    """

    derived: ClassVar[tuple[str, ...]] = ("delivered_bytes", "ceiling_share")

    direction: FlowDirection
    streams: tuple[StreamResult, ...]
    counted_by: Role | None = None
    series: Series | None = None
    ramp: Stretch | None = None
    steady: Steady | None = None
    no_steady: Literal["no_bytes", "too_short", "no_series"] | None = None
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
        """Return the bytes known to have reached the receiving side; None: unknown."""
        return self.sender.acked_bytes if self.receiver.bytes is None else self.receiver.bytes

    @property
    def ceiling_share(self) -> float | None:
        """Return the steady bitrate over the link's payload ceiling; None: either is unknown."""
        if self.steady is None or self.ceiling is None or not self.ceiling.payload_bps:
            return None
        return self.steady.goodput_bps / self.ceiling.payload_bps
