"""Compare the screens of an 80x24 terminal, while the network fails and at Ctrl-C in each phase,
with recorded screens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import screens
from support.screen import COLUMNS, LINES
from support.screens import CASES, FOLDER, Link

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def here() -> Iterator[Link]:
    with screens.link() as one:
        yield one


@pytest.mark.parametrize("name", CASES)
def test_the_terminal_looks_as_recorded(here: Link, name: str) -> None:
    case = CASES[name]
    seen = case.see(here)
    kept = (FOLDER / f"{name}.txt").read_text()
    during, _, after = kept.partition(f"--- then, with exit code {case.code} ---\n")
    assert seen.code == case.code
    assert screens.alike(seen.during) == screens.alike(during), "python -m support.screens"
    for text in (seen.during, seen.after, kept):
        assert max(map(len, text.splitlines())) <= COLUMNS
    assert len(seen.during.splitlines()) < LINES
    if case.measured:
        assert screens.labels(seen.after) == screens.labels(after)
        assert screens.labels(after)[0] == "Steady bitrate"
        assert screens.said(seen.after) == screens.said(after)
    else:
        # a number with more digits moves the line breaks of a sentence
        assert " ".join(screens.alike(seen.after)) == " ".join(screens.alike(after))


def test_each_case_is_recorded() -> None:
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(CASES)
