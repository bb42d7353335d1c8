"""Text to numbers and back: "10G" bits per second, "64KiB" bytes, "1.5s" nanoseconds, "2%".

Bit rates are decimal (1 Gbit/s = 10**9 bit/s). Sizes are binary when written KiB, MiB, GiB, and so
is the bare letter K, M, G that iperf3's users type; KB, MB, GB are decimal (SI, IEC 80000-13).
"""

from __future__ import annotations

import re
from decimal import Decimal

from netmeasure.errors import SpecError

MAX_VALUE = 2**63 - 1
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z/]*)\s*\Z")
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DURATION = {"": 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1, "min": 60 * 10**9}


def _split(text: str, what: str, example: str) -> tuple[Decimal, str]:
    match = _NUMBER.match(text)
    if match is None:
        raise SpecError(f"{text!r} is not {what}", hint=f"write for example {example}")
    return Decimal(match[1]), match[2]


def _exact(number: Decimal, factor: int, text: str, what: str) -> int:
    if number > MAX_VALUE // factor + 1 or (value := round(number * factor)) > MAX_VALUE:
        raise SpecError(f"{text[:40]!r} is too large for {what}")
    return value


def parse_bitrate(text: str) -> int:
    """Bits per second from "950M", "1.5G", "200 Mbit/s", "64000"."""
    number, unit = _split(text, "a bitrate", "200M or 1.5G")
    prefix = re.sub(r"(bits?(/s(ec)?)?|bps)\Z", "", unit, flags=re.IGNORECASE).lower()
    if prefix not in _DECIMAL:
        raise SpecError(f"{text!r} is not a bitrate: unknown unit {unit!r}", hint="use K, M, G, T")
    return _exact(number, _DECIMAL[prefix], text, "a bitrate")


def parse_size(text: str) -> int:
    """Bytes from "128K" (= 128 KiB), "1MiB", "1MB" (= 10**6), "1500"."""
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
    return _exact(number, factors[prefix], text, "a size")


def parse_count(text: str) -> int:
    """A whole number from "16", "1K" (= 1000), "2M"."""
    number, unit = _split(text, "a count", "4")
    if unit.lower() not in _DECIMAL:
        raise SpecError(f"{text!r} is not a count: unknown unit {unit!r}", hint="use K, M, G")
    scaled = number * _DECIMAL[unit.lower()]
    if scaled != scaled.to_integral_value():
        raise SpecError(f"{text!r} is not a whole number")
    return _exact(number, _DECIMAL[unit.lower()], text, "a count")


def parse_share(text: str) -> float:
    """A share of a whole from "2%" or "0.02"."""
    share = _ratio(text, "a share", "2% or 0.02")
    if share >= 1:
        raise SpecError(f"{text!r} is not less than the whole", hint="write for example 2% or 0.02")
    return share


def parse_ratio(text: str) -> float:
    """One rate over another from "95%" or "0.95"."""
    return _ratio(text, "a ratio", "95% or 0.95")


def _ratio(text: str, what: str, example: str) -> float:
    number, percent, rest = text.strip().partition("%")
    match = _NUMBER.match(number)
    if match is None or match[2] or rest:
        raise SpecError(f"{text!r} is not {what}", hint=f"write for example {example}")
    return float(match[1]) / (100 if percent else 1)


def parse_duration_ns(text: str) -> int:
    """Nanoseconds from "10" (seconds), "1.5s", "250ms", "2min"."""
    number, unit = _split(text, "a duration", "10, 1.5s or 250ms")
    if unit.lower() not in _DURATION:
        raise SpecError(f"{text!r} is not a duration: unknown unit {unit!r}", hint="use s, ms, min")
    return _exact(number, _DURATION[unit.lower()], text, "a duration")


def _scaled(value: float, base: int, names: tuple[str, ...], figures: int = 3) -> str:
    """So many significant digits and the largest unit that keeps the number at 1 or above."""
    least = 1 - 5 / 10 ** (figures + 1)  # rounds up to 1
    rank = 0
    while abs(value) >= base * least and rank < len(names) - 1:
        value /= base
        rank += 1
    digits = sum(abs(value) < 10**power * least for power in range(1, figures))
    return f"{value:.{digits}f} {names[rank]}"


def bitrate(bits_per_second: float | None, figures: int = 3) -> str:
    """ "957 Mbit/s"; "unknown" for None."""
    if bits_per_second is None:
        return "unknown"
    return _scaled(
        bits_per_second, 1000, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"), figures
    )


def size(count: float | None) -> str:
    """ "1.20 GiB"; "unknown" for None."""
    if count is None:
        return "unknown"
    if round(count) < 1024:
        return f"{count:.0f} B"
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def duration(nanoseconds: float | None) -> str:
    """ "3.06 s", "412 us"; "unknown" for None."""
    if nanoseconds is None:
        return "unknown"
    for factor, name in ((10**9, "s"), (10**6, "ms"), (10**3, "us")):
        if abs(nanoseconds) >= factor * 0.9995:
            return _scaled(nanoseconds / factor, 10**9, (name,))
    return f"{nanoseconds:.0f} ns"
