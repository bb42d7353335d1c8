"""Draw the layers of the package from the table of the layering test.

    python -m tools.draw_layers      write docs/explanation/layers.svg

A layer is above all layers that it imports. An arrow means "imports"; an arrow is left out if other
arrows lead to the same layer by a longer way. Layers of a group share a colour, and so do the
arrows that begin at them.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from html import escape
from math import fsum
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tests" / "source" / "test_layers.py"
FILE = ROOT / "docs" / "explanation" / "layers.svg"

Table = Mapping[str, set[str]]

_ROW, _HEIGHT, _GAP = 74, 34, 26
_BEND = 14  # the width of an arrow where it passes a row
_MARGIN = 12
_TEXT = "#12263a"


class Group(NamedTuple):
    """Hold a group of layers: their names, separated by spaces, and the colours of their boxes.
    The edge's is a middle tone, which can be seen on a light page and on a dark one.
    """

    name: str
    layers: str
    box: str
    edge: str


#: The groups, as the architecture page has them.
GROUPS = (
    Group("Programs", "__main__ cli", "#e4e4e4", "#808080"),
    Group(
        "What a user calls",
        "netmeasure client repetition campaign capacities meshes exporter readiness paths node"
        " origins manifests",
        "#dbe7f5",
        "#3f7cc0",
    ),
    Group(
        "Results for readers and other tools",
        "publishing report export imports",
        "#e9dff5",
        "#8a63c4",
    ),
    Group(
        "One test",
        "peer.client peer.server peer transfers measurement workloads observe",
        "#fbe3cf",
        "#c8752a",
    ),
    Group("Sockets and bytes", "engine _fast protocol", "#f8d7da", "#c2505c"),
    Group("Figures", "analysis comparison objectives history", "#d5efdf", "#3a9463"),
    Group(
        "Plain values",
        "spec result overhead units text clock version errors",
        "#f6efc9",
        "#a08a1e",
    ),
)


class Place(NamedTuple):
    """Hold a layer in its row or, without a name, the place where an arrow passes a row."""

    row: int
    name: str
    edge: tuple[str, str] | None = None

    @property
    def width(self) -> float:
        return _BEND if self.edge else 26 + 8.2 * len(self.name)


def reachable(table: Table, layer: str) -> set[str]:
    """Return all layers that a layer imports, directly or indirectly."""
    return table[layer].union(*(reachable(table, other) for other in table[layer]))


def shortest(table: Table) -> dict[str, set[str]]:
    """Return the table without the imports that follow from other ones."""
    return {
        layer: {
            target
            for target in allowed
            if not any(target in reachable(table, other) for other in allowed)
        }
        for layer, allowed in table.items()
    }


def rows_of(table: Table) -> dict[str, int]:
    """Return each layer's row, counted from the bottom: one above the highest that it imports."""
    rows: dict[str, int] = {}

    def row(layer: str) -> int:
        if layer not in rows:
            rows[layer] = 1 + max((row(other) for other in table[layer]), default=-1)
        return rows[layer]

    for layer in table:
        row(layer)
    # a layer that only a high layer imports is placed just below it
    for layer in sorted(table, key=lambda name: -rows[name]):
        users = [rows[other] for other, allowed in table.items() if layer in allowed]
        rows[layer] = min(users) - 1 if users else rows[layer]
    return rows


