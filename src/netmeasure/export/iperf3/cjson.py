"""Write JSON in the layout of cJSON 1.7, which iperf3 uses: scripts match its lines.

It indents with tabs, separates key and value as `"key":<TAB>value`, writes arrays of objects as
`[{ ... }, {`, and an empty object on two lines.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence

Json = (
    None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
)  # what `write` takes
Object = dict[str, Json]

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
_ESCAPED = re.compile(r'["\\\x00-\x1f]')


def pretty(value: Json) -> str:
    """Return a value as JSON of many lines, without a newline at the end."""
    return _pretty(value, 0)


def compact(value: Json) -> str:
    """Return a value as JSON on one line without blanks."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_string(k)}:{compact(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(compact, value)) + "]"
    return _scalar(value)


def _pretty(value: Json, depth: int) -> str:
    if isinstance(value, Mapping):
        indent = "\t" * (depth + 1)
        members = ",\n".join(
            f"{indent}{_string(key)}:\t{_pretty(item, depth + 1)}" for key, item in value.items()
        )
        return "{\n" + members + ("\n" if members else "") + "\t" * depth + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_pretty(item, depth + 1) for item in value) + "]"
    return _scalar(value)


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    assert isinstance(value, str)
    return _string(value)


def number(value: float) -> str:
    """Return a real number with 15 digits, or with 17 if 15 lose precision; "null" for NaN.

    Unlike in cJSON, a real that happens to be whole keeps a point ("2.0"): iperf3's clock readings
    never are whole, so readers may rely on a real there. Zero is "0", as in iperf3's documents.
    """
    if not math.isfinite(value):
        return "null"
    if value == 0:
        return "0"
    if value.is_integer():
        return f"{value:.1f}"
    short = f"{value:.15g}"
    near = abs(float(short) - value) <= abs(value) * sys.float_info.epsilon
    return short if near else f"{value:.17g}"


def _string(text: str) -> str:
    return '"' + _ESCAPED.sub(lambda m: _ESCAPES.get(m[0], f"\\u{ord(m[0]):04x}"), text) + '"'
