"""Write the outcome of a campaign for publication: the table of its variants, and the changes."""

from __future__ import annotations

from netmeasure.comparison.suite import Suite
from netmeasure.errors import SpecError
from netmeasure.publishing import page
from netmeasure.publishing.content import Content
from netmeasure.publishing.parts import Section, Table
from netmeasure.report import suite as report

#: The forms of a campaign's report.
FORMS = ("html", "md")
_INDENT = "\N{EM SPACE}"


def publish_suite(suite: Suite, to: str = "html") -> bytes:
    """Return a report of a campaign: one file that needs no network to be read.

    Args:
        suite: The outcome of the campaign.
        to: The form: html or md.

    Raises:
        SpecError: There is no such form.
    """
    if to not in FORMS:
        raise SpecError(
            f"a campaign's report can't be {to!r}", hint=f"choose from {', '.join(FORMS)}"
        )
    if to == "md":
        return report.to_markdown(suite).encode()
    return page.html(_content(suite))


def _content(suite: Suite) -> Content:
    head, rows = report.cells(suite)
    # a name with two leading blanks is a figure of the test above; HTML needs no-break spaces
    named = ((row[0].replace("  ", _INDENT, 1), *row[1:]) for row in rows)
    table = Table(tuple(head), tuple(named)) if rows else None
    notes = dict(report.sections(suite))
    moved = notes.pop("What changed", [])  # the most important figures
    sections = [Section("Tests", tuple(moved), table=table)]
    sections += [Section(title, tuple(lines)) for title, lines in notes.items()]
    return Content(report.title(suite), tuple(sections), (), (), ())
