"""What options take, as argparse types: refusals carry the library's own words, in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeVar

from netmeasure import units
from netmeasure.errors import SpecError

T = TypeVar("T")


class OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"netmeasure: {message} (see {self.prog} --help)\n")


def _value(parse: Callable[[str], T], name: str) -> Callable[[str], T]:
    """An argparse type whose refusals carry the library's own words."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except SpecError as exc:
            hint = f"; {exc.hint}" if exc.hint else ""
            raise argparse.ArgumentTypeError(f"{exc}{hint}") from None

    convert.__name__ = name  # argparse names it in the message of a ValueError
    return convert


bitrate = _value(units.parse_bitrate, "bitrate")
byte_size = _value(units.parse_size, "size")
seconds = _value(lambda text: units.parse_duration_ns(text) / 1e9, "duration")
count = _value(units.parse_count, "count")


def share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, such as 0.95") from None


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: it must be 1 to 65535")
    return int(text)


def port_range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    ports = port_number(low), port_number(high or low)
    if not 1 <= ports[0] <= ports[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of ports, such as 50000-50099")
    return ports
