"""Pause the garbage collector while tests are collected, and while a failure is formatted.

In CPython 3.11, `ast.parse` is not reentrant. If the collector runs during the call, finalisers may
show a warning, whose traceback makes Python parse lines of code again. The outer call then fails
with "SystemError: AST constructor recursion depth mismatch". Pytest parses the source of each
failure, so that error would end the whole run.
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
    """Exclude the collected tests from later garbage collections: no test's garbage is among
    them."""
    with resting():
        found = yield
        gc.freeze()
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, object, object]:
    with resting():
        return (yield)
