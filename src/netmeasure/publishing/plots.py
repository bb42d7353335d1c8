"""Draw the figures of results on the axes of charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from netmeasure.publishing.colours import Colours
from netmeasure.publishing.drawing import MOST_POINTS, RATES, SIZES, TIMES, legend, scale, steps
from netmeasure.publishing.parts import Chart
from netmeasure.publishing.sections import drawn_phases
from netmeasure.publishing.transport_plots import (
    jitter_of_datagrams,
    lost_datagrams,
    retransmits,
    tcp_column,
)
from netmeasure.report.answer import answer_lines
from netmeasure.report.bottleneck import short_limit
from netmeasure.result import Flow, Result, SideReport
from netmeasure.result.round_trips import LatencySeries
from netmeasure.text import printable
from netmeasure.units import bitrate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Plot(NamedTuple):
    """Hold one of the plots of a chart, which are one below the other.

    Attributes:
        draw: Draws the plot on axes, in the given colours.
        height: Its height in inches.
    """

    draw: Callable[[Axes, Colours], None]
    height: float


def plots_of(chart: Chart, results: Sequence[Result], names: Sequence[str]) -> list[Plot]:
    """Return the plots of a chart, from top to bottom; empty: there is nothing to draw."""
    if chart.kind == "runs":
        return [Plot(lambda ax, c: _runs(ax, c, results, names), 0.9 + 0.3 * len(results))]
    result = results[0]
    if chart.kind == "answer":
        lines = answer_lines(result)
        return [Plot(lambda ax, c: _words(ax, c, lines), 0.2 * len(lines))] if lines else []
    if chart.kind == "set-up":
        count = len(drawn_phases(result))
        return [Plot(lambda ax, c: _set_up(ax, c, result), 0.7 + 0.2 * count)]
    if chart.kind == "cpu":
        ends = [("client", result.client), ("server", result.server)]
        return [Plot(_cpu_of(end, side), 1.6) for end, side in ends if side.resources is not None]
    if chart.kind == "latency":
        return [Plot(lambda ax, c: _latency(ax, c, result), 2.2)]
    flow = result.flows[chart.flow or 0]
    if chart.kind == "rate":
        plots = [Plot(lambda ax, c: _rate(ax, c, flow), 2.6)]
        count = len({i.limits.limited_by for i in flow.intervals if i.limits})
        if count:
            plots.append(Plot(lambda ax, c: _limits(ax, c, flow), 0.35 + 0.2 * count))
        return plots
    if chart.kind == "udp":
        return [
            Plot(lambda ax, c: lost_datagrams(ax, c, flow), 1.5),
            Plot(lambda ax, c: jitter_of_datagrams(ax, c, flow), 1.2),
        ]
    return [
        Plot(lambda ax, c: tcp_column(ax, c, flow, "rtt_ns", "RTT", TIMES), 1.5),
        Plot(lambda ax, c: tcp_column(ax, c, flow, "cwnd_bytes", "cwnd", SIZES), 1.5),
        Plot(lambda ax, c: retransmits(ax, c, flow), 1.2),
    ]


def _words(ax: Axes, colours: Colours, lines: Sequence[str]) -> None:
    ax.set_axis_off()
    words = "\n".join(map(printable, lines))
    ax.text(0, 1, words, va="top", family="monospace", color=colours.ink, linespacing=1.3)


# ---- the rate ------------------------------------------------------------------------------------


def course(flow: Flow) -> tuple[list[float], list[float]]:
    """Return the start times (s) of bins, with the end of the last one, and their rates."""
    series = flow.series
    if series is None or not series.bytes:
        edges = [one.start_ns / 1e9 for one in flow.intervals]
        edges += [flow.intervals[-1].end_ns / 1e9] if flow.intervals else []
        return edges, [one.goodput_bps for one in flow.intervals]
    joined = -(-len(series.bytes) // MOST_POINTS)
    ends = [one.end_ns for one in (flow.steady, flow.tail) if one is not None]
    whole_ns = series.origin_ns + len(series.bytes) * series.width_ns
    end_ns = min(max(ends, default=whole_ns), whole_ns)
    edges, rates = [], []
    for first in range(0, len(series.bytes), joined):
        start_ns = series.origin_ns + first * series.width_ns
        stop_ns = min(start_ns + joined * series.width_ns, end_ns)
        if stop_ns - start_ns < joined * series.width_ns / 2 and edges:
            break  # a too short stretch has no rate
        edges.append(start_ns / 1e9)
        moved = sum(series.bytes[first : first + joined])
        rates.append(moved * 8e9 / max(stop_ns - start_ns, series.width_ns))
    return [*edges, max(end_ns / 1e9, edges[-1] + series.width_ns / 1e9)], rates


def _rate(ax: Axes, colours: Colours, flow: Flow) -> None:
    edges, rates = course(flow)
    steady = flow.steady
    most = max([*rates, 0.0 if steady is None else steady.goodput_bps])
    factor, unit = scale(most, RATES, "bit/s")
    if flow.ramp is not None and flow.ramp.duration_ns > 0:
        start, end = flow.ramp.start_ns / 1e9, flow.ramp.end_ns / 1e9
        ax.axvspan(start, end, color=colours.ramp, alpha=0.6, lw=0, label="ramp")
    steps(ax, [rate / factor for rate in rates], edges, color=colours.line, lw=1.0, label="rate")
    if steady is not None:
        start, end = steady.start_ns / 1e9, steady.end_ns / 1e9
        if steady.confidence_interval is not None:
            low, high = (max(bound, 0.0) / factor for bound in steady.confidence_interval)
            label = "95 % confidence interval"
            ax.fill_between(
                [start, end], low, high, color=colours.band, alpha=0.3, lw=0, label=label
            )
        name = "steady" if steady.verdict == "steady" else "mean"
        ax.hlines(steady.goodput_bps / factor, start, end, color=colours.band, lw=1.8, label=name)
        for i, level in enumerate(steady.levels):
            label = "" if i else "level"  # one label for all levels
            where = (level.start_ns / 1e9, level.end_ns / 1e9)
            ax.hlines(
                level.goodput_bps / factor,
                *where,
                color=colours.three,
                lw=1.8,
                ls="--",
                label=label,
            )
        for i, stall in enumerate(steady.stalls):
            label = "" if i else "stall"
            where = (stall.start_ns / 1e9, stall.end_ns / 1e9)
            ax.axvspan(*where, color=colours.stall, alpha=0.35, lw=0, label=label)
    ax.set_ylim(bottom=0)
    ax.set_xlim(min(edges[0], 0.0), edges[-1])
    ax.set_ylabel(unit)
    ax.set_xlabel("seconds since the start signal")
    legend(ax, colours)


def _limits(ax: Axes, colours: Colours, flow: Flow) -> None:
    rows: dict[str, list[tuple[float, float]]] = {}
    for one in flow.intervals:
        if one.limits is not None:
            name = short_limit(one.limits)
            rows.setdefault(name, []).append((one.start_ns / 1e9, one.duration_ns / 1e9))
    for i, spans in enumerate(rows.values()):
        ax.broken_barh(spans, (i - 0.35, 0.7), color=colours.faint, lw=0)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_title("limited by", loc="left", fontsize=8, color=colours.faint)
    ax.set_xlabel("seconds since the start signal")


# ---- set-up --------------------------------------------------------------------------------------


def _set_up(ax: Axes, colours: Colours, result: Result) -> None:
    phases = [result.setup[i] for i in drawn_phases(result)]
    factor, unit = scale(max(phase.end_ns for phase in phases), TIMES, "ns")
    lengths = [max(phase.duration_ns / factor, 0.0) for phase in phases]
    rows = range(len(phases))
    paints = [
        colours.stall if phase.syn_retransmits else colours.line if phase.decides else colours.faint
        for phase in phases
    ]
    ax.barh(rows, lengths, left=[p.start_ns / factor for p in phases], color=paints, height=0.65)
    names = [f"{phase.name.replace('_', ' ')} ({phase.connection})" for phase in phases]
    ax.set_yticks(rows, [printable(name) for name in names])
    ax.set_ylim(len(phases) - 0.4, -0.6)
    ax.set_xlim(left=0)
    if result.set_up_ns is not None:
        ax.axvline(result.set_up_ns / factor, color=colours.band, lw=1.5, label="first byte")
        legend(ax, colours)
    ax.set_xlabel(f"{unit} since the first attempt")


def _latency(ax: Axes, colours: Colours, result: Result) -> None:
    courses = _courses(result)
    means = [(name, _means(series)) for name, series in courses]
    most = max((mean for _, points in means for _, mean in points), default=0.0)
    factor, unit = scale(most, TIMES, "ns")
    for i, (name, points) in enumerate(means):
        at = [moment for moment, _ in points]
        paint = colours.line if len(means) == 1 else colours.several[i % len(colours.several)]
        heights = [mean / factor for _, mean in points]
        ax.plot(at, heights, ".-", color=paint, lw=1.0, ms=3, label=name)
    if len(means) > 1:
        legend(ax, colours)
    ax.set_ylim(bottom=0)
    ax.set_ylabel(f"mean latency, {unit}")
    ax.set_xlabel("seconds since the client's start signal")


def _courses(result: Result) -> list[tuple[str, LatencySeries]]:
    """Return the time series of latencies in a result, by name."""
    if result.round_trips is not None:
        parts: list[tuple[str, LatencySeries | None]] = [("", result.round_trips.series)]
    elif result.latency is not None:
        loaded = result.latency.loaded
        parts = [("idle", result.latency.idle.series)]
        parts += [("under load", loaded.series)] if loaded is not None else []
    else:
        parts = []
    return [(name, series) for name, series in parts if series is not None]


def _means(series: LatencySeries) -> list[tuple[float, float]]:
    """Return the mean latency in ns over time in seconds."""
    joined = max(1, -(-len(series.transactions) // MOST_POINTS))
    means: list[tuple[float, float]] = []
    for first in range(0, len(series.transactions), joined):
        count = sum(series.transactions[first : first + joined])
        middle_ns = series.origin_ns + (first + joined / 2) * series.width_ns
        if count:
            means.append((middle_ns / 1e9, sum(series.sum_ns[first : first + joined]) / count))
    return means


# ---- CPU -----------------------------------------------------------------------------------------


def _cpu_of(end: str, side: SideReport) -> Callable[[Axes, Colours], None]:
    used = side.resources

    def draw(ax: Axes, colours: Colours) -> None:
        if used is None or len(used.at_ns) < 2:
            return
        at = [moment / 1e9 for moment in used.at_ns]

        def shares(column: Sequence[int]) -> list[float]:
            steps = zip(pairwise(column), pairwise(used.at_ns), strict=True)
            return [100 * (b - a) / max(later - sooner, 1) for (a, b), (sooner, later) in steps]

        below = [0.0] * (len(at) - 1)
        modes = (
            ("user", used.host_user_ns, colours.one),
            ("system", used.host_system_ns, colours.two),
            ("softirq", used.host_softirq_ns, colours.three),
            ("steal", used.host_steal_ns, colours.stall),
        )
        for name, column, paint in modes:
            top = [under + share for under, share in zip(below, shares(column), strict=True)]
            ax.stairs(
                top, at, baseline=below, fill=True, color=paint, alpha=0.7, lw=0, label=f"{name}"
            )
            below = top
        process = zip(shares(used.process_user_ns), shares(used.process_system_ns), strict=True)
        total = [user + system for user, system in process]
        total.append(total[-1])
        ax.step(at, total, where="post", color=colours.ink, lw=1.2, label="this process", zorder=1)
        ax.set_ylim(0, 100 * used.cpus)
        ax.set_ylabel(f"{end}, %")
        ax.set_xlabel("seconds since that end's start signal")
        legend(ax, colours)

    return draw


# ---- several runs --------------------------------------------------------------------------------


def _runs(ax: Axes, colours: Colours, results: Sequence[Result], names: Sequence[str]) -> None:
    rates = [flow.steady.goodput_bps for result in results for flow in result.flows if flow.steady]
    factor, unit = scale(max(rates, default=0.0), RATES, "bit/s")
    told: set[str] = set()
    for row, result in enumerate(results):
        for i, flow in enumerate(result.flows):
            height = row + 0.25 * (i - (len(result.flows) - 1) / 2)
            paint = colours.line if flow.direction == "upload" else colours.three
            steady, whole = flow.steady, flow.averages.from_first_attempt_bps
            if whole is not None:
                label = "" if "curl" in told else "curl's average"
                told.add("curl")
                ax.plot(whole / factor, height, "|", color=colours.band, ms=9, mew=2, label=label)
            if steady is None:
                continue
            if steady.confidence_interval is not None:
                low, high = (max(one, 0.0) / factor for one in steady.confidence_interval)
                ax.hlines(height, low, high, color=paint, lw=4, alpha=0.35)
            label = "" if flow.direction in told else f"steady, {flow.direction}"
            told.add(flow.direction)
            where = (steady.goodput_bps / factor, height)
            said = bitrate(steady.goodput_bps)
            ax.annotate(
                said,
                where,
                (0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=paint,
            )
            ax.plot(steady.goodput_bps / factor, height, "o", color=paint, ms=5, label=label)
    ax.set_yticks(range(len(names)), [printable(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel(unit)
    if told:
        legend(ax, colours)
