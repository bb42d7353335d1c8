"""Test datagrams and the MTU of the path: their default size, and the note on fragments."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pytest

import netmeasure as nm
from support.elsewhere import loop_on
from support.netns import Network, ip

pytestmark = pytest.mark.network

MTU = 1400
families = pytest.mark.parametrize(("family", "header"), [(4, 28), (6, 48)], ids=["ipv4", "ipv6"])
both_ways = pytest.mark.parametrize("direction", ["upload", "download"])


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        for side in pair.sides.values():
            ip("-n", side.namespace, "link", "set", side.device, "mtu", str(MTU))
        yield pair


def measured(network: Network, family: int, direction: str, size: int | None) -> nm.Result:
    wanted = nm.UdpSpec(
        direction=direction,  # type: ignore[arg-type]
        timing=nm.Timing(total_blocks=50),
        datagram_bytes=size,
        target_pps=1000,
    )
    host = network.server.address if family == 4 else network.server.address6
    ended: queue.SimpleQueue[nm.Result] = queue.SimpleQueue()
    with loop_on(network, "server") as there, loop_on(network, "client") as here:
        server = there(nm.serve(None, 0, on_result=ended.put).__aenter__())
        try:
            result: nm.Result = here(nm.measure(host, wanted, port=server.port))
            theirs = ended.get(timeout=10)
        finally:
            there(server.close())
    for seen in (result, theirs):
        assert seen.complete
        assert seen.flow.loss is not None
        assert (seen.flow.loss.sent_packets, seen.flow.loss.lost_packets) == (50, 0)
    return result


@families
@both_ways
def test_a_datagram_is_as_long_as_the_path_allows_without_fragments(
    network: Network, direction: str, family: int, header: int
) -> None:
    result = measured(network, family, direction, None)
    assert isinstance(result.spec, nm.UdpSpec)
    assert result.spec.datagram_bytes == MTU - header
    assert result.flow.receiver.bytes == 50 * (MTU - header)
    assert not any("fragments" in note for note in result.notes)


@families
@both_ways
def test_a_longer_datagram_arrives_in_fragments_and_a_note_says_so(
    network: Network, direction: str, family: int, header: int
) -> None:
    size = MTU - header + 1
    result = measured(network, family, direction, size)
    assert result.flow.receiver.bytes == 50 * size
    (note,) = (note for note in result.notes if "fragments" in note)
    assert f"datagrams of {size} bytes" in note
    assert f"takes {MTU - header}" in note
