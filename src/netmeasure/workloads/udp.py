"""Send numbered datagrams by UDP at a set rate, and receive and count them."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from msgspec.structs import replace

from netmeasure._fast.udp import UdpCounts, UdpReceiver, UdpSender
from netmeasure._fast.worker import Stream
from netmeasure.engine import sockopts
from netmeasure.errors import SocketOptionError
from netmeasure.protocol import ANSWER
from netmeasure.result import (
    DatagramHistory,
    Datagrams,
    Role,
    StreamInterval,
    StreamReport,
)
from netmeasure.workloads.base import DataStream, Plan, Workload

#: The default buffer size. The kernel gives at most net.core.rmem_max and wmem_max.
BUFFER_BYTES = 4 * 1024 * 1024
#: The most segments that any kernel accepts in one call; the native loop knows the exact limits.
_MANY_SEGMENTS = 128
#: If datagrams arrive no faster than this, a receiver reads batches of this size, which take at
#: least 5 ms to arrive. Its buffer has the same size.
_SLOW_BPS, _SLOW_BATCH_BYTES = 100_000_000, 64 * 1024


class UdpPlan(Plan, frozen=True, kw_only=True):
    """Describe what this end does with its UDP streams, see Plan. `target_pps` replaces
    `target_bps` if the rate is in datagrams per second."""

    datagram_bytes: int
    counters_64bit: bool = True
    target_pps: int | None = None
    burst_datagrams: int | None = None
    offload: bool = True
    spin_ns: int = 0
    dont_fragment: bool = False


class UdpWorkload(Workload):
    """Own the UDP streams of one test at one end."""

    plan: UdpPlan

    def _make_ready(self, sock: socket.socket, role: Role) -> Stream:
        self._configure(sock)
        plan = self.plan
        if role == "sender":
            return UdpSender(
                self._senders,
                sock.fileno(),
                datagram_bytes=plan.datagram_bytes,
                counters_64bit=plan.counters_64bit,
                target_bps=0 if plan.target_pps else plan.target_bps or 0,
                target_pps=plan.target_pps or 0,
                burst_datagrams=plan.burst_datagrams or 0,
                segments=_MANY_SEGMENTS if plan.offload else 1,
                duration_ns=plan.duration_ns,
                omit_ns=plan.omit_ns,
                spin_ns=plan.spin_ns,
                payload=plan.payload(plan.datagram_bytes),
                width_ns=plan.bucket_ns,
            )
        return UdpReceiver(
            self._receivers,
            sock.fileno(),
            datagram_bytes=plan.datagram_bytes,
            counters_64bit=plan.counters_64bit,
            coalesce=plan.offload,
            omit_ns=plan.omit_ns,
            batch_bytes=_SLOW_BATCH_BYTES if 0 < _asked_bps(plan) <= _SLOW_BPS else 0,
            hello_reply=ANSWER,
            width_ns=plan.bucket_ns,
        )

    def _configure(self, sock: socket.socket) -> None:
        """Set the options of a data socket."""
        plan = self.plan
        sock.setblocking(True)  # the native loops use blocking calls with timeouts
        if plan.window_bytes is None:
            with suppress(SocketOptionError):  # the kernel's default sizes suffice
                sockopts.set_buffers(sock, BUFFER_BYTES)
        else:
            sockopts.set_window(sock, plan.window_bytes)
        if plan.tos:
            sockopts.set_tos(sock, plan.tos)
        if plan.dont_fragment:
            sockopts.set_dont_fragment(sock)

    def finish_senders(self) -> None:
        """Do nothing: UDP has no end of stream to mark."""

    def moved_bytes(self, role: Role | None = None) -> int:
        return sum(s.loop.bytes for s in self._streams if role in (None, s.role))

    def received(self, stream_id: int) -> int:
        """Return the number of distinct datagrams received so far, those of the omitted time
        included."""
        return next(_packets(s) for s in self._streams if s.id == stream_id)

    def _level(self, stream: DataStream, until_ns: int) -> StreamInterval:
        level, loop = super()._level(stream, until_ns), stream.loop
        assert isinstance(loop, UdpSender | UdpReceiver)
        level = replace(level, packets=loop.packets_until(until_ns))
        if isinstance(loop, UdpSender):
            return level
        counts = loop.snapshot()
        return replace(
            level,
            lost_packets=counts.lost_packets,
            reordered_packets=counts.reordered_packets,
            jitter_ns=counts.jitter_ns,
        )

    def _complete(self, stream: DataStream, report: StreamReport) -> StreamReport:
        loop, plan = stream.loop, self.plan
        if isinstance(loop, UdpSender):
            datagrams = _sent(loop, plan)
        else:
            assert isinstance(loop, UdpReceiver)
            datagrams = _received(loop, plan, self.origin_ns or 0)
        return replace(
            report,
            datagrams=datagrams,
            block_bytes=plan.datagram_bytes,
            counted_to_ns=_with_last_gap(report, plan.datagram_bytes),
        )


def _with_last_gap(report: StreamReport, datagram_bytes: int) -> int | None:
    """Return the end of the counted period, one mean gap after the last datagram. n datagrams span
    n - 1 gaps, so that a rate without this gap would be too high by a factor of n / (n - 1)."""
    span, count = report.counted_ns, (report.counted_bytes or 0) // datagram_bytes
    if report.counted_to_ns is None or span is None or count < 2:
        return report.counted_to_ns
    return report.counted_to_ns + span // (count - 1)


def _packets(stream: DataStream) -> int:
    return stream.loop.packets if isinstance(stream.loop, UdpSender | UdpReceiver) else 0


def _sent(loop: UdpSender, plan: UdpPlan) -> Datagrams:
    return Datagrams(
        datagram_bytes=plan.datagram_bytes,
        packets=loop.packets,
        target_bps=_asked_bps(plan) or plan.target_bps,
        largest_burst_bytes=loop.largest_burst_bytes,
        wakeups=loop.wakeups,
        late_wakeups=loop.late_wakeups,
        skipped_ns=loop.skipped_ns,
        refused_packets=loop.refused,
        icmp_errors=loop.icmp_errors,
        offload=loop.segmentation,
        offload_error=os.strerror(loop.fallback_errno) if loop.fallback_errno else None,
    )


def _asked_bps(plan: UdpPlan) -> int:
    """Return the target rate of each stream in bit/s; 0: as fast as possible."""
    if plan.target_pps:
        return plan.target_pps * plan.datagram_bytes * 8
    return plan.target_bps or 0


def _received(loop: UdpReceiver, plan: UdpPlan, origin_ns: int) -> Datagrams:
    counts, omitted = loop.snapshot(), loop.omitted()
    transit = (counts.transit_min_ns, counts.transit_max_ns)
    return Datagrams(
        datagram_bytes=plan.datagram_bytes,
        packets=counts.received_packets,
        omitted_packets=_omitted(omitted, plan, "received_packets"),
        highest_sequence=counts.highest_sequence,
        omitted_highest_sequence=_omitted(omitted, plan, "highest_sequence"),
        lost_packets=counts.lost_packets,
        duplicate_packets=counts.duplicate_packets,
        reordered_packets=counts.reordered_packets,
        late_packets=counts.late_packets,
        invalid_packets=counts.malformed_packets
        + counts.implausible_packets
        + counts.truncated_packets,
        host_dropped_packets=counts.host_dropped_packets,
        icmp_errors=counts.icmp_errors,
        jitter_ns=counts.jitter_ns,
        jitter_valid=counts.jitter_valid,
        mean_ipdv_ns=counts.ipdv_sum_ns // counts.ipdv_count if counts.ipdv_count else None,
        delay_variation_ns=None
        if transit[0] is None or transit[1] is None
        else transit[1] - transit[0],
        offload=loop.coalescing,
        history=_history(loop, origin_ns),
    )


def _history(loop: UdpReceiver, origin_ns: int) -> DatagramHistory | None:
    if not (samples := loop.history()):
        return None
    at_ns, highest, packets, duplicates, reordered, dropped, jitter = zip(*samples, strict=True)
    return DatagramHistory(
        at_ns=tuple(at - origin_ns for at in at_ns),
        packets=packets,
        highest_sequence=highest,
        duplicate_packets=duplicates,
        reordered_packets=reordered,
        host_dropped_packets=dropped,
        jitter_ns=jitter,
    )


def _omitted(counts: UdpCounts | None, plan: UdpPlan, name: str) -> int | None:
    """Return a count of the omitted time; 0: there is no omitted time; None: it had not ended."""
    if not plan.omit_ns:
        return 0
    return None if counts is None else int(getattr(counts, name))
