"""Draw the course of the transport: the sender's TCP, and lost datagrams and jitter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from netmeasure.publishing.colours import Colours
from netmeasure.publishing.drawing import TIMES, legend, scale, steps
from netmeasure.publishing.sections import MOST_STREAMS
from netmeasure.result import Flow, StreamReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def tcp_column(
    ax: Axes,
    colours: Colours,
    flow: Flow,
    name: str,
    title: str,
    units: Sequence[tuple[float, str]],
) -> None:
    """Draw one column of TCP_INFO over time, a line for each stream."""
    lines: list[tuple[int, Sequence[float], Sequence[int]]] = []
    for stream in flow.streams[:MOST_STREAMS]:
        info = stream.sender.tcp_info if stream.sender is not None else None
        column = getattr(info, name) if info is not None else None
        if info is not None and column:
            lines.append((stream.id, [at / 1e9 for at in info.at_ns], column))
    most = max((max(column) for _, _, column in lines), default=0)
    factor, unit = scale(most, units, "ns" if units is TIMES else "B")
    for i, (number, at, column) in enumerate(lines):
        paint = colours.several[i % len(colours.several)]
        ax.plot(at, [value / factor for value in column], color=paint, lw=1.1, label=f"{number}")
    ax.set_ylabel(f"{title}, {unit}")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("seconds since the sender's start signal")
    if len(lines) > 1 and name == "rtt_ns":  # the plots below have the same lines
        legend(ax, colours, "stream")


def retransmits(ax: Axes, colours: Colours, flow: Flow) -> None:
    """Draw how many segments each stream sent again, over time."""
    for i, stream in enumerate(flow.streams[:MOST_STREAMS]):
        info = stream.sender.tcp_info if stream.sender is not None else None
        if info is None or not info.retransmits:
            continue
        paint = colours.several[i % len(colours.several)]
        grown = [max(after - before, 0) for before, after in pairwise(info.retransmits)]
        if grown:
            steps(ax, grown, [at / 1e9 for at in info.at_ns], color=paint, lw=1.1)
    ax.set_ylabel("retransmits")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("seconds since the sender's start signal")


def _histories(flow: Flow) -> list[StreamReport]:
    ends = [stream.receiver for stream in flow.streams[:MOST_STREAMS]]
    return [end for end in ends if end is not None and end.datagrams and end.datagrams.history]


def lost_datagrams(ax: Axes, colours: Colours, flow: Flow) -> None:
    """Draw how many datagrams of each stream were lost, over time."""
    for i, end in enumerate(_histories(flow)):
        course = end.datagrams.history if end.datagrams is not None else None
        if course is None or len(course.at_ns) < 2:
            continue
        missing = [h - n for h, n in zip(course.highest_sequence, course.packets, strict=True)]
        grown = [after - before for before, after in pairwise([0, *missing])]
        edges = [0.0, *(at / 1e9 for at in course.at_ns)]
        steps(ax, grown, edges, color=colours.several[i % len(colours.several)], lw=1.1)
    ax.set_ylim(0, max(1.0, ax.get_ylim()[1]))
    ax.set_ylabel("lost")
    ax.set_xlabel("seconds since the receiver's start signal")


def jitter_of_datagrams(ax: Axes, colours: Colours, flow: Flow) -> None:
    """Draw the jitter of each stream over time."""
    for i, end in enumerate(_histories(flow)):
        course = end.datagrams.history if end.datagrams is not None else None
        if course is None:
            continue
        known = [
            (at / 1e9, jitter / 1e6)
            for at, jitter in zip(course.at_ns, course.jitter_ns, strict=True)
            if jitter is not None
        ]
        paint = colours.several[i % len(colours.several)]
        ax.plot([at for at, _ in known], [ms for _, ms in known], color=paint, lw=1.1)
    ax.set_ylabel("jitter, ms")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("seconds since the receiver's start signal")
