"""Refuse saved documents with values that are impossible in a measurement.

The types of all fields have already been checked. This module checks the properties on which every
reader relies and which an edited or damaged file may lack: columns of equal length, stretches that
do not end before they start, lengths above 0, and numbers small enough to compute with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from netmeasure.errors import ResultFormatError
from netmeasure.result.bottleneck import Limits
from netmeasure.result.ceiling import Ceiling
from netmeasure.result.datagrams import DatagramHistory
from netmeasure.result.flows import FlowInterval
from netmeasure.result.histogram import Histogram
from netmeasure.result.pauses import Pause
from netmeasure.result.resources import HostUse, Resources, ThreadCpu
from netmeasure.result.round_trips import LatencySeries
from netmeasure.result.sides import Series, TcpInfo
from netmeasure.result.steady import Steady, Stretch

#: No figure of a measurement is larger, in any of the units that results use.
MAX_FIGURE = 10**21


def check_plausible(document: msgspec.Struct) -> None:
    """Raise ResultFormatError if a document has a value that is impossible in a measurement.

    The message names the value's place, such as "client.streams[0].tcp_info".
    """
    _check(document, "")


def _check(value: object, place: str) -> None:
    """Check a value and all values in it."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            if not _is_sound(item := getattr(value, name)):
                _check(item, f"{place}.{name}" if place else name)
        rule = _RULES.get(type(value))
        if rule is not None and (wrong := rule(value)):
            raise ResultFormatError(f"not a netmeasure result: {place}: {wrong}")
    elif isinstance(value, tuple):
        if _are_sound_integers(value):
            return
        for number, item in enumerate(value):
            if not _is_sound(item):
                _check(item, f"{place}[{number}]")
    elif isinstance(value, int | float):
        raise ResultFormatError(f"not a netmeasure result: {place} is too large")


def _are_sound_integers(values: tuple[Any, ...]) -> bool:
    """Return whether all values are integers within the limits, as in the long columns."""
    if set(map(type, values)) != {int}:
        return False
    return bool(min(values) >= -MAX_FIGURE and max(values) <= MAX_FIGURE)


def _is_sound(value: object) -> bool:
    """Return whether a value is a plain figure within the limits, as most values are."""
    if isinstance(value, int | float):
        return abs(value) <= MAX_FIGURE  # NaN is not
    return value is None or isinstance(value, str)


# ---- rules: each returns what is wrong with a value, or "" --------------------------------------


def _columns(value: msgspec.Struct) -> str:
    """Check that all columns are as long as that of the moments."""
    columns = {
        name: column
        for name in value.__struct_fields__
        if isinstance(column := getattr(value, name), tuple)
    }
    length = len(columns["at_ns"])
    for name, column in columns.items():
        if len(column) != length:
            return f"{name} has {len(column)} items, and at_ns has {length}"
    return ""


def _resources(value: Resources) -> str:
    if wrong := _columns(value) or _positive(value, "cpus"):
        return wrong
    if not value.at_ns:
        return "it has no samples"
    return "at_ns goes back in time" if _goes_back(value.at_ns) else ""


def _goes_back(moments: Sequence[int]) -> bool:
    return any(later < earlier for earlier, later in pairwise(moments))


def _stretch(value: Stretch | Steady | Pause) -> str:
    return "it ends before it starts" if value.end_ns < value.start_ns else ""


def _ceiling(value: Ceiling) -> str:
    if not value.packet_bytes:
        return "it has no packets"
    return _positive(
        value, "payload_bytes", "link_bytes", "right_payload_bytes", "right_link_bytes"
    )


def _limits(value: Limits) -> str:
    """Check that no figure is below 0: they are shares of time, delays and amounts."""
    for name in value.__struct_fields__:
        figure = getattr(value, name)
        if isinstance(figure, int | float) and figure < 0:
            return f"{name} is {figure}: it can't be below 0"
    return ""


def _histogram(value: Histogram) -> str:
    if len(value.counts) != len(value.from_ns):
        return f"counts has {len(value.counts)} items, and from_ns has {len(value.from_ns)}"
    if any(number < 0 for number in (*value.counts, *value.from_ns)):
        return "a count or a duration is below 0"
    ends = value.min_ns is None or value.max_ns is None
    return "it has counts, and no shortest or longest" if value.counts and ends else ""


def _latency_series(value: LatencySeries) -> str:
    if len(value.sum_ns) != len(value.transactions):
        return f"sum_ns has {len(value.sum_ns)} items, transactions {len(value.transactions)}"
    return _positive(value, "width_ns")


def _positive(value: msgspec.Struct, *names: str) -> str:
    """Check that these fields are above 0."""
    for name in names:
        if getattr(value, name) <= 0:
            return f"{name} is {getattr(value, name)}: it must be above 0"
    return ""


_RULES: dict[type, Callable[..., str]] = {
    Ceiling: _ceiling,
    DatagramHistory: _columns,
    FlowInterval: _stretch,
    Histogram: _histogram,
    HostUse: lambda value: _positive(value, "duration_ns", "cpus"),
    LatencySeries: _latency_series,
    Limits: _limits,
    Pause: _stretch,
    Resources: _resources,
    Series: lambda value: _positive(value, "width_ns"),
    Steady: _stretch,
    Stretch: _stretch,
    TcpInfo: _columns,
    ThreadCpu: _columns,
}
