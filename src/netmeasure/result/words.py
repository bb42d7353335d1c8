"""Format the figures of a result: on one line, and as a small table for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netmeasure.result.brief import shortened
from netmeasure.result.flows import Flow
from netmeasure.units import bitrate, duration, percent

_LINE = 300


def figure_rows(
    target: str, outcome: str, set_up_ns: int | None, flows: Sequence[Flow]
) -> Iterator[tuple[str, str]]:
    """Yield the names and texts of the known figures."""
    yield "target", target
    yield "outcome", outcome
    if set_up_ns is not None:
        yield "set-up", duration(set_up_ns)
    for flow in flows:
        name = f"{flow.direction}: " if len(flows) > 1 else ""
        yield f"{name}steady bitrate", _steady(flow)
        if flow.averages.from_first_attempt_bps is not None:
            yield f"{name}average with set-up", bitrate(flow.averages.from_first_attempt_bps)
        if flow.loss is not None and flow.loss.loss_ratio is not None:
            yield f"{name}lost datagrams", f"{100 * flow.loss.loss_ratio:.3g} %"
        if flow.limits is not None and flow.limits.limited_by is not None:
            yield f"{name}limited by", flow.limits.limited_by.replace("_", " ")


def one_line(rows: Iterator[tuple[str, str]]) -> str:
    """Return rows as one line."""
    text = ", ".join(f"{name} {words}" for name, words in rows)
    return shortened(" ".join(text.split()), _LINE)


def html_table(rows: Iterator[tuple[str, str]]) -> str:
    """Return rows as a table of HTML, without scripts; texts of peers are escaped."""
    from html import escape  # only in notebooks, since it takes long to import

    left = 'style="text-align:left"'
    lines = "".join(
        f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(words)}</td></tr>"
        for name, words in rows
    )
    return f"<table>{lines}</table>"


def _steady(flow: Flow) -> str:
    """Return the steady bitrate with its margin, or why there is none."""
    steady = flow.steady
    if steady is None:
        return f"unknown ({(flow.no_steady or 'not measured').replace('_', ' ')})"
    words = bitrate(steady.goodput_bps)
    if steady.margin is not None:
        words += f" +-{percent(steady.margin)}"
    return words if steady.verdict == "steady" else f"{words} ({steady.verdict.replace('_', ' ')})"
