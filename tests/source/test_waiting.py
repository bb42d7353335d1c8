"""Test how the code waits: a loop that waits must give the event loop a turn in each iteration."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "benchmarks")


def gathering_loops(source: str) -> Iterator[int]:
    """Yield the lines of `while` loops that await asyncio.gather.

    Since Python 3.12, gather takes no turn of the event loop if everything that it was given is
    done, so such a loop may never end.
    """
    for loop in ast.walk(ast.parse(source)):
        if isinstance(loop, ast.While):
            for node in ast.walk(loop):
                if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
                    called = node.value.func
                    name = called.attr if isinstance(called, ast.Attribute) else ""
                    if name == "gather" or (isinstance(called, ast.Name) and called.id == "gather"):
                        yield loop.lineno


def test_no_loop_waits_by_gathering() -> None:
    sources = {
        path: path.read_text()
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    loops = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, source in sources.items()
        if "gather" in source  # parsing all of them would take seconds
        for line in gathering_loops(source)
    ]
    assert loops == []


def test_the_check_can_fail() -> None:
    source = "async def f(tasks):\n    while tasks:\n        await asyncio.gather(*tasks)\n"
    assert list(gathering_loops(source)) == [2]


def test_the_package_has_no_wait_for() -> None:
    """On Python 3.11, asyncio.wait_for loses a cancellation that comes as its awaitable ends, after
    which a program that repeats something never ends. asyncio.timeout does not."""
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "src").rglob("*.py"))
        if re.search(r"asyncio\.wait_for\(|from asyncio import.*wait_for", path.read_text())
    ]
    assert found == []
