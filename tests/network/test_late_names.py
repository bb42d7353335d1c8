"""Test a target with a name whose first DNS queries are lost, since the network is not up yet."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netmeasure.cli.exits import Exit
from support.netns import Network
from support.resolver import with_resolver

pytestmark = pytest.mark.network

NAME = "far.test"
IPV4 = 1  # the type of a query for IPv4 addresses (RFC 1035)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as pair:
        yield pair


@contextmanager
def name_server(network: Network, lost: int) -> Iterator[None]:
    """Answer queries for IPv4 addresses, from the server's namespace, after a number of them were
    lost."""
    address = network.server.address
    with network.enter("server"):
        sock, end = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    sock.bind((address, 53))

    def answer() -> None:
        seen = 0
        while True:
            query, client = sock.recvfrom(512)
            if not query:
                return
            question = query[12 : query.index(0, 12) + 5]
            known = int.from_bytes(question[-4:-2]) == IPV4
            seen += known
            if seen <= lost:
                continue
            head = query[:2] + b"\x85\x80\0\1" + bytes([0, known]) + bytes(4)
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x0a\0\4" + socket.inet_aton(address)
            sock.sendto(head + question + record * known, client)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        with sock, end:
            end.sendto(b"", (address, 53))
            thread.join()


@pytest.mark.parametrize(
    ("options", "lost", "explained"),
    [
        ("timeout:1 attempts:1", 2, "asked 3 times: the resolver had no answer before"),
        ("timeout:1 attempts:2", 1, "a query was lost: the resolver asks again after 1 s"),
    ],
    ids=["the resolver gives up", "the resolver asks again"],
)
def test_lost_queries_are_repeated_and_explained(
    network: Network, tmp_path: Path, options: str, lost: int, explained: str
) -> None:
    """The look-up is repeated if the resolver gives up after a second, until the user's
    deadline."""
    with name_server(network, lost):
        phase = measured(network, tmp_path, options)
    assert phase["detail"] == explained
    assert phase["duration_ns"] > 0.9e9 * lost


def test_a_name_server_that_starts_late_is_asked_again(network: Network, tmp_path: Path) -> None:
    """Until it starts, its host refuses all queries, so that the resolver fails at once."""
    late_s = 8  # of which the programs take a part to start
    start, stop = threading.Event(), threading.Event()

    def serve() -> None:
        start.wait(late_s)
        with name_server(network, 0):
            stop.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        phase = measured(network, tmp_path, "timeout:1 attempts:1")
    finally:
        start.set()
        stop.set()
        thread.join()
    assert phase["detail"].startswith("asked ")
    assert phase["detail"].endswith(" times: the resolver had no answer before")
    assert phase["duration_ns"] > 3e9


def measured(network: Network, tmp_path: Path, options: str) -> dict[str, Any]:
    """Return the phase `resolve` of a test whose target is a name, by a resolver with these
    options."""
    address = network.server.address
    serving = ("-m", "netmeasure", "server", "-B", address, "-p", "0")
    served = network.popen("server", [sys.executable, *serving], stdout=subprocess.PIPE, text=True)
    assert served.stdout is not None
    port = served.stdout.readline().rpartition(":")[2].strip()
    words = ("client", f"{NAME}:{port}", "-t", "0.2", "--connect-timeout", "30", "--json")
    argv = with_resolver(tmp_path, address, options, *words)
    ran = subprocess.run(network.command("client", argv), capture_output=True, timeout=40)
    assert (ran.returncode, ran.stderr) == (Exit.OK, b"")
    phases: list[dict[str, Any]] = json.loads(ran.stdout)["setup"]
    return next(phase for phase in phases if phase["name"] == "resolve")
