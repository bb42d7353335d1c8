"""Read members of other programs' JSON, and check their types."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from netmeasure.errors import ResultFormatError
from netmeasure.text import printable

#: No count, time or rate of a measurement is larger.
_LARGEST = 10**18


class Members:
    """Read the members of one object. Each error names the place of the member."""

    def __init__(self, value: Any, place: str = "") -> None:
        if not isinstance(value, dict):
            raise ResultFormatError(f"{place or 'the document'} is no object")
        self._value: dict[str, Any] = value
        self.place = place

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) is not None

    def _at(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def object(self, name: str) -> Members:
        """Return an object; an empty one if the member is missing."""
        value = self._value.get(name)
        return Members({} if value is None else value, self._at(name))

    def objects(self, name: str) -> list[Members]:
        """Return a list of objects; an empty one if the member is missing."""
        value = self._value.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise ResultFormatError(f"{self._at(name)} is no list")
        return [Members(item, f"{self._at(name)}[{index}]") for index, item in enumerate(value)]

    def text(self, name: str) -> str | None:
        """Return a printable text, in which bytes that are not UTF-8 are escaped as "\\xe9"; None:
        the member is missing."""
        value = self.any_bytes(name)
        return None if value is None else printable(_readable(value))

    def any_bytes(self, name: str) -> str | None:
        """Return a text of any bytes (PEP 383); None: the member is missing."""
        value = self._value.get(name)
        if value is not None and not isinstance(value, str):
            raise ResultFormatError(f"{self._at(name)} is no text")
        return value

    def number(self, name: str) -> float | None:
        """Return a number; None: the member is missing, or NaN."""
        value = self._value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ResultFormatError(f"{self._at(name)} is no number")
        if isinstance(value, float) and math.isnan(value):
            return None
        if abs(value) > _LARGEST:
            raise ResultFormatError(f"{self._at(name)} is too large")
        return value

    def count(self, name: str) -> int | None:
        """Return a whole number that is not negative; None: the member is missing."""
        value = self.number(name)
        if value is not None and value < 0:
            raise ResultFormatError(f"{self._at(name)} is below 0")
        return None if value is None else round(value)

    def flag(self, name: str) -> bool | None:
        """Return whether a member is true or not 0; None: the member is missing."""
        value = self._value.get(name)
        return None if value is None else bool(value)


def _readable(text: str) -> str:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, escaped in the JSON
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def all_known(values: Iterator[int | None]) -> tuple[int, ...] | None:
    """Return a column; None: the column is empty, or an item is unknown."""
    found = tuple(values)
    return tuple(v for v in found if v is not None) if found and None not in found else None
