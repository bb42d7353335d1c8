"""Decode a peer's JSON directly into typed values, with iperf3's rules.

Unused members create no objects: members that a structure does not have are skipped as bytes.
Reading is stricter than iperf3's: a text instead of a number is an error, not a default, and a
boolean that is false is false.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from operator import is_
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from netmeasure.errors import RemoteProtocolError
from netmeasure.text import printable

T = TypeVar("T")
Struct = TypeVar("Struct", bound=msgspec.Struct)

#: Members that are only written to JSON, where control characters are escaped, and never to a
#: terminal.
_VERBATIM = frozenset(["title", "extra_data", "authtoken"])
#: The only text with several lines.
_SEVERAL_LINES = "server_output_text"
#: iperf3 ignores the case of keys. This module does the same in messages up to this length, which
#: iperf3's results of 256 streams have. Longer messages come from netmeasure, and comparing all
#: their keys would use memory.
MAX_ANY_CASE_BYTES = 128 * 1024
#: The longest list, and the most items in it: iperf3's results of a test with the most streams.
MAX_LIST_BYTES, MAX_ITEMS = 512 * 1024, 1024
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Members(Mapping[str, bytes]):
    """Hold the members of a JSON object that a structure has, each as JSON."""

    def __init__(self, data: bytes, struct: type[msgspec.Struct], what: str) -> None:
        """Raise RemoteProtocolError if `data` are no JSON object; `what` names them in the
        message."""
        try:
            self._raw = _any_case(data, struct) if _is_short(data) else _exact(data, struct)
        except _NOT_JSON as exc:
            raise RemoteProtocolError(f"the peer's {what} are not JSON: {exc}") from None

    def __getitem__(self, name: str) -> bytes:
        return self._raw[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def _is_short(data: bytes) -> bool:
    return len(data) <= MAX_ANY_CASE_BYTES


def _any_case(data: bytes, struct: type[msgspec.Struct]) -> dict[str, bytes]:
    """Return the members by iperf3's rules: the case of a key does not matter, and of two keys that
    differ only in case the first one counts."""
    names = {name.lower(): name for name in struct.__struct_fields__}
    known: dict[str, bytes] = {}
    for key, value in msgspec.json.decode(data, type=dict[str, msgspec.Raw]).items():
        name = names.get(key.lower())
        if name is not None:
            known.setdefault(name, bytes(value))
    return known


def _exact(data: bytes, struct: type[msgspec.Struct]) -> dict[str, bytes]:
    members = msgspec.json.decode(data, type=_raw_members(struct))
    return {
        name: bytes(value)
        for name in struct.__struct_fields__
        if (value := getattr(members, name)) is not msgspec.UNSET
    }


@cache
def _raw_members(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a structure with the same members, each of which stays JSON."""
    raw = msgspec.Raw | msgspec.UnsetType
    fields = [(name, raw, msgspec.UNSET) for name in struct.__struct_fields__]
    return msgspec.defstruct(f"Raw{struct.__name__}", fields)


