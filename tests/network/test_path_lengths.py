"""Test the search for a path's longest packet, to the byte: on paths where longer packets vanish,
and on paths where a router reports them by ICMP."""

from __future__ import annotations

import asyncio
import resource
import socket

import pytest

import netmeasure as nm
from netmeasure.result import FlowDirection
from support import netns, relay
from support.elsewhere import loop_on
from support.netns import NamespacePair
from support.ports import nobody
from support.relay import Relay
from support.routed import RoutedPair

pytestmark = pytest.mark.network
needs_relay = pytest.mark.skipif(relay.available() is not None, reason=str(relay.available()))
needs_root = pytest.mark.skipif(netns.available() is not None, reason=str(netns.available()))


def search(line: NamespacePair) -> nm.PathReport:
    """Search the path between the hosts; return the last report."""
    with loop_on(line, "server") as there, loop_on(line, "client") as here:
        server = there(nm.serve(None, 0).__aenter__())
        try:
            found: nm.PathReport = here(nm.path(line.server.address, port=server.port))
        finally:
            there(server.close())
    return found


def lengths(found: nm.PathReport) -> dict[str, tuple[int | None, str | None]]:
    return {one.direction: (one.passed_bytes, one.longer) for one in found.lengths}


@pytest.mark.rates
@needs_relay
def test_a_hole_each_way() -> None:
    with Relay(delay_ms=5, hole_bytes=1450, hole_way="up") as line:
        found = search(line)
    assert lengths(found) == {"upload": (1450, "dropped"), "download": (1500, None)}
    assert found.inner_mtu_bytes == 1450
    assert {one.encapsulation for one in found.explanations} == {"vxlan", "geneve"}
    with Relay(delay_ms=5, hole_bytes=1376, hole_way="down") as line:
        found = search(line)
    assert lengths(found) == {"upload": (1500, None), "download": (1376, "dropped")}
    assert found.inner_mtu_bytes == 1376


@pytest.mark.rates
@needs_relay
def test_a_hole_in_jumbo_frames() -> None:
    with Relay(delay_ms=5, mtu=9000, hole_bytes=8951, hole_way="both") as line:
        found = search(line)
    assert lengths(found) == {"upload": (8951, "dropped"), "download": (8951, "dropped")}
    assert all(one.tried_bytes == 9000 for one in found.lengths)


@pytest.mark.rates
@needs_root
@pytest.mark.parametrize(("narrow", "direction"), [("server", "upload"), ("client", "download")])
def test_a_router_that_reports_its_mtu(narrow: str, direction: FlowDirection) -> None:
    with RoutedPair(narrow, 1420) as line:
        found = search(line)
        again = search(line)
    open_way = {"upload": (1500, None), "download": (1500, None)}
    assert lengths(found) == {**open_way, direction: (1420, "shortened")}
    assert found.interface_mtu_bytes == 1500
    assert found.inner_mtu_bytes == 1420
    assert "wireguard:v6" in {one.encapsulation for one in found.explanations}
    # the path MTU that the kernels have cached by then does not hide the limit
    assert lengths(again)[direction] == (1420, "shortened")


def test_another_server_shows_the_upload_only() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:  # its kernel acknowledges
        report = asyncio.run(nm.path("127.0.0.1", port=sock.getsockname()[1]))
    assert lengths(report) == {"upload": (9216, None), "download": (None, None)}
    assert report.inner_mtu_bytes == 9216
    assert report.explanations == ()


@needs_relay
def test_lost_packets_are_no_limit() -> None:
    """A lost SYN, or a lost packet of the longest length, is sent again before it counts as
    dropped."""
    with Relay(delay_ms=2, loss=0.02) as line:
        assert lengths(search(line)) == {"upload": (1500, None), "download": (1500, None)}


def test_a_lack_of_descriptors_is_an_error_and_no_drop() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 60, hard))
        try:
            with pytest.raises(nm.HostLimitError, match="file descriptors"):
                asyncio.run(nm.path("127.0.0.1", port=sock.getsockname()[1]))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_refused_connection_and_an_invalid_timeout_are_errors() -> None:
    with nobody() as port, pytest.raises(nm.ConnectRefusedError):
        asyncio.run(nm.path("127.0.0.1", port=port))
    with pytest.raises(nm.SpecError, match="no time limit"):
        asyncio.run(nm.path("127.0.0.1", timeout_s=0))
