"""Run coverage's tracer only during the tests themselves, since it slows Python down a lot.

Pytest's own work around a test, with the census, takes longer than most tests. It is not part of
the package, so it runs without the tracer. If a test runs twice, such as on asyncio and uvloop,
only one of the runs is traced.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pytest

import netmeasure
from support import warm


class _Tracer:
    """Hold the tracer of this process; the thread that runs tests removes it and puts it back."""

    def __init__(self) -> None:
        self.function: Any = None
        self.wanted = False

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Trace a block of a test that is to be traced."""
        if not self.wanted or sys.gettrace() is not None:
            yield
            return
        sys.settrace(self.function)
        try:
            yield
        finally:
            sys.settrace(None)


_tracer = _Tracer()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the package with the tracer, since its definitions count; then remove the tracer."""
    if warm.data_file() is not None:
        for module in pkgutil.walk_packages(netmeasure.__path__, "netmeasure."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        _tracer.function = sys.gettrace()
        sys.settrace(None)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Trace a test on asyncio but not the same one on uvloop, nor the examples of Hypothesis."""
    loop = item.callspec.params.get("run") if hasattr(item, "callspec") else None
    many = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    _tracer.wanted = _tracer.function is not None and loop != "uvloop" and not many
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    with _tracer.here():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    if not _is_ours(fixturedef):
        return (yield)
    with _tracer.here():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    if not any(map(_ends, _fixtures(item))):
        return (yield)
    with _tracer.here():
        return (yield)


def _fixtures(item: pytest.Item) -> Iterator[pytest.FixtureDef[Any]]:
    info = getattr(item, "_fixtureinfo", None)
    for definitions in info.name2fixturedefs.values() if info is not None else ():
        yield definitions[-1]


def _is_ours(definition: pytest.FixtureDef[Any]) -> bool:
    """Return whether a fixture belongs to a test file, not to pytest or to all tests."""
    return definition.baseid.endswith(".py")


def _ends(definition: pytest.FixtureDef[Any]) -> bool:
    return _is_ours(definition) and _is_generator(definition.func)


@functools.cache
def _is_generator(function: Any) -> bool:
    return inspect.isgeneratorfunction(function)
