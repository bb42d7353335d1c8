"""What held a flow back."""

from __future__ import annotations

from typing import Literal

import msgspec

Limit = Literal[
    "pacing",
    "sender_cpu",
    "receiver_cpu",
    "receive_window",
    "send_buffer",
    "congestion_window",
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
    target_ratio     the rate over the target that was asked for
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
    tcp_efficiency   bytes sent less those sent again, of those sent (RFC 6349)
    window_needed_bytes each stream's bandwidth-delay product, at its rate and the least round trip
    """

    limited_by: Limit | None = None
    target_ratio: float | None = None
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
    tcp_efficiency: float | None = None
    window_needed_bytes: int | None = None
