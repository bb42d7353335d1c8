"""Turn the settings of a test in a plan into specifications, one for each point of its sweeps.

A setting has the name of its field in the specification, or in its `Timing` or `SocketOptions`. A
text may have a unit, such as "1G", "64KiB" or "5s". A list is a sweep, with one test for each of
its values, and so is a range such as {from = 1, to = 16, factor = 2}.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_origin

import msgspec

from netmeasure import units
from netmeasure.errors import SpecError
from netmeasure.spec import (
    Deadlines,
    FtpSpec,
    HttpSpec,
    Link,
    RequestSpec,
    RrSpec,
    SocketOptions,
    Spec,
    TcpSpec,
    Timing,
    UdpSpec,
)

KINDS: Mapping[str, type[Spec]] = {
    "tcp": TcpSpec,
    "udp": UdpSpec,
    "rr": RrSpec,
    "http": HttpSpec,
    "ftp": FtpSpec,
    "requests": RequestSpec,
}
#: The most values of a sweep. More are probably a mistake.
MAX_VALUES = 200
#: The most points of all sweeps of a test together. The runs of more would take weeks.
MAX_POINTS = 10_000
_SHARED: Mapping[str, type[msgspec.Struct]] = {"timing": Timing, "options": SocketOptions}
_TABLES: Mapping[str, type[msgspec.Struct]] = {"deadlines": Deadlines, "link": Link}
#: Fields that can't be in a plan: secrets, and texts for the other end.
_NOT_PLANNED = {"credentials", "secret", "extra_data", "server_output", "url"}
#: Settings that a kind of test does not have, although its specification has their fields.
_NOT_OF: Mapping[type[Spec], set[str]] = {
    TcpSpec: {"dont_fragment"},
    UdpSpec: {"congestion", "mss_bytes", "no_delay", "multipath"},
    RrSpec: {"dont_fragment", "direction", "total_bytes"},
    HttpSpec: {"flow_label", "multipath", "keepalive", "dont_fragment", "endless", "total_blocks"},
    FtpSpec: {"flow_label", "multipath", "keepalive", "dont_fragment", "endless", "total_blocks"},
    RequestSpec: {
        "flow_label",
        "multipath",
        "keepalive",
        "dont_fragment",
        "bind_port",
        "endless",
        "total_bytes",
    },
}
#: Names of options that users may write, and the settings that they mean.
_MEANT = {
    "time": "duration_s",
    "duration": "duration_s",
    "bytes": "total_bytes",
    "parallel": "streams",
    "bitrate": "target_bps",
    "bandwidth": "target_bps",
    "rate": "target_bps",
    "packet_rate": "target_pps",
    "transaction_rate": "target_tps",
    "length": "block_bytes",
    "block_size": "block_bytes",
    "window": "window_bytes",
    "mss": "mss_bytes",
    "omit": "omit_s",
    "request_size": "request_bytes",
    "response_size": "response_bytes",
    "again": "repeat",
    "connections": "streams",
    "request_rate": "target_rps",
}
_RANGE = {"from", "to", "step", "factor"}

Settings = Mapping[str, Any]
#: A point of the sweeps: the swept settings with their values, and all settings.
Point = tuple[dict[str, Any], dict[str, Any]]


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


@cache
def names(kind: type[Spec]) -> dict[str, Any]:
    """Return the settings that tests of a kind have, with the types of their values."""
    found: dict[str, Any] = {}
    for name, of in _fields(kind).items():
        if name in _SHARED:
            found |= _fields(_SHARED[name])
        elif name not in _NOT_PLANNED:
            found[name] = of
    return {name: of for name, of in found.items() if name not in _NOT_OF[kind]}


def unknown_setting(name: str, known: Sequence[str]) -> str:
    """Return the message for an unknown setting."""
    meant = _MEANT.get(name)
    if meant not in known:
        close = difflib.get_close_matches(name, known, 1, 0.6)
        meant = close[0] if close else None
    return f"there is no setting {name!r}" + (f": did you mean {meant!r}?" if meant else "")


def points(kind: type[Spec], settings: Settings, refuse: Callable[[str], None]) -> Iterator[Point]:
    """Yield the settings at each point of the sweeps; `refuse` is called with each mistake."""
    known = names(kind)
    swept: dict[str, list[Any]] = {}
    fixed: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            refuse(unknown_setting(name, list(known)))
            continue
        try:
            values = _values(name, value, known[name])
            if values is None:
                fixed[name] = _converted(name, value, known[name])
            else:
                swept[name] = [_converted(name, one, known[name]) for one in values]
        except SpecError as exc:
            refuse(exc.advice)
    if (count := math.prod(map(len, swept.values()))) > MAX_POINTS:
        refuse(f"its sweeps have {count} combinations: at most {MAX_POINTS} are possible")
        return
    for chosen in itertools.product(*swept.values()):
        here = dict(zip(swept, chosen, strict=True))
        yield here, fixed | here


def make_spec(kind: type[Spec], settings: Settings, url: str = "") -> Spec:
    """Return the specification that converted settings describe. Raises SpecError."""
    fields: dict[str, Any] = {"url": url} if url else {}
    parts: dict[str, dict[str, Any]] = {name: {} for name in _SHARED}
    for name, value in settings.items():
        part = next((p for p, of in _SHARED.items() if name in _fields(of)), None)
        if part is None:
            fields[name] = value
        else:
            parts[part][name] = value
    for part, of in _SHARED.items():
        if parts[part]:
            fields[part] = of(**parts[part])
    return kind(**fields)


def shown(name: str, value: Any) -> str:
    """Return the part of a test's name for a swept setting, such as "streams=4"."""
    if name.endswith("_bps") and value is not None:
        return f"{name.removesuffix('_bps')}={units.bitrate(value).replace(' ', '')}"
    if name.endswith("_bytes") and value is not None:
        return f"{name.removesuffix('_bytes')}={units.size(value).replace(' ', '')}"
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def _values(name: str, value: Any, of: Any) -> list[Any] | None:
    """Return the values of a sweep; None: the setting has a single value."""
    if isinstance(value, list):
        if _is_tuple(of) and not any(isinstance(one, list) for one in value):
            return None
        if not value:
            raise SpecError(f"{name} has an empty list")
        found = value
    elif isinstance(value, dict) and name not in _TABLES:
        found = _range(name, value, of)
    else:
        return None
    if len(found) > MAX_VALUES:
        raise SpecError(f"{name} has {len(found)} values: it must be {MAX_VALUES} at most")
    return found


