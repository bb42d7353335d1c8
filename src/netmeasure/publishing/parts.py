"""Define the parts of a report: sections, with text, tables and charts."""

from __future__ import annotations

from typing import NamedTuple

from netmeasure.publishing.figures import Figure

Cell = str | Figure


class Chart(NamedTuple):
    """Name a chart and describe it.

    Attributes:
        kind: The kind of chart: "answer", "rate", "latency", "set-up", "tcp", "udp", "cpu", "runs".
        title: The description of the chart.
        flow: The number of the flow in the chart; None: the whole run, or all runs.
    """

    kind: str
    title: str
    flow: int | None = None


class Table(NamedTuple):
    """Hold a table; the first cell of a row is its name."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Section(NamedTuple):
    """Hold a part of a report."""

    title: str
    words: tuple[str, ...] = ()
    chart: Chart | None = None
    table: Table | None = None
