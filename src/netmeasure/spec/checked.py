"""Check the values of every specification when it is created."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, TypeVar, get_args, get_origin

import msgspec

from netmeasure import units
from netmeasure.errors import SpecError
from netmeasure.spec.words import MAX_DEVICE_NAME

Kind = TypeVar("Kind", bound=msgspec.Struct)

#: The functions that show values with a prefix, such as 10G.
_SHOWN: dict[str, Callable[[float], str]] = {
    "bytes": units.size,
    "bit/s": units.bitrate,
}


def within(name: str, value: float | None, low: float, high: float, unit: str) -> None:
    """Raise SpecError if a value is outside of its range, or not a number.

    Args:
        name: The name of the value, such as "MSS".
        value: The value; None is never refused.
        low: The least that it may be.
        high: The most that it may be.
        unit: The value's unit, such as "bytes"; "": no unit.
    """
    # `not (low <= value)` also refuses NaN
    if value is not None and not low <= value <= high:
        value = max(min(value, 1e300), -1e300)  # a whole number may be too long to be shown
        shown = _shown(value, unit)
        if shown in (_shown(low, unit), _shown(high, unit)):  # the value differs in a later digit
            shown = f"{value:.12g} {unit}".rstrip()
        raise SpecError(
            f"{name} is {shown}: it must be {_range(_shown(low, unit), _shown(high, unit))}"
        )


def _shown(value: float, unit: str) -> str:
    """Return a value with its unit, in the prefix that suits its size."""
    show = _SHOWN.get(unit)
    if show is not None and abs(value) < 1e21:
        return show(value)
    return f"{value:.12g} {unit}".rstrip()


def _range(low: str, high: str) -> str:
    """Return text such as "1 B to 512 MiB" or "0 to 600 s", in which a common unit is written
    once."""
    number, _, unit = low.partition(" ")
    return f"{number} to {high}" if unit and high.endswith(f" {unit}") else f"{low} to {high}"


def encoded(what: str, text: str) -> bytes:
    """Return a text as UTF-8; bytes of a command line that are not UTF-8 are unchanged (PEP 383).
    Raise SpecError if the text can't be encoded."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise SpecError(f"{what} holds half of a surrogate pair, which is no character") from None


def is_utf8(name: str) -> bool:
    """Return whether a text has a form in UTF-8, which names of the kernel need."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def check_device(name: str | None) -> None:
    """Raise SpecError if a text can't be the name of a network interface (netdevice(7))."""
    if name is not None and not (
        is_utf8(name)
        and 0 < len(name.encode()) <= MAX_DEVICE_NAME
        and not any(c.isspace() or c == "/" for c in name)
    ):
        raise SpecError(f"{name!r} is not the name of a network interface")


def check_keepalive(keepalive: tuple[int, int, int] | None) -> None:
    """Raise SpecError if the kernel would refuse (idle s, interval s, probes); see tcp(7)."""
    if keepalive is not None:
        idle_s, interval_s, probes = keepalive
        within("keepalive's idle time", idle_s, 1, 32_767, "s")
        within("keepalive's interval", interval_s, 1, 32_767, "s")
        within("keepalive's number of probes", probes, 1, 127, "")


#: The fields of each kind of structure, cached since msgspec evaluates all annotations at every
#: call.
_fields = cache(msgspec.structs.fields)


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Check the types of a specification's fields, then their values, when it is created."""

    def __post_init__(self) -> None:
        for field in _fields(type(self)):
            value = getattr(self, field.name)
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as exc:
                name = field.name.removesuffix("_s").replace("_", " ")
                choices = get_args(field.type)
                kind = "one of " + ", ".join(map(str, choices))
                if get_origin(field.type) is not Literal:
                    kind = str(exc).removeprefix("Expected ").partition(",")[0].replace("`", "")
                raise SpecError(f"{name} is {value!r}: it must be {kind}") from None
        self._check()

    def _check(self) -> None:
        """Raise SpecError if a value is out of range, or two values do not fit together."""


def documented(kind: type[Kind]) -> type[Kind]:
    """Insert the attributes from the docstring of a specification's base class into its own
    docstring, before its own attributes."""
    of_base, own = kind.__base__.__doc__, kind.__doc__
    if of_base is not None and own is not None:  # there are no docstrings under python -OO
        mark = "Attributes:\n"
        shared = of_base.partition(mark)[2].rstrip()
        kind.__doc__ = own.replace(mark, f"{mark}{shared}\n", 1)
    return kind
