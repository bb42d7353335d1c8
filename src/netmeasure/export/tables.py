"""Write results as tables: CSV (RFC 4180), Markdown, and InfluxDB's line protocol."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import msgspec

from netmeasure import units
from netmeasure.export.rows import IntervalRow, RunRow, interval_rows, run_rows, started
from netmeasure.result import Result
from netmeasure.text import on_one_line

#: Characters that start a formula in spreadsheets.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_TAGS = ("target", "kind", "direction")


def to_csv(results: Sequence[Result]) -> str:
    """Return one line for each run and direction, with the names of the fields as the head."""
    return _csv(RunRow, run_rows(results))


def to_interval_csv(results: Sequence[Result]) -> str:
    """Return one line for each reporting period of each run and direction."""
    return _csv(IntervalRow, interval_rows(results))


def _csv(kind: type[msgspec.Struct], rows: Iterable[msgspec.Struct]) -> str:
    paper = io.StringIO()
    writer = csv.writer(paper, lineterminator="\r\n")
    writer.writerow(kind.__struct_fields__)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in kind.__struct_fields__])
    return paper.getvalue()


def _cell(value: object) -> str:
    """Return a value as text that reads back as the same number or text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | int):
        return repr(value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def to_markdown(results: Sequence[Result]) -> str:
    """Return a readable table with a line for each run and direction."""
    head: tuple[str, ...] = ("run", "target", "direction", "steady", "95 % interval", "set-up")
    head = (*head, "SYNs sent again", "average", "loss", "limited by", "outcome")
    lines = [markdown_row(head), markdown_row(["---"] * len(head))]
    for row in run_rows(results):
        span = ""
        if row.steady_low_bps is not None and row.steady_high_bps is not None:
            low, high = units.bitrate(row.steady_low_bps), units.bitrate(row.steady_high_bps)
            span = f"{low} to {high}"
        lines.append(
            markdown_row(
                [
                    str(row.run),
                    row.target,
                    row.direction or "",
                    "" if row.steady_bps is None else units.bitrate(row.steady_bps),
                    span,
                    "" if row.set_up_ns is None else units.duration(row.set_up_ns),
                    "" if row.syn_retransmits is None else str(row.syn_retransmits),
                    ""
                    if row.from_first_byte_bps is None
                    else units.bitrate(row.from_first_byte_bps),
                    "" if row.loss_ratio is None else f"{100 * row.loss_ratio:.3g} %",
                    (row.limited_by or "").replace("_", " "),
                    (row.verdict or "").replace("_", " ") if row.success else _failure(row),
                ]
            )
        )
    return "\n".join(lines) + "\n"


def _failure(row: RunRow) -> str:
    words = (row.error or "stopped").replace("_", " ")
    return f"{words} ({row.error_phase})" if row.error_phase else words


def markdown_row(cells: Sequence[str]) -> str:
    clean = (on_one_line(cell).replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(clean)} |"


def to_influx(results: Sequence[Result]) -> str:
    """Return InfluxDB's line protocol: one line for each run and direction, at its start.

    Target, kind and direction are tags. Unknown values are left out.
    """
    lines = []
    for row in run_rows(results):
        tags = [f"{name}={_tag(value)}" for name in _TAGS if (value := getattr(row, name))]
        members = [
            f"{name}={_influx(value)}"
            for name in row.__struct_fields__
            if name not in (*_TAGS, "run", "started_at")
            and (value := getattr(row, name)) is not None
        ]
        line = f"{','.join(['netmeasure', *tags])} {','.join(members)}"
        if (at := started(row)) is not None:
            whole_s = int(at.replace(microsecond=0).timestamp())
            line += f" {whole_s * 10**9 + at.microsecond * 1000}"
        lines.append(line + "\n")
    return "".join(lines)


def _tag(value: str) -> str:
    """Return a tag's value with the protocol's special characters escaped; line breaks are
    impossible in it."""
    text = " ".join(value.split()).rstrip("\\")
    return text.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def _influx(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) < 2**63:
        return f"{value}i"
    if isinstance(value, int | float):
        return repr(float(value))
    text = " ".join(str(value).split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
