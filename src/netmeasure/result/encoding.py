"""Write documents: what is stored, and beside it figures that are computed from it.

A type says in `derived` which of its properties its documents hold, such as `set_up_ns`. Readers of
this package leave these members out and compute them anew.
"""

from __future__ import annotations

from typing import Any

import msgspec

#: The names under which derived figures stand in documents, where these are not the property's.
RENAMED = {"measured_bps": "goodput_bps"}


def derived_names(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the properties of a type that its documents hold beside its fields."""
    names: tuple[str, ...] = getattr(kind, "derived", ())
    return names


def with_derived(value: object) -> Any:
    """Return a value that msgspec encodes with the derived figures in it."""
    if isinstance(value, tuple):  # a series of numbers is left as it is
        structs = bool(value) and isinstance(value[0], msgspec.Struct)
        return [with_derived(item) for item in value] if structs else value
    if not isinstance(value, msgspec.Struct):
        return value
    found: dict[str, Any] = {}
    config = value.__struct_config__
    if config.tag is not None and config.tag_field is not None:
        found[config.tag_field] = config.tag
    for name in value.__struct_fields__:
        found[name] = with_derived(getattr(value, name))
    for name in derived_names(type(value)):
        found[RENAMED.get(name, name)] = getattr(value, name)
    return found


def encoded(value: msgspec.Struct, *, indent: int | None = 2) -> bytes:
    """Return a document as UTF-8 JSON with the derived figures in it, on one line without `indent`.

    An odd byte of a title or name that is not UTF-8 is written as "\\xe9": JSON can't hold it.
    """
    document = with_derived(value)
    try:
        data = msgspec.json.encode(document)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_storable(msgspec.to_builtins(document)))
    return data if indent is None else msgspec.json.format(data, indent=indent)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value
