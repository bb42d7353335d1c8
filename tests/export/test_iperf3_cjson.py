"""Test JSON in iperf3's layout: a real document is the same when it is read and written again."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, strategies as st
from real import documents, text

from netmeasure.export.iperf3 import cjson

AGAIN = "\0again"


def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of an object as pairs, since iperf3 3.12 repeats some keys."""
    found: dict[str, Any] = {}
    for key, value in members:
        while key in found:
            key += AGAIN
        found[key] = value
    return found


@pytest.mark.parametrize(("name", "end"), documents())
def test_a_real_document_written_again_is_the_same(name: str, end: str) -> None:
    captured = text(name, end)
    document = json.loads(captured, object_pairs_hook=pairs)
    again = cjson.pretty(document).replace("\\u0000again", "")
    assert again + "\n" == captured


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(JSON)
def test_any_value_comes_back(value: Any) -> None:
    for written in (cjson.pretty(value), cjson.compact(value)):
        again = json.loads(written)
        assert same(again, value), written
    assert "\n" not in cjson.compact(value)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-15)
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (1.0, "1.0"),
        (-2.0, "-2.0"),
        (0.1, "0.1"),
        (1 / 3, "0.33333333333333331"),
        (50326668.492690928, "50326668.492690928"),
        (1e300 * 1e10, "null"),
        (math.nan, "null"),
        (18446744073709551615, "18446744073709551615"),
        ('a"\\/\b\f\n\r\t\x01\x7fé', '"a\\"\\\\/\\b\\f\\n\\r\\t\\u0001\x7fé"'),
        ({}, "{\n}"),
        ([], "[]"),
        ({"a": {}}, '{\n\t"a":\t{\n\t}\n}'),
        (
            {"a": [{"b": 1}, {"c": True}]},
            '{\n\t"a":\t[{\n\t\t\t"b":\t1\n\t\t}, {\n\t\t\t"c":\ttrue\n\t\t}]\n}',
        ),
        ([1, 2], "[1, 2]"),
    ],
)
def test_layout(value: Any, written: str) -> None:
    assert cjson.pretty(value) == written