class Drawing:
    """Hold the places of layers and arrows, ordered so that few arrows cross."""

    def __init__(self, table: Table) -> None:
        rows = rows_of(table)
        arrows = shortest(table)
        self.paths: list[list[Place]] = []
        places = {layer: Place(rows[layer], layer) for layer in table}
        self.rows: list[list[Place]] = [[] for _ in range(1 + max(rows.values()))]
        for place in places.values():
            self.rows[place.row].append(place)
        for layer, allowed in arrows.items():
            for target in sorted(allowed):
                between = range(rows[layer] - 1, rows[target], -1)
                bends = [Place(row, "", (layer, target)) for row in between]
                for bend in bends:
                    self.rows[bend.row].append(bend)
                self.paths.append([places[layer], *bends, places[target]])
        self._neighbours: dict[Place, list[Place]] = {}
        for path in self.paths:
            for one, other in itertools.pairwise(path):
                self._neighbours.setdefault(one, []).append(other)
                self._neighbours.setdefault(other, []).append(one)
        self.x: dict[Place, float] = {}
        self._arrange()

    def _arrange(self) -> None:
        for row in self.rows:
            self._spread(row)
        for sweep in range(40):
            order = self.rows if sweep % 2 else self.rows[::-1]
            for row in order:
                wanted = {place: self._middle(place) for place in row}
                row.sort(key=lambda place: (wanted[place], place.name, place.edge or ()))
                self._spread(row, wanted)

    def _middle(self, place: Place) -> float:
        return fmean(self.x[other] for other in self._neighbours.get(place, [place]))

    def _spread(self, row: list[Place], wanted: Mapping[Place, float] | None = None) -> None:
        """Place the layers of a row: each where it wants to be, or as near as its neighbours
        allow."""
        if wanted is None:
            position = -fsum(place.width + _GAP for place in row) / 2  # sum() differs by version
            for place in row:
                self.x[place] = position + place.width / 2
                position += place.width + _GAP
            return
        right = left = None
        pushed: dict[Place, float] = {}
        for place in row:
            pushed[place] = wanted[place]
            if right is not None:
                pushed[place] = max(pushed[place], right + place.width / 2 + _GAP)
            right = pushed[place] + place.width / 2
        pulled: dict[Place, float] = {}
        for place in reversed(row):
            pulled[place] = wanted[place]
            if left is not None:
                pulled[place] = min(pulled[place], left - place.width / 2 - _GAP)
            left = pulled[place] - place.width / 2
        for place in row:
            self.x[place] = (pushed[place] + pulled[place]) / 2

    def svg(self) -> str:
        """Return the drawing as SVG."""
        left = min(x - place.width / 2 for place, x in self.x.items()) - _MARGIN
        right = max(x + place.width / 2 for place, x in self.x.items()) + _MARGIN
        bottom = len(self.rows) * _ROW - (_ROW - _HEIGHT) + 2 * _MARGIN
        lines = [self._line(path, left) for path in self.paths]
        boxes = [self._box(place, left) for row in self.rows for place in row if place.name]
        tips = [
            f'<marker id="tip{at}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
            f' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{group.edge}"/>'
            "</marker>"
            for at, group in enumerate(GROUPS)
        ]
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right - left:.0f} {bottom}"'
                ' font-family="ui-monospace, monospace" font-size="13.5" role="img">',
                "<title>The layers of netmeasure: each imports only layers below it</title>",
                "<defs>",
                *tips,
                "</defs>",
                '<g fill="none" stroke-width="1.3">',
                *lines,
                "</g>",
                *boxes,
                *_legend(bottom),
                "</svg>\n",
            ]
        )

    def _top(self, place: Place) -> float:
        return _MARGIN + (len(self.rows) - 1 - place.row) * _ROW

    def _line(self, path: list[Place], left: float) -> str:
        first, last = path[0], path[-1]
        points = [(self.x[first] - left, self._top(first) + _HEIGHT)]
        points += [
            (self.x[bend] - left, self._top(bend) + part)
            for bend in path[1:-1]
            for part in (0, _HEIGHT)
        ]
        points.append((self.x[last] - left, self._top(last) - 1))
        drawn = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            middle = (y0 + y1) / 2
            drawn += f"C{x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {y1:.0f}"
        at = _group_of(first.name)
        return f'<path d="{drawn}" stroke="{GROUPS[at].edge}" marker-end="url(#tip{at})"/>'

    def _box(self, place: Place, left: float) -> str:
        x, y = self.x[place] - left, self._top(place)
        group = GROUPS[_group_of(place.name)]
        return (
            f'<rect x="{x - place.width / 2:.0f}" y="{y:.0f}" width="{place.width:.0f}"'
            f' height="{_HEIGHT}" rx="5" fill="{group.box}" stroke="{group.edge}"/>'
            f'<text x="{x:.0f}" y="{y + 22:.0f}" text-anchor="middle" fill="{_TEXT}">'
            f"{escape(place.name)}</text>"
        )


def _group_of(layer: str) -> int:
    """Return the number of a layer's group; a layer without a group counts as a plain value."""
    return next(
        (at for at, group in enumerate(GROUPS) if layer in group.layers.split()), len(GROUPS) - 1
    )


def _legend(bottom: float) -> list[str]:
    """Return the names of the groups, for the lower left corner, which is empty."""
    lines = []
    for at, group in enumerate(GROUPS):
        y = bottom - _MARGIN - 22 * (len(GROUPS) - at)
        lines.append(
            f'<rect x="{_MARGIN}" y="{y}" width="320" height="22" fill="{group.box}"'
            f' stroke="{group.edge}"/><text x="{_MARGIN + 8}" y="{y + 16}" fill="{_TEXT}">'
            f"{escape(group.name)}</text>"
        )
    return lines


def drawing(table: Table) -> str:
    """Return the drawing of a table of layers as SVG."""
    return Drawing(table).svg()


def main() -> None:
    """Write the drawing of the current table to its file."""
    sys.path.insert(0, str(TABLE.parent))
    from test_layers import ALLOWED

    FILE.write_text(drawing(ALLOWED))


if __name__ == "__main__":
    main()
