"""Fixtures of every test: both event loops, and a census that nothing was left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import numpy  # noqa: F401  (it starts threads when it is imported, and keeps them)
import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent))

from support import (
    census,
    collector,
    containers,
    debian13,
    held,
    iperf3,
    netns,
    postgresql,
    retries,
    schedule,
    tracing,
    warm,
)
from support.tcp_rig import Rig

_COMMAND_LINE = Path(__file__).parent / "cli"
#: Functions of which a case was measured with the programs that it starts.
_measured: set[str] = set()


async def _look_up() -> None:
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 0)


# uvloop keeps a pipe and a pool of threads for the whole process from their first use on
uvloop.run(_look_up())

T = TypeVar("T")
RunLoop = Callable[[Coroutine[Any, Any, T]], T]

hypothesis.settings.register_profile("long", max_examples=2_000, deadline=None)
hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need what this machine lacks are skipped, and say what that is."""
    reasons = {
        "network": netns.available(),
        "interop": iperf3.available(),
        "containers": containers.available(),
        "debian13": debian13.available(),
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured and recorded as a "figure"."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        if report.when == "call":
            for name, figure in report.user_properties:
                if name == "figure":
                    terminalreporter.write_line(str(figure))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(collector)
    config.pluginmanager.register(retries)
    config.pluginmanager.register(schedule)
    config.pluginmanager.register(tracing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let coverage into the programs that the tests of the command line start, and no others.

    Those programs are forks of a process that has imported them once (`support.warm`). Of a test
    with many cases, the programs of the first are measured: coverage takes several times what a
    refusal of wrong words takes. Compilers, pip, Sphinx and the programs at the ends of a link
    would only be slower with it.
    """
    if item.path.is_relative_to(_COMMAND_LINE):
        warm.import_now()
        function = item.nodeid.partition("[")[0]
        if function not in _measured:
            _measured.add(function)
            return (yield)
    asked_for = {name: text for name, text in os.environ.items() if name.startswith("COVERAGE_")}
    for name in asked_for:
        del os.environ[name]
    try:
        return (yield)
    finally:
        os.environ.update(asked_for)


def pytest_sessionfinish() -> None:
    warm.stop()
    held.stop_watching()


@pytest.fixture(scope="session", autouse=True)
def _no_old_namespaces() -> Iterator[None]:
    netns.sweep()
    yield
    netns.sweep()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No thread, no descriptor and no child process outlives the test that made it."""
    before = census.take()
    yield
    assert census.leftovers(before) == []


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> RunLoop[Any]:
    """Runs a coroutine to its end, on plain asyncio and on uvloop, within a minute."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def runner(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as loop:
            return loop.run(asyncio.wait_for(coroutine, 60))

    return runner


#: What was found in the results of this process.
_impossible: list[str] = []
held.hold(_impossible.extend)
held.watch_programs()


@pytest.fixture(autouse=True)
def _results_hold() -> Iterator[None]:
    """No result that is measured in this process, or in a program that it starts, has a figure that
    can't be."""
    _impossible.clear()
    yield
    assert _impossible == []
    assert held.of_programs() == ""


@pytest.fixture
def run_once() -> RunLoop[Any]:
    """Runs a coroutine on plain asyncio, for tests where the loop makes no difference."""

    def runner(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(asyncio.wait_for(coroutine, 60))

    return runner


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Give sockets and native threads that are closed and joined whatever happens."""
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture(scope="module")
def postgresql_server() -> Iterator[str]:
    """Give the URL of a database on a server that runs for the tests of one file."""
    if postgresql.programs() is None:
        pytest.skip("PostgreSQL's server is not installed")
    with postgresql.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Return the URL of a PostgreSQL database without tables, and "" for SQLite, whose database is
    a file of the test's own."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgresql_server")
    postgresql.drop_tables(url)
    return url
