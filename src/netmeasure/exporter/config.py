"""Read the configuration of an exporter from TOML, and report its first mistake."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from netmeasure import units
from netmeasure.campaign.settings import KINDS, make_spec, points, unknown_setting
from netmeasure.campaign.toml import parse_toml
from netmeasure.client import fetch_spec
from netmeasure.errors import SpecError
from netmeasure.spec import FetchSpec, FtpSpec, HttpSpec, RequestSpec, RrSpec, Spec, TcpSpec, Timing
from netmeasure.spec.target import is_url, parse_target

#: The placeholder for the target in a module's URL.
HOST = "{host}"
DEFAULT_TIMEOUT_S = 60.0
DEFAULT_AT_ONCE = 1
#: The most probes that run or wait; a further probe is refused at once.
DEFAULT_PROBES = 50
DEFAULT_EVERY_S = 300.0
#: The default of `jitter`, as a share of the interval: a scheduled run begins up to this much
#: later.
JITTER_SHARE = 0.1
MAX_SCHEDULED = 10_000
#: Labels that all metrics have, so that a test's own labels can't have these names.
OWN_LABELS = ("target", "kind", "direction", "module", "code", "phase", "outcome")
_LABEL = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,63}")
_END_OF_AUTHORITY = re.compile(r"[/?#]")
_TOP = ("at_once", "max_probes", "targets", "modules", "scheduled")
_OF_SCHEDULED = ("target", "module", "every", "jitter", "path", "shared", "labels")


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a module: everything that describes a test except the target.

    Attributes:
        name: The module's name in requests and metrics.
        spec: The specification; in a module for URLs it has no URL of a target yet.
        url: The URL with `{host}` for the target; "": the target is itself a URL, or the test needs
            none.
        timeout_s: The time limit of a run, in seconds.
    """

    name: str
    spec: Spec
    url: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S

    def aimed(self, target: str) -> tuple[str, Spec]:
        """Return the address and the specification for a target. Raises SpecError."""
        if not isinstance(self.spec, FetchSpec | RequestSpec):
            if is_url(target):
                raise SpecError(f"module {self.name!r} takes a host, not {target!r}")
            parse_target(target)
            return target, self.spec
        if not self.url:
            if not is_url(target):
                raise SpecError(f"module {self.name!r} takes a URL, not {target!r}")
            return target, fetch_spec(target, self.spec)
        address = self.url.replace(HOST, self._authority(target))
        return address, fetch_spec(address, self.spec)

    def _authority(self, target: str) -> str:
        """Return a target in the form that this module's URL takes. Raises SpecError."""
        host, port = parse_target(target)
        bare = f"[{host}]" if ":" in host else host
        if target in (host, bare):
            return bare
        if f"{HOST}:" in self.url:
            raise SpecError(
                f"the URL of module {self.name!r} has a port", hint=f"write {bare}, not {target}"
            )
        return f"{bare}:{port}"


