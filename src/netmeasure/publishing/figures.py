"""Take the numbers of a report from the run's JSON document, with their places in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from netmeasure.units import bitrate, duration, percent, size

#: The format of each unit, by the last word of a figure's name.
_SHOWN: dict[str, Callable[[float], str]] = {
    "ns": duration,
    "bps": bitrate,
    "bytes": size,
    "ratio": lambda share: f"{100 * share:.3g} %" if share < 1 else f"{100 * share:.0f} %",
    "share": lambda share: f"{100 * share:.3g} %" if share < 1 else f"{100 * share:.1f} %",
    "margin": lambda share: f"+-{percent(share)}",
    "gb": lambda seconds: f"{seconds:.3g} s",
}


class Figure(NamedTuple):
    """Hold a number's text, with its exact value and its place in the document.

    Attributes:
        text: The number as text, such as "957 Mbit/s".
        value: The exact number; None: the document has none.
        path: Its place in the run's JSON, such as "flows.0.steady.goodput_bps".
        growth: Whether the number is the growth of the column at `path` per nanosecond, from the
            first to the last time in the `at_ns` beside it.
        run: The number of the run, from 0.
    """

    text: str
    value: float | None = None
    path: str = ""
    growth: bool = False
    run: int = 0


class Document:
    """Return the figures of one run's JSON document."""

    def __init__(self, document: dict[str, Any], run: int = 0) -> None:
        self._document = document
        self._run = run

    def at(self, path: str) -> Any:
        """Return the value at a place; None: there is none."""
        found: Any = self._document
        for step in path.split("."):
            if found is None:
                return None
            found = found[int(step)] if isinstance(found, list) else found.get(step)
        return found

    def figure(self, path: str, show: Callable[[float], str] | None = None) -> Figure:
        """Return the figure at a place, shown in the unit that its name ends with."""
        value = self.at(path)
        if value is None:
            return Figure("unknown", run=self._run)
        return Figure((show or _show_of(path))(value), value, path, run=self._run)

    def extreme(self, path: str, most: bool) -> Figure:
        """Return the largest or the smallest item of a column."""
        known = [(item, i) for i, item in enumerate(self.at(path) or ()) if item is not None]
        if not known:
            return Figure("unknown", run=self._run)
        place = (max if most else min)(known)[1]
        return self.figure(f"{path}.{place}", _show_of(path))

    def growth(self, path: str) -> Figure:
        """Return the growth of a column of CPU time, in percent of one CPU."""
        column, at = self.at(path), self.at(f"{path.rpartition('.')[0]}.at_ns")
        if not column or not at or at[-1] <= at[0]:
            return Figure("unknown", run=self._run)
        share = (column[-1] - column[0]) / (at[-1] - at[0])
        return Figure(f"{100 * share:.0f} %", share, path, growth=True, run=self._run)


def _show_of(path: str) -> Callable[[float], str]:
    name = next(step for step in reversed(path.split(".")) if not step.isdigit())
    if name == "confidence_interval":
        return bitrate
    return _SHOWN.get(name.rpartition("_")[2], count_words)


def count_words(count: float) -> str:
    """Return a number without a unit as text."""
    return f"{count:.0f}" if count == round(count) or count >= 1000 else f"{count:.3g}"
