"""Test that reports on a terminal of 80x24 equal saved pictures that people have reviewed."""

from __future__ import annotations

from pathlib import Path

import pytest

import netmeasure as nm
from netmeasure.report.answer import answer_lines
from support import terminal


def name_of(document: Path) -> str:
    return document.stem


@pytest.mark.parametrize("document", terminal.documents(), ids=name_of)
def test_a_report_is_as_it_was_looked_at(document: Path) -> None:
    kept = document.with_suffix(".txt").read_text()
    assert terminal.picture(document) == kept, "in tests/: python -m support.terminal"


@pytest.mark.parametrize("document", terminal.documents(), ids=name_of)
def test_the_answer_is_seen_without_scrolling(document: Path) -> None:
    lines = terminal.picture(document).splitlines()
    assert max(map(len, lines)) <= terminal.COLUMNS
    answer = answer_lines(nm.Result.from_json(document.read_bytes()))
    assert len(answer) <= 5
    assert "..." not in "".join(answer)
    if answer:
        assert lines[-len(answer) :] == answer
    else:
        assert lines[-1].startswith("INCOMPLETE: ")


def test_a_comparison_is_as_it_was_looked_at() -> None:
    kept = (terminal.FOLDER / "compare" / "compare.txt").read_text()
    assert terminal.compared() == kept, "in tests/: python -m support.terminal"
    assert max(map(len, kept.splitlines())) <= terminal.COLUMNS
    answer = " ".join(kept.rpartition("\n\n")[2].split())
    assert answer.startswith("B carries ")
    assert answer.endswith(" % confidence).")


def test_each_kind_has_its_picture() -> None:
    kinds = {"tcp", "both", "udp", "http", "ftp", "late", "refused", "requests", "round-trips"}
    kinds |= {"loaded", "loaded-both"}
    assert {name_of(one) for one in terminal.documents()} == kinds
