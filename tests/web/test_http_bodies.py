"""HTTP downloads of every size, split and framing: each byte is counted once, by the native loop or
by the library."""

from __future__ import annotations

import contextlib
import gzip
import itertools

import pytest

import netmeasure as nm
from support.held import steps
from support.scripted import Peer, Scripted
from support.transfers import (
    GIB,
    MIB,
    SIZES,
    RunLoop,
    measured,
    moved,
    transfer,
    transfers,
)
from support.web import Web, answering, head, request, send_body


@pytest.mark.parametrize("mode", ["copy", "discard"])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_some_size(run: RunLoop, size: int, mode: str) -> None:
    with Web(size) as web:
        result = measured(run, web.url(), receive_mode=mode)
    assert moved(result) == size == web.sent
    assert [r.path for r in web.requests] == ["/file"]
    facts = transfer(result)
    assert (facts.status, facts.content_bytes, facts.transfers) == (200, size, 1)
    assert (facts.protocol, facts.encoding, facts.server) == ("HTTP/1.1", "identity", "scripted")
    assert facts.tls is None
    names = steps(result)
    assert names == ["resolve", "connect", "request", "first_byte"]
    assert result.target == web.url()


def test_a_large_file_goes_through_the_native_loop(run_once: RunLoop) -> None:
    with Web(GIB) as web:
        result = measured(run_once, web.url(), receive_mode="discard")
    assert moved(result) == GIB
    facts = transfer(result)
    assert facts.drained_by in ("native", "both")
    assert facts.native_bytes > GIB - 10 * MIB
    assert result.notes == ()


def splits(answer: bytes, body_at: int) -> dict[str, list[bytes]]:
    def cut(*places: int) -> list[bytes]:
        return [answer[a:b] for a, b in itertools.pairwise([0, *places, len(answer)])]

    return {
        "at-once": cut(),
        "head-alone": cut(body_at),
        "head-and-one-byte": cut(body_at + 1),
        "one-byte-of-the-body": cut(body_at, body_at + 1),
        "within-the-last-line-end": cut(body_at - 1),
        "before-the-empty-line": cut(body_at - 2),
        "all-but-the-last-byte": cut(len(answer) - 1),
        "head-in-crumbs": cut(*range(1, body_at, 7), body_at + 2),
        "body-in-thirds": cut(body_at + 1000, body_at + 2000),
    }


SPLITS = tuple(splits(bytes(10_000), 60))


@pytest.mark.parametrize("kept", [False, True], ids=["hand-over", "kept"])
@pytest.mark.parametrize("split", SPLITS)
def test_every_split_between_head_and_body(run: RunLoop, split: str, kept: bool) -> None:
    body = bytes(range(256)) * 12
    opening = head("200 OK", f"Content-Length: {len(body)}")
    pieces = splits(opening + body, len(opening))[split]
    assert b"".join(pieces) == opening + body

    def script(peer: Peer) -> None:
        while True:
            request(peer)
            peer.send(*pieces)

    repeated = {"repeat": True, "keep_connections": True, "total_bytes": 2 * len(body)}
    with Scripted(script) as server:
        result = measured(run, server.url(), **(repeated if kept else {}))
    assert moved(result) == len(body) * (2 if kept else 1)
    assert server.connections == 1


@pytest.mark.parametrize("size", SIZES)
def test_a_chunked_body(run: RunLoop, size: int) -> None:
    with Web(size, chunked=True) as web:
        result = measured(run, web.url())
    assert moved(result) == size
    facts = transfer(result)
    assert (facts.encoding, facts.content_bytes) == ("chunked", None)
    assert facts.drained_by == ("library" if size else None)


def test_chunks_in_odd_pieces(run_once: RunLoop) -> None:
    body = b"5;name=value\r\nhello\r\n1\r\n,\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    opening = head("200 OK", "Transfer-Encoding: chunked")
    pieces = [body[at : at + 2] for at in range(0, len(body), 2)]
    with Scripted(answering(opening, *pieces)) as server:
        assert moved(measured(run_once, server.url())) == 16


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "unheard-of"])
def test_an_encoded_body_is_counted_as_it_came(run_once: RunLoop, coding: str) -> None:
    body = gzip.compress(bytes(100_000))
    opening = head("200 OK", f"Content-Length: {len(body)}", f"Content-Encoding: {coding}")
    with Scripted(answering(opening, body)) as server:
        result = measured(run_once, server.url())
    assert moved(result) == len(body)
    assert transfer(result).encoding == coding


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("size", SIZES)
def test_a_body_that_ends_with_the_connection(run_once: RunLoop, size: int, version: str) -> None:
    def script(peer: Peer) -> None:
        request(peer)
        peer.send(head("200 OK", "Connection: close", version=version))
        send_body(peer, size)

    with Scripted(script) as server:
        result = measured(run_once, server.url())
    assert moved(result) == size
    assert transfer(result).content_bytes is None
    assert transfer(result).protocol == version


def test_an_old_server_that_tells_the_length(run: RunLoop) -> None:
    opening = head("200 OK", "Content-Length: 100000", version="HTTP/1.0")
    with Scripted(answering(opening, bytes(100_000))) as server:
        assert moved(measured(run, server.url())) == 100_000


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
@pytest.mark.parametrize("times", [1, 3])
def test_an_interim_response_before_the_final_one(
    run_once: RunLoop, status: str, times: int
) -> None:
    pieces = [head(status, "Link: <x>")] * times
    with Scripted(answering(*pieces, head("200 OK", "Content-Length: 5"), b"hello")) as server:
        result = measured(run_once, server.url())
    assert moved(result) == 5
    assert transfer(result).status == 200


def test_an_answer_without_a_body(run: RunLoop) -> None:
    with Scripted(answering(head("204 No Content"))) as server:
        result = measured(run, server.url())
    assert moved(result) == 0
    assert transfer(result).status == 204
    assert transfers(result) == 1


def test_a_body_longer_than_announced(run_once: RunLoop) -> None:
    """Bytes after the announced length are not counted. If the library sees them, the error names
    the server."""
    opening = head("200 OK", "Content-Length: 1000")
    for pieces in ([b"x" * 5000], [b"x" * 1000, b"y" * 4000], [b"x" * 999, b"y", b"z" * 4000]):
        for answer in ([opening, *pieces], [opening + pieces[0], *pieces[1:]]):
            server = Scripted(answering(*answer))
            with contextlib.suppress(nm.RemoteProtocolError), server:
                assert moved(measured(run_once, server.url())) == 1000
