"""Reduce iperf3's output to its shape, without the numbers, so that two runs can be compared.

Text becomes a list of lines of words, in which `#` stands for a number. Equal blocks of lines that
follow each other count as one, since the number of intervals depends on the clock. JSON becomes a
tree of keys and types.
"""

from __future__ import annotations

import re
from typing import Any

_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")
_SIZE_UNIT = re.compile(r"\b[KMGT]?Bytes\b(?!/)")
_RATE_UNIT = re.compile(r"\b[KMGT]?bits/sec\b")
_LONGEST_BLOCK = 12
#: Floating-point numbers that are written as integers when they are whole.
_REALS = frozenset(
    {
        *("start", "end", "seconds", "bits_per_second", "jitter_ms", "lost_percent", "interval"),
        *(f"{end}_{what}" for end in ("host", "remote") for what in ("total", "user", "system")),
    }
)


def text(printed: str, *, fixed_unit: bool = False) -> list[str]:
    """Return the lines of a report. With `fixed_unit` (-f), the unit of the rates is a part of
    them."""
    return collapsed([_line(line, fixed_unit) for line in printed.splitlines()])


def _line(line: str, fixed_unit: bool) -> str:
    if line.startswith("iperf 3."):
        return "iperf 3.#"
    if line.startswith("      Cookie: "):
        return "Cookie: #"
    line = _SIZE_UNIT.sub("B", line)
    if not fixed_unit:
        line = _RATE_UNIT.sub("b/s", line)
    # a colon or a dash is no word of its own: awk sees the same words as `split`
    return " ".join(_NUMBER.sub("#", word) for word in line.split())


def collapsed(lines: list[str]) -> list[str]:
    """Return the lines with only the first of equal blocks that follow each other."""
    again = True
    while again:
        again = False
        for size in range(1, _LONGEST_BLOCK + 1):
            at = 0
            while at + 2 * size <= len(lines):
                if lines[at : at + size] == lines[at + size : at + 2 * size]:
                    del lines[at + size : at + 2 * size]
                    again = True
                else:
                    at += 1
    return lines


def tree(value: Any, key: str = "") -> Any:
    """Return the keys, and the types of their values.

    The shape of a list has the shapes of all its items, each kind once.
    """
    if isinstance(value, dict):
        return {name: tree(item, name) for name, item in value.items()}
    if isinstance(value, list):
        kinds: list[Any] = []
        for item in value:
            kind = tree(item, key)
            if kind not in kinds:
                kinds.append(kind)
        return kinds
    if isinstance(value, bool) or not isinstance(value, int | float):
        return type(value).__name__
    return "real" if key in _REALS or isinstance(value, float) else "int"


def without(shape: Any, keys: frozenset[str]) -> Any:
    """Return a tree without some of its keys, at any depth."""
    if isinstance(shape, dict):
        return {name: without(item, keys) for name, item in shape.items() if name not in keys}
    if isinstance(shape, list):
        return [without(item, keys) for item in shape]
    return shape
