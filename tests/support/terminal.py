"""What a terminal of 80x24 shows of a result: `python -m support.terminal` keeps it anew."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

import netmeasure as nm
from netmeasure.report.text import print_report

FOLDER = Path(__file__).parents[1] / "samples" / "terminal"
COLUMNS, LINES = 80, 24


def documents() -> list[Path]:
    """Return the documents whose pictures are kept beside them."""
    return sorted(FOLDER.glob("*.json"))


def picture(document: Path) -> str:
    """Return the whole report of a document, as wide as the terminal."""
    paper = io.StringIO()
    result = nm.Result.from_json(document.read_bytes())
    print_report(result, Console(file=paper, width=COLUMNS, height=LINES))
    return "".join(f"{line.rstrip()}\n" for line in paper.getvalue().splitlines())


if __name__ == "__main__":
    for one in documents():
        one.with_suffix(".txt").write_text(picture(one))
