"""Read plans of campaigns from TOML, and report every mistake in a plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from netmeasure import units
from netmeasure.campaign.plan import (
    DEFAULT_BASELINE_S,
    DEFAULT_COMMAND_S,
    DEFAULT_RUNS,
    HOST,
    Case,
    Commands,
    Plan,
    Variant,
    default_plan,
)
from netmeasure.campaign.settings import KINDS, make_spec, names, points, shown, unknown_setting
from netmeasure.campaign.toml import parse_toml
from netmeasure.errors import PlanError, SpecError
from netmeasure.spec import DEFAULT_MARGIN, FtpSpec, HttpSpec, RequestSpec, RrSpec, Spec
from netmeasure.spec.target import parse_target

#: The kinds of tests whose target is a URL.
_BY_URL = (HttpSpec, FtpSpec, RequestSpec)
MAX_RUNS = 1000
#: The most cases of a plan. The runs of more cases would take weeks.
MAX_CASES = 10_000
_TOP = (
    *("title", "runs", "seed", "baseline_s", "margin", "port", "command_timeout_s"),
    *("target", "targets", "defaults", "test", "variant"),
)
_OF_VARIANT = ("name", "target", "targets", "port", "settings", "before", "after")
_SYMBOLS = 200


def read_plan(data: bytes | str, instead: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan of a TOML document (docs/reference/suite.md has its members).

    Args:
        data: The document.
        instead: Members that replace those of the document, such as {"runs": 3}.

    Raises:
        PlanError: The document is not TOML, or has mistakes; `mistakes` has a line for each.
    """
    try:
        document = parse_toml(data)
    except SpecError as exc:
        raise PlanError(str(exc)) from None
    return plan_of(document | dict(instead or {}))


def plan_of(document: Mapping[str, Any]) -> Plan:
    """Return the plan of a parsed TOML document. Raises PlanError."""
    return _Reader(document).plan()


