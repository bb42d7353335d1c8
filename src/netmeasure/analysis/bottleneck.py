"""Compute the figures that show what limited a flow, over its whole transfer or a part of it.

The figures are computed from TCP_INFO's columns at the sender (tcp(7), include/uapi/linux/tcp.h)
and the CPU time of the traffic threads at both ends. A figure that this side or its kernel does not
know is None. `analysis.bottleneck_rules` finds the limit from these figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Literal, NamedTuple

import numpy as np
from msgspec.structs import replace

from netmeasure.analysis.bottleneck_rules import verdict
from netmeasure.analysis.columns import Window, covered, grown, indices
from netmeasure.analysis.series import Curve
from netmeasure.result import Limits, Pause, Role, StreamReport, Stretch, TcpInfo
from netmeasure.result.resources import Resources

#: The rate's variation is computed between this many parts of a stretch, none shorter than this.
PARTS = 10
PART_NS = 50_000_000
#: A thread's times on a CPU and without one may add up to this share of a span, since clocks and
#: counters are read one after the other.
MAX_SHARE = 1.2
#: Two pacing rates within this share are equal: the kernel stores whole bytes per second.
ROUNDED = 0.999
#: The least number of steps for an index of dispersion.
DISPERSED = 6
#: From this many steps on, so many of the largest are left out if congestion control paces at its
#: own estimate, up to this multiple of the rate, as bbr does. Losses do not change such a rate, so
#: that it is flat with random ones, too, and an overshoot of its start would make these look
#: clustered.
MANY_STEPS = 12
OVERSHOOT_STEPS = 2
OWN_PACE = 1.1


class Variation(NamedTuple):
    """Hold how a rate varied between equal parts of a stretch.

    Attributes:
        ratio: Standard deviation of the parts' rates over their mean.
        part_ns: The length of each part, stalls excluded.
    """

    ratio: float
    part_ns: int


class End(NamedTuple):
    """Describe one end of a flow.

    streams    the reports of the streams at this end
    resources  what the host of this end used
    pauses     when that host kept the traffic threads from running, see `analysis.pauses`
    """

    streams: Sequence[StreamReport]
    resources: Resources | None = None
    pauses: Sequence[Pause] = ()


class Rate(NamedTuple):
    """Describe the rate of a flow over a stretch of time.

    goodput_bps  of all streams together; None: unknown
    target_bps   the rate that the user asked for, per stream; None if there is no such rate
    variation    how much the goodput varied, see `variation`
    """

    goodput_bps: float | None
    target_bps: int | None
    variation: Variation | None = None


def limits(sender: End, receiver: End, rate: Rate, window: Window | None = None) -> Limits | None:
    """Return the figures that show what limited a flow; None if no figure is known.

    Args:
        sender: The sending end.
        receiver: The receiving end.
        rate: The rate of the flow over the same stretch.
        window: The stretch, on each end's own clock; None for the whole run.
    """
    senders, receivers = sender.streams, receiver.streams
    infos = [report.tcp_info for report in senders if report.tcp_info is not None]
    # without a window, the time is that between the first and the last sample: it takes two samples
    infos = [info for info in infos if covered(info.at_ns, window) > 0]
    sender_cpu, sender_wait = _busiest(senders, window)
    receiver_cpu, receiver_wait = _busiest(receivers, window)
    figures = Limits(
        sender_cpu_ratio=sender_cpu,
        sender_wait_ratio=sender_wait,
        receiver_cpu_ratio=receiver_cpu,
        receiver_wait_ratio=receiver_wait,
        busy_ratio=_over(fmean, infos, lambda info: _busy(info, window)),
        rwnd_limited_ratio=_over(fmean, infos, lambda i: _stopped(i, i.rwnd_limited_ns, window)),
        sndbuf_limited_ratio=_over(
            fmean, infos, lambda i: _stopped(i, i.sndbuf_limited_ns, window)
        ),
        cwnd_used_ratio=_over(fmean, infos, lambda info: _used(info, info.cwnd_bytes, window)),
        rwnd_used_ratio=_over(fmean, infos, lambda info: _used(info, info.snd_wnd_bytes, window)),
        unsent_ratio=_over(fmean, infos, lambda info: _unsent(info, window)),
        pacing_ratio=_over(fmean, infos, lambda info: _pacing(info, window)),
        queue_delay_ns=_whole(_over(median, infos, lambda info: _queue(info, window))),
        buffer_delay_ratio=_over(median, infos, lambda info: _buffer_delay(info, window)),
        retransmit_dispersion=_over(fmean, infos, lambda info: _dispersion(info, window)),
        retransmits_per_part=_retransmits(infos, rate.variation, window),
        tcp_efficiency=_efficiency(infos, window),
        window_needed_bytes=_window_needed(infos, rate.goodput_bps, len(senders)),
    )
    if figures == Limits():
        return None
    asked_bps, asked_by = _asked(senders, rate.target_bps)
    target = None
    if rate.goodput_bps is not None and asked_bps is not None and senders:
        target = rate.goodput_bps / (asked_bps * len(senders))
    pauses = (*sender.pauses, *receiver.pauses)
    figures = replace(
        figures,
        target_ratio=target,
        target_is=asked_by if target is not None else None,
        sender_paused_ratio=_paused("sender", senders, pauses, window),
        receiver_paused_ratio=_paused("receiver", receivers, pauses, window),
        rate_variation=rate.variation.ratio if rate.variation is not None else None,
    )
    named = verdict(figures)
    if named == "link" and _within_host(senders):
        named = "network"  # loopback has no link: data in its queues wait for a CPU
    return replace(figures, limited_by=named)


def _asked(
    senders: Sequence[StreamReport], target_bps: int | None
) -> tuple[int | None, Literal["bitrate", "pacing_rate"] | None]:
    """Return the lowest rate that the user set for one stream, and the option that set it.

    If the user set no pacing rate, the kernel's equals the target bitrate, which then counts.
    """
    paced = [r.socket.pacing_bps for r in senders if r.socket and r.socket.pacing_bps]
    pacing_bps = min(paced, default=None)
    if pacing_bps is not None and (target_bps is None or pacing_bps < ROUNDED * target_bps):
        return pacing_bps, "pacing_rate"
    return target_bps, None if target_bps is None else "bitrate"


def _paused(
    end: Role, streams: Sequence[StreamReport], pauses: Sequence[Pause], window: Window | None
) -> float | None:
    """Return the share of a stretch in which an end's threads were in a pause."""
    clocks = [stream.thread.at_ns for stream in streams if stream.thread is not None]
    if not clocks:
        return None
    if window is None:
        window = Window(min(at[0] for at in clocks), max(at[-1] for at in clocks))
    span = window.end_ns - window.start_ns
    stopped = sum(
        max(0, min(pause.end_ns, window.end_ns) - max(pause.start_ns, window.start_ns))
        for pause in pauses
        if pause.end == end
    )
    return stopped / span if span > 0 else None


