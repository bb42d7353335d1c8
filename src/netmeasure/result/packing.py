"""Pack long columns of numbers for documents, and unpack them within a bound.

A packed column is an object with three members: `encoding` names the form, `count` is the number of
items, and `data` holds them: signed 64-bit integers, little-endian, compressed by zlib (RFC 1950),
in base64 (RFC 4648).
"""

from __future__ import annotations

import sys
import zlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

ENCODING = "int64-le+zlib+base64"
PACKED_MEMBERS = {"encoding", "count", "data"}
_ITEM = 8


def packed(column: Sequence[int]) -> Any:
    """Return a column in its packed form, or unchanged if a number does not fit into 64 bits."""
    try:
        items = array("q", column)
    except OverflowError:
        return column
    if sys.byteorder == "big":
        items.byteswap()
    data = b64encode(zlib.compress(items.tobytes(), 6)).decode()
    return {"encoding": ENCODING, "count": len(items), "data": data}


def unpacked(value: Mapping[str, Any], most: int) -> list[int]:
    """Return the numbers of a packed column.

    The count of the column bounds the size of the decompressed data, whatever the data are.

    Args:
        value: The packed form.
        most: The largest count that is allowed.

    Raises:
        ValueError: The column has another form or more numbers, or its data are not those of
            `count` numbers.
    """
    encoding, count, data = (value.get(name) for name in ("encoding", "count", "data"))
    if encoding != ENCODING:
        raise ValueError(f"the encoding of its numbers is not {ENCODING}")
    if type(count) is not int or not 0 <= count <= most or not isinstance(data, str):
        raise ValueError("its count of numbers is impossible")
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(b64decode(data, validate=True), count * _ITEM + 1)
    except (ValueError, zlib.error):
        raise ValueError("its packed numbers are damaged") from None
    if len(raw) != count * _ITEM or not inflate.eof:
        raise ValueError("its packed numbers are not as many as it says")
    items = array("q", raw)
    if sys.byteorder == "big":
        items.byteswap()
    same: dict[int, int] = {}  # equal numbers share an object: only they compress well
    return [same.setdefault(item, item) for item in items]
