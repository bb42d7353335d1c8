"""Split a flow into reporting periods, each with its bytes, its limit and its CPU cost at each end.
These are pure functions of the recorded columns, so a saved result gives the same periods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from netmeasure.analysis.bottleneck import End, Rate, limits, variation
from netmeasure.analysis.columns import Window
from netmeasure.analysis.series import Curve
from netmeasure.result import FlowInterval, StreamReport

#: Periods of a long run are joined until there are at most this many. With many streams, whose
#: columns take long to evaluate, there are fewer.
MAX_INTERVALS = 100
MAX_STREAM_INTERVALS = 2000
#: A verdict needs several samples of TCP_INFO (taken every 100 ms, less often in a long run).
#: Periods are joined until each has this many samples.
SAMPLES = 3
LEAST_NS = 200_000_000


def joined_period_ns(period_ns: int, span_ns: int, senders: Sequence[StreamReport]) -> int:
    """Return the shortest multiple of a reporting period that a verdict can be given for."""
    most = max(10, min(MAX_INTERVALS, MAX_STREAM_INTERVALS // max(1, len(senders))))
    least = max(LEAST_NS, SAMPLES * _spacing_ns(senders), -(-span_ns // most))
    return period_ns * -(-least // period_ns)


def _spacing_ns(senders: Sequence[StreamReport]) -> int:
    clocks = [report.tcp_info.at_ns for report in senders if report.tcp_info is not None]
    return max(((at[-1] - at[0]) // max(1, len(at) - 1) for at in clocks), default=0)


def intervals(
    edges_ns: Iterable[int],
    curve: Curve,
    omit_ns: int,
    sender: End,
    receiver: End,
    target_bps: int | None,
) -> tuple[FlowInterval, ...]:
    """Return one interval for each period between two edges, from the start signal to the last
    byte; the first interval includes the bytes before the signal. `edges_ns` are the periods' ends
    after 0, on the clock of `curve`."""
    first, last = min(0, int(curve.at_ns[0])), int(curve.at_ns[-1])
    return tuple(
        _interval(Window(start, end), curve, omit_ns, sender, receiver, target_bps)
        for start, end in _spans(edges_ns, first, last)
    )


def _spans(edges_ns: Iterable[int], start_ns: int, end_ns: int) -> Iterator[tuple[int, int]]:
    """Return pairs of neighbouring edges. A remainder after the last edge that is shorter than half
    a period is added to the period before it."""
    edges = [start_ns]
    for edge in edges_ns:
        if edge >= end_ns:
            break
        edges.append(edge)
    if len(edges) > 2 and end_ns - edges[-1] < (edges[-1] - edges[-2]) / 2:
        edges.pop()
    return pairwise([*edges, end_ns])


def _interval(
    window: Window,
    curve: Curve,
    omit_ns: int,
    sender: End,
    receiver: End,
    target_bps: int | None,
) -> FlowInterval:
    start, end = window
    count = curve.between(start, end)
    rate = Rate(count * 8e9 / (end - start), target_bps, variation(curve, start, end))
    return FlowInterval(
        start_ns=start,
        end_ns=end,
        bytes=count,
        omitted=end <= omit_ns,
        limits=limits(sender, receiver, rate, window),
        sender=sender.resources.over(start, end) if sender.resources else None,
        receiver=receiver.resources.over(start, end) if receiver.resources else None,
    )
