"""Test the search for the longest UDP datagram of a path, to the byte: on paths where longer ones
vanish, where a router reports them, and where the sender's own interface can't send them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess

import pytest

import netmeasure as nm
from netmeasure.cli.exits import Exit
from netmeasure.result import FlowDirection
from support import netns, relay
from support.elsewhere import loop_on
from support.netns import NamespacePair, Network, ip
from support.relay import Relay
from support.routed import RoutedPair
from support.warm import PROGRAM

pytestmark = [pytest.mark.network, pytest.mark.rates]
needs_relay = pytest.mark.skipif(relay.available() is not None, reason=str(relay.available()))
needs_root = pytest.mark.skipif(netns.available() is not None, reason=str(netns.available()))


def search(
    line: NamespacePair, host: str | None = None
) -> dict[str, tuple[int | None, str | None]]:
    """Search the path between the hosts; return the length and the fate of longer datagrams."""
    with loop_on(line, "server") as there, loop_on(line, "client") as here:
        server = there(nm.serve(None, 0).__aenter__())
        try:
            found: nm.PathReport = here(
                nm.path(host or line.server.address, port=server.port, protocol="udp")
            )
        finally:
            there(server.close())
    assert found.protocol == "udp"
    return {one.direction: (one.passed_bytes, one.longer) for one in found.lengths}


@needs_relay
def test_a_hole_each_way() -> None:
    with Relay(delay_ms=5, hole_bytes=1450, hole_way="up") as line:
        assert search(line) == {"upload": (1450, "dropped"), "download": (1500, None)}
    with Relay(delay_ms=5, hole_bytes=1001, hole_way="down") as line:
        assert search(line) == {"upload": (1500, None), "download": (1001, "dropped")}


@needs_relay
def test_a_hole_in_jumbo_frames() -> None:
    with Relay(delay_ms=5, mtu=9000, hole_bytes=8951, hole_way="both") as line:
        assert search(line) == {"upload": (8951, "dropped"), "download": (8951, "dropped")}


@needs_relay
def test_lost_datagrams_are_no_limit() -> None:
    with Relay(delay_ms=2, loss=0.02) as line:
        assert search(line) == {"upload": (1500, None), "download": (1500, None)}


@needs_root
@pytest.mark.parametrize(("narrow", "direction"), [("server", "upload"), ("client", "download")])
def test_a_router_that_reports_its_mtu(narrow: str, direction: FlowDirection) -> None:
    """The second search meets kernels that have cached the path's MTU, which hides nothing."""
    expected: dict[str, tuple[int | None, str | None]] = {
        "upload": (1500, None),
        "download": (1500, None),
        direction: (1420, "reported"),
    }
    with RoutedPair(narrow, 1420) as line:
        assert search(line) == expected
        assert search(line) == expected


@needs_root
def test_what_the_server_can_not_send_is_no_loss() -> None:
    """A veth device takes frames that are 4 bytes longer than its MTU, for a VLAN's tag."""
    with Network() as line:
        ip("-n", line.server.namespace, "link", "set", line.server.device, "mtu", "1400")
        expected = {"upload": (1404, "dropped"), "download": (1400, "local")}
        assert search(line) == expected
        assert search(line, line.server.address6) == expected


@needs_relay
def test_the_program_names_the_hole() -> None:
    with (
        Relay(delay_ms=5, hole_bytes=1450, hole_way="up") as line,
        loop_on(line, "server") as there,
    ):
        server = there(nm.serve(None, 0).__aenter__())
        try:
            address = f"{line.server.address}:{server.port}"
            argv = line.command("client", [*PROGRAM, "path", "-u", address])
            text, document = (
                subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
                for words in (argv, [*argv, "--json"])
            )
        finally:
            there(server.close())
    assert (text.returncode, text.stderr) == (Exit.HOLE, "")
    assert text.stdout.splitlines() == [
        f"Path to {address} (interface wire0, MTU 1500 bytes), UDP",
        "  to server    1450 bytes; packets of 1451 vanish",
        "  from server  1500 bytes, the longest tried",
        "  MTU to set   1450 bytes",
        "  explained by vxlan within an MTU of 1500 bytes",
        "  explained by geneve within an MTU of 1500 bytes",
    ]
    assert json.loads(document.stdout)["protocol"] == "udp"


def test_a_server_without_answers_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(nm.PeerTimeoutError, match="no answer to UDP path queries"):
            asyncio.run(nm.path(target, protocol="udp", timeout_s=0.2))
