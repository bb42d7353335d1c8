"""Test `netmeasure path` as a process: its lines, its JSON, its exit codes."""

from __future__ import annotations

import json
import socket
import subprocess

import pytest

from netmeasure.cli.exits import Exit
from support import relay
from support.program import netmeasure, one_line, server
from support.relay import Relay
from support.warm import PROGRAM


def test_loopback_has_no_limit() -> None:
    with server() as (_, address):
        ran = netmeasure("path", address)
        assert (ran.returncode, ran.stderr) == (Exit.OK, "")
        head, *ways = ran.stdout.splitlines()
        assert head == f"Path to {address} (interface lo, MTU 65536 bytes), TCP"
        assert ways == [
            "  to server    9216 bytes, the longest tried",
            "  from server  9216 bytes, the longest tried",
        ]
        document = json.loads(netmeasure("path", "--json", address).stdout)
    assert document["schema_version"] == 1
    assert document["inner_mtu_bytes"] == 9216
    assert [one["longer"] for one in document["lengths"]] == [None, None]


def test_what_fails_is_one_line() -> None:
    ran = netmeasure("path", "127.0.0.1:1")
    assert ran.returncode == Exit.NO_CONNECTION
    assert "refused" in one_line(ran.stderr)


@pytest.mark.network
@pytest.mark.rates
@pytest.mark.skipif(relay.available() is not None, reason=str(relay.available()))
def test_a_hole_has_a_code_of_its_own() -> None:
    with Relay(delay_ms=5, hole_bytes=1450, hole_way="up") as line:
        with line.enter("server"):
            sock = socket.create_server((line.server.address, 5201), backlog=512)
        with sock:
            argv = line.command("client", [*PROGRAM, "path", line.server.address])
            ran = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stderr) == (Exit.HOLE, "")
    assert ran.stdout.splitlines()[1:] == [
        "  to server    1450 bytes; packets of 1451 vanish",
        "  from server  unknown: no probe got through, or the server is not netmeasure",
        "  MTU to set   1450 bytes",
        "  explained by vxlan within an MTU of 1500 bytes",
        "  explained by geneve within an MTU of 1500 bytes",
    ]
