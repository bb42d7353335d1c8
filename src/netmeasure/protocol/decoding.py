"""Decode a peer's JSON as iperf3 does, and make its text safe to show.

Reading is strict where iperf3 is silent: a text where a number belongs is an error and no default,
a boolean that is false is false.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from netmeasure.errors import RemoteProtocolError

T = TypeVar("T")

#: Members that are only written to JSON, where control characters are escaped, and to no terminal.
_VERBATIM = frozenset(["title", "extra_data", "authtoken", "server_output_json"])
#: The one text of several lines.
_SEVERAL_LINES = "server_output_text"
#: Control characters of ASCII and their 8-bit counterparts (ECMA-48, C0 and C1).
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object as a dictionary. Raise RemoteProtocolError if `data` hold anything else;
    `what` names them in the message."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RemoteProtocolError(f"the peer's {what} are not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"the peer's {what} are not a JSON object")
    return value


def known_members(wire: dict[str, Any], struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the members that `struct` has, found as iperf3 finds them.

    The case of a key does not matter; of two keys that differ only in case, the first one counts.
    """
    names = {name.lower(): name for name in struct.__struct_fields__}
    types = _field_types(struct)
    known: dict[str, Any] = {}
    for key, value in wire.items():
        name = names.get(key.lower())
        if name is None or name in known:
            continue
        value = _number(key, value, types[name])
        if name not in _VERBATIM:
            value = _printable(value, "\n\t" if name == _SEVERAL_LINES else "")
        known[name] = value
    return known


def convert(wire: dict[str, Any], struct: type[T], what: str) -> T:
    """Return the struct that has these members. Raise RemoteProtocolError if one is not valid."""
    try:
        return msgspec.convert(wire, struct)
    except (msgspec.ValidationError, RecursionError, OverflowError) as exc:
        raise RemoteProtocolError(f"the peer's {what} are not valid: {exc}") from None


@cache
def _field_types(struct: type[msgspec.Struct]) -> dict[str, tuple[object, ...]]:
    """Return the types that each field of a struct may have: for `int | None`, int and NoneType."""
    return {name: get_args(hint) or (hint,) for name, hint in get_type_hints(struct).items()}


def _number(key: str, value: Any, types: tuple[object, ...]) -> Any:
    """Return a number in the form that its field needs, and anything else as it is.

    A whole number with a decimal point is an integer. iperf3 3.12 prints negative numbers unsigned,
    which makes them larger than 2**63; larger ones have no meaning.
    """
    if isinstance(value, float) and value.is_integer() and float not in types:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if types == (bool,):
            value = value != 0
        elif 2**63 <= value < 2**64:
            value -= 2**64
        if not -(2**63) <= value < 2**63:
            raise RemoteProtocolError(f"the peer sent {key!r} with a number beyond 64 bits")
    return value


def _printable(value: Any, keep: str = "") -> Any:
    """Return a peer's text with control characters replaced but for those in `keep`, and a list or
    an object with all its texts treated so: terminals and logs show them line by line."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else "\ufffd", value)
    try:
        if isinstance(value, list):
            return [_printable(item) for item in value]
        if isinstance(value, dict):
            return {key: _printable(item) for key, item in value.items()}
    except RecursionError:
        raise RemoteProtocolError("the peer sent lists of lists without an end") from None
    return value