class Scheduled(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a test that is repeated by schedule.

    Attributes:
        target: The host, "host:port" or URL.
        module: The module, which describes the test.
        every_s: The time from one start to the next.
        jitter_s: The most by which each start is delayed, at random.
        path: The name of the path. Tests of one path never run at the same time; None: this test
            may run beside others.
        labels: Additional labels of the test's metrics, by name.
    """

    target: str
    module: Module
    every_s: float
    jitter_s: float
    path: str | None
    labels: Mapping[str, str] = {}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the configuration of an exporter.

    Attributes:
        modules: The modules by name.
        scheduled: The tests that are repeated.
        at_once: How many tests run at the same time at most, on all paths together.
        max_probes: How many probes may run or wait.
        targets: Patterns of the targets that may be probed; empty: all.
    """

    modules: Mapping[str, Module]
    scheduled: tuple[Scheduled, ...] = ()
    at_once: int = DEFAULT_AT_ONCE
    max_probes: int = DEFAULT_PROBES
    targets: tuple[str, ...] = ()

    def may_probe(self, target: str) -> bool:
        """Return whether a target may be probed."""
        return not self.targets or any(fnmatchcase(target, one) for one in self.targets)


def shown(target: str) -> str:
    """Return a target without the user and the password of a URL, fit for metrics."""
    if not is_url(target):
        return target
    authority = _authority_of(target)
    return target.replace(authority, authority.rpartition("@")[2], 1)


def path_of(target: str) -> str:
    """Return the default name of a target's path, which is its host. Raises SpecError."""
    if is_url(target):
        target = _authority_of(target).rpartition("@")[2]
    return parse_target(target)[0].lower()


def _authority_of(url: str) -> str:
    """Return a URL's "user:password@host:port"."""
    return _END_OF_AUTHORITY.split(url.partition("://")[2], maxsplit=1)[0]


def default_config() -> Config:
    """Return the configuration without a file: some modules, and no scheduled test."""
    short = Timing(duration_s=3.0)
    modules = [
        Module(name="tcp_upload", spec=TcpSpec(timing=short)),
        Module(name="tcp_download", spec=TcpSpec(timing=short, direction="download")),
        Module(name="round_trips", spec=RrSpec(timing=short)),
        Module(name="http", spec=HttpSpec(timing=short)),
        Module(name="ftp", spec=FtpSpec(timing=short)),
    ]
    return Config(modules={one.name: one for one in modules})


def read_config(data: bytes | str) -> Config:
    """Return the configuration of a TOML document. Raise SpecError with its first mistake."""
    top = parse_toml(data)
    _known("the top level", top, _TOP)
    tables = top.get("modules", {})
    if not isinstance(tables, dict):
        raise SpecError("modules is no table: write [modules.NAME]")
    modules = {name: _module(name, table) for name, table in tables.items()}
    usual = default_config().modules
    entries = top.get("scheduled", [])
    if not isinstance(entries, list) or len(entries) > MAX_SCHEDULED:
        raise SpecError(f"scheduled is no list of at most {MAX_SCHEDULED}: write [[scheduled]]")
    found = tuple(
        _scheduled(number, entry, {**usual, **modules}) for number, entry in enumerate(entries, 1)
    )
    seen: dict[Any, int] = {}
    for number, one in enumerate(found, 1):
        key = (one.target, one.module.name, tuple(sorted(one.labels.items())))
        if (before := seen.setdefault(key, number)) != number:
            raise SpecError(
                f"scheduled test {number} is the same as {before}",
                hint="give one of them another label",
            )
    return Config(
        modules={**usual, **modules},
        scheduled=found,
        at_once=_count(top, "at_once", DEFAULT_AT_ONCE, 1000),
        max_probes=_count(top, "max_probes", DEFAULT_PROBES, 10_000),
        targets=_patterns(top),
    )


# ---- parts ---------------------------------------------------------------------------------------


def _module(name: str, table: Any) -> Module:
    where = f"module {name!r}"
    if not isinstance(table, dict):
        raise SpecError(f"{where} is no table: write [modules.{name}]")
    kind = KINDS.get(str(table.get("kind")))
    if kind is None:
        raise SpecError(f"{where} has no kind of test", hint=f"kind = one of {', '.join(KINDS)}")
    url = table.get("url", "")
    by_url = issubclass(kind, FetchSpec | RequestSpec)
    if url and (not by_url or not isinstance(url, str) or HOST not in url):
        raise SpecError(f"{where}: url is for http, ftp and requests, with {HOST} for the target")
    settings = {k: v for k, v in table.items() if k not in ("kind", "url", "timeout")}
    mistakes: list[str] = []
    scheme = "ftp" if kind is FtpSpec else "http"
    blank = (url or f"{scheme}://{HOST}/").replace(HOST, "host.invalid") if by_url else ""
    made = list(points(kind, settings, mistakes.append))
    if mistakes:
        raise SpecError(f"{where}: {mistakes[0]}")
    if len(made) != 1:
        raise SpecError(f"{where}: a setting has several values: make a module for each")
    try:
        spec = make_spec(kind, made[0][1], blank)
    except SpecError as exc:
        raise SpecError(f"{where}: {exc}", hint=exc.hint) from None
    timeout_s = _seconds(where, table, "timeout", DEFAULT_TIMEOUT_S)
    if spec.limit_s is not None and spec.limit_s >= timeout_s:
        raise SpecError(
            f"{where} takes {spec.limit_s:g} s, but its timeout is {timeout_s:g} s",
            hint="give it a longer timeout",
        )
    return Module(name=name, spec=spec, url=url, timeout_s=timeout_s)


def _scheduled(number: int, entry: Any, modules: Mapping[str, Module]) -> Scheduled:
    where = f"scheduled test {number}"
    if not isinstance(entry, dict):
        raise SpecError(f"{where} is no table: write [[scheduled]]")
    _known(where, entry, _OF_SCHEDULED)
    target, name = entry.get("target"), entry.get("module")
    if not isinstance(target, str) or not target:
        raise SpecError(f"{where} has no target")
    if not isinstance(name, str) or name not in modules:
        said = f"no module is called {name!r}" if name else "it has no module"
        raise SpecError(f"{where}: {said}", hint=f"modules: {', '.join(sorted(modules))}")
    module = modules[name]
    try:
        module.aimed(target)
        path = entry.get("path", path_of(target))
    except SpecError as exc:
        raise SpecError(f"{where}: {exc}", hint=exc.hint) from None
    if not isinstance(path, str) or not isinstance(entry.get("shared", False), bool):
        raise SpecError(f"{where}: path is a text, and shared is true or false")
    every_s = _seconds(where, entry, "every", DEFAULT_EVERY_S)
    jitter_s = _seconds(where, entry, "jitter", every_s * JITTER_SHARE, least=0.0)
    if jitter_s > every_s:
        raise SpecError(f"{where}: jitter is longer than the {every_s:g} s between two starts")
    return Scheduled(
        target=target,
        module=module,
        every_s=every_s,
        jitter_s=jitter_s,
        path=None if entry.get("shared", False) else path,
        labels=_labels(where, entry),
    )


def _labels(where: str, entry: Mapping[str, Any]) -> dict[str, str]:
    labels = entry.get("labels", {})
    if not isinstance(labels, dict):
        raise SpecError(f"{where}: labels is no table")
    for name, value in labels.items():
        if not _LABEL.fullmatch(name) or name.startswith("__"):
            raise SpecError(f"{where}: {name!r} is no name of a label")
        if name in OWN_LABELS:
            raise SpecError(f"{where}: every metric has the label {name!r} already")
        if not isinstance(value, str) or len(value) > 200:
            raise SpecError(f"{where}: the label {name!r} must be a text")
    return labels


def _patterns(top: Mapping[str, Any]) -> tuple[str, ...]:
    found = top.get("targets", [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise SpecError("targets is no list of patterns, such as ['lab*', 'http://*.lab/*']")
    return tuple(found)


def _known(where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in table:
        if name not in known:
            raise SpecError(f"{where}: {unknown_setting(name, known)}")


def _count(top: Mapping[str, Any], name: str, usual: int, most: int) -> int:
    value = top.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise SpecError(f"{name} is {value!r}: it must be 1 to {most}")
    return value


def _seconds(
    where: str, table: Mapping[str, Any], name: str, usual: float, *, least: float = 0.1
) -> float:
    value = table.get(name, usual)
    try:
        if isinstance(value, str):
            value = units.parse_duration_ns(value) / 1e9
    except SpecError as exc:
        raise SpecError(f"{where}: {name}: {exc}", hint=exc.hint) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"{where}: {name} is {value!r}: it must be a time, such as '5m'")
    if not least <= value <= 86_400 * 7:
        raise SpecError(f"{where}: {name} is {value:g} s: it must be {least:g} s to 7 days")
    return float(value)