def _range(name: str, table: Settings, of: Any) -> list[Any]:
    """Return the values of {from, to, step} or {from, to, factor}, with both ends."""
    if extra := sorted(table.keys() - _RANGE):
        raise SpecError(f"{name}: {unknown_setting(extra[0], sorted(_RANGE))}")
    ways = [way for way in ("step", "factor") if way in table]
    if not {"from", "to"} <= table.keys() or len(ways) != 1:
        raise SpecError(f"{name} is no range: write {{from = 1, to = 8, factor = 2}}, or step")
    low, high = (_number(name, table[end], of) for end in ("from", "to"))
    way = ways[0]
    by = _number(name, table[way], of) if way == "step" else _factor(name, table[way])
    if not 0 < low <= high or not (by > 0 if way == "step" else by > 1):
        raise SpecError(f"{name} is a range that does not grow: from {low:g} to {high:g}")
    if way == "step":
        steps = (high - low) / by * (1 + 1e-12)
    else:
        steps = math.log(high / low) / math.log(by) + 1e-9
    if not steps < MAX_VALUES:
        raise SpecError(f"{name} has {steps + 1:.4g} values: it must be {MAX_VALUES} at most")
    count = math.floor(steps) + 1
    values = [low + by * i if way == "step" else low * by**i for i in range(count)]
    whole = float not in _kinds(of)
    return [round(value) if whole else value for value in values]


def _factor(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"{name}: factor is {value!r}: it must be a number above 1")
    return float(value)


def _number(name: str, value: Any, of: Any) -> float:
    value = _converted(name, value, of)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"{name} is not a number, so it can't have a range: write a list")
    return float(value)


def _converted(name: str, value: Any, of: Any) -> Any:
    """Return a value in the type of its field: a text with a unit as a number, a list as a
    tuple."""
    if name in _TABLES:
        return _table(name, value, _TABLES[name])
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, str) or str in _kinds(of) or not {int, float} & set(_kinds(of)):
        return value
    try:
        return _parsed(name, value)
    except SpecError as exc:
        raise SpecError(f"{name} is {value!r}: {exc.advice}") from None


def _parsed(name: str, text: str) -> int | float:
    if name == "until":
        return units.parse_share(text)
    if name.endswith("_bps"):
        return units.parse_bitrate(text)
    if name.endswith("_bytes"):
        return units.parse_size(text)
    if name.endswith("_s"):
        return units.parse_duration_ns(text) / 1e9
    return units.parse_count(text)


def _table(name: str, value: Any, of: type[msgspec.Struct]) -> msgspec.Struct:
    if not isinstance(value, dict):
        raise SpecError(f"{name} is {value!r}: it must be a table, such as [test.{name}]")
    known = _fields(of)
    for one in value:
        if one not in known:
            raise SpecError(f"{name}: {unknown_setting(one, list(known))}")
    return of(**{one: _converted(one, given, known[one]) for one, given in value.items()})


def _kinds(of: Any) -> tuple[Any, ...]:
    return get_args(of) or (of,)


def _is_tuple(of: Any) -> bool:
    return any(get_origin(one) is tuple for one in (of, *get_args(of)))
