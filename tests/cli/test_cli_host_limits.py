"""Test hosts with few descriptors, few threads, little memory or no /proc.

Each end says what is missing, and the server continues to serve.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netmeasure.cli.exits import Exit
from netmeasure.peer.server.admission import PROBE_DESCRIPTORS, SPARE_DESCRIPTORS
from support.program import netmeasure, one_line, server
from support.warm import PROGRAM


def client(address: str, *options: str, descriptors: int) -> subprocess.CompletedProcess[str]:
    command = shlex.join([*PROGRAM, "client", address, "-t", "0.2", *options])
    return subprocess.run(
        ["sh", "-c", f"ulimit -n {descriptors}; exec {command}"],
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("kind", [(), ("-u",)], ids=["tcp", "udp"])
def test_a_client_without_descriptors(kind: tuple[str, ...]) -> None:
    with server() as (_, address):
        ran = client(address, "-P", "128", *kind, descriptors=40)
        assert ran.returncode == Exit.HOST_LIMIT
        assert one_line(ran.stderr) == (
            "netmeasure: this host has no file descriptors left: Too many open files"
            " (raise `ulimit -n`, or use fewer streams)\n"
        )
        assert netmeasure("client", address, "-t", "0.2", *kind).returncode == Exit.OK


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ((), PROBE_DESCRIPTORS),
        (("-u",), PROBE_DESCRIPTORS),
        (("--rr",), len(os.sched_getaffinity(0))),  # the epoll set of each thread
    ],
    ids=["tcp", "udp", "rr"],
)
def test_a_server_without_descriptors(kind: tuple[str, ...], more: int) -> None:
    needed = 64 + SPARE_DESCRIPTORS + more
    with server() as (process, address):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (64, 64))
        ran = netmeasure("client", address, "-t", "0.2", "-P", "64", *kind)
        assert ran.returncode == Exit.NOT_A_SERVER
        assert "the server's host lacks what another data connection takes" in one_line(ran.stderr)
        assert netmeasure("client", address, "-t", "0.2", *kind).returncode == Exit.OK
        process.terminate()
        _, errors = process.communicate(timeout=10)
        assert f"the test needs {needed} file descriptors, and " in one_line(errors)


def test_a_server_says_once_what_its_host_grants() -> None:
    """The server's number of tests follows from these limits, unless the user has chosen one."""
    for words, said in (
        ((), "at most 15 tests at a time, for this host has 92 file descriptors (ulimit -n)"),
        (
            ("--max-tests", "50"),
            "this host has 92 file descriptors (ulimit -n), which is enough for about 15 tests at"
            " a time, not for 50",
        ),
        (("--max-tests", "15"), None),
    ):
        with few("ulimit -n 92", "server", "-B", "127.0.0.1", "-p", "0", *words) as process:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            assert netmeasure("client", address, "-n", "100K").returncode == Exit.OK
            process.terminate()
            _, errors = process.communicate(timeout=10)
        assert errors.endswith(f"{said}\n") if said else errors == ""


