"""Return the JSON Schema (2020-12) of documents, derived from the types in this package."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import msgspec

from netmeasure.comparison.comparison import Comparison
from netmeasure.comparison.mesh import MeshReport
from netmeasure.comparison.suite import Suite
from netmeasure.errors import SpecError
from netmeasure.export.fields import fields_of
from netmeasure.export.formats import SCHEMAS
from netmeasure.result import Result, Series, SideReport
from netmeasure.result.capacity import CapacityReport
from netmeasure.result.encoding import RENAMED, derived_names, packed_names
from netmeasure.result.events import Event
from netmeasure.result.packing import ENCODING
from netmeasure.result.resultset import ResultSet

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KINDS: dict[str, Any] = dict(
    zip(
        SCHEMAS,
        (Result, ResultSet, Comparison, Event, Suite, MeshReport, CapacityReport),
        strict=True,
    )
)
_PLACE = {
    "type": "string",
    "pattern": r"^flows\[\d+\]\.streams\[\d+\]\.(sender|receiver)",
    "description": "The place within this result where the value stands.",
}
_PACKED = {
    "type": "object",
    "description": "Signed 64-bit integers, little-endian, compressed by zlib, in base64.",
    "properties": {
        "encoding": {"const": ENCODING},
        "count": {"type": "integer", "minimum": 0},
        "data": {"type": "string", "contentEncoding": "base64"},
    },
    "required": ["encoding", "count", "data"],
    "additionalProperties": False,
}


def document_schema(name: str = "result") -> dict[str, Any]:
    """Return the JSON Schema of a kind of document.

    Args:
        name: "result": what a test gives. "resultset": several runs in one document. "comparison":
            what `netmeasure compare --json` writes. "event": one line of `client --json-lines`.
            "suite", "mesh" and "capacity": what these commands write with `--json`.

    Raises:
        SpecError: There is no schema of this name.
    """
    if name not in _KINDS:
        raise SpecError(f"no schema is named {name!r}", hint=f"choose from {', '.join(SCHEMAS)}")
    kind = _KINDS[name]
    (top,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    for struct in _structs(kind):
        _describe(parts[struct.__name__], struct)
    if name == "event":
        top = {"description": "One line of JSON of a run that goes on.", **top}
    return {"$schema": _DIALECT, "title": name, **top, "$defs": parts}


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    """Return all types of structures in a type, including itself."""
    found: dict[type[msgspec.Struct], None] = {}
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if inspect.isclass(one) and issubclass(one, msgspec.Struct):
            if one not in found:
                found[one] = None
                waiting += typing.get_type_hints(one).values()
        else:
            waiting += typing.get_args(one)
    return list(found)


def _describe(part: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    """Add the parts to a type's schema that do not follow from the type alone."""
    doc = inspect.getdoc(kind) or ""
    part["description"] = " ".join(doc.partition("\n\n")[0].split())
    members = part["properties"]
    for name in derived_names(kind):
        hints = typing.get_type_hints(getattr(kind, name).fget)
        members[RENAMED.get(name, name)] = msgspec.json.schema(hints["return"])
    for name in packed_names(kind):
        members[name] = {"anyOf": [_PACKED, members[name]]}
    if kind is SideReport:
        streams = members["streams"]
        streams["items"] = {"anyOf": [_PLACE, streams["items"]]}
    if "series" in members and kind is not Series:
        members["series"] = {**members["series"], "anyOf": [_PLACE, *members["series"]["anyOf"]]}
    for name, field in fields_of(kind).items():
        if name in members and field.help:
            members[name] = {"description": field.help, **members[name]}
