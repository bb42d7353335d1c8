"""Format the changes in a history as lines of text: before, after, time, and a small plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netmeasure.history.changepoints import MIN_RUNS
from netmeasure.history.history import Change, RunHistory
from netmeasure.report.compare import NAMES
from netmeasure.report.words import FIGURES
from netmeasure.text import printable
from netmeasure.units import bitrate

_BARS = "▁▂▃▄▅▆▇█"
_NAMES: dict[str, tuple[str, Callable[[float], str]]] = {
    "steady_bps": ("steady bitrate", lambda bps: bitrate(bps, FIGURES)),
    **NAMES,
}


def change_line(change: Change) -> str:
    """Return a line on a change: the figure, its old and new level, and the time."""
    name, show = _NAMES[change.metric]
    by = ""
    if change.before > 0:
        share = change.after / change.before - 1
        by = f" ({'+' if share > 0 else '-'}{100 * abs(share):.3g} %)"
    runs = "1 run" if change.runs_after == 1 else f"{change.runs_after} runs"
    known = ""
    if change.acknowledged:
        known = f"; acknowledged{f': {change.note}' if change.note else ''}"
    return (
        f"#{change.number} {_series(change.target, change.test, change.labels)}: {name}"
        f" {show(change.before)} -> {show(change.after)}{by}"
        f" between {change.last_before_at} and {change.first_after_at}, {runs} since{known}"
    )


def calm_line(series: Sequence[RunHistory]) -> str:
    """Return a line on series without new changes, and on series that are too short."""
    few = sum(one.runs - one.incomplete < MIN_RUNS for one in series)
    words = f"no new change in {len(series)} series"
    return (
        f"{words}; {few} of them have fewer than {MIN_RUNS} runs, too few to tell" if few else words
    )


def plot(values: Sequence[float]) -> str:
    """Return a bar for each value, from the least to the most."""
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(_BARS[min(7, int(8 * (value - low) / span))] for value in values)


def series_line(series: RunHistory) -> str:
    """Return a line on one stored series."""
    broken = f", {series.incomplete} of them incomplete" if series.incomplete else ""
    runs = "1 run" if series.runs == 1 else f"{series.runs} runs"
    return (
        f"{_series(series.target, series.test, series.labels)}: {runs}{broken}, from"
        f" {series.first_at} to {series.last_at}"
    )


def _series(target: str, test: str, labels: dict[str, str]) -> str:
    named = "".join(f" {name}={value}" for name, value in sorted(labels.items()))
    return printable(f"{target} {test}{named}")
