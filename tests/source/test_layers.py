"""The architecture, as a dictionary of allowed imports, and a check of every file against it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "netmeasure"
SOURCE = ROOT / "src" / PACKAGE

#: Which layers a layer may import; its own is among them only if it is named. A module's layer is
#: the first part of its name below the package; the package itself is the layer "netmeasure".
_L0 = {"errors", "version", "units", "clock", "headers"}
_L1 = {
    "spec",
    "target",
    "usage",
    "result",
    "resultset",
    "observe",
    "analysis",
    "runs",
    "environment",
    "comparison",
}
_L3 = {"protocol", "engine"}
_L5 = {
    "negotiate",
    "sides",
    "assemble",
    "arrivals",
    "intervals",
    "autostop",
    "approach",
    "client_data",
    "dialogue",
    "peertest",
    "fetch",
    "run",
    "session",
    "server_data",
    "admission",
    "witness",
}
_L6 = {"client", "repetition", "server", "origins"}
_BELOW_L5 = _L0 | _L1 | _L3 | {"workloads"}
ALLOWED: dict[str, set[str]] = {
    # L0
    "errors": set(),
    "version": set(),
    "units": {"errors"},
    "clock": {"errors"},
    "headers": {"errors"},
    # L1: what to measure, what came of it, what follows from it
    "spec": {"errors", "headers", "spec"},
    "usage": {"errors"},
    "target": {"errors", "spec"},
    "result": {"errors", "spec", "usage", "result"},
    "observe": {"result", "spec"},
    "analysis": {"errors", "headers", "usage", "result", "spec", "analysis"},
    "resultset": {"errors", "result"},
    "runs": {"analysis", "result"},
    "environment": {"result", "spec"},
    "comparison": {"errors", "spec", "result", "analysis", "runs", "environment"},
    # L2: codecs touch no socket, native loops no Python
    "protocol": {"errors", "spec", "result", "protocol"},
    "_fast": {"_fast"},
    # L3, L4
    "engine": {"errors", "version", "clock"}
    | {"spec", "usage", "result", "protocol", "_fast", "engine"},
    "workloads": _L0 | _L1 | _L3 | {"_fast", "workloads"},
    # L5, L6
    **dict.fromkeys(_L5, _BELOW_L5 | _L5),
    **dict.fromkeys(_L6, _BELOW_L5 | _L5 | _L6),
    "origins": _L0 | _L1 | {"engine", "_fast", "origins"},
    # the public names, and the wings
    "netmeasure": _L0 | _L1 | _L5 | _L6 | {"protocol"},
    "report": {"errors", "units", "headers", "report"} | _L1,
    "export": {"errors", "units", "spec", "result", "observe", "analysis", "export"},
    "cli": _BELOW_L5 | _L5 | _L6 | {"report", "export", "cli"},
    "__main__": {"cli"},
}
#: Modules of others that only some of ours may import: prefixes of module names.
RESERVED: dict[str, tuple[str, ...]] = {
    "aioftp": ("workloads", "origins"),
    "aiohttp": ("workloads", "origins"),
    "uvloop": ("cli",),
    "argparse": ("cli",),
    "psutil": ("engine.hosts", "engine.resources"),
    "rich": ("report", "cli"),
    "cryptography": ("protocol.auth",),
}
#: Modules that a layer must not import at all: what is sans-IO has no socket, no clock, no thread.
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
        """The name without the package's."""
        return self.name.removeprefix(f"{PACKAGE}.")


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else module


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
    """Every import (also within functions and under TYPE_CHECKING) and every call by name."""
    imports, calls = [], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports += [Import(node.lineno, target) for target in _targets(node)]
        elif isinstance(node, ast.Call):
            calls.append((node.lineno, ast.unparse(node.func)))
    return Module(name, tuple(imports), tuple(calls))


_CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\b|c?import\s+([\w.]+))")


def parse_cython(source: str, name: str) -> Module:
    """What a .pyx or .pxd imports or cimports; libc and the like are no modules of Python."""
    imports = []
    for line, text in enumerate(source.splitlines(), start=1):
        if match := _CYTHON_IMPORT.match(text):
            imports.append(Import(line, match[1] or match[2]))
    return Module(name, tuple(imports))