class _Reader:
    """Read a plan, and collect all its mistakes."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._mistakes: list[str] = []

    def plan(self) -> Plan:
        top = self._document
        for name in top:
            if name not in _TOP:
                self._refuse(unknown_setting(name, _TOP))
        variants = self._tables("variant") or [{"name": ""}]
        self._check_names(variants)
        tests = self._tables("test") or list(default_plan(["any"])["test"])
        cases = self._cases(tests, variants)
        runs = self._number("runs", DEFAULT_RUNS, 1, MAX_RUNS, whole=True)
        seed = self._number("seed", None, 0, 2**53, whole=True)
        plan: dict[str, Any] = {
            "title": self._text(top, "title", ""),
            "runs": runs,
            "seed": seed,
            "baseline_s": self._seconds("baseline_s", DEFAULT_BASELINE_S, 0, 600),
            "margin": self._share("margin", DEFAULT_MARGIN),
            "command_timeout_s": self._seconds("command_timeout_s", DEFAULT_COMMAND_S, 0.1, 86_400),
            "variants": tuple(
                Variant(
                    name=str(one.get("name", "")),
                    before=self._commands(one, "before"),
                    after=self._commands(one, "after"),
                )
                for one in variants
            ),
            "cases": tuple(cases),
        }
        if not cases and not self._mistakes:
            self._refuse("there is nothing to measure")
        if len(cases) > MAX_CASES:
            self._refuse(
                f"{len(cases)} combinations of test, variant and target: at most {MAX_CASES} are"
                " possible"
            )
        twice = Counter((c.test, c.target, c.variant) for c in cases)
        for test in dict.fromkeys(key[0] for key, count in twice.items() if count > 1):
            if not self._mistakes:  # of which this may be a consequence
                self._refuse(f"two tests are called {test!r}: give each a name of its own")
        if self._mistakes:
            raise PlanError("\n".join(dict.fromkeys(self._mistakes)))
        return Plan(**plan)

    # ---- cases

    def _cases(
        self, tests: Sequence[Mapping[str, Any]], variants: Sequence[Mapping[str, Any]]
    ) -> list[Case]:
        defaults = self._document.get("defaults", {})
        if not isinstance(defaults, dict):
            self._refuse("defaults is no table: write [defaults]")
            defaults = {}
        every = {name for kind in KINDS.values() for name in names(kind)}
        for name in defaults:
            if name not in every:
                self._refuse(f"defaults: {unknown_setting(name, sorted(every))}")
        hosts = [self._hosts(one) for one in variants]
        if any(one.keys() != hosts[0].keys() for one in hosts[1:]):
            self._refuse("the variants have different targets: each needs the same names")
        cases: list[Case] = []
        for number, test in enumerate(tests, 1):
            cases += self._cases_of(number, test, defaults, list(zip(variants, hosts, strict=True)))
        return cases

    def _cases_of(
        self,
        number: int,
        test: Mapping[str, Any],
        defaults: Mapping[str, Any],
        variants: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]],
    ) -> list[Case]:
        """Return the cases of one test, in the order of its sweeps."""
        name = self._text(test, "name", "")
        where = f"test {name!r}" if name else f"test {number}"
        kind_name = test.get("kind")
        kind = KINDS.get(kind_name) if isinstance(kind_name, str) else None
        if kind is None:
            what = "it has no kind" if kind_name is None else f"{kind_name!r} is no kind of test"
            self._refuse(f"{where}: {what}: choose from {', '.join(KINDS)}")
            return []
        url = self._url(where, kind, test)
        own = {k: v for k, v in test.items() if k not in ("kind", "name", "url")}
        usual = {k: v for k, v in defaults.items() if k in names(kind)}

        def refuse(sentence: str) -> None:
            self._refuse(f"{where}: {sentence}")

        found: list[Case] = []
        for variant, hosts in variants:
            given = variant.get("settings", {})
            if not isinstance(given, dict):
                continue
            fits = {k: v for k, v in given.items() if k in names(kind)}
            for swept, settings in points(kind, usual | own | fits, refuse):
                try:
                    spec = make_spec(kind, settings, url.replace(HOST, "host.invalid"))
                except SpecError as exc:
                    refuse(exc.advice)
                    continue
                words = [name or _test_name(spec)]
                words += [shown(k, v) for k, v in swept.items() if name or k != "direction"]
                for target, host in hosts.items():
                    case = self._case(where, " ".join(words), variant, target, host, spec, url)
                    found += [case] if case is not None else []
        return found

    def _case(
        self,
        where: str,
        test: str,
        variant: Mapping[str, Any],
        target: str,
        address: str,
        spec: Spec,
        url: str,
    ) -> Case | None:
        name = str(variant.get("name", ""))
        port = variant.get("port", self._document.get("port"))
        if isinstance(spec, _BY_URL):
            if HOST in url and not address:
                self._refuse(f"{where}: its URL has {HOST}, but the plan has no target")
                return None
            try:
                host = parse_target(address)[0] if address else ""
                whole = url.replace(HOST, f"[{host}]" if ":" in host else host)
                spec = msgspec.structs.replace(spec, url=whole)
            except SpecError as exc:
                self._refuse(f"{where}: {exc.advice}")
                return None
            return Case(test=test, target=target, variant=name, address=whole, spec=spec)
        try:
            if not address:
                raise SpecError("there is no target: write target = 'HOST' at the top")
            parse_target(address, _port(port))
        except SpecError as exc:
            self._refuse(exc.advice)
            return None
        return Case(test=test, target=target, variant=name, address=address, port=port, spec=spec)

    def _url(self, where: str, kind: type[Spec], test: Mapping[str, Any]) -> str:
        url = self._text(test, "url", "")
        if kind in _BY_URL and not url:
            scheme = "ftp" if kind is FtpSpec else "http"
            self._refuse(f"{where}: it has no url, such as {scheme}://{HOST}/file")
        if kind not in _BY_URL and url:
            self._refuse(f"{where}: kind {test['kind']!r} takes a target, not a url")
            return ""
        return url

    def _hosts(self, variant: Mapping[str, Any]) -> dict[str, str]:
        """Return the targets of a variant: its own targets, or those of the whole plan."""
        where = variant if "target" in variant or "targets" in variant else self._document
        if "target" in where and "targets" in where:
            self._refuse("only one of target and targets can be given")
        if "target" in where:
            return {"": self._text(where, "target", "")}
        targets = where.get("targets", {"": ""})
        if isinstance(targets, list):
            targets = {str(one): one for one in targets}
        if not isinstance(targets, dict) or not targets:
            self._refuse("targets must be a list of hosts, or a table of names and hosts")
            return {"": ""}
        for name, host in targets.items():
            if not isinstance(host, str):
                self._refuse(f"target {name!r} is {host!r}: it must be a host")
        return {name: str(host) for name, host in targets.items()}

    # ---- variants

    def _check_names(self, variants: Sequence[Mapping[str, Any]]) -> None:
        every = {name for kind in KINDS.values() for name in names(kind)}
        given = [str(one.get("name", "")) for one in variants]
        for number, variant in enumerate(variants, 1):
            name = self._text(variant, "name", "")
            where = f"variant {name!r}" if name else f"variant {number}"
            if not name and len(variants) > 1:
                self._refuse(f"{where} has no name")
            if name and given.count(name) > 1:
                self._refuse(f"two variants are called {name!r}")
            for key in variant:
                if key not in _OF_VARIANT:
                    self._refuse(f"{where}: {unknown_setting(key, _OF_VARIANT)}")
            settings = variant.get("settings", {})
            if not isinstance(settings, dict):
                self._refuse(f"{where}: settings is no table")
                continue
            for key, value in settings.items():
                if key not in every:
                    self._refuse(f"{where}: {unknown_setting(key, sorted(every))}")
                elif isinstance(value, list):
                    self._refuse(f"{where}: {key} is a list: sweeps belong to a test")

    def _commands(self, variant: Mapping[str, Any], name: str) -> Commands:
        """Return commands. A list of words is one command, a list of such lists is several."""
        given = variant.get(name, [])
        several = isinstance(given, list) and all(isinstance(one, list) for one in given)
        commands = given if several else [given]
        for command in commands:
            if not (
                isinstance(command, list)
                and command
                and all(isinstance(word, str) for word in command)
            ):
                which = variant.get("name", "")
                self._refuse(
                    f"variant {which!r}: {name} is no command: write ['program', 'argument']"
                )
                return ()
        return tuple(tuple(command) for command in commands)

    # ---- values

    def _refuse(self, sentence: str) -> None:
        self._mistakes.append(" ".join(sentence.split()))

    def _tables(self, name: str) -> list[Mapping[str, Any]]:
        given = self._document.get(name, [])
        if isinstance(given, list) and all(isinstance(one, dict) for one in given):
            return given
        self._refuse(f"{name} is no list of tables: write [[{name}]]")
        return []

    def _text(self, table: Mapping[str, Any], name: str, usual: str) -> str:
        value = table.get(name, usual)
        if not isinstance(value, str) or len(value) > _SYMBOLS * 10:
            self._refuse(f"{name} is {str(value)[:_SYMBOLS]!r}: it must be a text")
            return usual
        return value

    def _number(
        self, name: str, usual: int | None, low: int, high: int, *, whole: bool
    ) -> int | None:
        value = self._document.get(name, usual)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self._refuse(f"{name} is {value!r}: it must be {low} to {high}")
            return usual
        return value

    def _seconds(self, name: str, usual: float, low: float, high: float) -> float:
        value = self._document.get(name, usual)
        if isinstance(value, str):
            try:
                value = units.parse_duration_ns(value) / 1e9
            except SpecError as exc:
                self._refuse(f"{name}: {exc}")
                return usual
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(f"{name} is {value!r}: it must be a time, such as '2s'")
            return usual
        if not low <= value <= high:
            self._refuse(f"{name} is {value:g} s: it must be {low:g} to {high:g} s")
            return usual
        return float(value)

    def _share(self, name: str, usual: float) -> float:
        value = self._document.get(name, usual)
        try:
            share = units.parse_share(value if isinstance(value, str) else repr(value))
        except SpecError as exc:
            self._refuse(f"{name}: {exc}")
            return usual
        if share <= 0:
            self._refuse(f"{name} is 0: it must be above 0, such as '2%'")
        return share


def _test_name(spec: Spec) -> str:
    if isinstance(spec, RrSpec):
        return "round trips"
    if isinstance(spec, RequestSpec):
        return spec.kind
    if isinstance(spec, HttpSpec | FtpSpec):
        return f"{spec.kind} {spec.direction}"
    kind = type(spec).__name__.removesuffix("Spec").upper()
    return f"{kind} {'both ways' if spec.direction == 'both' else spec.direction}"


def _port(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f"port is {value!r}: it must be 1 to 65535")
    return value
