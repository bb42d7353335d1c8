"""Define the bottleneck of a flow: the resource that limits its rate."""

from __future__ import annotations

from typing import Literal

import msgspec

Limit = Literal[
    "sender_paused",
    "receiver_paused",
    "pacing",
    "sender_cpu",
    "receiver_cpu",
    "receive_window",
    "send_buffer",
    "congestion_window",
    "policer",
    "link",
    "network",
    "application",
]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the bottleneck of a flow, over its whole transfer or one interval, and the evidence.

    `analysis.bottleneck_rules` has the rules. None: not known.

    Attributes:
        limited_by: The bottleneck. "pacing": the target rate set by the user. "link": data queued
            on the path. "congestion_window": no data queued, and the path could have carried more
            than the sender's congestion control permitted. "network": one of these two.
            "application": the sender often had nothing to send. "sender_paused" and
            "receiver_paused": that end's own host kept its traffic threads from running, see
            `Flow.pauses`. "policer": packets above a rate are dropped, and none is delayed. None:
            not known.
        target_ratio: The rate over the target rate.
        target_is: The option that set the target. "bitrate": the target rate. "pacing_rate":
            SO_MAX_PACING_RATE of the sender's kernel, which was lower.
        sender_paused_ratio: Share of the time in which the sender's host kept its traffic threads
            from running.
        receiver_paused_ratio: Share of the time in which the receiver's host kept its traffic
            threads from running.
        sender_cpu_ratio: Share of the time that the busiest sending thread was on a CPU, 0 to 1.
        sender_wait_ratio: Share of the time that the busiest sending thread was ready to run while
            other threads had its CPU, 0 to 1.
        receiver_cpu_ratio: Share of the time that the busiest receiving thread was on a CPU.
        receiver_wait_ratio: Share of the time that the busiest receiving thread was ready to run
            while other threads had its CPU.
        busy_ratio: Share of the time that the sender had data to send or unacknowledged data
            (tcpi_busy_time, tcp(7)).
        rwnd_limited_ratio: Share of the sender's busy time in which the receiver's window stopped
            it.
        sndbuf_limited_ratio: Share of the sender's busy time in which its own buffer stopped it.
        cwnd_used_ratio: Data in flight (rate times round trip) over the congestion window.
        rwnd_used_ratio: Data in flight over the receiver's window.
        unsent_ratio: Share of the samples in which data waited in the sender's socket.
        pacing_ratio: The congestion control's own pacing rate over the rate.
        queue_delay_ns: The round-trip time under load less the shortest round-trip time.
        buffer_delay_ratio: `queue_delay_ns` as a share of the shortest round-trip time (RFC 6349).
        rate_variation: Standard deviation of the rate between up to ten equal parts of the stretch,
            stalls left out, over its mean.
        retransmit_dispersion: Variance of the retransmissions between two samples over their mean:
            about 1 for random single losses, higher for clustered losses. Of twelve or more
            samples, the two with the most are left out if TCP paces at its own estimate of the
            path's rate, as bbr does.
        retransmits_per_part: The mean number of retransmitted segments in one of the parts of
            `rate_variation`.
        tcp_efficiency: Bytes sent less retransmitted bytes, as a share of all bytes sent (RFC
            6349).
        window_needed_bytes: Bandwidth-delay product of each stream, at its rate and the shortest
            round trip.
    """

    limited_by: Limit | None = None
    target_ratio: float | None = None
    target_is: Literal["bitrate", "pacing_rate"] | None = None
    sender_paused_ratio: float | None = None
    receiver_paused_ratio: float | None = None
    sender_cpu_ratio: float | None = None
    sender_wait_ratio: float | None = None
    receiver_cpu_ratio: float | None = None
    receiver_wait_ratio: float | None = None
    busy_ratio: float | None = None
    rwnd_limited_ratio: float | None = None
    sndbuf_limited_ratio: float | None = None
    cwnd_used_ratio: float | None = None
    rwnd_used_ratio: float | None = None
    unsent_ratio: float | None = None
    pacing_ratio: float | None = None
    queue_delay_ns: int | None = None
    buffer_delay_ratio: float | None = None
    rate_variation: float | None = None
    retransmit_dispersion: float | None = None
    retransmits_per_part: float | None = None
    tcp_efficiency: float | None = None
    window_needed_bytes: int | None = None
