"""Test `netmeasure probe`, and that probes have no effect on a server."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from netmeasure.cli.exits import Exit
from support import census, iperf3
from support.ports import nobody
from support.program import netmeasure, one_line, running, server

MODULES_OF_A_PROBE = {"asyncio", "uvloop", "numpy", "rich", "aiohttp", "psutil", "ssl"}


@contextlib.contextmanager
def listener(answer: bytes | None = None, *, backlog: int = 8) -> Iterator[str]:
    """Listen without accepting, or answer the first connection with some bytes and close it."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as sock:

        def serve() -> None:
            with sock.accept()[0] as connection:
                connection.recv(64)
                connection.sendall(answer or b"")

        thread = threading.Thread(target=serve if answer is not None else lambda: None)
        thread.start()
        yield f"127.0.0.1:{sock.getsockname()[1]}"
        thread.join()


# ---- a server that is there ---------------------------------------------------------------------


@pytest.mark.parametrize("how", [(), ("--tcp",)])
def test_a_server_answers_and_says_nothing_of_it(how: tuple[str, ...]) -> None:
    with server() as (process, address):
        ran = netmeasure("probe", address, *how)
        assert (ran.returncode, ran.stderr) == (Exit.OK, "")
        assert ran.stdout.startswith(address)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == Exit.OK


def test_probes_are_answered_while_all_places_are_taken() -> None:
    with server("--max-tests", "1") as (process, address):
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port))) as control:
            control.sendall(b"a" * 36 + b"\0")
            assert control.recv(1) == b"\x09"
            control.sendall(b"\0\0\0\x02{}")
            assert control.recv(1) == b"\x0a"  # the one place is this connection's
            assert netmeasure("probe", address).returncode == Exit.OK
            ran = netmeasure("client", address, "--queue-timeout", "0")
            assert ran.returncode == Exit.BUSY
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert "was turned away: 1 tests are running" in one_line(errors)


def test_bare_connections_cost_nothing_and_log_nothing() -> None:
    with server() as (process, address):
        host, _, port = address.partition(":")
        for _ in range(200):
            socket.create_connection((host, int(port))).close()
        ran = netmeasure("client", address, "-t", "0.2", "--json")
        assert json.loads(ran.stdout)["complete"]
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
        assert (len(output.splitlines()), errors) == (1, "")  # the test's


@pytest.mark.interop
@pytest.mark.parametrize("how", [(), ("--tcp",)])
def test_a_real_iperf3_answers_and_serves_on(how: tuple[str, ...]) -> None:
    with iperf3.server() as peer:
        ran = netmeasure("probe", f"127.0.0.1:{peer.port}", *how)
        assert (ran.returncode, ran.stderr) == (Exit.OK, "")
        assert peer.wait_listening()
        assert netmeasure("client", f"127.0.0.1:{peer.port}", "-t", "0.2").returncode == Exit.OK


def test_a_probe_loads_next_to_nothing() -> None:
    code = (
        "import sys; from netmeasure.cli import main; main(['probe', '127.0.0.1:1']);"
        f"print(sorted({MODULES_OF_A_PROBE!r} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert ran.stdout == "[]\n", ran.stderr


# ---- and one that is not ------------------------------------------------------------------------


def test_a_host_without_a_server() -> None:
    with nobody() as port:
        ran = netmeasure("probe", f"127.0.0.1:{port}")
    assert (ran.returncode, ran.stdout) == (Exit.NO_CONNECTION, "")
    assert one_line(ran.stderr).endswith(f":{port}: can't connect: Connection refused\n")


def test_a_name_that_can_not_be_resolved() -> None:
    ran = netmeasure("probe", "no-such-host.invalid", "--timeout", "20")
    assert (ran.returncode, ran.stdout) == (Exit.NO_CONNECTION, "")
    assert "no such host" in one_line(ran.stderr)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed without an answer"),
        (b"SSH-2.0-x", "another service answers there"),
        (None, "no answer in 0.2 s"),
    ],
)
def test_another_program_at_the_port(answer: bytes | None, words: str) -> None:
    with listener(answer) as address:
        ran = netmeasure("probe", address, "--timeout", "0.2" if answer is None else "20")
    assert (ran.returncode, ran.stdout) == (Exit.NOT_A_SERVER, "")
    assert words in one_line(ran.stderr)


def test_a_full_backlog_is_no_answer() -> None:
    with listener(backlog=0) as address, contextlib.ExitStack() as fill:
        host, _, port = address.partition(":")
        for _ in range(4):
            sock = fill.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex((host, int(port)))
        ran = netmeasure("probe", address, "--timeout", "0.2")
    assert ran.returncode == Exit.NO_CONNECTION
    assert "can't connect: timed out" in one_line(ran.stderr)


def test_a_wrong_target() -> None:
    ran = netmeasure("probe", "lab1:70000")
    assert ran.returncode == Exit.USAGE
    assert "not a number from 1 to 65535" in one_line(ran.stderr)


# ---- by HTTP ------------------------------------------------------------------------------------


def status(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def test_health_and_readiness_by_http() -> None:
    with running("server", "-B", "127.0.0.1", "-p", "0", "--http", "0") as process:
        assert process.stdout is not None
        process.stdout.readline()
        base = f"http://{process.stdout.readline().split()[-1]}"
        assert census.settle(lambda: status(f"{base}/readyz")[0] == 200)
        assert status(f"{base}/healthz") == (200, "alive\n")
        assert status(f"{base}/readyz") == (200, "ready\n")
        assert status(f"{base}/healthy")[0] == 404
