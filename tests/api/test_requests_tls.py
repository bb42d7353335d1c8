"""Tests of requests by HTTP over TLS: whose certificate is trusted, and what happens if the ends do
not agree."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from support import certificates
from support.held import steps
from support.scripted import Peer, Scripted
from support.transfers import needs_openssl
from support.web import Web, head, request, send_body

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
pytestmark = needs_openssl
OK = head("200 OK", "Content-Length: 2") + b"ok"


def spec(count: int, **options: Any) -> nm.RequestSpec:
    return nm.RequestSpec(timing=nm.Timing(total_blocks=count), **options)


def trusting(mine: certificates.Certificate) -> dict[str, Any]:
    return {"ca_file": str(mine.pem)}


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "fresh"])
def test_every_response_counts(run: RunLoop, kept: bool) -> None:
    mine = certificates.certificate()
    ipv4 = nm.SocketOptions(family="ipv4")  # the server has no other, and a host may try ::1 first
    wanted = spec(60, streams=5, keep_connections=kept, options=ipv4, **trusting(mine))

    async def measured() -> nm.Result:
        async with nm.serve_http("127.0.0.1", 0, tls=mine.server()) as origin:
            return await nm.measure(f"https://localhost:{origin.port}/1K.dat", wanted)

    result = run(measured())
    found = result.requests
    assert result.complete
    assert (found.responses, found.body_bytes, found.errors.total) == (60, 60 * 1024, 0)
    assert found.shaking.count == found.connected == (5 if kept else 60)
    assert 0 < found.shaking.min_ns <= found.tls_p50_ns <= found.shaking.max_ns
    assert found.tls_error is None
    assert steps(result) == ["resolve", "connect", "tls"]
    if not kept:  # a fresh connection's handshake is a part of its request
        assert result.round_trips.latency.min_ns > found.shaking.min_ns
    assert nm.Result.from_json(result.to_json()) == result


@pytest.mark.parametrize("size", [0, 1, 40_000, 3_000_000])
def test_bodies_of_many_records_are_whole(run: RunLoop, size: int) -> None:
    mine = certificates.certificate()
    with Web(size, tls=mine.server()) as web:
        result = run(nm.measure(web.url(), spec(4, streams=2, **trusting(mine))))
    assert (result.requests.responses, result.requests.body_bytes) == (4, 4 * size)


def test_a_server_by_its_address_or_a_pinned_name(run: RunLoop) -> None:
    by_address = certificates.certificate("IP:127.0.0.1")
    by_name = certificates.certificate("DNS:files.invalid")
    with Web(10, tls=by_address.server()) as web:
        url = f"https://127.0.0.1:{web.port}/"
        assert run(nm.measure(url, spec(3, **trusting(by_address)))).complete
    with Web(10, tls=by_name.server()) as web:
        pins = (f"files.invalid:{web.port}:127.0.0.1",)
        url = f"https://files.invalid:{web.port}/"
        assert run(nm.measure(url, spec(3, pins=pins, **trusting(by_name)))).complete


@pytest.mark.parametrize(
    ("names", "expired", "trusted", "said"),
    [
        ("DNS:localhost", False, False, "self-signed certificate"),
        ("DNS:elsewhere.invalid", False, True, "localhost"),
        ("DNS:localhost", True, True, "expired"),
    ],
    ids=["not-trusted", "other-name", "expired"],
)
def test_a_wrong_certificate_is_an_error_with_its_reason(
    run: RunLoop, names: str, expired: bool, trusted: bool, said: str
) -> None:
    mine = certificates.certificate(names, expired=expired)
    with Web(10, tls=mine.server()) as web:
        url = f"https://localhost:{web.port}/"
        with pytest.raises(nm.TlsError, match=said) as told:
            run(nm.measure(url, spec(3, **(trusting(mine) if trusted else {}))))
        assert told.value.hint
        assert told.value.result.requests is None
        assert run(nm.measure(url, spec(3, insecure=True))).complete


def test_the_threads_check_certificates_too(run: RunLoop) -> None:
    """The first connection sees another certificate than those of the threads."""
    good, wrong = certificates.certificate(), certificates.certificate("DNS:elsewhere.invalid")

    def script(peer: Peer) -> None:
        context = (wrong if peer.number else good).server()
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        peer.hold()

    with Scripted(script) as server:
        wanted = nm.RequestSpec(timing=nm.Timing(duration_s=0.3), **trusting(good))
        with pytest.raises(nm.TlsError, match="agreed on TLS: self-signed certificate") as told:
            run(nm.measure(server.url(scheme="https"), wanted))
    found = told.value.result.requests
    assert found.errors.tls > 0
    assert (found.shaking.count, found.errors.connect, found.responses) == (0, 0, 0)
    assert found.connected >= found.errors.tls


def _ended(peer: Peer) -> None:
    peer.close()


def _reset(peer: Peer) -> None:
    peer.reset()


def _silent(peer: Peer) -> None:
    peer.hold()


def _garbage(peer: Peer) -> None:
    peer.send(b"\x15\x03\x03\x00\x02\x02\x28" + b"\xff" * 100)
    peer.hold()


@pytest.mark.parametrize("does", [_ended, _reset, _silent, _garbage])
def test_handshakes_that_fail_are_counted_and_survived(
    run: RunLoop, does: Callable[[Peer], None]
) -> None:
    """Every second connection of the threads gets no TLS."""
    mine = certificates.certificate()

    def script(peer: Peer) -> None:
        if peer.number % 2:
            does(peer)
            return
        peer.sock = mine.server().wrap_socket(peer.sock, server_side=True)
        while True:
            request(peer)
            peer.send(OK)

    with Scripted(script) as server:
        wanted = spec(
            6,
            keep_connections=False,
            deadlines=nm.Deadlines(connect_s=0.2 if does is _silent else 10),
            **trusting(mine),
        )
        result = run(nm.measure(server.url(scheme="https"), wanted))
    found = result.requests
    # a reset may come before the thread has seen that TCP had connected
    early = found.errors.connect if does is _reset else 0
    assert (found.errors.tls + early, found.errors.total) == (3, 3)
    assert found.responses == found.shaking.count == 3


def test_a_plain_server_is_named(run: RunLoop) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(head("400 Bad Request", "Content-Length: 0"))

    with Scripted(script) as server, pytest.raises(nm.TlsError, match="plain text") as told:
        run(nm.measure(server.url(scheme="https"), spec(3)))
    assert "http://" in (told.value.hint or "")


@pytest.mark.parametrize("says_so", [True, False])
def test_a_body_to_the_end_of_the_connection_needs_the_servers_word(
    run: RunLoop, says_so: bool
) -> None:
    """Without a close_notify, somebody else may have cut the body short (RFC 9112, section 9.8)."""
    mine = certificates.certificate()

    def script(peer: Peer) -> None:
        request(peer)
        peer.send(head("200 OK"))
        send_body(peer, 50_000)
        if says_so:
            assert isinstance(peer.sock, ssl.SSLSocket)
            peer.sock = peer.sock.unwrap()
        else:
            peer.sock.shutdown(socket.SHUT_RDWR)

    with Scripted(script, tls=mine.server()) as server:
        wanted = spec(2, keep_connections=False, **trusting(mine))
        if says_so:
            found = run(nm.measure(server.url(), wanted)).requests
            assert (found.responses, found.body_bytes, found.errors.total) == (2, 100_000, 0)
        else:
            with pytest.raises(nm.PeerClosedError) as told:
                run(nm.measure(server.url(), wanted))
            found = told.value.result.requests
            assert (found.responses, found.errors.reset) == (0, 2)


def test_certificates_that_are_none_are_refused(run: RunLoop, tmp_path: Path) -> None:
    for content in (None, b"no certificate"):
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(nm.TlsError, match="CA file"):
            run(nm.measure("https://localhost:1/", spec(1, ca_file=str(file))))


def test_a_program_that_dies_of_broken_pipes_does_not(tmp_path: Path) -> None:
    """OpenSSL writes without MSG_NOSIGNAL, and an embedding program may have the default action."""
    mine = certificates.certificate()

    def script(peer: Peer) -> None:
        peer.sock = mine.server().wrap_socket(peer.sock, server_side=True)
        if peer.number:
            request(peer)
            peer.reset()
        else:
            peer.hold()

    program = (
        "import asyncio, signal, sys, netmeasure as nm\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "spec = nm.RequestSpec(timing=nm.Timing(total_blocks=300), ca_file=sys.argv[2],\n"
        "                      streams=8, method='POST', headers=('X: ' + 'x' * 30000,))\n"
        "try:\n"
        "    asyncio.run(nm.measure(sys.argv[1], spec))\n"
        "except nm.MeasureError as exc:\n"
        "    print(type(exc).__name__)\n"
    )
    with Scripted(script) as server:
        words = [sys.executable, "-c", program, server.url(scheme="https"), str(mine.pem)]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert ran.returncode != -signal.SIGPIPE
    assert ran.stdout == "PeerClosedError\n", ran.stderr


@pytest.mark.parametrize("pins", [(), ("a..b:1:127.0.0.1",)], ids=["looked-up", "pinned"])
@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".invalid"], ids=["empty", "long"])
def test_a_name_that_no_certificate_can_have(
    run: RunLoop, host: str, pins: tuple[str, ...]
) -> None:
    with pytest.raises(nm.NameNotFoundError, match="not a valid host name") as told:
        run(nm.measure(f"https://{host}:1/", spec(1, pins=pins)))
    assert told.value.hint
