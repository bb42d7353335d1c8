"""Read saved documents of every version.

Version 1 is read directly. From version 2 on, columns may be packed (`packing`), and a reference
may replace a value at another place of the document (`repeats`): these are resolved first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from netmeasure.errors import ResultFormatError
from netmeasure.result.encoding import ANY_BYTES, plain_bytes
from netmeasure.result.packing import PACKED_MEMBERS, unpacked
from netmeasure.result.plausible import check_plausible
from netmeasure.result.repeats import restore

#: The version that is written.
SCHEMA_VERSION = 2
#: The most numbers of all packed columns of a document: a constant, plus this many for each byte of
#: the document. Columns of idle streams have the most, eight per byte.
_LEAST_NUMBERS, _NUMBERS_PER_BYTE = 2**20, 16

T = TypeVar("T", bound=msgspec.Struct)


def read_json(data: bytes | str, kind: type[T]) -> T:
    """Return a saved document of any version.

    Raises ResultFormatError if the data are no JSON, no such document, of a later version, or hold
    values that no measurement gives.
    """
    try:
        version = msgspec.json.decode(data, type=_Versioned).schema_version
        if version is msgspec.UNSET:
            raise _not_a_result(data, "it is JSON of another kind (without schema_version)")
        reader = _READERS.get(version)
        if reader is None:
            raise ResultFormatError(
                f"the result has schema version {version}; this netmeasure reads versions 1 to"
                f" {max(_READERS)}",
                hint="read it with the netmeasure that wrote it",
            )
        document: T = reader(data, kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise _not_a_result(data, exc) from None
    check_plausible(document)
    return _current(document)


def is_set(data: bytes | str) -> bool:
    """Return whether saved data are a set of results; False: a single one, or no document."""
    try:
        return msgspec.json.decode(data, type=_Shape).results is not msgspec.UNSET
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


def _current(document: T) -> T:
    """Return a document, and the results in it, converted to the present version."""
    changes: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    if (runs := getattr(document, "results", None)) is not None:
        changes["results"] = tuple(_current(run) for run in runs)
    return msgspec.structs.replace(document, **changes)


def _read_1(data: bytes | str, kind: type[T]) -> T:
    return msgspec.json.decode(data, type=kind)


def _read_2(data: bytes | str, kind: type[T]) -> T:
    document = msgspec.json.decode(data)
    _unpack(document, "", _Room(_LEAST_NUMBERS + _NUMBERS_PER_BYTE * len(data)))
    runs = document.get("results")
    for one in [document, *(runs if isinstance(runs, list) else ())]:
        if isinstance(one, dict):
            try:
                restore(one)
                _take_bytes_back(one.get("spec"))
            except ValueError as exc:
                raise ResultFormatError(f"not a netmeasure result: {exc}") from None
    return msgspec.convert(document, type=kind)


def _take_bytes_back(spec: object) -> None:
    """Restore the bytes of a specification's title that are not UTF-8 and that JSON can't
    represent."""
    if not isinstance(spec, dict):
        return
    for name in ANY_BYTES:
        if isinstance(text := spec.get(name), str):
            spec[name] = plain_bytes(text)


_READERS: dict[int, Callable[[bytes | str, type[Any]], Any]] = {1: _read_1, 2: _read_2}


class _Room:
    """Count how many more numbers a document may unpack."""

    def __init__(self, numbers: int) -> None:
        self.numbers = numbers


def _unpack(value: Any, place: str, room: _Room) -> None:
    """Unpack all columns below an object or a list."""
    for name, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict):
            below = f"{place}[{name}]" if isinstance(name, int) else f"{place}.{name}".lstrip(".")
            if item.keys() == PACKED_MEMBERS:
                try:
                    value[name] = column = unpacked(item, room.numbers)
                except ValueError as exc:
                    raise ResultFormatError(f"not a netmeasure result: {below}: {exc}") from None
                room.numbers -= len(column)
            else:
                _unpack(item, below, room)
        elif isinstance(item, list) and dict in map(type, item):
            _unpack(item, f"{place}.{name}".lstrip("."), room)


def _not_a_result(data: bytes | str, reason: Exception | str) -> ResultFormatError:
    """Return the error for data that are no result, with a special message for iperf3's JSON."""
    try:
        found = msgspec.json.decode(data, type=_Iperf3)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ResultFormatError(f"not a netmeasure result: {reason}")
    words = found.start.version or "iperf3's -J"
    return ResultFormatError(
        f"a document of iperf3 ({words}), not a netmeasure result",
        hint="netmeasure compare, check and export read it, and so does nm.import_results()",
    )


class _Versioned(msgspec.Struct):
    """Read the version of a document before the rest of it is read."""

    schema_version: int | msgspec.UnsetType = msgspec.UNSET


class _Shape(msgspec.Struct):
    """Distinguish a saved set from a single saved result."""

    results: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Iperf3Start(msgspec.Struct):
    """Recognise a document of iperf3 by its member "start"."""

    connected: msgspec.Raw
    version: str | None = None


class _Iperf3(msgspec.Struct):
    """Distinguish a document of iperf3 (-J) from a netmeasure result."""

    start: _Iperf3Start
    intervals: msgspec.Raw
    end: msgspec.Raw
