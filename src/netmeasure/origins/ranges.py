"""Parse the Range header of HTTP (RFC 9110, section 14): one range of bytes, or the whole file."""

from __future__ import annotations

import re

from netmeasure.errors import UnsatisfiableRangeError

_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,19})-([0-9]{0,19})\s*", re.IGNORECASE)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the offset and length that a Range header requests; None for the whole file.

    Several ranges and a header that can't be parsed also mean the whole file, as the standard
    allows. Raises UnsatisfiableRangeError, which becomes status 416, if no byte of the file is in
    the range.
    """
    match = _RANGE.fullmatch(header) if header is not None else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":  # the last bytes
        length = min(int(match[2]), size)
        if length == 0:
            raise UnsatisfiableRangeError("the range has no bytes")
        return size - length, length
    first = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None
    if first >= size:
        raise UnsatisfiableRangeError(f"the file has {size} bytes")
    return first, min(last, size - 1) - first + 1
