"""Place the plots of a chart one below the other, with room for their labels and legends.

The sizes of fonts are fixed, so only the widths of the labels at the left are measured. Layouts of
matplotlib measure every text twice and draw every chart twice, which takes half of a report's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Points in an inch. Figures have as many pixels, so all lengths here are in points.
POINTS = 72
_PAD = 3.0
#: What the labels and marks of the lowest axis, and of each axis above it, take below it.
_BELOW_LAST, _BELOW = 31.0, 5.0
#: What is above a plot without a legend: half of the highest label.
_ABOVE = 5.0
_TITLE, _LEGEND, _LEGEND_ROW, _LEGEND_TITLE = 15.0, 5.0, 13.0, 13.0
#: The most columns of a legend.
LEGEND_COLUMNS = 6
#: Half of the last label of an axis may be to the right of it.
_RIGHT = 13.0
#: The largest part of the width that is for labels, and the least height of a plot.
_MOST_LABELS, _LEAST_HEIGHT = 0.6, 6.0


def arrange(figure: Figure, rows: Sequence[Axes], heights: Sequence[float], top: float) -> None:
    """Place plots, from top to bottom.

    Args:
        figure: The figure of the plots.
        rows: The axes on which the plots are drawn.
        heights: Their heights in points with all their labels. Above all, the plots share the
            sum in these proportions.
        top: The distance of the first plot's upper end from the figure's lower end in points.
    """
    room = [(_above(ax), _below(ax, last=ax is rows[-1])) for ax in rows]
    left = sum(heights) - sum(above + below for above, below in room)
    inner = [max(left * height / sum(heights), _LEAST_HEIGHT) for height in heights]
    width, whole = (inches * POINTS for inches in figure.get_size_inches())
    bottoms: list[float] = []
    for ax, (above, below), height in zip(rows, room, inner, strict=True):
        bottoms.append(top - above - height)
        top = bottoms[-1] - below
        ax.set_position((0.1, bottoms[-1] / whole, 0.8, height / whole))
    labels = min(max(_labels(ax) for ax in rows) + _PAD, _MOST_LABELS * width)
    right = _PAD if not any(ax.axison for ax in rows) else _RIGHT
    for ax, bottom, height in zip(rows, bottoms, inner, strict=True):
        box = (labels / width, bottom / whole, (width - labels - right) / width, height / whole)
        ax.set_position(box)


def _above(ax: Axes) -> float:
    if not ax.axison:
        return _PAD
    legend = ax.get_legend()
    if legend is not None:
        rows = -(-len(legend.get_texts()) // LEGEND_COLUMNS)
        title = _LEGEND_TITLE if legend.get_title().get_text() else 0.0
        return _LEGEND + rows * _LEGEND_ROW + title
    return _TITLE if ax.get_title("left") else _ABOVE


def _below(ax: Axes, *, last: bool) -> float:
    if not ax.axison:
        return _PAD
    return _BELOW_LAST if last else _BELOW


def _labels(ax: Axes) -> float:
    """Return the width of what is to the left of a plot."""
    box = ax.yaxis.get_tightbbox() if ax.axison else None
    return 0.0 if box is None else max(ax.bbox.x0 - box.x0, 0.0)
