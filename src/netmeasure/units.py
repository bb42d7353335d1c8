"""Convert text to numbers and back: "10G" bit/s, "64KiB" bytes, "1.5s" in nanoseconds, "2%".

Bit rates are decimal (1 Gbit/s = 10**9 bit/s). Sizes in KiB, MiB, GiB are binary, and so are the
single letters K, M, G as in iperf3; KB, MB, GB are decimal (SI, IEC 80000-13).

A positive value that is too small for its unit is refused, since the nearest whole number, 0, often
means "unlimited".
"""

from __future__ import annotations

import re
from decimal import Decimal

from netmeasure.errors import SpecError

MAX_VALUE = 2**63 - 1
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z/]*)\s*\Z")
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DURATION = {
    "": 10**9,
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
}


def _split(text: str, what: str, example: str) -> tuple[Decimal, str]:
    """Return the number at the start of a text and the unit behind it, or raise SpecError."""
    match = _NUMBER.match(text)
    if match is None:
        raise SpecError(f"{text!r} is not {what}", hint=f"write for example {example}")
    return Decimal(match[1]), match[2]


def _exact(number: Decimal, factor: int, text: str, what: str, unit: str = "") -> int:
    """Return a number times a factor, rounded to a whole number.

    Args:
        number: The number as it was written; not negative.
        factor: The value of its unit.
        text: The whole text; error messages quote it.
        what: The kind of value that the text should be, such as "a bitrate".
        unit: The unit of the result, such as "bit/s".

    Raises:
        SpecError: The result is above `MAX_VALUE`, or is 0 although the number is not.
    """
    if number > MAX_VALUE // factor + 1 or (value := round(number * factor)) > MAX_VALUE:
        raise SpecError(f"{text[:40]!r} is too large for {what}")
    if value == 0 and number > 0:
        raise SpecError(f"{text[:40]!r} is too small for {what}", hint=f"the smallest is 1 {unit}")
    return value


def parse_bitrate(text: str) -> int:
    """Return the bits per second of a text such as "950M", "1.5G", "200 Mbit/s" or "64000".

    Raises SpecError for anything else, and for a rate above 0 that rounds to 0.
    """
    number, unit = _split(text, "a bitrate", "200M or 1.5G")
    prefix = re.sub(r"(bits?(/s(ec)?)?|bps)\Z", "", unit, flags=re.IGNORECASE).lower()
    if prefix not in _DECIMAL:
        raise SpecError(f"{text!r} is not a bitrate: unknown unit {unit!r}", hint="use K, M, G, T")
    return _exact(number, _DECIMAL[prefix], text, "a bitrate", "bit/s")


def parse_size(text: str) -> int:
    """Return the bytes of a text: "128K" (= 128 KiB), "1MiB", "1MB" (= 10**6) or "1500".

    Raises SpecError for anything else.
    """
    number, unit = _split(text, "a size", "128K or 1MiB")
    prefix = unit.lower()
    if prefix.endswith("ib"):
        factors, prefix = _BINARY, prefix[:-2]
    elif prefix.endswith("b"):
        factors, prefix = _DECIMAL, prefix[:-1]
    else:
        factors = _BINARY
    if prefix not in factors or (factors is _BINARY and not prefix and unit):
        raise SpecError(f"{text!r} is not a size: unknown unit {unit!r}", hint="use K, MiB or MB")
    return _exact(number, factors[prefix], text, "a size", "byte")


def parse_count(text: str) -> int:
    """Return the whole number of a text such as "16", "1K" (= 1000) or "2M".

    Raises SpecError for anything else.
    """
    number, unit = _split(text, "a count", "4")
    if unit.lower() not in _DECIMAL:
        raise SpecError(f"{text!r} is not a count: unknown unit {unit!r}", hint="use K, M, G")
    scaled = number * _DECIMAL[unit.lower()]
    if scaled != scaled.to_integral_value():
        raise SpecError(f"{text!r} is not a whole number")
    return _exact(number, _DECIMAL[unit.lower()], text, "a count")


def parse_share(text: str) -> float:
    """Parse a share from 0 to less than 1, from a text such as "2%" or "0.02".

    Raises SpecError for anything else.
    """
    share = _ratio(text, "a share", "2% or 0.02")
    if share >= 1:
        raise SpecError(f"{text!r} is not less than 100 %", hint="write for example 2% or 0.02")
    return share


def parse_ratio(text: str) -> float:
    """Parse the ratio of two rates, from a text such as "95%" or "0.95".

    Raises SpecError for anything else.
    """
    return _ratio(text, "a ratio", "95% or 0.95")


def _ratio(text: str, what: str, example: str) -> float:
    """Return the number that a text writes with or without a percent sign."""
    number, percent, rest = text.strip().partition("%")
    match = _NUMBER.match(number)
    if match is None or match[2] or rest:
        raise SpecError(f"{text!r} is not {what}", hint=f"write for example {example}")
    return float(match[1]) / (100 if percent else 1)


def parse_duration_ns(text: str) -> int:
    """Return the nanoseconds of a text: "10" (seconds), "1.5s", "250ms", "2m" or "1h".

    Minutes are written m or min, never M, which means mega elsewhere. Raises SpecError for anything
    else.
    """
    number, unit = _split(text, "a duration", "10, 1.5s, 250ms or 2m")
    if unit == "M" or unit.lower() not in _DURATION:
        raise SpecError(
            f"{text!r} is not a duration: unknown unit {unit!r}", hint="use h, m, s, ms, us or ns"
        )
    return _exact(number, _DURATION[unit.lower()], text, "a duration", "ns")


def _scaled(value: float, base: int, names: tuple[str, ...], figures: int = 3) -> str:
    """Return a value with its significant digits and the largest unit that keeps it at 1 or above.

    Args:
        value: The value in the smallest unit.
        base: The ratio of each unit to the one before it.
        names: The units, the smallest first.
        figures: How many significant digits to show.
    """
    least = 1 - 5 / 10 ** (figures + 1)  # rounds up to 1
    rank = 0
    while abs(value) >= base * least and rank < len(names) - 1:
        value /= base
        rank += 1
    digits = sum(abs(value) < 10**power * least for power in range(1, figures))
    return f"{value:.{digits}f} {names[rank]}"


def bitrate(bits_per_second: float | None, figures: int = 3) -> str:
    """Return a bit rate as text such as "957 Mbit/s"; "unknown" for None.

    `figures` is the number of significant digits.
    """
    if bits_per_second is None:
        return "unknown"
    return _scaled(
        bits_per_second, 1000, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"), figures
    )


def size(count: float | None) -> str:
    """Return a number of bytes as text such as "1.20 GiB"; "unknown" for None."""
    if count is None:
        return "unknown"
    if round(count) < 1024:
        return f"{count:.0f} B"
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def percent(share: float) -> str:
    """Return a share as text such as "3.1 %". Shares from 99.5 % on are in whole percents."""
    return f"{100 * share:.2g} %" if abs(share) < 0.995 else f"{100 * share:.0f} %"


def duration(nanoseconds: float | None) -> str:
    """Return nanoseconds as text such as "3.06 s" or "412 us"; "unknown" for None."""
    if nanoseconds is None:
        return "unknown"
    for factor, name in ((10**9, "s"), (10**6, "ms"), (10**3, "us")):
        if abs(nanoseconds) >= factor * 0.9995:
            return _scaled(nanoseconds / factor, 10**9, (name,))
    return f"{nanoseconds:.0f} ns"
