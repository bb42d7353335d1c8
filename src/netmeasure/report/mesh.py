"""Show a mesh: a matrix of each figure, the pairs without figures, and sentences about odd
pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from netmeasure.comparison.mesh import MeshReport, MeshRun, OddPair
from netmeasure.report.compare import NAMES
from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.report.words import FIGURES, run_line
from netmeasure.units import bitrate

#: The most nodes of a matrix: larger ones do not fit on a screen, and are only in the JSON.
MOST_NODES = 24
_METRICS: dict[str, tuple[str, Callable[[float], str]]] = {
    "steady_bps": ("steady bitrate", lambda bps: bitrate(bps, FIGURES)),
    **NAMES,
}
_SHOWN = (
    *("steady_bps", "set_up_ns", "retransmits_per_gb", "loss_ratio", "latency_p50_ns"),
    "sender_cpu_s_per_gb",
)


def line(count: str, run: MeshRun) -> str:
    """Return a line on one run."""
    label = f"{count}  {run.client} -> {run.server}"
    return (
        f"{label}  not measured: {run.error}" if run.result is None else run_line(label, run.result)
    )


def render(report: MeshReport) -> RenderableType:
    """Return the whole report."""
    nodes, pairs = len(report.nodes), len(report.pairs)
    title = f"{pairs} pairs of {nodes} nodes in {report.rounds} rounds, {report.at_once} at once"
    parts: list[RenderableType] = [Text(f"\n{title}", style="bold")]
    trips = any(p.figures is not None and p.figures.transactions_per_s for p in report.pairs)
    for metric in ("transactions_per_s", *_SHOWN[1:]) if trips else _SHOWN:
        name, show = _METRICS[metric]
        matrix = report.matrix(metric)
        known = [value for row in matrix for value in row if value is not None]
        if not known:
            continue
        words = f"median {show(median(known))}, {show(min(known))} to {show(max(known))}"
        parts.append(Text(f"\n{name[0].upper()}{name[1:]}: {words}"))
        if nodes <= MOST_NODES:
            parts.append(Padding(_matrix(report, matrix, show), (0, 0, 0, 2)))
    for heading, lines in (("Not measured", _failed(report)), ("Odd pairs", _odd(report))):
        if sentences := list(lines):
            parts.append(Text(f"\n{heading}"))
            parts += [Padding(Text(sentence), (0, 0, 0, 2)) for sentence in sentences]
    return Group(*parts)


def _matrix(
    report: MeshReport, matrix: list[list[float | None]], show: Callable[[float], str]
) -> RenderableType:
    table = plain_table()
    add_column(table, "from / to")
    for name in report.nodes:
        add_column(table, name, right=True)
    for name, row in zip(report.nodes, matrix, strict=True):
        add_row(table, name, *("-" if value is None else show(value) for value in row))
    return table


def _failed(report: MeshReport) -> Iterator[str]:
    """Yield the reasons, each with its pairs, or with their number if there are many."""
    reasons = Counter(pair.error for pair in report.pairs if pair.error is not None)
    for reason, count in reasons.items():
        pairs = [f"{p.client} -> {p.server}" for p in report.pairs if p.error == reason]
        shown = ", ".join(pairs[:4]) + (f" and {count - 4} more" if count > 4 else "")
        yield f"{shown}: {reason}"


def _odd(report: MeshReport) -> Iterator[str]:
    for one in report.odd:
        yield odd_words(one)
    if not report.odd:
        yield "none: every pair has figures like its nodes' other pairs"


def odd_words(one: OddPair) -> str:
    """Return a text about an odd pair."""
    name, show = _METRICS[one.metric]
    return (
        f"{one.client} -> {one.server}: {name} {show(one.value)};"
        f" its nodes' other pairs suggest {show(one.expected)}"
    )
