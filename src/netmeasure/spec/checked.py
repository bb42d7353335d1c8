"""Values are checked when they are made, however they are made."""

from __future__ import annotations

from typing import Literal, get_args, get_origin

import msgspec

from netmeasure.errors import SpecError
from netmeasure.spec.words import MAX_DEVICE_NAME


def within(name: str, value: float | None, low: float, high: float, unit: str) -> None:
    # `not (low <= value)` also refuses NaN
    if value is not None and not low <= value <= high:
        value = max(min(value, 1e300), -1e300)  # a whole number may be too long to be shown
        raise SpecError(f"{name} is {value:.12g}: it must be {low:g} to {high:g} {unit}".rstrip())


def check_device(name: str | None) -> None:
    """Raise SpecError for what can't be the name of a network interface."""
    if name is not None and not (
        0 < len(name.encode()) <= MAX_DEVICE_NAME and not any(c.isspace() or c == "/" for c in name)
    ):
        raise SpecError(f"{name!r} is not the name of a network interface")


def check_keepalive(keepalive: tuple[int, int, int] | None) -> None:
    """Raise SpecError for (idle s, interval s, probes) that the kernel would not take."""
    if keepalive is not None:
        idle_s, interval_s, probes = keepalive
        within("keepalive's idle time", idle_s, 1, 32_767, "s")
        within("keepalive's interval", interval_s, 1, 32_767, "s")
        within("keepalive's number of probes", probes, 1, 127, "")


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Checks its fields' types, then their values, however it was made."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(type(self)):
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
        """Raise SpecError for a value out of range."""
