"""Define the architecture as a table of allowed imports, and check every file against it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "netmeasure"
SOURCE = ROOT / "src" / PACKAGE

#: What each layer may import, from the lowest layer to the highest; a layer may always import its
#: own modules. A layer is a package or a module below `netmeasure`; `peer.client` and `peer.server`
#: are layers of their own, and so is the root module of the package, `netmeasure`. The drawing in
#: the architecture page is made from this table.
ALLOWED: dict[str, set[str]] = {
    # plain values
    "errors": set(),
    "version": set(),
    "clock": set(),
    "units": {"errors"},
    "overhead": {"errors"},
    "text": set(),
    # what to measure, what was measured, and the interface of observers
    "spec": {"errors", "units", "overhead"},
    "result": {"errors", "units", "spec"},
    "observe": {"errors", "spec", "result"},
    # figures: arrays in, numbers out
    "analysis": {"errors", "overhead", "spec", "result"},
    "comparison": {"errors", "spec", "result", "analysis"},
    "objectives": {"errors", "text", "units", "result", "analysis", "comparison"},
    "history": {"errors", "spec", "result", "analysis", "comparison"},
    # the protocol without sockets, the native loops without Python objects
    "protocol": {"errors", "text", "spec", "result"},
    "_fast": set(),
    # sockets, threads, kernel figures; then the data streams of one kind of test at one end
    "engine": {"errors", "version", "clock", "spec", "result", "protocol", "_fast"},
    "workloads": {"errors", "clock", "spec", "result", "analysis", "protocol", "_fast", "engine"},
    # what every kind of test shares; then the kinds
    "measurement": {"errors", "clock", "units", "spec", "result", "observe"}
    | {"analysis", "protocol", "engine"},
    "peer": {"version", "clock", "spec", "result", "observe", "protocol", "engine", "workloads"},
    "peer.client": {"errors", "clock", "spec", "result", "observe"}
    | {"protocol", "engine", "workloads", "measurement", "peer"},
    "peer.server": {"errors", "clock", "spec", "result", "observe"}
    | {"protocol", "engine", "workloads", "measurement", "peer"},
    "transfers": {"errors", "text", "version", "clock", "spec", "result"}
    | {"analysis", "protocol", "_fast", "engine", "workloads", "measurement"},
    "origins": {"errors", "clock", "units", "spec", "_fast", "engine"},
    "readiness": {"errors", "clock", "spec", "engine"},
    "paths": {"errors", "clock", "overhead", "spec", "result", "engine"},
    # results in other tools' formats: no engine
    "export": {"errors", "version", "units", "text", "spec", "result", "observe", "analysis"}
    | {"comparison"},
    # saved runs: netmeasure's own documents, and those of other tools
    "imports": {"errors", "text", "spec", "result"},
    # results in words: no engine
    "report": {"units", "overhead", "text", "spec", "result", "analysis", "comparison", "history"},
    # reports to publish: pages and pictures
    "publishing": {
        "errors",
        "version",
        "units",
        "text",
        "result",
        "comparison",
        "export",
        "report",
    },
    # what a user calls
    "client": {"errors", "spec", "result", "observe", "measurement", "peer.client", "transfers"},
    "repetition": {"errors", "spec", "result", "client"},
    "capacities": {"errors", "clock", "spec", "result", "measurement", "client"},
    "meshes": {"errors", "clock", "spec", "result", "comparison", "peer.server", "client"},
    "node": {"clock", "result", "engine"},
    "campaign": {"errors", "units", "spec", "result", "comparison", "engine", "client"}
    | {"repetition", "node"},
    "manifests": {"errors", "version", "spec", "campaign"},
    # tests by schedule and on request, as metrics
    "exporter": {"errors", "version", "units", "spec", "result", "export", "measurement"}
    | {"client", "campaign"},
    "netmeasure": {"errors", "version", "units", "spec", "result", "observe", "analysis"}
    | {"comparison", "protocol", "measurement", "peer.server", "origins", "readiness", "paths"}
    | {"client", "repetition", "campaign", "capacities", "meshes", "manifests", "node"}
    | {"objectives", "history", "export", "imports", "publishing"},
    # the programs
    "cli": {"errors", "version", "units", "overhead", "spec", "result", "observe", "analysis"}
    | {"comparison", "protocol", "engine", "measurement", "peer.server", "origins", "readiness"}
    | {"paths", "client", "repetition", "campaign", "capacities", "meshes", "manifests", "node"}
    | {"objectives", "history", "report", "export", "imports", "publishing", "exporter"},
    "__main__": {"cli"},
}
#: Packages whose subpackages are layers of their own.
_DIVIDED = ("peer",)
#: A newcomer must be able to understand the root at a glance.
MOST_ROOT_MODULES = 10
#: Modules of other projects that only some of ours may import: prefixes of module names.
RESERVED: dict[str, tuple[str, ...]] = {
    "aioftp": ("transfers", "origins"),
    "aiohttp": ("transfers", "origins", "exporter.web"),
    "uvloop": ("cli",),
    "argparse": ("cli",),
    "psutil": ("engine.hosts",),
    "rich": ("report", "cli"),
    "matplotlib": (
        "publishing.charts",
        "publishing.drawing",
        "publishing.layout",
        "publishing.plots",
        "publishing.transport_plots",
    ),
    "cryptography": ("protocol.auth",),
    "prometheus_client": ("cli.metrics", "export.openmetrics", "exporter.metrics"),
    "distributed": ("cli.mesh",),
    "pandas": ("export.frames",),
    "pyarrow": ("export.frames",),
    "ruptures": ("history.changepoints",),
    "sqlalchemy": ("history.store",),
}
#: Modules that a layer must not import at all: a sans-IO layer has no socket, no clock, no thread.
FORBIDDEN: dict[str, set[str]] = {
    "protocol": {"asyncio", "select", "selectors", "signal", "socket", "ssl", "threading", "time"},
    "analysis": {"asyncio", "socket", "threading", "time"},
}
#: What only a program may do, never a library.
FOR_PROGRAMS = ("cli", "__main__")
CALLS_OF_PROGRAMS = {
    "SystemExit",
    "asyncio.set_event_loop_policy",
    "exit",
    "input",
    "os._exit",
    "print",
    "quit",
    "signal.set_wakeup_fd",
    "signal.signal",
    "sys.exit",
}
METHODS_OF_PROGRAMS = {"add_signal_handler"}


class Import(NamedTuple):
    line: int
    target: str  # as far as it is known to be a module: "netmeasure.units", "numpy", "os"


class Module(NamedTuple):
    name: str
    imports: tuple[Import, ...]
    calls: tuple[tuple[int, str], ...] = ()

    @property
    def layer(self) -> str:
        return layer_of(self.name)

    @property
    def below(self) -> str:
        """Return the name without the package's."""
        return self.name.removeprefix(f"{PACKAGE}.")


