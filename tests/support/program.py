"""Run the program in a process of its own, as a user runs it.

Within `warm.imported()`, as in all tests of the command line, the process is a fork of one that has
imported the program. Elsewhere a new Python starts.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

from support import warm
from support.warm import PROGRAM


def netmeasure(
    *words: str, timeout: float = 30, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end; raise TimeoutExpired, and kill it, after `timeout` seconds."""
    return warm.run((*PROGRAM, *words), capture_output=True, text=True, timeout=timeout, **options)


def one_line(text: str) -> str:
    """Return the only line of an error message, which must be ours and no traceback."""
    assert text.count("\n") == 1, text
    assert text.startswith("netmeasure: "), text
    return text


@contextlib.contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = warm.start(
        (*PROGRAM, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def server(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server on a free port of 127.0.0.1; yield it and its "host:port"."""
    with running("server", "-B", "127.0.0.1", "-p", "0", *words) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()[-1]
