"""Parse pages of HTML into numbers, tables and sentences, and numbers into values."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any, NamedTuple

#: The units that a page shows, in those of documents; seconds are handled separately.
SCALES = [
    *(("Tbit/s", 1e12), ("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3), ("bit/s", 1.0)),
    *(("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)),
    *(("ms", 1e6), ("us", 1e3), ("ns", 1.0), ("%", 0.01)),
]


#: A number in a sentence, with its unit if it has one that is in SCALES.
_NUMBER = re.compile(
    r"(?<![\w.])\d+(?:\.\d+)?(?: (?:[kMGT]?bit/s|[num]?s|%|(?:[KMGT]i)?B)(?!\w)|(?!\w))"
)


class Page(HTMLParser):
    """Hold the content of a page: its numbers with their places, its words, and what it would
    load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: list[tuple[dict[str, str], str]] = []
        self.bare: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.open: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        #: The cells of each line of its tables, and the paragraphs under each heading.
        self.rows: list[list[str]] = []
        self.sections: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        links = [found[name] for name in ("src", "href", "xlink:href", "data") if name in found]
        self.loads += [link for link in links if not link.startswith("#")]
        self.loads += re.findall(r"url\((?!#)[^)]*\)", found.get("style", ""))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in ("meta", "link", "br"):
            self.open.append((tag, found))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        tag, found = self.open[-1] if self.open else ("", {})
        if tag == "data":
            self.numbers.append((found, data))
        elif tag == "td" and found.get("class") == "figure":
            self.bare.append(data)
        elif tag == "h3":
            self.sections[data] = []
        elif tag == "p" and self.sections:
            self.sections[list(self.sections)[-1]].append(data)
        if any(one in ("th", "td") for one, _ in self.open):
            self.rows[-1][-1] += data


class Shown(NamedTuple):
    """Hold the value of a shown number, and how much one more in its last digit would be."""

    value: float
    last: float


def shown(text: str, *, second: float = 1e9) -> Shown:
    """Return the number at the start of a text, in the unit of documents.

    `second` is the value of a second in that unit.
    """
    digits = re.match(r"-?\d+(?:\.(\d+))?", text.removeprefix("+-"))
    assert digits is not None, text
    units = [*SCALES, ("s", second)]
    scale = next((factor for unit, factor in units if text.endswith(f" {unit}")), 1.0)
    return Shown(float(digits[0]) * scale, scale / 10 ** len(digits[1] or ""))


def numbers(sentence: str) -> list[str]:
    """Return the numbers of a sentence, each with its unit."""
    return _NUMBER.findall(sentence)


def alike(number: Shown, value: float) -> bool:
    """Return whether a value would be shown as this number."""
    return math.isclose(number.value, value, rel_tol=1e-9, abs_tol=0.501 * number.last)


def at(document: Any, path: str) -> Any:
    """Return the value at a place in a JSON document."""
    for step in path.split("."):
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document
