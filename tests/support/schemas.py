"""Check documents against the JSON Schemas of the package, as strictly as possible."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from netmeasure.export.schema import document_schema

Draft202012Validator = pytest.importorskip("jsonschema").Draft202012Validator


def closed(schema: Any) -> Any:
    """Return the schema with the rule that objects have no member which it does not name."""
    if isinstance(schema, dict):
        found = {key: closed(value) for key, value in schema.items()}
        if isinstance(schema.get("properties"), dict):
            found["additionalProperties"] = False
        return found
    return [closed(item) for item in schema] if isinstance(schema, list) else schema


@cache
def _validator(name: str) -> Any:
    return Draft202012Validator(closed(document_schema(name)))


def keeps_to(name: str, document: str | bytes) -> None:
    """Raise ValidationError if a document breaks its schema or has members that are not in it."""
    _validator(name).validate(json.loads(document))
