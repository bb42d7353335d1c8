"""Test the program as process 1 of a PID namespace, as in a container.

The kernel drops signals for which process 1 has no handler, and orphans become its children.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netmeasure.cli.exits import Exit
from support import census
from support.program import netmeasure, running
from support.warm import PROGRAM

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed"),
]
SERVER = ("server", "-B", "127.0.0.1", "-p", "0")


@contextlib.contextmanager
def first_process(*words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the program as process 1; give its process id outside of the namespace.

    The exit code of the outer process is that of the program.
    """
    command = ("unshare", "--pid", "--fork", "--kill-child", *PROGRAM, *words)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        yield process, int(census.settle(lambda: children.read_text().split(), 10.0)[0])
    finally:
        process.kill()
        process.communicate()


def catches(pid: int, number: signal.Signals) -> bool:
    """Return whether the process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("words", "number", "code"),
    [
        (SERVER, signal.SIGTERM, Exit.OK),
        (SERVER, signal.SIGINT, Exit.OK),
        (("client", "127.0.0.1"), signal.SIGTERM, Exit.TERMINATED),
        (("client", "127.0.0.1"), signal.SIGINT, Exit.INTERRUPTED),
    ],
)
def test_a_signal_counts_before_anything_is_loaded(
    words: tuple[str, ...], number: signal.Signals, code: Exit
) -> None:
    with first_process(*words) as (process, pid):
        # Python has one for SIGINT from the start on: both are ours when SIGTERM's is there
        assert census.settle(lambda: catches(pid, signal.SIGTERM), 10.0)
        os.kill(pid, number)
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == code


@pytest.mark.rates
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_with_clients_ends_within_a_second(number: signal.Signals) -> None:
    with first_process(*SERVER) as (process, pid):
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        host, _, port = address.partition(":")
        with contextlib.ExitStack() as clients:
            silent = clients.enter_context(socket.create_connection((host, int(port))))
            asked = clients.enter_context(socket.create_connection((host, int(port))))
            asked.sendall(b"a" * 36 + b"\0")
            assert asked.recv(1) == b"\x09"
            busy = clients.enter_context(running("client", address, "-t", "60", "-i", "0.1"))
            assert busy.stdout is not None
            busy.stdout.readline()
            start = time.monotonic()
            os.kill(pid, number)
            output, errors = process.communicate(timeout=10)
            took = time.monotonic() - start
            assert (process.returncode, errors) == (Exit.OK, "")
            assert "incomplete" in output
            assert (silent.recv(1), asked.recv(1)) == (b"", b"\x0b")  # SERVER_TERMINATE
            _, reason = busy.communicate(timeout=10)
            assert busy.returncode == Exit.CUT_SHORT
            assert "the server was told to terminate" in reason
        assert took < 1.0


def test_orphans_are_reaped() -> None:
    with first_process(*SERVER) as (process, pid):
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        children = Path(f"/proc/{pid}/task/{pid}/children")
        with subprocess.Popen(
            ("nsenter", "--target", str(pid), "--pid", "sh", "-c", "sleep 60 & echo"),
            stdout=subprocess.DEVNULL,
        ) as parent:
            assert parent.wait(timeout=10) == 0
        (orphan,) = census.settle(lambda: children.read_text().split(), 10.0)
        os.kill(int(orphan), signal.SIGKILL)
        assert census.settle(lambda: not children.read_text(), 10.0)
        assert netmeasure("probe", address).returncode == Exit.OK
        os.kill(pid, signal.SIGTERM)
        process.communicate(timeout=10)
        assert process.returncode == Exit.OK
