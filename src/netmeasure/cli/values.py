"""Convert the values of options, as argparse types; errors have the library's sentences."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from netmeasure import units
from netmeasure.errors import SpecError

T = TypeVar("T")


def _value(parse: Callable[[str], T], name: str) -> Callable[[str], T]:
    """Return an argparse type that refuses values with the library's own sentence and hint."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except SpecError as exc:
            hint = f"; {exc.hint}" if exc.hint else ""
            raise argparse.ArgumentTypeError(f"{exc}{hint}") from None

    convert.__name__ = name  # argparse uses this name in the message of a ValueError
    return convert


bitrate = _value(units.parse_bitrate, "bitrate")
byte_size = _value(units.parse_size, "size")
seconds = _value(lambda text: units.parse_duration_ns(text) / 1e9, "duration")
count = _value(units.parse_count, "count")
share = _value(units.parse_share, "share")
ratio = _value(units.parse_ratio, "ratio")


def port_number(text: str, least: int = 1) -> int:
    """Return the port of another host."""
    digits = text.isascii() and text.isdigit() and len(text) <= 5
    if not digits or not least <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: it must be {least} to 65535")
    return int(text)


def own_port(text: str) -> int:
    """Return a port to listen on; 0: any free one."""
    return port_number(text, 0)


def port_range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    ports = port_number(low), port_number(high or low)
    if not 1 <= ports[0] <= ports[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of ports, such as 50000-50099")
    return ports


def networks(text: str) -> tuple[str, ...]:
    """Return networks that are separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def allowed_networks(text: str) -> tuple[str, ...]:
    """Return the networks whose clients are served. An empty list is refused, since it would mean
    all clients."""
    found = networks(text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no network; write for example 192.0.2.0/24"
        )
    return found


def number(text: str) -> int:
    """Return a whole number, decimal or, after 0x, hexadecimal."""
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


#: Differentiated-services code points by name: RFC 2474, 2597, 3246, 5865, 8622.
_DSCP = {
    **{f"cs{n}": 8 * n for n in range(8)},
    **{f"af{n}{drop}": 8 * n + 2 * drop for n in range(1, 5) for drop in range(1, 4)},
    "ef": 46,
    "va": 44,
    "le": 1,
}


def dscp(text: str) -> int:
    value = _DSCP.get(text.lower())
    if value is None:
        value = number(text) if text[:1].isdigit() else -1
    if not 0 <= value <= 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a DSCP: 0 to 63, or as ef, af41, cs1")
    return value


def cpus(text: str) -> tuple[int | None, int | None]:
    """Return the CPUs of this end and of the server in "1", "1,2" or ",2"; None: not given."""
    here, _, there = text.partition(",")
    if not (here or there) or not all(c.isascii() and c.isdigit() for c in here + there):
        raise argparse.ArgumentTypeError(f"{text!r} is not a CPU, such as 1, or two, such as 1,2")
    return int(here) if here else None, int(there) if there else None
