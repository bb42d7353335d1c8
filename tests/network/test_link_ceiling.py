"""Ceilings against a real link: a VXLAN device over a veth pair that tbf holds to a rate.

tbf counts frames from the Ethernet header on, so the ceiling is that of the framing "frame".
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

import netmeasure as nm
from netmeasure.engine import path, sockets
from support.elsewhere import loop_on
from support.netns import Network, ip

pytestmark = pytest.mark.network

RATE_BPS = 300_000_000
TUNNEL = "nmvx"
INNER = {"client": "10.78.0.1", "server": "10.78.0.2"}


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape("300mbit", burst="128k")
        for side, other in (("client", pair.server), ("server", pair.client)):
            here = pair.sides[side]
            within = ("-n", here.namespace)
            vxlan = ("id", "77", "dstport", "4789", "dev", here.device)
            ends = ("local", here.address, "remote", other.address)
            ip(*within, "link", "add", TUNNEL, "type", "vxlan", *vxlan, *ends)
            ip(*within, "address", "add", f"{INNER[side]}/24", "dev", TUNNEL)
            ip(*within, "link", "set", TUNNEL, "addrgenmode", "none", "up")
        yield pair


def measured(network: Network, host: str, encapsulation: str) -> nm.Result:
    spec = nm.TcpSpec(
        timing=nm.Timing(duration_s=3),
        options=nm.SocketOptions(congestion="cubic"),
        link=nm.Link(
            rate_bps=RATE_BPS, mtu_bytes=1500, encapsulation=encapsulation, framing="frame"
        ),
    )
    with loop_on(network, "server") as there, loop_on(network, "client") as here:
        server = there(nm.serve(None, 0).__aenter__())
        try:
            result: nm.Result = here(nm.measure(host, spec, port=server.port))
        finally:
            there(server.close())
    assert result.complete
    return result


@pytest.mark.parametrize(
    ("tunnel", "mtu", "payload"), [(False, 1500, 1448), (True, 1450, 1398)], ids=["direct", "vxlan"]
)
def test_a_link_carries_its_ceiling(network: Network, tunnel: bool, mtu: int, payload: int) -> None:
    host = INNER["server"] if tunnel else network.server.address
    flow = measured(network, host, "vxlan" if tunnel else "").flow
    assert flow.ceiling is not None
    assert flow.ceiling.mtu_bytes == flow.ceiling.right_mtu_bytes == mtu
    assert flow.ceiling.payload_bps == pytest.approx(RATE_BPS * payload / 1514)
    assert flow.ceiling_share == pytest.approx(1, abs=0.01)


def test_a_tunnel_that_was_not_told_of_is_seen_as_a_lower_share(network: Network) -> None:
    """The packets on the link are larger than the sender knows: 1398 of 1450 + 14 is too much."""
    flow = measured(network, INNER["server"], "").flow
    assert flow.ceiling_share == pytest.approx((1398 / 1514) / (1398 / 1464), abs=0.01)


def test_the_path_names_its_interface_and_mtu(network: Network) -> None:
    """Only entered, not mounted: sysfs shows another namespace, and nothing of it is believed."""
    with network.enter("client"):
        through_tunnel = path.path_facts(sockets.Address(2, (INNER["server"], 1)))
        direct = path.path_facts(sockets.Address(10, (network.server.address6, 1, 0, 0)))
    assert (through_tunnel.interface, through_tunnel.path_mtu_bytes) == (TUNNEL, 1450)
    assert (direct.interface, direct.path_mtu_bytes) == (network.client.device, 1500)
    assert direct.ip_version == 6
    assert through_tunnel.speed_bps is direct.speed_bps is None


def test_the_command_in_the_network_itself(network: Network) -> None:
    """Where sysfs is its own, kind and speed are known; a veth's speed is no link rate."""

    def said(host: str) -> str:
        argv = network.command("client", [sys.executable, "-m", "netmeasure", "ceiling", host])
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
        return " ".join(ran.stdout.split())

    tunnel = said(INNER["server"])
    assert f"MTU 1450, through {TUNNEL} (vxlan) with MTU 1450" in tunnel
    assert "add --encap vxlan" in tunnel
    assert "but is no physical device" in said(network.server.address)
    assert "a link of unknown rate" in said(network.server.address)