@contextlib.contextmanager
def few(limit: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program in a shell that sets a limit first."""
    process = subprocess.Popen(
        ["sh", "-c", f"{limit}; exec {shlex.join([*PROGRAM, *words])}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


#: Another user, to whom RLIMIT_NPROC applies, but who may still read all files. All threads of a
#: user count, so each process of the tests has a user of its own.
OTHER_USER = (
    "setpriv",
    f"--reuid={2_000_000 + os.getpid()}",
    "--clear-groups",
    "--inh-caps=+dac_override,+dac_read_search",
    "--ambient-caps=+dac_override,+dac_read_search",
)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv") or not shutil.which("unshare"),
    reason="it needs root, setpriv and unshare",
)


@contextlib.contextmanager
def with_few_threads(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [*OTHER_USER, "prlimit", "--nproc=6:6", *PROGRAM, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@needs_root
def test_a_client_without_threads() -> None:
    with server() as (process, address):
        with with_few_threads("client", address, "-t", "0.2", "-P", "16") as ran:
            _, errors = ran.communicate(timeout=30)
            assert ran.returncode == Exit.HOST_LIMIT
            assert "this host has no threads left" in one_line(errors)
        with with_few_threads("client", address, "-t", "0.2") as ran:
            assert ran.wait(30) == Exit.OK
        process.terminate()
        assert process.communicate(timeout=10)[1] == ""


@needs_root
@pytest.mark.parametrize("kind", [(), ("-u",)], ids=["tcp", "udp"])
def test_a_server_without_threads(kind: tuple[str, ...]) -> None:
    """The server logs the reason, tells it to the client as well, and serves the next client."""
    with with_few_threads("server", "-B", "127.0.0.1", "-p", "0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        ran = netmeasure("client", address, "-t", "0.2", "-P", "16", *kind)
        assert ran.returncode == Exit.NOT_A_SERVER
        assert "the server's host lacks what another data connection takes" in one_line(ran.stderr)
        assert "this host has no threads left" in process.stdout.readline()
        assert netmeasure("client", address, "-t", "0.2", *kind).returncode == Exit.OK


def test_a_client_without_memory() -> None:
    """Each thread takes address space."""
    with server() as (_, address):
        words = ("client", address, "-t", "0.2")
        with few("ulimit -v 400000", *words, "-P", "128") as ran:
            _, errors = ran.communicate(timeout=30)
            assert ran.returncode == Exit.HOST_LIMIT
            assert "`ulimit -v`" in one_line(errors)
        with few("ulimit -v 400000", *words) as ran:
            assert ran.wait(30) == Exit.OK


@pytest.mark.parametrize(
    ("space", "words", "code"),
    [
        (150_000, ("client", "127.0.0.1:1", "-t", "1"), Exit.HOST_LIMIT),
        (60_000, ("client", "http://127.0.0.1:1/"), Exit.HOST_LIMIT),
        (150_000, ("server", "-B", "127.0.0.1", "-p", "0"), Exit.HOST_LIMIT),
        (150_000, ("iperf3", "-c", "127.0.0.1", "-p", "1"), 1),
    ],
    ids=["client", "url", "server", "iperf3"],
)
def test_an_address_space_without_room_for_a_result(
    space: int, words: tuple[str, ...], code: int
) -> None:
    """Without the check, libraries would end the process after the test, or without a message."""
    with few(f"ulimit -v {space}", *words) as ran:
        output, errors = ran.communicate(timeout=30)
    assert (ran.returncode, output, errors.count("\n")) == (code, "", 1)
    assert "of address space left (ulimit -v), and a test takes 192 MiB" in errors


#: The tracer would be loaded before the program and would find no memory, too.
UNTRACED = "unset COVERAGE_PROCESS_START COVERAGE_PROCESS_CONFIG"


@pytest.mark.parametrize("space", [29_000, 36_000, 49_000])
def test_an_address_space_without_room_for_the_program(space: int) -> None:
    """Without the check, the interpreter crashes where some module finds no memory."""
    with few(f"{UNTRACED}; ulimit -v {space}", "ceiling", "127.0.0.1") as ran:
        output, errors = ran.communicate(timeout=30)
    assert (ran.returncode, output) == (Exit.HOST_LIMIT, "")
    assert "of address space (ulimit -v), and the program takes 48.0 MiB" in one_line(errors)


def test_the_smallest_address_space_of_the_program() -> None:
    with few(f"{UNTRACED}; ulimit -v {48 * 1024}", "ceiling", "127.0.0.1") as ran:
        _, errors = ran.communicate(timeout=30)
    assert (ran.returncode, errors) == (Exit.OK, "")


def test_a_small_address_space_with_room_for_many_kinds_of_tests() -> None:
    """The heaps of threads would take 64 MiB each."""
    with few("ulimit -v 300000", "server", "-B", "127.0.0.1", "-p", "0", "--http", "0") as process:
        assert process.stdout is not None
        address, web = (process.stdout.readline().split()[-1] for _ in range(2))
        for words in (
            (address, "-u", "-P", "4"),
            (f"http://{web.replace('127.0.0.1', 'localhost')}/1M.bin",),
        ):
            with few("ulimit -v 300000", "client", *words, "-t", "0.2") as ran:
                _, errors = ran.communicate(timeout=30)
                assert (ran.returncode, errors) == (Exit.OK, "")


def test_a_server_at_rest_has_not_loaded_what_a_result_needs() -> None:
    with few("true", "server", "-B", "127.0.0.1", "-p", "0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        assert netmeasure("probe", address).returncode == Exit.OK
        with open(f"/proc/{process.pid}/maps") as file:
            assert "/numpy/" not in file.read()
        assert netmeasure("client", "-n", "1K", address).returncode == Exit.OK
        assert process.stdout.readline().endswith("complete\n")


def test_a_server_at_rest_does_not_wake_up() -> None:
    def wakes(pid: int) -> int:
        count = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            words = (task / "status").read_text().split()
            count += int(words[words.index("voluntary_ctxt_switches:") + 1])
        return count

    with server("--http", "0", "--ftp", "0") as (process, address):
        assert netmeasure("client", "-n", "1K", address).returncode == Exit.OK
        time.sleep(1.5)  # wait until the memory of the test is freed
        before = wakes(process.pid)
        time.sleep(2.5)
        assert wakes(process.pid) - before <= 1  # one look at the host may fall into this time


def test_a_server_without_memory() -> None:
    with server() as (process, address):
        assert netmeasure("client", address, "-t", "0.2").returncode == Exit.OK  # all is loaded
        with open(f"/proc/{process.pid}/statm") as file:
            pages = int(file.read().split()[0])
        room = pages * resource.getpagesize() + 60 * 2**20
        resource.prlimit(process.pid, resource.RLIMIT_AS, (room, room))
        ran = netmeasure("client", address, "-t", "0.2", "-P", "128")
        assert ran.returncode == Exit.NOT_A_SERVER
        assert "the server's host lacks what another data connection takes" in one_line(ran.stderr)
        assert netmeasure("client", address, "-t", "0.2").returncode == Exit.OK


@needs_root
@pytest.mark.parametrize("end", ["client", "server"])
def test_a_host_without_proc(end: str) -> None:
    """Figures that only /proc provides are unknown."""
    hidden = "mount -t tmpfs none /proc && exec"

    def unshared(*words: str) -> list[str]:
        return ["unshare", "-m", "sh", "-c", f"{hidden} {shlex.join([*PROGRAM, *words])}"]

    def document(*command: str) -> dict[str, Any]:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    if end == "client":
        with server() as (_, address):
            result = document(*unshared("client", address, "-t", "0.2", "--json"))
    else:
        serving = subprocess.Popen(
            unshared("server", "-B", "127.0.0.1", "-p", "0"), stdout=subprocess.PIPE, text=True
        )
        try:
            assert serving.stdout is not None
            address = serving.stdout.readline().split()[-1]
            result = document(*PROGRAM, "client", address, "-t", "0.2", "--json")
        finally:
            serving.kill()
            serving.communicate()
    other = {"client": "server", "server": "client"}[end]
    assert result["complete"]
    assert result[end].get("resources") is None
    assert result[other]["resources"]
