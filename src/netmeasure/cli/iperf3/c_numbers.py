"""Read numbers as C's library does for iperf3: leading characters count, the rest is dropped."""

from __future__ import annotations

import math
import re

from netmeasure.errors import SpecError

_INTEGER = re.compile(r"[ \t-\r]*([+-]?[0-9]+)")
_BASE_0 = re.compile(r"[ \t-\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_HEX_FLOAT = r"0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?"
_DECIMAL = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_REAL = re.compile(
    rf"[ \t-\r]*([+-]?)(?:({_HEX_FLOAT})|({_DECIMAL})|(infinity|inf|nan))", re.IGNORECASE
)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1


def starts_with_integer(word: str) -> bool:
    """Return whether a word starts with decimal digits."""
    return _INTEGER.match(word) is not None


def atoi(word: str) -> int:
    """Return what atoi(3) does: the decimal digits at the start; 0 without any.

    A number that is too large for a C int becomes the largest one.
    """
    found = _INTEGER.match(word)
    return max(-_INT_MAX - 1, min(_INT_MAX, int(found[1]))) if found else 0


def strtol(word: str) -> tuple[int, str]:
    """Return the number that strtol(3) reads with base 0, and the rest of the word.

    0x in front means hexadecimal, 0 octal.
    """
    found = _BASE_0.match(word)
    if not found:
        return 0, word
    digits = found[2]
    if digits[:2] in ("0x", "0X"):
        number = int(digits, 16)
    else:
        number = int(digits, 8 if digits.startswith("0") else 10)
    number = -number if found[1] == "-" else number
    return max(-_LONG_MAX - 1, min(_LONG_MAX, number)), word[found.end() :]


def strtod(word: str) -> tuple[float | None, str]:
    """Return the number that strtod(3) reads, or None, and the rest of the word."""
    found = _REAL.match(word)
    if not found:
        return None, word
    sign, hexadecimal, decimal, name = found.groups()
    try:
        number = float.fromhex(hexadecimal) if hexadecimal else float(decimal or name)
    except OverflowError:
        number = math.inf
    return -number if sign == "-" else number, word[found.end() :]


def atof(word: str) -> float:
    """Return what atof(3) does: the number at the start; 0 without any."""
    return strtod(word)[0] or 0.0


def with_unit(word: str, base: int) -> int:
    """Return a number with a unit of one letter, k, m, g or t: powers of `base`.

    The fraction is dropped. Raises SpecError with iperf3's sentence.
    """
    number, rest = strtod(word)
    power = _POWERS.get(rest[:1].lower()) if rest else 0
    if number is None or power is None or not math.isfinite(number) or number < 0:
        raise SpecError(f"invalid unit value or suffix: '{word}'")
    return min(_LONG_MAX, int(number * base**power))
