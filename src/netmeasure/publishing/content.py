"""Define the content of a report: an overview of all runs, and the sections of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from netmeasure.comparison.comparison import compare
from netmeasure.comparison.differences import facts
from netmeasure.errors import ResultFormatError
from netmeasure.publishing.figures import Document, Figure
from netmeasure.publishing.parts import Cell, Chart, Section, Table
from netmeasure.publishing.sections import VERDICTS, sections_of
from netmeasure.report.compare import sentences
from netmeasure.report.words import title
from netmeasure.result import Flow, Result

#: The most runs with their own sections; with more runs, only the overview is shown.
MOST_RUNS = 12


class RunPart(NamedTuple):
    """Hold the sections about one run."""

    name: str
    title: str
    result: Result
    sections: tuple[Section, ...]


class Content(NamedTuple):
    """Hold a whole report.

    Attributes:
        title: Its title.
        overview: The sections about all runs together; empty: there is one run.
        runs: The runs, each with its sections.
        results: The results of all runs.
        names: The name of each run.
    """

    title: str
    overview: tuple[Section, ...]
    runs: tuple[RunPart, ...]
    results: tuple[Result, ...]
    names: tuple[str, ...]


def content_of(groups: Sequence[tuple[str, Sequence[Result]]]) -> Content:
    """Return the report of the runs of some files: pairs of a file's name and its runs."""
    results = tuple(result for _, runs in groups for result in runs)
    names = tuple(
        name if len(runs) == 1 else f"{name} {number}"
        for name, runs in groups
        for number in range(1, len(runs) + 1)
    )
    documents = [
        Document(msgspec.json.decode(result.to_json(indent=None)), number)
        for number, result in enumerate(results)
    ]
    shown = len(results) if len(results) <= MOST_RUNS else 0
    parts = tuple(
        RunPart(name, title(result), result, tuple(sections_of(result, document)))
        for name, result, document in list(zip(names, results, documents, strict=True))[:shown]
    )
    if len(results) == 1:
        return Content(title(results[0]), (), parts, results, names)
    overview = tuple(_overview(groups, names, results, documents))
    return Content(f"{len(results)} runs", overview, parts, results, names)


def _overview(
    groups: Sequence[tuple[str, Sequence[Result]]],
    names: Sequence[str],
    results: Sequence[Result],
    documents: Sequence[Document],
) -> Iterator[Section]:
    words = list(_compared(*groups)) if len(groups) == 2 else []
    rows: list[tuple[Cell, ...]] = []
    for name, result, document in zip(names, results, documents, strict=True):
        for number, flow in enumerate(result.flows):
            place = f"flows.{number}"
            rows.append(
                (
                    name,
                    flow.direction,
                    document.figure(f"{place}.averages.set_up_ns"),
                    document.figure("syn_retransmits"),
                    document.figure(f"{place}.steady.goodput_bps"),
                    document.figure(f"{place}.steady.margin"),
                    document.figure(f"{place}.averages.from_first_attempt_bps"),
                    document.figure(f"{place}.averages.after_omit_bps"),
                    _outcome(result, flow),
                )
            )
        if not result.flows:
            known = [document.figure(one) for one in ("set_up_ns", "syn_retransmits")]
            nothing = [Figure("unknown")] * 4
            rows.append((name, "", *known, *nothing, _outcome(result, None)))
    head = ("run", "direction", "set-up", "SYNs sent again", "steady bitrate", "margin")
    table = Table((*head, "curl's average", "iperf3's average", "outcome"), tuple(rows))
    yield Section("All runs", tuple(words), Chart("runs", "Steady bitrate of each run"), table)
    if differing := _differing(names, results):
        said = "Facts that are not the same in all runs. What is unknown is left empty."
        yield Section("Differences", (said,), None, differing)


def _compared(a: tuple[str, Sequence[Result]], b: tuple[str, Sequence[Result]]) -> Iterator[str]:
    """Give the sentences on how the runs of two files compare, or why they do not."""
    (name_a, of_a), (name_b, of_b) = a, b
    try:
        found = compare(of_a, of_b, name_a=name_a, name_b=name_b)
    except ResultFormatError as exc:  # nothing was measured, or not in the same direction
        yield f"{name_a} and {name_b} are not compared: {exc}"
        return
    for one in found.flows:
        said = " ".join(sentences(found, one))
        yield f"A is {name_a}, B is {name_b}; {one.direction}: {said}"


def _outcome(result: Result, flow: Flow | None) -> str:
    if not result.complete:
        return "cut short" if result.error is None else result.error.message
    if flow is None or flow.steady is None:
        return "no steady bitrate"
    return VERDICTS[flow.steady.verdict]


def _differing(names: Sequence[str], results: Sequence[Result]) -> Table | None:
    """Return a table of the facts of tests and hosts that differ between runs."""
    known = [
        facts(result, result.flows[0].direction if result.flows else "upload") for result in results
    ]
    rows = []
    for name in dict.fromkeys(name for one in known for name in one):
        values = [one.get(name) for one in known]
        if len({value for value in values if value is not None}) > 1:
            rows.append((name, *("" if value is None else str(value) for value in values)))
    return Table(("", *names), tuple(rows)) if rows else None
