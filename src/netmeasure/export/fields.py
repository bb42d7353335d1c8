"""Describe the fields of a type: help from its docstring, the unit from the field's name."""

from __future__ import annotations

import inspect
import re
from functools import cache
from typing import NamedTuple

import msgspec

from netmeasure.result.encoding import RENAMED, derived_names

#: The unit of a figure, by the last word of its name.
UNITS = {
    "ns": "nanoseconds",
    "s": "seconds",
    "bytes": "bytes",
    "bps": "bits per second",
    "ratio": "ratio",
    "share": "ratio",
    "gb": "seconds per 10^9 bytes",
}


class Field(NamedTuple):
    """Hold a field, or a derived figure, of a type.

    Attributes:
        name: Its name in documents.
        unit: Its unit; "": it has no unit, or is no number.
        help: Its description, in one paragraph.
    """

    name: str
    unit: str
    help: str


@cache
def fields_of(kind: type[msgspec.Struct]) -> dict[str, Field]:
    """Return the fields and the derived figures of a type, by their names in documents."""
    told = _attributes(kind)
    found = {}
    for field in msgspec.structs.fields(kind):
        found[field.encode_name] = Field(
            field.encode_name, unit_of(field.name), told.get(field.name, "")
        )
    for name in derived_names(kind):
        shown = RENAMED.get(name, name)
        says = inspect.getdoc(getattr(kind, name)) or ""
        words = " ".join(says.split()).removeprefix("Return ")
        found[shown] = Field(shown, unit_of(shown), words[:1].upper() + words[1:])
    return found


def unit_of(name: str) -> str:
    """Return the unit that the name of a figure ends with; "": none."""
    if name.endswith("_per_s"):
        return "per second"
    return UNITS.get(name.rpartition("_")[2], "") if "_" in name else ""


def _attributes(kind: type) -> dict[str, str]:
    """Return the texts of the section "Attributes" in the docstrings of a type and its bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        section = re.search(r"^Attributes:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
        for name, words in re.findall(
            r"^    (\w+): (.*(?:\n     .*)*)", section[1] if section else "", re.MULTILINE
        ):
            found[name] = " ".join(words.split())
    return found
