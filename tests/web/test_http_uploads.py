"""Test that HTTP uploads count every byte once, in the native loop or in the library."""

from __future__ import annotations

import pytest

import netmeasure as nm
from support.held import steps
from support.scripted import Peer, Scripted
from support.transfers import (
    GIB,
    MIB,
    RunLoop,
    measured,
    moved,
    refused,
    transfer,
    transfers,
)
from support.web import Web, head, request, take_body


@pytest.mark.parametrize("send_mode", ["copy", "sendfile"])
@pytest.mark.parametrize(
    ("size", "streams"), [(1, 1), (65_535, 1), (65_536, 2), (10 * MIB + 1, 3), (2, 4)]
)
def test_an_upload_with_a_length(run: RunLoop, size: int, streams: int, send_mode: str) -> None:
    with Web() as web:
        options = {"direction": "upload", "total_bytes": size, "streams": streams}
        result = measured(run, web.url(), send_mode=send_mode, **options)
    assert moved(result) == size == web.taken
    assert {r.method for r in web.requests} == {"PUT"}
    lengths = [int(r.headers["content-length"]) for r in web.requests]
    assert sum(lengths) == size
    assert transfer(result).status == 201
    assert "final_reply" in steps(result)


@pytest.mark.parametrize("send_mode", ["copy", "sendfile"])
@pytest.mark.parametrize("block", [1024, 4096, 65_536, MIB])
def test_an_upload_for_a_time(run_once: RunLoop, block: int, send_mode: str) -> None:
    """The native loop sends chunks, and counts exactly the bytes that the server finds in them."""
    options = {"direction": "upload", "duration_s": 0.15, "block_bytes": block}
    with Web() as web:
        result = measured(run_once, web.url(), send_mode=send_mode, streams=2, **options)
    assert moved(result) == web.taken > 0
    assert transfers(result) == 2
    assert all(r.headers["transfer-encoding"] == "chunked" for r in web.requests)


def test_an_upload_to_a_slow_server_for_a_time(run: RunLoop) -> None:
    """The time ends while most of a chunk waits in the socket."""

    def script(peer: Peer) -> None:
        taken.append(take_body(peer, request(peer), lambda _: (peer.ending.wait(0.02), None)[1]))
        peer.send(head("200 OK", "Content-Length: 0"))

    taken: list[int] = []
    with Scripted(script) as server:
        options = nm.SocketOptions(window_bytes=16_384)
        result = measured(
            run, server.url(), direction="upload", duration_s=0.2, block_bytes=MIB, options=options
        )
    assert [moved(result)] == taken


def test_an_upload_by_another_method(run: RunLoop) -> None:
    with Scripted(lambda peer: note(peer)) as server:
        methods: list[str] = []

        def note(peer: Peer) -> None:
            asked = request(peer)
            methods.append(asked.method)
            take_body(peer, asked)
            peer.send(head("200 OK", "Content-Length: 2"), b"ok")

        measured(run, server.url(), direction="upload", method="POST", total_bytes=10_000)
    assert methods == ["POST"]


@pytest.mark.parametrize("how", ["at-once", "in-the-middle", "and-closes", "and-resets"])
@pytest.mark.parametrize("end", ["total_bytes", "duration_s"])
def test_an_upload_that_is_refused(run: RunLoop, end: str, how: str) -> None:
    answer = head("413 Content Too Large", "Content-Length: 0", "Connection: close")

    def script(peer: Peer) -> None:
        asked = request(peer)
        if how == "in-the-middle":
            peer.count(MIB)
        peer.send(answer)
        if how == "and-closes":
            return  # and reads on, so that its answer is not lost
        peer.wait_until_read()
        if how == "and-resets":
            peer.close()
        elif end == "total_bytes":
            take_body(peer, asked)

    limit = {end: GIB if end == "total_bytes" else 30}
    with Scripted(script) as server:
        error = refused(run, server.url(), direction="upload", **limit)
    assert type(error) is nm.FileRefusedError
    assert "413 Content Too Large" in str(error)
    assert error.phase == "request"
