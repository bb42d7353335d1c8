"""Format numbers as iperf3's text does: three significant digits and a unit.

Sizes are binary with iperf3's words (a "KByte" is 1024 bytes), bit rates decimal. `unit` is the
letter of -f: `k m g t` bits, `K M G T` bytes, `a` bits in the unit that fits.
"""

from __future__ import annotations

BYTES = ("Byte", "KByte", "MByte", "GByte", "TByte")
BITS = ("bit", "Kbit", "Mbit", "Gbit", "Tbit")
#: What -f takes; "a" is what iperf3 does without it.
UNITS = "kmgtKMGTa"


def size(count: float) -> str:
    """Return a number of bytes such as "1.69 GByte"; the rows add the plural's s."""
    return _adaptive(count, 1024, BYTES)


def bitrate(bits_per_second: float, unit: str = "a") -> str:
    """Return bit/s such as "14.5 Gbit", or in the unit asked for; the rows add "s/sec"."""
    if unit == "a":
        return _adaptive(bits_per_second, 1000, BITS)
    if unit in "kmgt":
        rank = "kmgt".index(unit) + 1
        return _three_digits(bits_per_second / 1000**rank, BITS[rank])
    rank = "KMGT".index(unit) + 1
    return _three_digits(bits_per_second / 8 / 1024**rank, BYTES[rank])


def percent(part: float, whole: float) -> str:
    """Return a percentage such as "0", "3.3" or "1e+02": two digits, as C's %.2g writes them."""
    return f"{100 * part / whole if whole else 0.0:.2g}"


def share(part: float, whole: float) -> float:
    """Return a part in percent of the whole; 0.0 if the whole is 0."""
    return 100 * part / whole if whole else 0.0


def _adaptive(value: float, base: int, words: tuple[str, ...]) -> str:
    rank = 0
    while value >= base and rank < len(words) - 1:
        value /= base
        rank += 1
    return _three_digits(value, words[rank])


def _three_digits(value: float, word: str) -> str:
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:4.{digits}f} {word}"