def layer_of(module: str) -> str:
    """Return the layer of a module, by its full name."""
    parts = module.split(".")[1:]
    if not parts:
        return module
    divided = len(parts) > 1 and parts[0] in _DIVIDED and is_package(".".join(parts[:2]))
    return ".".join(parts[:2]) if divided else parts[0]


def is_package(below: str) -> bool:
    return (SOURCE / below.replace(".", "/")).is_dir()


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = frozenset(
    module_name(path) for kind in ("py", "pyx", "pxd") for path in SOURCE.rglob(f"*.{kind}")
)


def _targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = "." * node.level + (node.module or "")
    for alias in node.names:
        whole = f"{base}.{alias.name}"
        yield whole if whole in NAMES else base


def parse_python(source: str, name: str) -> Module:
    """Return every import (even within functions and under TYPE_CHECKING) and every call by
    name."""
    imports, calls = [], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports += [Import(node.lineno, target) for target in _targets(node)]
        elif isinstance(node, ast.Call):
            calls.append((node.lineno, ast.unparse(node.func)))
    return Module(name, tuple(imports), tuple(calls))


_CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\b|c?import\s+([\w.]+))")


def parse_cython(source: str, name: str) -> Module:
    """Return what a .pyx or .pxd imports or cimports; libc and the like are no Python modules."""
    imports = []
    for line, text in enumerate(source.splitlines(), start=1):
        if match := _CYTHON_IMPORT.match(text):
            imports.append(Import(line, match[1] or match[2]))
    return Module(name, tuple(imports))


