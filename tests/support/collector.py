"""When the garbage collector rests: while tests are collected, and while a failure is formatted.

In CPython 3.11, `ast.parse` is not reentrant: what the collector ends while it runs may show a
warning, for whose traceback the lines are parsed, and the outer call fails with "SystemError: AST
constructor recursion depth mismatch". Pytest parses the source of each failure, and would end the
whole run by that error.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator, Iterator

import pytest


@contextlib.contextmanager
def resting() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Take what was collected for permanent: no test's garbage is among it."""
    with resting():
        found = yield
        gc.freeze()
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, object, object]:
    with resting():
        return (yield)
