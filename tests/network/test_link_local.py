"""Link-local addresses with zones: as targets, as the client's own address, in URLs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.netns import Network, ip

pytestmark = pytest.mark.network

PROGRAM = (sys.executable, "-m", "netmeasure")


MINE, THEIRS = "fe80::c:1", "fe80::5:2"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        for host, address in ((pair.client, MINE), (pair.server, THEIRS)):
            words = ("addr", "add", f"{address}/64", "dev", host.device, "scope", "link", "nodad")
            ip("-n", host.namespace, *words)
        yield pair


@pytest.mark.parametrize("bound", [False, True], ids=["every-address", "one-address"])
def test_every_kind_of_test(network: Network, bound: bool) -> None:
    near, far = network.client.device, network.server.device
    words = ["server", "-p", "5301", "--http", "8301", "--ftp", "2301"]
    words += ["-B", f"{THEIRS}%{far}"] if bound else []
    serving = network.popen("server", (*PROGRAM, *words), stdout=subprocess.PIPE)
    try:
        assert serving.stdout is not None
        while b"serving FTP" not in serving.stdout.readline():
            assert serving.poll() is None
        target = f"[{THEIRS}%{near}]"
        own = ("-B", f"{MINE}%{near}")
        every = (
            ("client", f"{target}:5301", "-n", "100K"),
            ("client", f"{target}:5301", "-t", "0.2", "-u", "-d", "both", *own),
            ("iperf3", "-c", f"{THEIRS}%{near}", "-p", "5301", "-u", "-n", "100K"),
            ("probe", f"{target}:5301"),
        )
        one = (
            ("client", f"{target}:5301", "-t", "0.2", "-u"),
            ("client", f"{target}:5301", "-n", "100K", *own),
            ("client", f"http://[{THEIRS}%25{near}]:8301/100K"),
            ("client", f"ftp://{target}:2301/100K"),
        )
        for client in one if bound else every:
            command = network.command("client", (*PROGRAM, *client))
            ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            assert ran.returncode == 0, (client, ran.stderr)
    finally:
        serving.kill()
        serving.communicate()


def test_messages_show_the_zone(network: Network) -> None:
    near = network.client.device
    command = network.command("client", (*PROGRAM, "client", f"{THEIRS}%{near}", "-p", "9"))
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 3
    assert f"[{THEIRS}%{near}]:9 refused" in ran.stderr