PATHS = [path for kind in ("py", "pyx", "pxd") for path in sorted(SOURCE.rglob(f"*.{kind}"))]


@cache
def read(path: Path) -> Module:
    parse = parse_python if path.suffix == ".py" else parse_cython
    return parse(path.read_text(), module_name(path))


def modules() -> list[Module]:
    """Return all modules; each worker of a run imports this file, and only one needs them."""
    return [read(path) for path in PATHS]


def is_ours(target: str) -> bool:
    return target.split(".")[0] == PACKAGE


def breaches(module: Module) -> list[str]:
    """Return the rules of its layer that this module breaks."""
    found = []
    for line, target in module.imports:
        where, top = f"{module.name}:{line}", target.split(".")[0]
        if target.startswith("."):
            found.append(f"{where}: imports are absolute")
        elif is_ours(target):
            allowed = {module.layer, *ALLOWED[module.layer]}
            if target != module.name and layer_of(target) not in allowed:
                found.append(f"{where}: {module.layer} must not import {target}")
        elif top in FORBIDDEN.get(module.layer, ()):
            found.append(f"{where}: {module.layer} must not import {top}")
        elif top in RESERVED and not f"{module.below}.".startswith(
            tuple(f"{prefix}." for prefix in RESERVED[top])
        ):
            found.append(f"{where}: only {' and '.join(RESERVED[top])} may import {top}")
    if module.layer not in FOR_PROGRAMS:
        found += [
            f"{module.name}:{line}: only {' and '.join(FOR_PROGRAMS)} may call {call}"
            for line, call in module.calls
            if call in CALLS_OF_PROGRAMS or call.split(".")[-1] in METHODS_OF_PROGRAMS
        ]
    return found


# ---- the rules -----------------------------------------------------------------------------------


def test_every_module_keeps_to_its_layer() -> None:
    new = {module.layer for module in modules()} - set(ALLOWED)
    assert new == set(), "a new layer: say in ALLOWED what it may import"
    assert [breach for module in modules() for breach in breaches(module)] == []


def test_every_layer_exists() -> None:
    assert {layer for allowed in ALLOWED.values() for layer in allowed} <= set(ALLOWED)
    assert set(ALLOWED) == {module.layer for module in modules()}


def test_layers_lie_above_one_another() -> None:
    """No two layers import each other, not even indirectly."""
    assert cycle(ALLOWED) == []


def test_the_table_goes_from_the_lowest_layer_to_the_highest() -> None:
    seen: set[str] = set()
    for layer, allowed in ALLOWED.items():
        assert allowed <= seen, layer
        seen.add(layer)


def test_every_allowed_import_is_used() -> None:
    """An import that is allowed but not needed must be removed, so that the table describes the
    code."""
    used: dict[str, set[str]] = {layer: set() for layer in ALLOWED}
    for module in modules():
        targets = {layer_of(target) for _, target in module.imports if is_ours(target)}
        used[module.layer] |= targets - {module.layer}
    assert used == ALLOWED


def test_the_root_holds_few_modules() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= MOST_ROOT_MODULES


def test_modules_import_each_other_in_no_circle() -> None:
    edges: dict[str, set[str]] = {}
    for module in modules():
        ours = {target for _, target in module.imports if is_ours(target)}
        edges.setdefault(module.name, set()).update(ours - {module.name})
    assert cycle(edges) == []