def _within_host(senders: Sequence[StreamReport]) -> bool:
    """Return whether all packets stay within the host, by the loopback interface."""
    return all(report.socket is not None and report.socket.within_host for report in senders)


def variation(
    curve: Curve, start_ns: int, end_ns: int, stalls: Sequence[Stretch] = ()
) -> Variation | None:
    """Return how much the rate varies between equal parts of a stretch without its stalls; None:
    the stretch is too short, or nothing arrived."""
    starts = np.array([start_ns, *(stall.end_ns for stall in stalls)], dtype=np.int64)
    ends = np.array([*(stall.start_ns for stall in stalls), end_ns], dtype=np.int64)
    moving = np.concatenate(([0], np.cumsum(np.maximum(ends - starts, 0))))
    parts = min(PARTS, int(moving[-1]) // PART_NS)
    if parts < PARTS // 2:
        return None
    # bytes as a function of the time outside stalls: those before each run and those in it
    edges = np.linspace(0, moving[-1], parts + 1)
    run = np.clip(np.searchsorted(moving, edges, side="right") - 1, 0, len(starts) - 1)
    in_runs = np.concatenate(([0.0], np.cumsum(curve.until(ends) - curve.until(starts))))
    came = in_runs[run] + curve.until(starts[run] + edges - moving[run]) - curve.until(starts[run])
    counts = np.diff(came)
    average = float(np.mean(counts))
    if average <= 0:
        return None
    return Variation(float(np.std(counts)) / average, int(moving[-1]) // parts)


def _over(
    combine: Callable[[list[float]], float],
    infos: Sequence[TcpInfo],
    figure: Callable[[TcpInfo], float | None],
) -> float | None:
    """Compute a figure of the streams for which it is known."""
    known = [value for info in infos if (value := figure(info)) is not None]
    return combine(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _busy(info: TcpInfo, window: Window | None) -> float | None:
    busy = grown(info.at_ns, info.busy_ns, window)
    return None if busy is None else min(1.0, busy / covered(info.at_ns, window))


def _stopped(info: TcpInfo, column: Sequence[int] | None, window: Window | None) -> float | None:
    """Return the time that a counter says the sender was stopped, as a share of its busy time."""
    busy = grown(info.at_ns, info.busy_ns, window)
    stopped = grown(info.at_ns, column, window)
    return min(1.0, stopped / busy) if busy and stopped is not None else None


def _rates(info: TcpInfo, window: Window | None) -> list[tuple[int, float]]:
    """Yield (sample, bytes per ns acknowledged since the one before) for the samples within."""
    acked, at = info.acked_bytes, info.at_ns
    if acked is None:
        return []
    return [
        (i, (acked[i] - acked[i - 1]) / (at[i] - at[i - 1]))
        for i in indices(at, window)
        if i and at[i] > at[i - 1] and acked[i] >= acked[i - 1]
    ]


def _used(info: TcpInfo, column: Sequence[int] | None, window: Window | None) -> float | None:
    """Return the data in flight as a share of the window in `column`. The data in flight are rate
    times round-trip time, by Little's law. A rate is a mean over the time between two samples, so
    it is compared with the means of the values read at both."""
    rtts = info.rtt_ns
    if rtts is None or column is None:
        return None
    ratios = [
        rate * (rtts[i - 1] + rtts[i]) / (column[i - 1] + column[i])
        for i, rate in _rates(info, window)
        if column[i - 1] + column[i] > 0
    ]
    return median(ratios) if ratios else None


def _unsent(info: TcpInfo, window: Window | None) -> float | None:
    """Return the share of samples in which at least one segment waited to be sent."""
    unsent, mss = info.unsent_bytes, info.mss_bytes
    within = indices(info.at_ns, window)
    if unsent is None or mss is None or not within:
        return None
    return sum(unsent[i] >= mss[i] for i in within) / len(within)


def _pacing(info: TcpInfo, window: Window | None) -> float | None:
    pacing = info.pacing_bps
    if pacing is None:
        return None
    ratios = [pacing[i] / (8e9 * rate) for i, rate in _rates(info, window) if rate > 0]
    return median(ratios) if ratios else None


def _queue(info: TcpInfo, window: Window | None) -> float | None:
    """Return by how many ns the round-trip time exceeds the least one of the whole run."""
    within = indices(info.at_ns, window)
    if not info.rtt_ns or not info.min_rtt_ns or not within:
        return None
    return max(0.0, median(info.rtt_ns[i] for i in within) - info.min_rtt_ns[-1])


def _buffer_delay(info: TcpInfo, window: Window | None) -> float | None:
    """Return the buffer delay of RFC 6349 4.1.3: the increase of the round-trip time under load
    over the least round-trip time."""
    queue = _queue(info, window)
    if queue is None or not info.min_rtt_ns or info.min_rtt_ns[-1] <= 0:
        return None
    return queue / info.min_rtt_ns[-1]


def _dispersion(info: TcpInfo, window: Window | None) -> float | None:
    """Return the index of dispersion of the retransmissions per sample; None: too few
    retransmissions or samples."""
    column, within = info.retransmits, indices(info.at_ns, window)
    if column is None or len(within) <= DISPERSED:
        return None
    steps = sorted(after - before for before, after in pairwise(column[i] for i in within))
    pacing = _pacing(info, window)
    if len(steps) >= MANY_STEPS and pacing is not None and pacing <= OWN_PACE:
        del steps[-OVERSHOOT_STEPS:]
    average = fmean(steps)
    if average <= 0:
        return None
    # statistics.pvariance computes exact fractions, which takes 20 times as long
    return fmean((step - average) ** 2 for step in steps) / average


def _retransmits(
    infos: Sequence[TcpInfo], variation: Variation | None, window: Window | None
) -> float | None:
    """Return the segments retransmitted in the time of one part of a variation; None: unknown."""
    if variation is None or not infos:
        return None
    per_ns = 0.0
    for info in infos:
        count = grown(info.at_ns, info.retransmits, window)
        if count is None:
            return None
        per_ns += count / covered(info.at_ns, window)
    return per_ns * variation.part_ns


def _busiest(
    reports: Sequence[StreamReport], window: Window | None
) -> tuple[float | None, float | None]:
    """Return the shares of time (on a CPU, waiting for one) of the thread with the largest sum of
    both."""
    ratios = [ratio for report in reports if (ratio := _thread(report, window)) is not None]
    return max(ratios, key=lambda ratio: ratio[0] + (ratio[1] or 0.0), default=(None, None))


def _thread(report: StreamReport, window: Window | None) -> tuple[float, float | None] | None:
    """Return one thread's time over the time in which it moved bytes."""
    first, last, thread = report.first_ns, report.last_ns, report.thread
    if first is None or last is None:
        return None
    if window is None:
        span = last - first
        if span <= 0 or report.cpu_user_ns is None or report.cpu_system_ns is None:
            return None
        waited = grown(thread.at_ns, thread.wait_ns, None) if thread else None
        ran = report.cpu_user_ns + report.cpu_system_ns
        return _shares(ran, waited, span)
    if thread is None:
        return None
    span = covered(thread.at_ns, window)
    spent = grown(thread.at_ns, thread.cpu_ns, window)
    waited = grown(thread.at_ns, thread.wait_ns, window)
    if span <= 0 or spent is None:
        return None
    return _shares(spent, waited, span)


def _shares(ran: float, waited: float | None, span: float) -> tuple[float, float | None] | None:
    """Return times on a CPU and without one as shares of a span, each at most 1.

    None: their sum is clearly above the span, as in a test that transferred bytes for only a
    moment. Most of the time was then spent outside the span.
    """
    if ran + (waited or 0.0) > MAX_SHARE * span:
        return None
    return min(1.0, ran / span), None if waited is None else min(1.0, waited / span)


def _efficiency(infos: Sequence[TcpInfo], window: Window | None) -> float | None:
    """Return the TCP efficiency of RFC 6349 4.1.2: the share of the bytes sent that were not
    retransmissions."""
    if not infos or any(i.sent_bytes is None or i.retransmitted_bytes is None for i in infos):
        return None
    if window is None:
        sent: float = sum(i.sent_bytes[-1] for i in infos if i.sent_bytes)
        again: float = sum(i.retransmitted_bytes[-1] for i in infos if i.retransmitted_bytes)
    else:
        sent = sum(grown(i.at_ns, i.sent_bytes, window) or 0.0 for i in infos)
        again = sum(grown(i.at_ns, i.retransmitted_bytes, window) or 0.0 for i in infos)
    return max(0.0, sent - again) / sent if sent > 0 else None  # interpolation may round below


def _window_needed(infos: Sequence[TcpInfo], goodput_bps: float | None, streams: int) -> int | None:
    """Return the bandwidth-delay product of each stream (RFC 6349 3.3.1), from its rate and the
    least round-trip time: with a smaller window, the stream would have been slower."""
    least = [info.min_rtt_ns[-1] for info in infos if info.min_rtt_ns]
    if not least or goodput_bps is None or not streams:
        return None
    return round(goodput_bps / streams / 8 * median(least) / 1e9)
