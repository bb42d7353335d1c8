"""Show several runs of the same test: a line for each, then their mean with its scatter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from netmeasure.analysis.samples import Estimate, mean
from netmeasure.comparison.runs import RunFigures, RunsSummary, directions, summarise
from netmeasure.report.ceiling import share_words
from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.report.words import FIGURES, has_trips, title, unit_of
from netmeasure.result import Result, Spread
from netmeasure.result.resultset import ResultSet
from netmeasure.units import bitrate, duration, percent

#: The least number of runs for which a 95th percentile is shown.
MIN_FOR_PERCENTILES = 20
_bits = partial(bitrate, figures=FIGURES)


def render(runs: ResultSet) -> RenderableType:
    """Return the summary of a repeated test."""
    first = runs.results[0]
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    parts: list[RenderableType] = [Text(f"\n{count}: {title(first)}", style="bold")]
    summaries = [(direction, summarise(runs, direction)) for direction in directions(runs)]
    for direction, summary in summaries:
        table = _table(summary, first)
        parts += [Text(f"\n{direction.capitalize()}"), Padding(table, (0, 0, 0, 2))]
    parts += [Text(f"\n{line}") for line in notes(runs)]
    for direction, summary in summaries:  # the summary comes last
        together = "\nTogether" if len(summaries) == 1 else f"\nTogether, {direction}"
        parts += [Text(together), *(Text(f"  {line}") for line in _together(summary, first))]
    return Group(*parts)


def _table(summary: RunsSummary, first: Result) -> Table:
    table = plain_table()
    for name in ("run", "set-up", "SYNs resent", rate_name(first), "uncertainty"):
        add_column(table, name, right=True)
    add_column(table, wraps=True)
    for number, run in enumerate(summary.runs, 1):
        add_row(
            table,
            str(number),
            duration(run.set_up_ns),
            "unknown" if run.syn_retransmits is None else str(run.syn_retransmits),
            _rate(run, first),
            "unknown" if run.margin is None else f"+-{percent(run.margin)}",
            run_words(run),
        )
    return table


def rate_name(result: Result) -> str:
    """Return the name of a test's rate, such as "steady bitrate"."""
    return f"{unit_of(result.spec)}/s" if has_trips(result.spec) else "steady bitrate"


def _rate(run: RunFigures, first: Result) -> str:
    if not has_trips(first.spec):
        return _bits(run.steady_bps)
    return "unknown" if run.transactions_per_s is None else f"{run.transactions_per_s:.0f}"


def run_words(run: RunFigures) -> str:
    """Return the doubts about a run; "": there are none."""
    if not run.complete:
        return f"INCOMPLETE, does not count: {run.error or 'it was cut short'}"
    if run.steady_bps is None:
        return "does not count: its rate is not known"
    return {
        "shifted": "best effort: the rate changed its level",
        "not_steady": "best effort: no plateau was found",
        "too_short": "best effort: too short to tell",
    }.get(run.verdict or "", "")


def _together(summary: RunsSummary, first: Result) -> Iterator[str]:
    """Yield the lines about all runs together."""
    trips = has_trips(first.spec)
    rate = mean(summary.values("transactions_per_s")) if trips else summary.steady_bps
    show = per_second if trips else _bits
    if rate is not None:
        of = "" if summary.counted == len(summary.runs) else f" of {len(summary.runs)}"
        name = unit_of(first.spec) if trips else "steady bitrate"
        yield f"{name} {mean_words(rate, show)}, mean of {summary.counted}{of} runs"
        if rate.low is not None and rate.high is not None:
            low, high = show(max(rate.low, 0.0)), show(rate.high)
            yield f"95 % confidence from the scatter between them: {low} to {high}"
    share = mean(summary.values("ceiling_share"))
    if share is not None:
        yield f"of the link's ceiling {share_words(share.value)}"
    if summary.set_up is not None:
        yield f"set-up {spread_words(summary.set_up)}"
    again = [run.syn_retransmits for run in summary.runs if run.syn_retransmits]
    if again:
        where = f"{len(again)} of {len(summary.runs)} runs"
        yield f"SYNs were sent again in {where}, {sum(again)} in all"


def per_second(rate: float) -> str:
    """Return a rate as text such as "51234/s"."""
    return f"{rate:.0f}/s"


def mean_words(rate: Estimate, show: Callable[[float], str] = _bits) -> str:
    """Return a mean rate and its uncertainty as text such as "4.543 Gbit/s +-0.2 %"."""
    shown = show(rate.value)
    return (
        shown
        if not rate.half or rate.value <= 0
        else f"{shown} +-{percent(rate.half / rate.value)}"
    )


def spread_words(spread: Spread) -> str:
    """Return a distribution as text such as "1.02 ms (median; 0.98 ms to 3.06 s)"."""
    words = f"median; {duration(spread.min_ns)} to {duration(spread.max_ns)}"
    if spread.count >= MIN_FOR_PERCENTILES:
        words += f", 95 % up to {duration(spread.p95_ns)}"
    return f"{duration(spread.median_ns)} ({words})"


def notes(results: Iterable[Result]) -> list[str]:
    """Return every note once, with the number of runs that have it unless all runs have it."""
    runs = list(results)
    counts = Counter(note for result in runs for note in dict.fromkeys(result.notes))
    return [
        f"note: {note}" if count == len(runs) else f"note ({count} of {len(runs)} runs): {note}"
        for note, count in counts.items()
    ]
