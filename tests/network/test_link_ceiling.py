"""Compare ceilings with a real link: VXLAN devices over a veth pair whose rate tbf limits.

tbf counts frames from the Ethernet header on, so the ceiling is that of the framing "frame".
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import netmeasure as nm
from netmeasure.engine import path
from netmeasure.engine.addresses import Address
from netmeasure.report.words import closing_lines
from support.elsewhere import loop_on
from support.netns import Network, ip

pytestmark = [pytest.mark.network, pytest.mark.rates]

RATE, RATE_BPS = "200mbit", 200_000_000
#: A busy machine may leave a link idle: then the rate is lower, which says nothing of the ceiling.
#: A ceiling that is too high is never reached; one that is too low is exceeded every time.
ATTEMPTS = 4


class Tunnel(NamedTuple):
    """A VXLAN device on each side, the addresses 10.78.`number`.1 and .2."""

    device: str
    number: int
    version: int = 4
    mtu: int | None = None

    @property
    def host(self) -> str:
        return f"10.78.{self.number}.2"


FITTING = Tunnel("nmvx4", 4)
FITTING6 = Tunnel("nmvx6", 6, version=6)
#: An MTU of 1480 on a link with 1500: the tunnel's packets of 1530 bytes are fragmented.
TOO_LARGE = Tunnel("nmvxf", 5, mtu=1480)


def dig(network: Network, tunnel: Tunnel) -> None:
    for side, other in (("client", network.server), ("server", network.client)):
        here = network.sides[side]
        within = ("-n", here.namespace)
        v4, v6 = (here.address, other.address), (here.address6, other.address6)
        local, remote = v4 if tunnel.version == 4 else v6
        vxlan = ("id", str(tunnel.number), "dstport", "4789", "local", local, "remote", remote)
        # a device that is not bound to a link accepts any MTU
        below = () if tunnel.mtu else ("dev", here.device)
        ip(*within, "link", "add", tunnel.device, "type", "vxlan", *vxlan, *below)
        number = 1 if side == "client" else 2
        net = f"10.78.{tunnel.number}"
        ip(*within, "address", "add", f"{net}.{number}/24", "dev", tunnel.device)
        mtu = ("mtu", str(tunnel.mtu)) if tunnel.mtu else ()
        ip(*within, "link", "set", tunnel.device, "addrgenmode", "none", *mtu, "up")
        if tunnel.mtu:
            # without the lock, the kernel would lower the MSS for the tunnel by itself; it can't
            # do so for packets that come from a container over a bridge
            lock = ("dev", tunnel.device, "mtu", "lock", str(tunnel.mtu))
            ip(*within, "route", "replace", f"{net}.0/24", *lock)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape(RATE, burst="128k", latency="20ms")
        for tunnel in (FITTING, FITTING6, TOO_LARGE):
            dig(pair, tunnel)
        yield pair


def measured(network: Network, host: str, encapsulation: str) -> nm.Result:
    spec = nm.TcpSpec(
        timing=nm.Timing(duration_s=2.5),
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


def sent_bytes(network: Network) -> int:
    """Return the bytes that the client's tbf has passed. It counts super-packets as the frames that
    they become; the device's own counter counts the headers of a super-packet once."""
    where = ("-n", network.client.namespace, "-s", "-j", "qdisc", "show", "dev")
    shown = subprocess.run(
        ("tc", *where, network.client.device), capture_output=True, text=True, check=True
    )
    return int(json.loads(shown.stdout)[0]["bytes"])


def reached(network: Network, host: str, encapsulation: str) -> nm.Result:
    """Return a test that reaches its ceiling within 1 %. No test may exceed it, and in each test
    the share of payload in the link's bytes must be the computed one."""
    for _ in range(ATTEMPTS):
        before = sent_bytes(network)
        result = measured(network, host, encapsulation)
        sent, flow = sent_bytes(network) - before, result.flow
        assert flow.ceiling is not None
        assert flow.ceiling_share is not None
        assert flow.ceiling_share <= 1.01
        assert flow.receiver.bytes is not None
        assert flow.sender.retransmits is not None
        payload = flow.receiver.bytes + flow.sender.retransmits * flow.ceiling.payload_bytes
        assert payload / sent == pytest.approx(flow.ceiling.share, rel=0.005)
        if flow.ceiling_share >= 0.99:
            return result
    raise AssertionError(f"in {ATTEMPTS} tests the ceiling was not reached")


@pytest.mark.parametrize(
    ("tunnel", "encapsulation", "mtu"),
    [(None, "", 1500), (FITTING, "vxlan", 1450), (FITTING6, "vxlan:v6", 1430)],
    ids=["direct", "vxlan", "vxlan over IPv6"],
)
def test_a_link_carries_its_ceiling(
    network: Network, tunnel: Tunnel | None, encapsulation: str, mtu: int
) -> None:
    host = tunnel.host if tunnel else network.server.address
    flow = reached(network, host, encapsulation).flow
    assert flow.ceiling is not None
    assert flow.ceiling.mtu_bytes == flow.ceiling.right_mtu_bytes == mtu
    assert flow.ceiling.payload_bps == pytest.approx(RATE_BPS * (mtu - 52) / 1514)


def test_a_tunnel_whose_packets_are_fragmented(network: Network) -> None:
    """The computed loss of rate is equal to the measured one, and is in the report."""
    result = reached(network, TOO_LARGE.host, "vxlan")
    ceiling = result.flow.ceiling
    assert ceiling is not None
    assert ceiling.packet_bytes == (1500, 50)
    assert ceiling.payload_bps == pytest.approx(RATE_BPS * 1428 / (1514 + 64))
    (sentence,) = (line for line in closing_lines(result) if "fragments" in line)
    assert sentence.startswith("The MTU of 1480 is 30 too large: with vxlan around it")
    assert sentence.endswith("the right MTU is 1450.")


def test_the_path_names_its_interface_and_mtu(network: Network) -> None:
    """Without a mount of sysfs in the namespace, sysfs shows another namespace and is not used."""
    with network.enter("client"):
        through_tunnel = path.path_facts(Address(2, (FITTING.host, 1)))
        direct = path.path_facts(Address(10, (network.server.address6, 1, 0, 0)))
    assert (through_tunnel.interface, through_tunnel.path_mtu_bytes) == (FITTING.device, 1450)
    assert (direct.interface, direct.path_mtu_bytes) == (network.client.device, 1500)
    assert direct.ip_version == 6
    assert through_tunnel.speed_bps is direct.speed_bps is None


def test_the_command_in_the_network_itself(network: Network) -> None:
    """If sysfs shows this namespace, kind and speed are known; a veth's speed is no link rate."""

    def said(host: str) -> str:
        argv = network.command("client", [sys.executable, "-m", "netmeasure", "ceiling", host])
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
        return " ".join(ran.stdout.split())

    tunnel = said(FITTING.host)
    assert f"MTU 1450, through {FITTING.device} (vxlan) with MTU 1450" in tunnel
    assert "add --encap vxlan" in tunnel
    assert "but is no physical device" in said(network.server.address)
    assert "a link of unknown rate" in said(network.server.address)