def _read(path: Path) -> Module:
    parse = parse_python if path.suffix == ".py" else parse_cython
    return parse(path.read_text(), module_name(path))


MODULES = [
    _read(path) for kind in ("py", "pyx", "pxd") for path in sorted(SOURCE.rglob(f"*.{kind}"))
]


def is_ours(target: str) -> bool:
    return target.split(".")[0] == PACKAGE


def breaches(module: Module) -> list[str]:
    """What this module does that its layer must not."""
    found = []
    for line, target in module.imports:
        where, top = f"{module.name}:{line}", target.split(".")[0]
        if target.startswith("."):
            found.append(f"{where}: imports are absolute")
        elif is_ours(target):
            if target != module.name and layer_of(target) not in ALLOWED[module.layer]:
                found.append(f"{where}: {module.layer} must not import {target}")
        elif top in FORBIDDEN.get(module.layer, ()):
            found.append(f"{where}: {module.layer} must not import {top}")
        elif top in RESERVED and not f"{module.below}.".startswith(
            tuple(f"{prefix}." for prefix in RESERVED[top])
        ):
            found.append(f"{where}: only {' and '.join(RESERVED[top])} may import {top}")
    if module.layer not in FOR_PROGRAMS:
        found += [
            f"{module.name}:{line}: only {FOR_PROGRAMS[0]} may call {call}"
            for line, call in module.calls
            if call in CALLS_OF_PROGRAMS or call.split(".")[-1] in METHODS_OF_PROGRAMS
        ]
    return found


# ---- the rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_module_keeps_to_its_layer(module: Module) -> None:
    assert module.layer in ALLOWED, "a new layer: say in ALLOWED what it may import"
    assert breaches(module) == []


def test_every_layer_exists() -> None:
    assert {layer for allowed in ALLOWED.values() for layer in allowed} <= set(ALLOWED)
    assert set(ALLOWED) == {module.layer for module in MODULES}


def test_layers_lie_above_one_another() -> None:
    """Apart from the modules of one layer, L5 and L6 within themselves, no two layers import each
    other, not even by detours: the dictionary itself has no cycle."""
    group = dict.fromkeys(_L5, "L5") | dict.fromkeys(_L6, "L6")
    edges: dict[str, set[str]] = {}
    for layer, allowed in ALLOWED.items():
        name = group.get(layer, layer)
        edges.setdefault(name, set()).update(
            {group.get(other, other) for other in allowed} - {name}
        )
    assert cycle(edges) == []


def test_modules_import_each_other_in_no_circle() -> None:
    edges: dict[str, set[str]] = {}
    for module in MODULES:
        ours = {target for _, target in module.imports if is_ours(target)}
        edges.setdefault(module.name, set()).update(ours - {module.name})
    assert cycle(edges) == []


def test_every_module_is_reached_from_the_package_or_the_program() -> None:
    edges: dict[str, set[str]] = {}
    for module in MODULES:
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
    """Each module of others is the standard library's or among the dependencies of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["auth"]]
    declared = {re.split(r"[^\w-]", dependency)[0] for dependency in wanted}
    provided = declared | set(sys.stdlib_module_names) | {"libc", "cpython", "posix"}
    used = {
        target.split(".")[0]
        for module in MODULES
        for _, target in module.imports
        if not is_ours(target)
    }
    assert used <= provided
    assert declared <= used


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """Some circle of imports, as the names along it; empty when there is none."""
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
        ("session", "from netmeasure._fast.worker import Group"),
        ("session", "from netmeasure.server import Server"),
        ("server", "from netmeasure.cli.exits import Exit"),
        ("report.text", "from netmeasure.workloads.tcp import TcpPlan"),
        ("run", "if TYPE_CHECKING:\n    import uvloop"),
        ("engine.sockets", "import psutil"),
        ("engine.hostsman", "import psutil"),
        ("run", "import rich.console"),
        ("server", "import aiohttp"),
        ("server", "import argparse"),
        ("server", "print('x')"),
        ("server", "sys.exit(1)"),
        ("server", "raise SystemExit(1)"),
        ("server", "loop.add_signal_handler(2, f)"),
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
