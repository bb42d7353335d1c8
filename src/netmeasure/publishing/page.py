"""Write a report as one self-contained page of HTML, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from netmeasure.export.tables import markdown_row
from netmeasure.publishing.charts import inline
from netmeasure.publishing.colours import styles
from netmeasure.publishing.content import Content
from netmeasure.publishing.figures import Figure
from netmeasure.publishing.parts import Cell, Section, Table
from netmeasure.result import Result
from netmeasure.text import on_one_line, printable
from netmeasure.version import __version__

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:62rem;margin:0 auto;padding:1.5rem}
h1{font-size:1.5rem;line-height:1.25;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin-top:2.5rem;overflow-wrap:anywhere}
h3{font-size:1.05rem;margin:1.8rem 0 .4rem}
figure{margin:.5rem 0}
svg{display:block;width:100%;height:auto}
svg text{font-family:system-ui,sans-serif!important}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;margin:.5rem 0}
th,td{text-align:left;vertical-align:top;padding:.2rem .9rem .2rem 0;
border-bottom:1px solid var(--ramp)}
thead th{color:var(--faint);font-weight:600}
tbody th{font-weight:500;white-space:nowrap}
td.figure{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.answer td.figure{font-weight:600}
p{max-width:48rem;overflow-wrap:anywhere}
footer{margin-top:3rem;color:var(--faint);font-size:.85rem}
@media print{body{max-width:none;padding:0;font-size:11px}
figure,table{break-inside:avoid}h2,h3{break-after:avoid}.wide{overflow:visible}}
"""


def html(content: Content) -> bytes:
    """Return a report as one page, with charts, and with every number as text and as its exact
    value."""
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{_text(content.title)}</title><style>{styles()}{_STYLE}</style></head><body>"
    )
    foot = (
        f"<footer>Made by netmeasure {__version__} from the results' JSON.</footer></body></html>"
    )
    return "".join((head, *_body(content), foot, "\n")).encode()


def _body(content: Content) -> Iterator[str]:
    yield f"<main><h1>{_text(content.title)}</h1>"
    number = 0
    for section in content.overview:
        yield from _section(section, content.results, content.names, number)
        number += 1
    for run in content.runs:
        if len(content.results) > 1:
            yield f"<h2>{_text(run.name)}: {_text(run.title)}</h2>"
        for section in run.sections:
            yield from _section(_lean(section, content), (run.result,), (run.name,), number)
            number += 1
    yield "</main>"


def _lean(section: Section, content: Content) -> Section:
    """Return a section; with many runs, only the charts that differ between runs are in it."""
    if (
        len(content.runs) > 2
        and section.chart is not None
        and section.chart.kind not in ("rate", "latency")
    ):
        return section._replace(chart=None)
    return section


def _section(
    section: Section, results: tuple[Result, ...], names: tuple[str, ...], number: int
) -> Iterator[str]:
    kind = "answer" if section.title == "Answer" else "part"
    yield f'<section class="{kind}"><h3>{_text(section.title)}</h3>'
    yield from (f"<p>{_text(line)}</p>" for line in section.words)
    if section.chart is not None:
        drawn = inline(section.chart, results, names, number)
        said = _text(f"{section.chart.title}. The numbers are in the table below.")
        yield f'<figure role="img" aria-label="{said}">{drawn}</figure>'
    if section.table is not None and section.table.rows:
        yield from _table(section.table)
    yield "</section>"


def _table(table: Table) -> Iterator[str]:
    yield '<div class="wide"><table>'
    if any(table.head):
        cells = "".join(f'<th scope="col">{_text(name)}</th>' for name in table.head)
        yield f"<thead><tr>{cells}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        first = row[0] if isinstance(row[0], str) else row[0].text
        yield f'<tr><th scope="row">{_text(first)}</th>{"".join(map(_cell, row[1:]))}</tr>'
    yield "</tbody></table></div>"


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{_text(cell)}</td>"
    if cell.value is None:
        return f'<td class="figure">{_text(cell.text)}</td>'
    grown = ' data-growth="yes"' if cell.growth else ""
    return (
        f'<td class="figure"><data value="{cell.value!r}" data-run="{cell.run}"'
        f' data-path="{cell.path}"{grown}>{_text(cell.text)}</data></td>'
    )


def _text(words: str) -> str:
    """Return a peer's text as HTML shows it, without control characters."""
    return escape(printable(words, "\n\t"))


# ---- Markdown ------------------------------------------------------------------------------------


def markdown(content: Content) -> bytes:
    """Return the words and the tables of a report as Markdown."""
    lines = [f"# {_plain(content.title)}", ""]
    for section in content.overview:
        lines += _markdown_section(section)
    for run in content.runs:
        if len(content.results) > 1:
            lines += [f"## {_plain(run.name)}: {_plain(run.title)}", ""]
        for section in run.sections:
            lines += _markdown_section(section)
    return ("\n".join(lines).rstrip() + "\n").encode()


def _markdown_section(section: Section) -> list[str]:
    lines = [f"### {_plain(section.title)}", ""]
    for line in section.words:
        lines += [_plain(line), ""]
    if section.table is not None and section.table.rows:
        head = section.table.head
        lines += [markdown_row(head), markdown_row(["---"] * len(head))]
        lines += [
            markdown_row([cell.text if isinstance(cell, Figure) else cell for cell in row])
            for row in section.table.rows
        ]
        lines.append("")
    return lines


def _plain(words: str) -> str:
    """Return a peer's text on one line, without HTML markup."""
    return on_one_line(words).replace("<", "&lt;")
