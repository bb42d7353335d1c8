"""Transfers by HTTP against servers of our own: every byte is counted once, by the native loop or
by the library."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support import certificates
from support.held import steps
from support.optional import known
from support.scripted import Peer, Scripted
from support.web import Web, answering, head, request, send_body, take_body

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

MIB = 1 << 20
GIB = 1 << 30
SIZES = (0, 1, 65_535, 65_536, 10 * MIB)
needs_openssl = pytest.mark.skipif(
    certificates.available() is not None, reason="there is no openssl"
)


def spec(**more: Any) -> nm.HttpSpec:
    timing = {key: more.pop(key) for key in ("duration_s", "total_bytes", "omit_s") if key in more}
    return nm.HttpSpec(timing=nm.Timing(interval_s=0.05, **timing), **more)


def moved(result: nm.Result) -> int:
    """The bytes of a run, when all places that tell them agree."""
    flow = result.flow
    sends = result.spec.direction == "upload"
    total = flow.sender.acked_bytes if sends else flow.receiver.bytes
    each = [s.acked_bytes if sends else s.bytes for s in result.client.streams]
    assert sum(count or 0 for count in each) == total
    in_series = [s.series.total_bytes if s.series else 0 for s in result.client.streams]
    assert in_series == each
    assert nm.Result.from_json(result.to_json()) == result
    return int(total)


def transfer(result: nm.Result) -> Any:
    return result.client.streams[0].transfer


def transfers(result: nm.Result) -> int:
    return sum(s.transfer.transfers for s in result.client.streams if s.transfer)


def measured(run: RunLoop, url: str, **more: Any) -> nm.Result:
    result: nm.Result = run(nm.measure(url, spec(**more)))
    assert result.complete
    assert result.error is None
    return result


def refused(run: RunLoop, url: str, **more: Any) -> nm.MeasureError:
    with pytest.raises(nm.MeasureError) as caught:
        run(nm.measure(url, spec(**more)))
    assert not caught.value.result.complete
    return caught.value


# ---- sizes and splits -------------------------------------------------------------------------


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
def test_a_body_that_the_end_of_the_connection_ends(
    run_once: RunLoop, size: int, version: str
) -> None:
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
def test_an_answer_before_the_answer(run_once: RunLoop, status: str, times: int) -> None:
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


# ---- redirects --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize(
    ("location", "path"),
    [("/there", "/there"), ("there?a=1", "/a/there?a=1"), ("../there", "/there"), ("", None)],
)
def test_a_redirect_on_one_server(
    run_once: RunLoop, status: int, location: str, path: str | None
) -> None:
    asked = []

    def script(peer: Peer) -> None:
        asked.append(request(peer).path)
        if len(asked) == 1:
            target = location or f"http://localhost:{server.port}/elsewhere"
            peer.send(head(f"{status} Moved", f"Location: {target}", "Content-Length: 4"), b"gone")
        else:
            peer.send(head("200 OK", "Content-Length: 5"), b"hello")

    with Scripted(script) as server:
        pin = f"localhost:{server.port}:127.0.0.1"
        result = measured(run_once, server.url("/a/b"), pins=(pin,))
    assert asked == ["/a/b", path or "/elsewhere"]
    assert moved(result) == 5
    assert transfer(result).redirects == 1
    assert transfer(result).url.endswith(asked[1])
    names = steps(result)
    hop = ["resolve", "connect", "request", "first_byte"]
    assert names == [*hop, "redirect", *hop]
    (redirect,) = (phase for phase in result.setup if phase.name == "redirect")
    assert known(redirect.detail).startswith(f"{status} to http://")


def test_a_redirect_to_another_server(run: RunLoop) -> None:
    with Web(70_000) as there:
        moved_there = head("302 Found", f"Location: {there.url('/b')}", "Content-Length: 0")
        with Scripted(answering(moved_there)) as here:
            result = measured(run, here.url("/a"))
    assert moved(result) == 70_000
    assert transfer(result).url == there.url("/b")
    addresses = [phase.address for phase in result.setup if phase.name == "connect"]
    assert addresses == [here.address, there.address]


def test_a_circle_of_redirects_ends(run: RunLoop) -> None:
    asked = []

    def script(peer: Peer) -> None:
        asked.append(request(peer))
        peer.send(head("302 Found", "Location: /file", "Content-Length: 0"))

    with Scripted(script) as server:
        error = refused(run, server.url(), max_redirects=4)
    assert type(error) is nm.RemoteProtocolError
    assert "more than 4 redirects" in str(error)
    assert error.phase == "request"
    assert error.hint
    assert len(asked) == 5


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "//"])
def test_a_redirect_to_what_is_no_http(run_once: RunLoop, target: str) -> None:
    with Scripted(answering(head("302 Found", f"Location: {target}"))) as server:
        error = refused(run_once, server.url())
    assert isinstance(error, nm.RemoteProtocolError | nm.SpecError | nm.NameNotFoundError)
    assert error.phase == "request"


@pytest.mark.parametrize("target", ["http://127.0.0.1:99999/", "http://[::1/", "http://a:b/"])
def test_a_redirect_to_what_is_no_url(run_once: RunLoop, target: str) -> None:
    with Scripted(answering(head("302 Found", f"Location: {target}"))) as server:
        error = refused(run_once, server.url())
    assert type(error) is nm.RemoteProtocolError
    assert error.phase == "request"


def test_a_redirect_that_does_not_say_where_to(run: RunLoop) -> None:
    with Scripted(answering(head("302 Found", "Content-Length: 0"))) as server:
        error = refused(run, server.url())
    assert type(error) is nm.FileRefusedError
    assert "302 Found" in str(error)


def test_credentials_do_not_follow_to_another_server(run_once: RunLoop) -> None:
    """A redirect to another server must not give that server the password."""
    secrets = ("Authorization: Bearer secret", "Cookie: secret")
    for options in ({"user": "anna", "password": "secret"}, {"headers": secrets}):
        with Web(10) as there:
            away = head("302 Found", f"Location: {there.url()}", "Content-Length: 0")
            with Scripted(answering(away)) as here:
                measured(run_once, here.url(), **options)
        (asked,) = there.requests
        assert "secret" not in str(asked)
        assert "authorization" not in asked.headers


def test_credentials_of_the_url_hold_on_the_same_server(run: RunLoop) -> None:
    seen = []

    def script(peer: Peer) -> None:
        asked = request(peer)
        seen.append(asked.headers.get("authorization"))
        if asked.path == "/a":
            peer.send(head("302 Found", "Location: /b", "Content-Length: 0"))
        else:
            peer.send(head("200 OK", "Content-Length: 1"), b"x")

    with Scripted(script) as server:
        measured(run, f"http://anna:secret@{server.address}/a")
    assert seen == [basic("anna", "secret")] * 2


# ---- ranges, refusals, requests ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "size"),
    [
        (0, 0, 1),
        (0, None, 100_000),
        (10, 19, 10),
        (99_999, None, 1),
        (None, 4, 5),
        (50_000, 10**9, 50_000),
    ],
)
def test_a_part_of_a_file(
    run_once: RunLoop, first: int | None, last: int | None, size: int
) -> None:
    with Web(100_000) as web:
        result = measured(run_once, web.url(), first_byte=first, last_byte=last)
    assert moved(result) == size
    assert transfer(result).status == 206
    assert web.requests[0].headers["range"] == f"bytes={first or 0}-{'' if last is None else last}"


def test_a_server_that_ignores_the_range(run: RunLoop) -> None:
    with Scripted(answering(head("200 OK", "Content-Length: 10"), bytes(10))) as server:
        error = refused(run, server.url(), first_byte=5)
    assert type(error) is nm.FileRefusedError
    assert "ignores the range" in str(error)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("401 Unauthorized", "user and a password"),
        ("403 Forbidden", "user and a password"),
        ("404 Not Found", "path"),
        ("405 Method Not Allowed", "no uploads"),
        ("416 Range Not Satisfiable", "shorter"),
        ("500 Internal Server Error", "server's log"),
        ("503 Service Unavailable", "server's log"),
        ("304 Not Modified", ""),
    ],
)
def test_a_server_that_refuses(run_once: RunLoop, status: str, hint: str) -> None:
    answer = head(status, "Content-Length: 2", "WWW-Authenticate: Basic"), b"no"
    with Scripted(answering(*answer)) as server:
        error = refused(run_once, server.url("/secret"))
    assert type(error) is nm.FileRefusedError
    assert status in str(error)
    assert (error.code, error.phase) == ("file_refused", "request")
    assert hint in (error.hint or "")
    assert steps(error.result) == ["resolve", "connect", "request", "first_byte"]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_the_request(run: RunLoop) -> None:
    headers = ("X-One: 1", "user-agent: curl/8", "Accept-Encoding:gzip")
    with Web(1) as web:
        measured(run, web.url("/a%20b?c=d%26"), headers=headers, method="POST")
    (asked,) = web.requests
    assert (asked.method, asked.path) == ("POST", "/a%20b?c=d%26")
    assert asked.headers["host"] == web.address
    assert asked.headers["x-one"] == "1"
    assert asked.headers["user-agent"] == "curl/8"
    assert asked.headers["accept-encoding"] == "gzip"
    assert "authorization" not in asked.headers


def test_the_request_without_options(run: RunLoop) -> None:
    with Web(1) as web:
        measured(run, web.url())
    (asked,) = web.requests
    assert asked.method == "GET"
    assert asked.headers["user-agent"].startswith("netmeasure/")
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("in_url", "user", "password", "sent"),
    [
        ("", "anna", "secret", ("anna", "secret")),
        ("", "anna", None, ("anna", "")),
        ("bert:word@", None, None, ("bert", "word")),
        ("bert:word@", "anna", "secret", ("bert", "word")),
        ("bert@", None, "secret", ("bert", "secret")),
        ("b%40rt:w%3Ard@", None, None, ("b@rt", "w:rd")),
    ],
)
def test_user_and_password(
    run_once: RunLoop, in_url: str, user: str | None, password: str | None, sent: tuple[str, str]
) -> None:
    with Web(1) as web:
        url = web.url().replace("//", f"//{in_url}")
        result = measured(run_once, url, user=user, password=password)
    assert web.requests[0].headers["authorization"] == basic(*sent)
    assert result.target == transfer(result).url == web.url()


def test_no_secret_is_kept(run_once: RunLoop) -> None:
    headers = ("Authorization: Bearer pssst", "Cookie: pssst", "PROXY-Authorization : pssst")
    asked = []

    def script(peer: Peer) -> None:
        asked.append(request(peer))
        if len(asked) == 1:
            there = server.url("/there").replace("//", "//bert:pssst@")
            peer.send(head("302 Found", f"Location: {there}", "Content-Length: 0"))
        elif len(asked) == 2:
            peer.send(head("200 OK", "Content-Length: 5"), b"hello")
        else:
            peer.send(head("200 OK", "Content-Length: 5"), b"hell")

    with Scripted(script) as server:
        url = server.url().replace("//", "//anna:pssst@")
        good = measured(run_once, url, headers=headers, user="carl", password="pssst")
        bad = refused(run_once, url, headers=headers)
    for text in (good.to_json().decode(), bad.result.to_json().decode(), str(bad)):
        assert "pssst" not in text
        assert isinstance(good.spec, nm.HttpSpec)
        assert good.spec.user == "carl"


@pytest.mark.parametrize(
    "target", ["ftp://anna:pssst@h/", "http://anna:pssst@127.0.0.1:99999/", "http://anna:pssst@[/"]
)
def test_no_secret_in_the_refusal_of_a_redirect(run_once: RunLoop, target: str) -> None:
    with Scripted(answering(head("302 Found", f"Location: {target}"))) as server:
        error = refused(run_once, server.url().replace("//", "//anna:pssst@"))
    assert "pssst" not in str(error)
    assert "pssst" not in error.result.to_json().decode()


# ---- where the server is ----------------------------------------------------------------------


def test_a_pin_replaces_the_look_up(run: RunLoop) -> None:
    with Web(10) as web:
        pins = ("other.invalid:80:192.0.2.1", f"Files.invalid:{web.port}:127.0.0.1")
        result = measured(run, f"http://files.INVALID:{web.port}/x", pins=pins)
    assert moved(result) == 10
    assert web.requests[0].headers["host"] == f"files.invalid:{web.port}"
    (connect,) = (phase for phase in result.setup if phase.name == "connect")
    assert connect.address == web.address


def test_a_pin_of_another_port_does_not_count(run: RunLoop) -> None:
    error = refused(run, "http://files.invalid:81/", pins=("files.invalid:80:127.0.0.1",))
    assert type(error) is nm.NameNotFoundError


@pytest.mark.parametrize("pinned", [False, True])
def test_ipv6(run: RunLoop, pinned: bool) -> None:
    with Web(100_000, host="::1") as web:
        pins = (f"six.invalid:{web.port}:[::1]",) if pinned else ()
        url = f"http://six.invalid:{web.port}/" if pinned else web.url()
        result = measured(run, url, pins=pins)
    assert moved(result) == 100_000
    assert known(result.client.streams[0].socket).remote == web.address


# ---- streams, repeats, limits -----------------------------------------------------------------


@pytest.mark.parametrize("streams", [2, 5])
def test_parallel_streams(run: RunLoop, streams: int) -> None:
    with Web(300_000) as web:
        result = measured(run, web.url(), streams=streams)
    assert moved(result) == 300_000 * streams == web.sent
    assert web.connections == streams
    assert [known(s.transfer).transfers for s in result.client.streams] == [1] * streams
    connects = [p.connection for p in result.setup if p.name == "connect"]
    assert sorted(connects) == [f"stream {1 + index}" for index in range(streams)]


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
@pytest.mark.parametrize("size", [1, 1000, 65_536])
def test_repeated_on_new_connections(
    run_once: RunLoop, size: int, chunked: bool, streams: int
) -> None:
    with Web(size, chunked=chunked) as web:
        total = 8 * size * streams
        options = {"repeat": True, "streams": streams, "total_bytes": total}
        result = measured(run_once, web.url(), **options)
    assert moved(result) == total == web.sent
    assert transfers(result) == 8 * streams == len(web.requests) == web.connections
    spread = transfer(result).set_up
    assert spread.count == 8
    assert 0 < spread.min_ns <= spread.median_ns <= spread.p95_ns <= spread.max_ns


@pytest.mark.parametrize("says_close", [False, True], ids=["without-a-word", "says-close"])
@pytest.mark.parametrize("each", [1, 2, 3, 100])
@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
def test_repeated_on_kept_connections(
    run_once: RunLoop, chunked: bool, each: int, says_close: bool
) -> None:
    options = {"requests_per_connection": each, "says_close": says_close, "chunked": chunked}
    with Web(5000, **options) as web:  # type: ignore[arg-type]
        result = measured(
            run_once, web.url(), repeat=True, keep_connections=True, total_bytes=5000 * 7
        )
    assert moved(result) == 5000 * 7 == web.sent
    assert transfers(result) == 7 == len(web.requests)
    assert web.connections == -(-7 // each)


def test_the_first_steps_of_repeats_are_kept_one_by_one(run_once: RunLoop) -> None:
    with Web(10) as web:
        result = measured(run_once, web.url(), repeat=True, total_bytes=400)
    connects = [p.connection for p in result.setup if p.name == "connect"]
    assert connects == ["stream 1", *(f"stream 1 #{number}" for number in range(2, 21))]
    assert transfer(result).set_up.count == 40


@pytest.mark.parametrize(
    ("streams", "limit"), [(1, 1), (1, 99_999), (3, 100_000), (4, 2), (2, 65_537), (1, 10**9)]
)
@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
def test_a_limit_is_exact(run: RunLoop, streams: int, limit: int, chunked: bool) -> None:
    with Web(100_000, chunked=chunked) as web:
        result = measured(run, web.url(), streams=streams, total_bytes=limit)
    assert moved(result) == min(limit, 100_000 * streams)


@pytest.mark.parametrize("kept", [False, True])
def test_a_limit_in_the_middle_of_a_repeat(run_once: RunLoop, kept: bool) -> None:
    with Web(1000) as web:
        result = measured(
            run_once,
            web.url(),
            repeat=True,
            keep_connections=kept,
            streams=2,
            total_bytes=7_777,
        )
    assert moved(result) == 7_777
    assert len(web.requests) == 8


def test_a_limit_on_parts(run: RunLoop) -> None:
    with Web(1000) as web:
        options = {"first_byte": 100, "last_byte": 199, "repeat": True, "total_bytes": 550}
        result = measured(run, web.url(), **options)
    assert moved(result) == 550
    assert len(web.requests) == 6


def endless(peer: Peer) -> None:
    request(peer)
    peer.send(head("200 OK", f"Content-Length: {1 << 50}"))
    send_body(peer, 1 << 50)


def endless_chunks(peer: Peer) -> None:
    request(peer)
    peer.send(head("200 OK", "Transfer-Encoding: chunked"))
    while True:
        peer.send(b"10000\r\n" + bytes(65_536) + b"\r\n")


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("script", [endless, endless_chunks])
def test_a_time_ends_an_endless_body(
    run: RunLoop, script: Callable[[Peer], None], streams: int
) -> None:
    with Scripted(script) as server:
        result = measured(run, server.url(), duration_s=0.2, streams=streams)
    assert moved(result) > 0
    assert 0.19e9 < known(result.client.duration_ns) < 5e9
    assert transfers(result) == 0
    assert all(s.bytes for s in result.client.streams)


def test_a_time_ends_repeats(run: RunLoop) -> None:
    for kept in (False, True):
        with Web(1000) as web:
            options = {"repeat": True, "keep_connections": kept, "duration_s": 0.2}
            result = measured(run, web.url(), **options)
        # the last one may have been cut off, at either end
        assert transfers(result) * 1000 <= moved(result) <= len(web.requests) * 1000
        assert len(web.requests) - transfers(result) in (0, 1)
        assert transfers(result) > 1


@pytest.mark.parametrize("kept", [False, True])
def test_an_empty_file_can_be_repeated_for_a_time(run: RunLoop, kept: bool) -> None:
    """Set-up is all that is measured then, and the time counts from the first answer."""
    with Web(0) as web:
        options = {"repeat": True, "keep_connections": kept, "duration_s": 0.2}
        result = measured(run, web.url(), **options)
    assert moved(result) == 0
    assert len(web.requests) - transfers(result) in (0, 1)
    assert transfers(result) > 1


def test_an_empty_file_never_reaches_a_limit(run: RunLoop) -> None:
    with Web(0) as web:
        error = refused(run, web.url(), repeat=True, total_bytes=1000)
    assert type(error) is nm.StreamError
    assert "empty" in str(error)
    assert len(web.requests) == 1


def test_omitted_time(run: RunLoop) -> None:
    with Scripted(endless) as server:
        result = measured(run, server.url(), duration_s=0.2, omit_s=0.1)
    (stream,) = result.client.streams
    assert known(stream.counted_bytes) < known(stream.bytes) == moved(result)
    assert known(stream.counted_from_ns) >= known(stream.first_ns) + 100_000_000


@pytest.mark.parametrize("script", [endless, endless_chunks])
def test_intervals_sum_up_to_the_total(run: RunLoop, script: Callable[[Peer], None]) -> None:
    intervals = []

    async def main(url: str) -> nm.Result:
        async with nm.connect(url).run(spec(duration_s=0.3, streams=2)) as running:
            async for interval in running:
                intervals.append(interval)  # noqa: PERF401
        assert running.result is not None
        return running.result

    with Scripted(script) as server:
        result = run(main(server.url()))
    assert sum(interval.bytes for interval in intervals) == moved(result)
    assert len(intervals) > 1
    for interval in intervals:
        assert (interval.direction, interval.counted_by) == ("download", "receiver")
        assert sum(interval.stream_bytes) == interval.bytes
    for one, next_one in itertools.pairwise(intervals):
        assert one.end_ns == next_one.start_ns


def test_intervals_of_a_short_file_sum_up(run: RunLoop) -> None:
    async def main(url: str) -> tuple[int, nm.Result]:
        async with nm.connect(url).run(spec()) as running:
            total = sum([interval.bytes async for interval in running])
        assert running.result is not None
        return total, running.result

    with Web(100_000) as web:
        total, result = run(main(web.url()))
    # a run that is over before anybody could look has no intervals
    assert total in (0, 100_000)
    assert moved(result) == 100_000


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_stop_ends_in_good_order(run: RunLoop, direction: str) -> None:
    async def main(url: str) -> nm.Result:
        wanted = spec(duration_s=60, direction=direction)
        async with nm.connect(url).run(wanted) as running:
            async for interval in running:
                if interval.bytes:
                    running.stop()
        assert running.result is not None
        return running.result

    def script(peer: Peer) -> None:
        if direction == "download":
            endless(peer)
        taken.append(take_body(peer, request(peer)))
        peer.send(head("201 Created", "Content-Length: 0"))

    taken: list[int] = []
    with Scripted(script) as server:
        result = run(main(server.url()))
    assert result.complete
    assert "stopped early by the user" in result.notes
    assert moved(result) > 0
    if direction == "upload":
        assert taken == [moved(result)]


def test_many_at_the_same_time(run_once: RunLoop) -> None:
    async def main(urls: list[str]) -> list[nm.Result]:
        return await asyncio.gather(*(nm.measure(url, spec()) for url in urls))

    sizes = (1, 1000, 100_000, MIB)
    with contextlib.ExitStack() as stack:
        webs = [stack.enter_context(Web(size)) for size in sizes]
        results = run_once(main([web.url() for web in webs]))
    assert [moved(result) for result in results] == list(sizes)


# ---- uploads ----------------------------------------------------------------------------------


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
    """Chunks are sent natively; what the server takes out of them is exactly what we count."""
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
            return  # reads on, as servers do that want their answer to arrive
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


# ---- TLS --------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.parametrize("size", SIZES)
def test_tls(run: RunLoop, size: int) -> None:
    mine = certificates.certificate()
    with Web(size, tls=mine.server()) as web:
        result = measured(run, web.url(), ca_file=str(mine.pem))
    assert moved(result) == size
    facts = transfer(result)
    assert facts.tls == "TLSv1.3"
    assert facts.cipher
    assert facts.drained_by == ("library" if size else None)
    assert steps(result) == ["resolve", "connect", "tls", "request", "first_byte"]


@needs_openssl
@pytest.mark.parametrize("kept", [False, True])
def test_tls_repeated(run_once: RunLoop, kept: bool) -> None:
    mine = certificates.certificate()
    with Web(5000, tls=mine.server()) as web:
        options = {"repeat": True, "keep_connections": kept, "total_bytes": 20_000}
        result = measured(run_once, web.url(), ca_file=str(mine.pem), **options)
    assert moved(result) == 20_000 == web.sent
    assert web.connections == (1 if kept else 4)


@needs_openssl
def test_tls_upload(run: RunLoop) -> None:
    mine = certificates.certificate()
    for limit in ({"total_bytes": 3 * MIB}, {"duration_s": 0.15}):
        with Web(tls=mine.server()) as web:
            options = {"direction": "upload", "ca_file": str(mine.pem), **limit}
            result = measured(run, web.url(), **options)
        assert moved(result) == web.taken > 0
        assert transfer(result).tls == "TLSv1.3"


@needs_openssl
def test_tls_for_a_time(run: RunLoop) -> None:
    mine = certificates.certificate()
    with Scripted(endless, tls=mine.server()) as server:
        result = measured(run, server.url(), insecure=True, duration_s=0.2)
    assert moved(result) > 0
    assert "the server's certificate was not checked" in result.notes


@needs_openssl
def test_tls_by_a_pinned_name(run: RunLoop) -> None:
    mine = certificates.certificate("DNS:files.invalid")
    with Web(10, tls=mine.server()) as web:
        pin = f"files.invalid:{web.port}:127.0.0.1"
        url = f"https://files.invalid:{web.port}/"
        assert moved(measured(run, url, pins=(pin,), ca_file=str(mine.pem))) == 10


@needs_openssl
def test_a_redirect_to_tls(run: RunLoop) -> None:
    mine = certificates.certificate()
    with Web(10, tls=mine.server()) as there:
        away = head("301 Moved", f"Location: {there.url()}", "Content-Length: 0")
        with Scripted(answering(away)) as here:
            result = measured(run, here.url(), ca_file=str(mine.pem))
    assert moved(result) == 10
    assert "tls" in steps(result)