def test_every_module_is_reached_from_the_package_or_the_program() -> None:
    edges: dict[str, set[str]] = {}
    for module in modules():
        ours = {target for _, target in module.imports if is_ours(target)}
        edges.setdefault(module.name, set()).update(ours)
    reached: set[str] = set()
    waiting = {PACKAGE, f"{PACKAGE}.__main__", f"{PACKAGE}.export.iperf3"}  # a public name, too
    while waiting:
        name = waiting.pop()
        reached.add(name)
        parents = {name.rpartition(".")[0]} - {""}  # a package is imported before its module
        waiting |= (edges.get(name, set()) | parents) - reached
    assert NAMES - reached == set()


def test_what_others_provide_is_declared() -> None:
    """Each module of others is in the standard library or among the dependencies of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = list(project["dependencies"])
    for extra in ("auth", "frames", "history", "mesh", "metrics", "report"):
        wanted += extras[extra]
    declared = {re.split(r"[^\w-]", name)[0].replace("-", "_") for name in wanted}
    provided = declared | set(sys.stdlib_module_names) | {"libc", "cpython", "posix"}
    used = {
        target.split(".")[0]
        for module in modules()
        for _, target in module.imports
        if not is_ours(target)
    }
    assert used <= provided
    assert declared <= used


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """Return some cycle of imports, as the names along it; an empty list if there is none."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for target in sorted(edges.get(name, ())):
                if found := follow(target, [*path, name]):
                    return found
            done.add(name)
        return []

    for name in sorted(edges):
        if found := follow(name, []):
            return found
    return []


# ---- that the check sees anything ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("errors", "import netmeasure.units"),
        ("errors", "from netmeasure import units"),
        ("units", "def f():\n    from netmeasure.clock import now_ns"),
        ("result", "import netmeasure"),
        ("result", "from .spec import TcpSpec"),
        ("result", "from . import spec"),
        ("protocol.messages", "import socket"),
        ("protocol.messages", "from time import monotonic"),
        ("protocol.messages", "import asyncio.streams"),
        ("protocol.messages", "from netmeasure.engine.control import ControlChannel"),
        ("analysis.steady", "from netmeasure._fast.worker import Group"),
        ("peer.server.session", "from netmeasure._fast.worker import Group"),
        ("peer.client.test", "from netmeasure.peer.server.server import Server"),
        ("transfers.http", "from netmeasure.peer.plans import client_plan"),
        ("peer.server.server", "from netmeasure.cli.exits import Exit"),
        ("report.text", "from netmeasure.workloads.tcp import TcpPlan"),
        ("measurement.run", "if TYPE_CHECKING:\n    import uvloop"),
        ("engine.sockets", "import psutil"),
        ("engine.hostsman", "import psutil"),
        ("measurement.run", "import rich.console"),
        ("peer.server.server", "import aiohttp"),
        ("peer.server.server", "import argparse"),
        ("peer.server.server", "print('x')"),
        ("peer.server.server", "sys.exit(1)"),
        ("peer.server.server", "raise SystemExit(1)"),
        ("peer.server.server", "loop.add_signal_handler(2, f)"),
        ("engine.threads", "signal.signal(2, f)"),
    ],
)
def test_a_breach_is_seen(name: str, source: str) -> None:
    assert len(breaches(parse_python(source, f"{PACKAGE}.{name}"))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from netmeasure.errors cimport x",
        "from netmeasure.errors import x",
        "    from netmeasure.clock import (",
        "cimport netmeasure.clock as c",
        "import netmeasure.clock",
    ],
)
def test_a_breach_in_cython_is_seen(line: str) -> None:
    assert len(breaches(parse_cython(line, f"{PACKAGE}._fast.tcp"))) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("cli.main", "import uvloop, argparse, rich, sys\nsys.exit(print('x'))"),
        ("engine.hosts", "import psutil"),
        ("engine.threads", "import signal\nsignal.pthread_sigmask(0, ())"),
        ("report.text", "from rich.console import Console\nConsole().print('x')"),
        ("__main__", "import sys\nfrom netmeasure.cli import main\nsys.exit(main())"),
    ],
)
def test_what_is_allowed_is_no_breach(name: str, source: str) -> None:
    assert breaches(parse_python(source, f"{PACKAGE}.{name}")) == []


def test_a_cycle_is_seen() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) == []
