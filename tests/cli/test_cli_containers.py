"""Test each end in control groups with little memory or few tasks: it says what it lacks."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from netmeasure.cli.exits import Exit
from support import control_group
from support.control_group import Group
from support.program import netmeasure, one_line, server
from support.warm import PROGRAM

MANY = ("-P", "16", "-d", "both")
GAVE_UP = "the server's host lacks what another data connection takes"


@pytest.fixture
def limited() -> Iterator[Group]:
    with control_group.group() as made:
        if made is None:
            pytest.skip("no control group can be made here")
        yield made
        assert made.kills() == 0


@contextlib.contextmanager
def within(group: Group, *words: str) -> Iterator[subprocess.Popen[str]]:
    # the tracer would take a third of the memory
    untraced = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    process = subprocess.Popen(
        group.enter(*PROGRAM, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=untraced,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("memory_mib", "words", "code"),
    [
        (24, ("-n", "1K"), Exit.HOST_LIMIT),
        (36, ("-n", "1K", *MANY), Exit.HOST_LIMIT),
        (72, ("-n", "1K", *MANY), Exit.OK),
    ],
)
def test_a_client_in_little_memory(
    limited: Group, memory_mib: int, words: tuple[str, ...], code: int
) -> None:
    limited.limit(memory_mib=memory_mib)
    with server() as (_, address), within(limited, "client", address, *words) as ran:
        _, errors = ran.communicate(timeout=30)
        assert ran.returncode == code
        if code:
            assert "of memory left (memory.max), and this takes" in one_line(errors)


def test_a_server_in_too_little_memory(limited: Group) -> None:
    limited.limit(memory_mib=28)
    with within(limited, "server", "-B", "127.0.0.1", "-p", "0") as ran:
        output, errors = ran.communicate(timeout=30)
        assert (ran.returncode, output) == (Exit.HOST_LIMIT, "")
        assert "of memory left (memory.max), and this takes" in one_line(errors)


def test_a_server_in_little_memory(limited: Group) -> None:
    """The server says so once, refuses a test that needs too much memory, and serves the next
    one."""
    limited.limit(memory_mib=56)
    with within(limited, "server", "-B", "127.0.0.1", "-p", "0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        ran = netmeasure("client", address, "-n", "1K", "-P", "128", "-d", "both")
        assert ran.returncode == Exit.NOT_A_SERVER
        assert GAVE_UP in one_line(ran.stderr)
        assert netmeasure("client", address, "-n", "1K").returncode == Exit.OK
        process.terminate()
        _, errors = process.communicate(timeout=10)
        first, second = errors.splitlines()
        assert first.endswith(
            "at most 1 test at a time, for this host has 56.0 MiB of memory (memory.max)"
        )
        assert "the test needs 81.0 MiB of memory, and " in second


def test_few_tasks(limited: Group) -> None:
    limited.limit(tasks=6)
    with server() as (_, address):
        with within(limited, "client", address, "-n", "1K", *MANY) as ran:
            _, errors = ran.communicate(timeout=30)
            assert ran.returncode == Exit.HOST_LIMIT
            assert "this host has no threads left" in one_line(errors)
        with within(limited, "client", address, "-n", "1K") as ran:
            assert ran.wait(30) == Exit.OK
    with within(limited, "server", "-B", "127.0.0.1", "-p", "0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        refused = netmeasure("client", address, "-n", "1K", *MANY)
        assert refused.returncode == Exit.NOT_A_SERVER
        assert GAVE_UP in one_line(refused.stderr)
        assert netmeasure("client", address, "-n", "1K").returncode == Exit.OK
        process.terminate()
        _, errors = process.communicate(timeout=10)
        assert "at most 1 test at a time, for this host has 6 threads (pids.max)" in errors
