"""Test transfers by URL over paths that drop long packets without an ICMP message: the error names
the length, and a server that takes its time is not taken for such a path."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.result import FlowDirection
from netmeasure.spec import FtpSpec, HttpSpec
from netmeasure.transfers import path_watch
from support import certificates, relay, servers
from support.elsewhere import loop_on
from support.optional import known
from support.relay import Relay
from support.scripted import Peer, Scripted
from support.web import BLOCK, head

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(relay.available() is not None, reason=str(relay.available())),
]
RunThere = Callable[[Coroutine[Any, Any, Any]], Any]
TIMING = nm.Timing(duration_s=40)
#: The deadlines after which a transfer would fail are longer than a search.
CASES = [("http", "upload"), ("https", "download"), ("ftp", "download"), ("ftp", "upload")]


@pytest.fixture(autouse=True)
def _sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin to search earlier, so that the tests take less time."""
    monkeypatch.setattr(path_watch, "STILL_S", 0.5)


def endless(peer: Peer) -> None:
    """Answer a request for a file with as much as the client takes."""
    peer.read_until(b"\r\n\r\n")
    peer.send(head("200 OK", "Content-Length: 100000000"))
    while True:
        peer.send(BLOCK)


def failed(here: RunThere, url: str, spec: HttpSpec | FtpSpec | None = None) -> nm.PathHole:
    """Measure over a path with a hole; return the hole that the error names."""
    with pytest.raises(nm.PathMtuError) as caught:
        here(nm.measure(url, spec))
    result = caught.value.result
    assert isinstance(result, nm.Result)
    hole = known(result.path_hole)
    assert f"packets of {hole.lost_bytes} bytes and more do not get through" in str(caught.value)
    assert any(f"packets of {hole.lost_bytes} bytes" in note for note in result.notes)
    return hole


@pytest.mark.rates  # a search has a time limit, and takes a packet that comes late for a lost one
@pytest.mark.parametrize(("scheme", "direction"), CASES)
def test_the_length_is_found_to_the_byte(scheme: str, direction: FlowDirection) -> None:
    if scheme == "https" and certificates.available() is not None:
        pytest.skip(str(certificates.available()))
    way = "down" if direction == "download" else "up"
    with (
        Relay(delay_ms=5, hole_bytes=1300, hole_way=way) as line,
        loop_on(line, "server") as there,
        loop_on(line, "client") as here,
        contextlib.ExitStack() as stack,
    ):
        address = line.server.address
        spec: HttpSpec | FtpSpec
        if scheme == "https":
            with line.enter("server"):
                tls = certificates.certificate().server()
                url = stack.enter_context(Scripted(endless, address, tls)).url()
            spec = HttpSpec(direction=direction, timing=TIMING, insecure=True)
        else:
            origin = nm.serve_http if scheme == "http" else nm.serve_ftp
            server = there(origin(None, 0).__aenter__())
            stack.callback(lambda: there(server.close()))
            url = f"{scheme}://{address}:{server.port}/100M.dat"
            kind = HttpSpec if scheme == "http" else FtpSpec
            spec = kind(direction=direction, timing=TIMING)
        hole = failed(here, url, spec)
    assert hole == nm.PathHole(direction=direction, passed_bytes=1300, lost_bytes=1301)


@pytest.mark.rates
def test_nginx_sends_its_head_and_then_nothing() -> None:
    """The head is a short packet of its own, so that a response begins."""
    if (missing := servers.available("nginx")) is not None:
        pytest.skip(missing)
    with (
        Relay(delay_ms=5, hole_bytes=900, hole_way="down") as line,
        servers.nginx(line) as web,
        loop_on(line, "client") as here,
    ):
        web.add("file", 10**8)
        hole = failed(here, web.url("file"))
    assert hole == nm.PathHole(direction="download", passed_bytes=900, lost_bytes=901)


@pytest.mark.parametrize("others", ["late", "at once"])
def test_a_server_that_takes_its_time_is_no_hole(
    others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers the first request once a request of the search has ended."""
    monkeypatch.setattr(path_watch, "FIRST_S", 2.0)
    searched = threading.Event()
    answer = head("200 OK", "Content-Length: 5") + b"hello"

    def serve(peer: Peer) -> None:
        peer.read_until(b"\r\n\r\n")
        if peer.number == 0:
            searched.wait()
        elif others == "late":
            peer.hold()  # until the search has given this request up
            searched.set()
            return
        peer.send(answer)
        if peer.number > 0:
            searched.set()

    with Scripted(serve) as server:
        result = asyncio.run(nm.measure(server.url("/a")))
    assert result.complete
    assert result.path_hole is None
    assert known(result.flow.series).total_bytes == 5