@cache
def _required(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the required members of an object, cached because finding them takes long."""
    return tuple(one.encode_name for one in msgspec.structs.fields(struct) if one.required)


def read(
    members: Mapping[str, bytes],
    struct: type[Struct],
    what: str,
    **given: object,
) -> Struct:
    """Return the structure with these members, except those in `given`, which replace them.

    Raise RemoteProtocolError if a member is missing or not valid.
    """
    types = _field_types(struct)
    values = dict(given)
    for name, raw in members.items():
        if name not in values:
            values[name] = _value(name, raw, types[name], what)
    for name in _required(struct):
        if name not in values:
            missing = f"Object missing required field `{name}`"
            raise RemoteProtocolError(f"the peer's {what} are not valid: {missing}")
    return struct(**values)


def read_object(data: bytes, struct: type[Struct], what: str) -> Struct:
    """Return the structure that a JSON object holds. Raise RemoteProtocolError if the object is not
    valid."""
    return read(Members(data, struct, what), struct, what)


def read_list(data: bytes, struct: type[Struct], what: str, wrong: str) -> tuple[Struct, ...]:
    """Return the structures that a list of JSON objects holds. Raise RemoteProtocolError, with
    `wrong` if the data are no such list, or if an object is not valid."""
    if len(data) > MAX_LIST_BYTES:
        raise RemoteProtocolError(f"{wrong}: {len(data)} bytes are no list of streams")
    if (count := data.count(b"{")) > MAX_ITEMS:  # checked first, since decoding many takes long
        raise RemoteProtocolError(f"{wrong}: it has {count} objects")
    try:
        items = msgspec.json.decode(data, type=list[msgspec.Raw])
        members = [Members(bytes(item), struct, what) for item in items]
    except (*_NOT_JSON, RemoteProtocolError):
        raise RemoteProtocolError(wrong) from None
    return tuple(read(each, struct, what) for each in members)


@cache
def _field_types(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the type of each field of a structure."""
    return get_type_hints(struct)


def _value(name: str, raw: bytes, kind: Any, what: str) -> Any:
    """Return a member's value."""
    options = _options(kind)
    if msgspec.Raw in options:
        return None if raw == b"null" else _object(name, raw, what)
    numeric = bool in options or int in options
    try:
        # a whole number may have a decimal point, and a flag may be a number
        value = msgspec.json.decode(raw, type=kind | int | float if numeric else kind)
    except (*_NOT_JSON, OverflowError) as exc:
        value = _odd_text(raw) if str in options else None
        if value is None:
            raise RemoteProtocolError(_invalid(what, exc, name)) from None
    if numeric:
        return _number(name, value, options, what)
    if isinstance(value, str):
        keep = "\n\t" if name == _SEVERAL_LINES else ""
        return value if name in _VERBATIM else printable(value, keep)
    return cleaned(value)


def _object(name: str, raw: bytes, what: str) -> msgspec.Raw:
    """Return an object as JSON, which has already been checked to be well-formed."""
    if not raw.startswith(b"{"):
        raise RemoteProtocolError(_invalid(what, "Expected `object`", name))
    return msgspec.Raw(raw)


def _odd_text(raw: bytes) -> str | None:
    """Return a text that is not UTF-8, with each invalid byte as a lone surrogate (PEP 383); None:
    it is not a text. iperf3 sends titles and names without checking their encoding."""
    import json  # hardly any peer sends such a text

    with suppress(ValueError, RecursionError):
        value = json.loads(raw.decode("utf-8", "surrogateescape"), strict=False)
        if isinstance(value, str):
            value.encode("utf-8", "surrogateescape")  # fails for half a pair of UTF-16
            return value
    return None


def cleaned(value: T) -> T:
    """Return a value of a peer in which all texts are made printable (`text.printable`)."""
    if isinstance(value, str):
        return printable(value)  # type: ignore[return-value]
    if isinstance(value, msgspec.Struct):
        changes = {}
        for name in value.__struct_fields__:
            old = getattr(value, name)
            if (new := cleaned(old)) is not old:
                changes[name] = new
        return msgspec.structs.replace(value, **changes) if changes else value
    if isinstance(value, tuple) and value and isinstance(value[0], str | msgspec.Struct):
        items = tuple(map(cleaned, value))
        same = all(map(is_, items, value))
        return value if same else items  # type: ignore[return-value]
    return value


@cache
def _options(kind: Any) -> tuple[object, ...]:
    """Return the types that a field may have: for `int | None`, int and NoneType."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _number(name: str, value: Any, types: tuple[object, ...], what: str) -> Any:
    """Return a number in the form that its field needs.

    A whole number with a decimal point is an integer. iperf3 3.12 prints negative numbers unsigned,
    which makes them larger than 2**63; larger ones have no meaning.
    """
    if value is None:
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if bool in types:
        if isinstance(value, bool | int):
            return bool(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        if 2**63 <= value < 2**64:
            value -= 2**64
        if not -(2**63) <= value < 2**63:
            raise RemoteProtocolError(f"the peer sent {name!r} with a number beyond 64 bits")
        return value
    got = f"Expected `int`, got `{type(value).__name__}`"
    raise RemoteProtocolError(_invalid(what, got, name))


def _invalid(what: str, why: object, name: str) -> str:
    return f"the peer's {what} are not valid: {why} - at `$.{name}`"
