"""Requests of the native loop over TLS, without the rest of the program: sanitizers run this."""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from netmeasure._fast.requests import RequestLoop, TlsClient
from netmeasure._fast.worker import Group
from support import certificates
from support.scripted import Peer, Scripted
from support.tcp_rig import PATIENCE_S
from support.web import head, request, send_body

pytestmark = pytest.mark.skipif(
    certificates.available() is not None, reason=str(certificates.available())
)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def ran(server: Scripted, tls: TlsClient, count: int, **options: Any) -> RequestLoop:
    """Return a loop that has ended after so many requests."""
    to = struct.pack("=H", socket.AF_INET) + struct.pack("!H", server.port)
    to += socket.inet_aton("127.0.0.1") + bytes(8)
    loop = RequestLoop(Group(count * len(REQUEST)), request=REQUEST, to=to, tls=tls, **options)
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.group.open()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert loop.begun == count == loop.answered + loop.rejected + loop.failed
    return loop


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "fresh"])
@pytest.mark.parametrize("size", [0, 100_000])
def test_responses_are_whole(keep: bool, size: int) -> None:
    mine = certificates.certificate()

    def script(peer: Peer) -> None:
        while True:
            request(peer)
            peer.send(head("200 OK", f"Content-Length: {size}"))
            send_body(peer, size)

    tls = TlsClient(b"localhost", ca_file=os.fsencode(mine.pem))
    with Scripted(script, tls=mine.server()) as server:
        loop = ran(server, tls, 20, connections=4, keep=keep)
    assert (loop.answered, loop.body_bytes, loop.errors) == (20, 20 * size, {})
    assert loop.shaking.count == loop.connecting.count == (4 if keep else 20)
    assert loop.tls_error is None


def test_what_fails_has_its_reason() -> None:
    mine, other = certificates.certificate(), certificates.certificate("DNS:other.invalid")
    with Scripted(lambda peer: peer.hold(), tls=other.server()) as server:
        for verifies, trusted in ((True, mine), (True, other)):
            tls = TlsClient(b"localhost", verifies=verifies, ca_file=os.fsencode(trusted.pem))
            loop = ran(server, tls, 3, keep=False)
            assert loop.errors == {"tls": 3}
            assert loop.tls_error is not None
            said = "hostname mismatch" if trusted is other else "self-signed certificate"
            assert said in loop.tls_error.lower()
            assert loop.shaking.count == 0


def test_an_order_to_leave_ends_a_handshake() -> None:
    mine = certificates.certificate()
    accepted = threading.Event()

    def script(peer: Peer) -> None:
        accepted.set()
        peer.hold()

    with Scripted(script) as server:
        tls = TlsClient(b"localhost", ca_file=os.fsencode(mine.pem))
        to = struct.pack("=H", socket.AF_INET) + struct.pack("!H", server.port)
        to += socket.inet_aton("127.0.0.1") + bytes(8)
        loop = RequestLoop(Group(), request=REQUEST, to=to, tls=tls, keep=False)
        thread = threading.Thread(target=loop.run)
        thread.start()
        loop.group.open()
        assert accepted.wait(PATIENCE_S)
        loop.group.abort()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_certificates_that_are_none_are_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_bytes(b"nothing")
    with pytest.raises(OSError, match="trusted certificates"):
        TlsClient(b"localhost", ca_file=os.fsencode(wrong))
