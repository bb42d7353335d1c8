"""Compare the interfaces and offloads in a result with the output of ethtool."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

import netmeasure as nm
from netmeasure.comparison.differences import differences
from support.netns import Network, ip

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(shutil.which("ethtool") is None, reason="ethtool is not installed"),
]

PROGRAM = (sys.executable, "-m", "netmeasure")
NAMES = {
    "rx-checksumming": "rx-checksum",
    "tx-checksumming": "tx-checksum",
    "scatter-gather": "sg",
    "tcp-segmentation-offload": "tso",
    "generic-segmentation-offload": "gso",
    "generic-receive-offload": "gro",
    "large-receive-offload": "lro",
}


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        yield pair


def ethtool(network: Network, side: str, *words: str) -> str:
    command = network.command(side, ("ethtool", *words))
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measured(network: Network, address: str) -> nm.Result:
    serving = network.popen("server", (*PROGRAM, "server", "-p", "0"), stdout=subprocess.PIPE)
    assert serving.stdout is not None
    port = serving.stdout.readline().decode().split()[-1].rpartition(":")[2]
    command = (*PROGRAM, "client", address, "-p", port, "-t", "0.1", "--json")
    ran = subprocess.run(network.command("client", command), capture_output=True, check=True)
    serving.kill()
    serving.wait()
    serving.stdout.close()
    return nm.Result.from_json(ran.stdout)


def test_offloads_are_those_that_ethtool_shows(network: Network) -> None:
    before = measured(network, network.server.address)
    ethtool(network, "client", "-K", network.client.device, "tso", "off", "gro", "on")
    ip("-n", network.client.namespace, "link", "set", network.client.device, "mtu", "1400")
    after = measured(network, network.server.address6)

    for result, mtu in ((before, 1500), (after, 1400)):
        (interface,) = result.client.host.interfaces
        assert (interface.name, interface.mtu_bytes) == (network.client.device, mtu)
        (far,) = result.server.host.interfaces
        assert (far.name, far.mtu_bytes) == (network.server.device, 1500)
    lines = ethtool(network, "client", "-k", network.client.device).splitlines()
    states = dict(line.split(": ") for line in lines if ": " in line)
    shown = {NAMES[name] for name in NAMES if states[name].startswith("on")}
    assert set(after.client.host.interfaces[0].offloads or ()) == shown
    assert "tso" not in shown
    found = {one.name for one in differences([before], [after], "upload")}
    assert {"client's offloads", "client's interface MTU"} <= found
