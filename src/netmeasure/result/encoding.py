"""Write documents: the stored fields, and figures computed from them.

`derived` of a type lists the properties that its documents have, such as `set_up_ns`. Readers in
this package ignore these members and compute the properties. `packed` lists the columns that are
packed. A value that a result has twice, such as a stream's report, is written once; the other place
has a reference to it, such as "flows[0].streams[0].sender".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from netmeasure.result.packing import packed

#: The names of derived figures in documents, if they differ from the names of the properties.
RENAMED = {"measured_bps": "goodput_bps"}
#: Objects with no more members and characters than this are written on one line.
_SHORT, _LINE = 12, 200
#: The types of values that have parts, in a result and in what is written of it.
_PARTS, _NESTED = (tuple, msgspec.Struct), (dict, list, tuple)


#: Members whose texts may have any bytes. These texts are escaped so that they can be restored.
ANY_BYTES = ("title", "extra_data")
#: An escaped byte that is not UTF-8, and the escaped backslash of a text that only looks like one.
_ESCAPE = re.compile(r"\\x(5c|[89a-f][0-9a-f])")


def escaped_bytes(text: str) -> str:
    """Return a text with each byte that is not UTF-8 (PEP 383) as "\\xe9", and a backslash in front
    of a similar text as "\\x5c"."""
    text = _ESCAPE.sub(r"\\x5cx\1", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def plain_bytes(text: str) -> str:
    """Return the text that `escaped_bytes` was given."""

    def plain(found: re.Match[str]) -> str:
        return bytes([int(found[1], 16)]).decode("ascii", "surrogateescape")

    return _ESCAPE.sub(plain, text)


def derived_names(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the properties of a type that its documents have in addition to its fields."""
    names: tuple[str, ...] = getattr(kind, "derived", ())
    return names


def packed_names(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the columns of a type that its documents hold in packed form."""
    names: tuple[str, ...] = getattr(kind, "packed", ())
    return names


def with_derived(value: object, instead: Mapping[tuple[int, str], object] = {}) -> Any:
    """Return a value that msgspec encodes with the derived figures in it, and columns packed.

    Args:
        value: Any part of a document.
        instead: The replacements of fields, by the `id()` of the owner and the name of the field.
    """
    if isinstance(value, tuple):  # a series of numbers is unchanged
        structs = bool(value) and not isinstance(value[0], int | float)
        return [with_derived(item, instead) for item in value] if structs else value
    if not isinstance(value, msgspec.Struct):
        return value
    kind = type(value)
    if (repeats := getattr(kind, "_repeats", None)) is not None:
        instead = repeats(value)
    found: dict[str, Any] = {}
    config = value.__struct_config__
    if config.tag is not None and config.tag_field is not None:
        found[config.tag_field] = config.tag
    for name in value.__struct_fields__:
        item = getattr(value, name)
        if isinstance(item, _PARTS):
            item = with_derived(instead.get((id(value), name), item), instead)
        found[name] = item
    for name in ANY_BYTES:
        if isinstance(found.get(name), str):
            found[name] = escaped_bytes(found[name])
    for name in packed_names(kind):
        found[name] = packed(found[name])
    for name in derived_names(kind):
        found[RENAMED.get(name, name)] = getattr(value, name)
    return found


def encoded(value: msgspec.Struct, *, indent: int | None = 2) -> bytes:
    """Return a document as UTF-8 JSON with the derived figures in it, on one line without `indent`.

    With it, a list of numbers and a short object each take one line. A byte of a title or name that
    is not UTF-8 is written as "\\xe9", because JSON can't represent it; `plain_bytes` restores the
    bytes of a title.
    """
    document = with_derived(value)
    try:
        data = msgspec.json.encode(document)
    except UnicodeEncodeError:
        document = _storable(msgspec.to_builtins(document))
        data = msgspec.json.encode(document)
    return data if indent is None else _indented(document, indent, 0).encode()


def _indented(value: Any, step: int, level: int) -> str:
    """Return a value as JSON over several lines; short parts are on one line."""
    if not isinstance(value, _NESTED):
        return msgspec.json.encode(value).decode()
    if not isinstance(value, dict) and value and isinstance(value[0], int | float):
        return msgspec.json.encode(value).decode()  # a column, on one line
    items = value.values() if isinstance(value, dict) else value
    flat = not any(item for item in items if isinstance(item, _NESTED))
    if not value or (flat and (not isinstance(value, dict) or len(value) <= _SHORT)):
        line = msgspec.json.encode(value).decode()
        if not isinstance(value, dict) or len(line) <= _LINE:
            return line
    inner, outer = "\n" + " " * (step * (level + 1)), "\n" + " " * (step * level)
    if isinstance(value, dict):
        parts = [
            f"{msgspec.json.encode(name).decode()}: {_indented(item, step, level + 1)}"
            for name, item in value.items()
        ]
        return "{" + inner + f",{inner}".join(parts) + outer + "}"
    parts = [_indented(item, step, level + 1) for item in value]
    return "[" + inner + f",{inner}".join(parts) + outer + "]"


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value
