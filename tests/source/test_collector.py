"""Test that a failure is shown, whatever the garbage collector has to finalise at that moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
#: Garbage whose finaliser parses Python code, and leaves garbage of the same kind.
FAILING = """
import ast
import gc

class Garbage:
    def __init__(self):
        self.itself = self
    def __del__(self):
        ast.parse("1")
        Garbage()

def test_it():
    gc.set_threshold(20, 1, 1)
    Garbage()
    assert False, "this is shown"
"""


def test_a_failure_is_shown_beside_garbage_that_parses(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FAILING)
    words = ("-q", "-p", "support.collector", "-p", "no:cacheprovider", str(tmp_path))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--rootdir", str(tmp_path)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "AssertionError: this is shown" in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 1
