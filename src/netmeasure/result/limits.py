"""What held a flow back."""

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
    """What held a flow back, over its whole transfer or one interval of it, and the figures that
    say so: `analysis.bottleneck_rules` has the rules. Ratios are 0 to 1 and more; None: not known.

    limited_by       link: data queued on the way. congestion_window: they did not, the path could
                     have carried more than the sender's congestion control let through. network:
                     one of the two. application: the sender often had nothing to send
                     sender_paused, receiver_paused: that end's own host kept its traffic threads
                     from running, see `Flow.pauses`. policer: packets above a rate are dropped, and
                     none is delayed
    target_ratio     the rate over the one that was asked for, `target_is` says by which option
    target_is        bitrate: the target rate. pacing_rate: the lower of the two was
                     SO_MAX_PACING_RATE, as the sender's kernel has it
    sender_paused_ratio, receiver_paused_ratio
                     of the time, that end's traffic threads were in a pause
    sender_cpu_ratio, receiver_cpu_ratio
                     of the time, the busiest traffic thread was on a CPU
    sender_wait_ratio, receiver_wait_ratio
                     of the time, that thread was ready to run and others had its CPU
    busy_ratio       of the time the sender had data to send or unacknowledged (TCP_INFO)
    rwnd_limited_ratio, sndbuf_limited_ratio
                     of that busy time, stopped by the receiver's window, by its own send buffer
    cwnd_used_ratio, rwnd_used_ratio
                     data on the way (rate times round trip) over the congestion window and over the
                     receiver's
    unsent_ratio     of the samples, those in which data waited in the sender's socket to be sent
    pacing_ratio     the congestion control's own pacing rate over the rate
    queue_delay_ns   how much longer the round trip was under load than at best
    buffer_delay_ratio  the same as a share of the best (RFC 6349)
    rate_variation   standard deviation of the rate between parts of the stretch, over its mean
    retransmit_dispersion
                     the variance of the retransmissions between two samples over their mean: about
                     1 where packets are lost by chance one by one, more where they go together
    tcp_efficiency   bytes sent less those sent again, of those sent (RFC 6349)
    window_needed_bytes each stream's bandwidth-delay product, at its rate and the least round trip
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
    tcp_efficiency: float | None = None
    window_needed_bytes: int | None = None
