"""Define objectives, and parse them from text."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

import msgspec

from netmeasure.errors import SpecError
from netmeasure.objectives.metrics import METRICS, parse_value

Operator = Literal["<", "<=", ">", ">="]
_FORM = re.compile(
    r"(?P<name>[a-z_0-9]+)(?:\.(?P<statistic>[a-z0-9.]+))?\s*(?P<operator>[<>]=?)\s*(?P<bound>.+)"
)
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
_HOLDS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        "<": lambda value, bound: value < bound,
        "<=": lambda value, bound: value <= bound,
        ">": lambda value, bound: value > bound,
        ">=": lambda value, bound: value >= bound,
    }
)


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a bound for a figure.

    Attributes:
        text: The objective's original text.
        metric: The name of the figure, of `METRICS`.
        statistic: Which value of several runs counts: "mean", "min", "max", "median", or a
            nearest-rank percentile such as "p99".
        operator: How the value must compare with the bound.
        bound: The bound, in the metric's unit.
    """

    text: str
    metric: str
    statistic: str
    operator: Operator
    bound: float

    @property
    def unit(self) -> str:
        """Return the unit of the bound: "bps", "ns", "ratio", "s_per_gb", "per_gb" or "count"."""
        return METRICS[self.metric].unit

    def holds(self, value: float) -> bool:
        """Return whether a value keeps the bound."""
        return _HOLDS[self.operator](value, self.bound)

    def value(self, values: Sequence[float]) -> float:
        """Return the statistic of some values, at least one."""
        ranked = sorted(values)
        if self.statistic == "mean":
            return math.fsum(ranked) / len(ranked)
        percent = {"min": 0.0, "median": 50.0, "max": 100.0}.get(self.statistic)
        if percent is None:
            percent = float(self.statistic[1:])
        return ranked[max(math.ceil(percent / 100 * len(ranked)), 1) - 1]


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """Return the objectives of a text, separated by commas. Raises SpecError for a mistake."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise SpecError("there is no objective", hint="write for example 'setup<1s, steady>9G'")
    return tuple(_parse(part) for part in parts)


def _parse(text: str) -> Objective:
    match = _FORM.fullmatch(text)
    if match is None:
        raise SpecError(
            f"{text!r} is not an objective", hint="write a figure, < or >, and a bound: setup<1s"
        )
    name, operator = match["name"], match["operator"]
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(METRICS)}"
        raise SpecError(f"{text!r}: there is no figure {name!r}", hint=hint)
    statistic = match["statistic"] or "mean"
    if statistic not in ("mean", "min", "max", "median") and not _PERCENTILE.fullmatch(statistic):
        raise SpecError(
            f"{text!r}: {statistic!r} is no statistic",
            hint="there are mean, min, max, median, and percentiles such as p99",
        )
    try:
        bound = parse_value(match["bound"].strip(), METRICS[name].unit)
    except SpecError as exc:
        raise SpecError(f"{text!r}: {exc}", hint=exc.hint) from None
    assert operator in get_args(Operator)
    return Objective(
        text=text,
        metric=name,
        statistic=statistic,
        operator=operator,  # type: ignore[arg-type]  # as asserted
        bound=bound,
    )
