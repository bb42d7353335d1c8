"""Test paths that drop long packets without an ICMP message: the length is found to the byte, the
error names it, and losses or a missing host are not taken for such a path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import path_probe, sockets
from netmeasure.result import FlowDirection
from netmeasure.spec import SocketOptions
from support import iperf3, relay
from support.elsewhere import loop_on
from support.netns import NamespacePair
from support.ports import nobody
from support.relay import Relay

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(relay.available() is not None, reason=str(relay.available())),
]
RunThere = Callable[[Coroutine[Any, Any, Any]], Any]
WAYS: dict[FlowDirection, str] = {"upload": "up", "download": "down"}
#: A test that would go on for longer than it may take to find the hole.
TIMING = nm.Timing(duration_s=40)
SOON_S = 30.0


def failed(
    here: RunThere, network: NamespacePair, port: int, spec: nm.TcpSpec | nm.UdpSpec
) -> nm.Result:
    """Run a test that must find a hole within SOON_S; return its result."""
    start = time.monotonic()
    with pytest.raises(nm.PathMtuError) as caught:
        here(nm.measure(network.server.address, spec, port=port))
    assert time.monotonic() - start < SOON_S
    assert caught.value.code == "path_mtu"
    assert caught.value.hint
    result = caught.value.result
    assert isinstance(result, nm.Result)
    assert result.path_hole is not None
    assert f"packets of {result.path_hole.lost_bytes} bytes and more" in str(caught.value)
    assert nm.Result.from_json(result.to_json()).path_hole == result.path_hole
    return result


@pytest.mark.parametrize("direction", ["upload", "download"])
@pytest.mark.parametrize("hole_bytes", [1300, 577])
def test_tcp(direction: FlowDirection, hole_bytes: int) -> None:
    spec = nm.TcpSpec(direction=direction, timing=TIMING)
    with (
        Relay(delay_ms=5, hole_bytes=hole_bytes, hole_way=WAYS[direction]) as line,
        loop_on(line, "server") as there,
        loop_on(line, "client") as here,
    ):
        server = there(nm.serve(None, 0).__aenter__())
        try:
            result = failed(here, line, server.port, spec)
        finally:
            there(server.close())
    expected = nm.PathHole(direction=direction, passed_bytes=hole_bytes, lost_bytes=hole_bytes + 1)
    assert result.path_hole == expected


def test_udp_download() -> None:
    spec = nm.UdpSpec(direction="download", timing=TIMING, target_bps=2_000_000)
    with (
        Relay(delay_ms=5, hole_bytes=1300, hole_way="down") as line,
        loop_on(line, "server") as there,
        loop_on(line, "client") as here,
    ):
        server = there(nm.serve(None, 0).__aenter__())
        try:
            result = failed(here, line, server.port, spec)
        finally:
            there(server.close())
    assert result.path_hole is not None
    assert result.path_hole.passed_bytes == 1300


@pytest.mark.parametrize("way", ["up", "both"])
def test_a_udp_upload_is_complete_and_says_why_all_is_lost(way: str) -> None:
    """The control connection's packets are short, so the server's results still arrive."""
    spec = nm.UdpSpec(timing=nm.Timing(duration_s=1), target_bps=2_000_000)
    with (
        Relay(delay_ms=5, hole_bytes=1300, hole_way=way) as line,
        loop_on(line, "server") as there,
        loop_on(line, "client") as here,
    ):
        server = there(nm.serve(None, 0).__aenter__())
        try:
            result = here(nm.measure(line.server.address, spec, port=server.port))
        finally:
            there(server.close())
    assert result.complete
    assert result.flow.loss is not None
    assert result.flow.loss.loss_ratio == 1
    assert result.path_hole == nm.PathHole(direction="upload", passed_bytes=1300, lost_bytes=1301)
    assert any("1301 bytes and more do not get through to the server" in n for n in result.notes)


@pytest.mark.interop
@pytest.mark.skipif(iperf3.available() is not None, reason=str(iperf3.available()))
def test_upload_to_a_plain_iperf3() -> None:
    with (
        Relay(delay_ms=5, hole_bytes=1000, hole_way="up") as line,
        iperf3.server(network=line) as server,
        loop_on(line, "client") as here,
    ):
        result = failed(here, line, server.port, nm.TcpSpec(timing=TIMING))
    assert result.path_hole is not None
    assert result.path_hole.passed_bytes == 1000


@pytest.fixture(scope="module")
def open_path() -> Iterator[Relay]:
    with Relay(delay_ms=5, loss=0.02) as line:
        yield line


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_path_with_losses_has_no_hole(open_path: Relay, direction: FlowDirection) -> None:
    async def search(port: int) -> nm.PathHole | None:
        (address,) = (await sockets.resolve(open_path.server.address, port, "any", 5)).addresses
        return await path_probe.find_hole(address, SocketOptions(), direction, 1500)

    with loop_on(open_path, "server") as there, loop_on(open_path, "client") as here:
        server = there(nm.serve(None, 0).__aenter__())
        try:
            for _ in range(3):
                assert here(search(server.port)) is None
        finally:
            there(server.close())


def test_a_host_that_is_gone_is_no_hole() -> None:
    """If not even short packets get through, the result has no path hole."""

    async def search() -> nm.PathHole | None:
        with nobody() as port:
            (address,) = (await sockets.resolve("127.0.0.1", port, "any", 5)).addresses
            return await path_probe.find_hole(address, SocketOptions(), "upload", 1500)

    assert asyncio.run(search()) is None
