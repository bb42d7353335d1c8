"""Show a result on a terminal of 80x24: `python -m support.terminal` saves the pictures again."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console, RenderableType

import netmeasure as nm
from netmeasure.report import compare, text

FOLDER = Path(__file__).parents[1] / "samples" / "terminal"
COLUMNS, LINES = 80, 24


def compared() -> str:
    """Return the comparison of the two saved sets of runs, as wide as the terminal."""
    a, b = ((FOLDER / "compare" / f"{name}.json").read_bytes() for name in ("a", "b"))
    return _printed(
        compare.render(
            nm.compare(
                nm.ResultSet.from_json(a).results,
                nm.ResultSet.from_json(b).results,
                name_a="before",
                name_b="after",
            )
        )
    )


def documents() -> list[Path]:
    """Return the documents whose pictures are saved beside them."""
    return sorted(FOLDER.glob("*.json"))


def picture(document: Path) -> str:
    """Return the whole report of a document, as wide as the terminal."""
    return _printed(text.render(nm.Result.from_json(document.read_bytes())))


def _printed(report: RenderableType) -> str:
    paper = io.StringIO()
    Console(file=paper, width=COLUMNS, height=LINES).print(report, highlight=False)
    return "".join(f"{line.rstrip()}\n" for line in paper.getvalue().splitlines())


if __name__ == "__main__":
    for one in documents():
        one.with_suffix(".txt").write_text(picture(one))
    (FOLDER / "compare" / "compare.txt").write_text(compared())
