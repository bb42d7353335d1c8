"""Draw what many plots have: steps, a legend, an axis in a unit that suits its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from netmeasure.publishing.colours import Colours
from netmeasure.publishing.layout import LEGEND_COLUMNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The approximate number of pixel columns of a chart: finer buckets are joined.
MOST_POINTS = 320
RATES = ((1e12, "Tbit/s"), (1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"))
TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))
SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def scale(most: float, units: Sequence[tuple[float, str]], smallest: str) -> tuple[float, str]:
    """Return the unit in which the largest value is 1 or more, and its factor."""
    return next(((factor, name) for factor, name in units if most >= factor), (1.0, smallest))


def steps(
    ax: Axes,
    heights: Sequence[float],
    edges: Sequence[float],
    *,
    color: str,
    lw: float,
    label: str = "",
) -> None:
    """Draw steps from 0 to 0 as `ax.stairs` does, which examines each step as a curve."""
    at = [edge for edge in edges for _ in range(2)]
    course = [0.0, *(height for height in heights for _ in range(2)), 0.0]
    ax.plot(at, course, color=color, lw=lw, label=label, solid_joinstyle="miter", zorder=1)


def legend(ax: Axes, colours: Colours, title: str | None = None) -> None:
    """Show the labels of a plot above it."""
    box = ax.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=LEGEND_COLUMNS,
        frameon=False,
        fontsize=8,
        title=title,
        title_fontsize=8,
        labelcolor=colours.ink,
        borderpad=0.1,
        handlelength=1.4,
    )
    box.get_title().set_color(colours.ink)
