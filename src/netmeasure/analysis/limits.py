"""What held a flow back: the sender's or the receiver's CPU, a window, a buffer, the pacing, or the
network itself.

From the kernel's own accounting at the sender (TCP_INFO's busy, rwnd-limited and sndbuf-limited
times, tcp(7) and net/ipv4/tcp_output.c, tcp_chrono) and the CPU time of the traffic threads. All of
it is over the whole transfer; where a figure is not known on this side or kernel, it is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from netmeasure.result import Limit, Limits, StreamReport, TcpInfo

#: A thread that is on its CPU for so much of the time has none left to give.
CPU_BOUND = 0.9
#: A window or a buffer that stopped the sender for so much of its busy time is the limit.
HELD_BACK = 0.5
#: So near to its target a sender was held back by the target.
ON_TARGET = 0.95
#: Below this share of the time the sender had nothing to send.
BUSY = 0.8


def limits(
    senders: Sequence[StreamReport],
    receivers: Sequence[StreamReport],
    goodput_bps: float | None,
    target_bps: int | None,
) -> Limits | None:
    """The limits of one flow; `target_bps` is per stream. None where nothing is known at all."""
    infos = [report.tcp_info for report in senders if report.tcp_info is not None]
    shares = [share for info in infos if (share := _shares(info)) is not None]
    busy, rwnd, sndbuf = (_mean([share[i] for share in shares]) for i in range(3))
    found = Limits(
        limited_by=None,
        sender_cpu_ratio=_busiest(senders),
        receiver_cpu_ratio=_busiest(receivers),
        busy_ratio=busy,
        rwnd_limited_ratio=rwnd,
        sndbuf_limited_ratio=sndbuf,
        tcp_efficiency=_efficiency(infos),
        buffer_delay_ratio=_buffer_delay(infos),
        window_needed_bytes=_window_needed(infos, goodput_bps, len(senders)),
    )
    if all(getattr(found, name) is None for name in found.__struct_fields__):
        return None
    paced = None
    if goodput_bps is not None and target_bps is not None and senders:
        paced = goodput_bps / (target_bps * len(senders))
    return _named(found, paced)


def _named(found: Limits, paced: float | None) -> Limits:
    """The first of these that applies: what is nearer to the sender hides what lies behind it."""
    order: list[tuple[Limit, float | None, float]] = [
        ("pacing", paced, ON_TARGET),
        ("sender_cpu", found.sender_cpu_ratio, CPU_BOUND),
        ("receiver_cpu", found.receiver_cpu_ratio, CPU_BOUND),
        ("receive_window", found.rwnd_limited_ratio, HELD_BACK),
        ("send_buffer", found.sndbuf_limited_ratio, HELD_BACK),
        ("network", found.busy_ratio, BUSY),
    ]
    for name, figure, threshold in order:
        if figure is not None and figure >= threshold:
            return _with(found, name)
    return _with(found, "application") if found.busy_ratio is not None else found


def _with(found: Limits, name: Limit) -> Limits:
    fields = {field: getattr(found, field) for field in found.__struct_fields__}
    return Limits(**{**fields, "limited_by": name})


def _shares(info: TcpInfo) -> tuple[float, float, float] | None:
    """(busy of the time, rwnd-limited of that, sndbuf-limited of that)."""
    if info.busy_ns is None or info.rwnd_limited_ns is None or info.sndbuf_limited_ns is None:
        return None
    span = info.at_ns[-1] - info.at_ns[0]
    busy, rwnd, sndbuf = (
        column[-1] - column[0]
        for column in (info.busy_ns, info.rwnd_limited_ns, info.sndbuf_limited_ns)
    )
    if span <= 0 or busy <= 0:
        return None
    return min(1.0, busy / span), rwnd / busy, sndbuf / busy


def _busiest(reports: Sequence[StreamReport]) -> float | None:
    """CPU time of the busiest thread over the time in which it moved bytes."""
    ratios = []
    for report in reports:
        span = report.last_ns - report.first_ns if report.last_ns and report.first_ns else 0
        if span > 0 and report.cpu_user_ns is not None and report.cpu_system_ns is not None:
            ratios.append((report.cpu_user_ns + report.cpu_system_ns) / span)
    return max(ratios, default=None)


def _efficiency(infos: Sequence[TcpInfo]) -> float | None:
    """RFC 6349 4.1.2, "TCP efficiency": bytes sent that were not sent again, of those sent."""
    if not infos or any(i.sent_bytes is None or i.retransmitted_bytes is None for i in infos):
        return None
    sent = sum(i.sent_bytes[-1] for i in infos if i.sent_bytes)
    again = sum(i.retransmitted_bytes[-1] for i in infos if i.retransmitted_bytes)
    return (sent - again) / sent if sent else None


def _buffer_delay(infos: Sequence[TcpInfo]) -> float | None:
    """RFC 6349 4.1.3, "buffer delay": what the round trip takes longer under load, of the least."""
    ratios = [
        (median(info.rtt_ns) - info.min_rtt_ns[-1]) / info.min_rtt_ns[-1]
        for info in infos
        if info.rtt_ns and info.min_rtt_ns and info.min_rtt_ns[-1] > 0
    ]
    return max(0.0, median(ratios)) if ratios else None


def _window_needed(infos: Sequence[TcpInfo], goodput_bps: float | None, streams: int) -> int | None:
    """The bandwidth-delay product of each stream (RFC 6349 3.3.1), from the rate that it had and
    the least round trip: with a smaller window it would have been slower."""
    least = [info.min_rtt_ns[-1] for info in infos if info.min_rtt_ns]
    if not least or goodput_bps is None or not streams:
        return None
    return round(goodput_bps / streams / 8 * median(least) / 1e9)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
