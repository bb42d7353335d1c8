"""Draw the charts of a report with matplotlib, which is loaded when the first one is drawn."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from netmeasure.errors import SpecError
from netmeasure.publishing.colours import LIGHT, MARKS, Colours, styles, themed
from netmeasure.publishing.content import Content
from netmeasure.publishing.layout import POINTS, arrange
from netmeasure.publishing.parts import Chart
from netmeasure.publishing.plots import Plot, plots_of
from netmeasure.result import Result
from netmeasure.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The width of a drawing in inches, and the pixels an inch of a picture.
_WIDTH, _DPI = 9.0, 150
#: The space for a picture's title and for that of each chart, and below the last chart, in inches.
_TITLE, _HEAD, _FOOT = 0.5, 0.45, 0.04
#: The characters in a line of a picture's title, and the height of such a line in inches.
_TITLE_WIDTH, _LINE = 76, 0.2
#: The charts of each run that are in a picture of several runs.
_OF_EACH = ("rate", "latency", "set-up")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # keep text as text
    "text.parse_math": False,  # a name may have dollar signs
    "svg.hashsalt": "netmeasure",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "path.simplify": True,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
}


def need_matplotlib() -> None:
    """Raise SpecError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SpecError("charts need matplotlib", hint="pip install 'netmeasure[report]'") from None


def inline(chart: Chart, results: Sequence[Result], names: Sequence[str], number: int) -> str:
    """Return a chart as an SVG element for a page, in the page's colours.

    `number` is the chart's number in the page; identifiers in the chart begin with it.
    """
    drawn = _svg(_figure([(None, plots_of(chart, results, names))], MARKS))
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>c{number}-", drawn)
    return themed(drawn)


def svg(content: Content) -> bytes:
    """Return the charts of a report, one below the other, as one SVG file for both themes."""
    drawn = themed(_svg(_figure(_stack(content), MARKS, content.title)))
    style = f"<style>{styles()}svg{{background:var(--paper)}}</style>"
    return re.sub(r"(<svg[^>]*>)", rf"\g<1>{style}", drawn, count=1).encode()


def png(content: Content) -> bytes:
    """Return the charts of a report, one below the other, as a picture."""
    paper = io.BytesIO()
    with _settings():
        _figure(_stack(content), LIGHT, content.title).savefig(paper, format="png", dpi=_DPI)
    return paper.getvalue()


def _stack(content: Content) -> list[tuple[str | None, list[Plot]]]:
    found: list[tuple[str | None, list[Plot]]] = []
    for section in content.overview:
        if section.chart is not None:
            plots = plots_of(section.chart, content.results, content.names)
            found.append((section.chart.title, plots))
    for run in content.runs:
        if len(content.runs) == 1:
            answer = plots_of(Chart("answer", "Answer"), [run.result], [run.name])
            found.append((None, answer))
        for section in run.sections:
            chart = section.chart
            if chart is None or (len(content.runs) > 1 and chart.kind not in _OF_EACH):
                continue
            of = f"{run.name}: " if len(content.runs) > 1 else ""
            found.append((f"{of}{chart.title}", plots_of(chart, [run.result], [run.name])))
    found = [(name, plots) for name, plots in found if plots]
    return found or [("nothing was measured", [])]


def _figure(
    charts: Sequence[tuple[str | None, Sequence[Plot]]], colours: Colours, title: str | None = None
) -> Figure:
    """Return a figure with charts one below the other."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as NewFigure

    heights = [
        sum(plot.height for plot in plots) + (_HEAD if name is not None else 0.0)
        for name, plots in charts
    ]
    lines = textwrap.wrap(printable(title), _TITLE_WIDTH) if title is not None else []
    top = _TITLE + (len(lines) - 1) * _LINE if lines else 0.0
    whole = sum(heights) + top + _FOOT
    with _settings():
        figure = NewFigure(figsize=(_WIDTH, whole), dpi=POINTS, facecolor=colours.paper)
        FigureCanvasSVG(figure)  # it measures texts
        if lines:
            middle = 1 - top / 2 / whole
            words = "\n".join(lines)
            head = figure.text(0.5, middle, words, color=colours.ink, size=12, weight="bold")
            head.set(ha="center", va="center")
        at = whole - top
        for (name, plots), height in zip(charts, heights, strict=True):
            below = at
            if name is not None:
                below -= _HEAD
                line = (at - 0.27) / whole
                figure.text(0.02, line, printable(name), color=colours.ink, size=10)
            if plots:
                rows = _draw(figure, plots, colours)
                arrange(figure, rows, [plot.height * POINTS for plot in plots], below * POINTS)
            at -= height
    return figure


def _draw(figure: Figure, plots: Sequence[Plot], colours: Colours) -> list[Axes]:
    """Draw plots which have one x axis; return their axes, which are not placed yet."""
    rows: list[Axes] = []
    for plot in plots:
        ax = figure.add_axes((0.1, 0.1, 0.8, 0.8), sharex=rows[0] if rows else None)
        rows.append(ax)
        _prepare(ax, colours)
        plot.draw(ax, colours)
    for ax in rows[:-1]:
        ax.set_xlabel("")
        ax.tick_params(axis="x", labelbottom=False)
        ax.xaxis.offsetText.set_visible(False)
    return rows


def _prepare(ax: Axes, colours: Colours) -> None:
    ax.set_facecolor(colours.paper)
    ax.grid(visible=True, color=colours.faint, alpha=0.25, lw=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(colors=colours.ink, labelsize=8)
    ax.xaxis.label.set_color(colours.ink)
    ax.yaxis.label.set_color(colours.ink)
    for spine in ax.spines.values():
        spine.set_color(colours.faint)


def _svg(figure: Figure) -> str:
    """Return a figure as SVG."""
    paper = io.StringIO()
    with _settings():
        figure.savefig(paper, format="svg", metadata={"Date": None, "Creator": None})
    return paper.getvalue()


def _settings() -> AbstractContextManager[None]:
    """Return a context with the settings of matplotlib for reports."""
    import matplotlib

    return matplotlib.rc_context(_SETTINGS)
