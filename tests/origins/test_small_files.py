"""Test the native thread of small files: its answers are aiohttp's, and clients can't harm it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings, strategies as st

import netmeasure as nm
from netmeasure.errors import HostLimitError
from netmeasure.origins.http import HttpOrigin
from support.census import settle
from support.downloads import DEADLINE_S, HOST, KIB, RawClient, RunLoop, beside, expected
from support.waiting import until

GET = "GET /1K HTTP/1.1\r\nHost: x\r\n\r\n"
LARGEST = "GET /256K HTTP/1.1\r\nHost: x\r\n\r\n"
OTHER = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
#: Ends a connection, so that a reader knows that all answers have come.
LAST = b"GET /bytes/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
DATE = re.compile(rb"\r\nDate: ([^\r]*)\r\n")


def answered(origin: nm.HttpOrigin, count: int) -> bool:
    """Return whether the thread has counted so many responses: it does so after their sending, so a
    client may have the last one already."""
    return settle(lambda: origin._files.answered == count)


def started() -> bool:
    return any(t.name == "netmeasure-files" for t in threading.enumerate())


def ask(raw: RawClient, text: str = GET, size: int = KIB) -> None:
    raw.say(text)
    raw.until(b"\r\n\r\n")
    assert raw.read(size) == expected(size)


def without_the_thread(origin: HttpOrigin) -> HttpOrigin:
    """Let aiohttp serve all connections."""
    origin._files.take = lambda sock: False  # type: ignore[method-assign]
    return origin


# ---- the same answers ---------------------------------------------------------------------------

_GOOD_PATHS = ["/1K.dat", "/bytes/10", "/0", "/5b", "/64KiB", "/2kb.bin", "/bytes/010", "/1.5K"]
_GOOD_PATHS += [
    "/bytes/262144",
    "/bytes/262145",
    "/",
    "/healthz",
    "/nosuchfile",
    "/1K?x=1",
    "/%31K",
]
_GOOD_FIELDS = ["Accept: */*", "User-Agent: x/1 (y)", "accept-encoding: gzip, deflate", "Accept:"]
_GOOD_FIELDS += ["Connection: keep-alive", "Referer: http://a/b", "Range: bytes=1-5", "Cookie: a=b"]
_GOOD_FIELDS += ["Range: bytes=-0", 'If-Range: "x"', "If-None-Match: *", "Content-Length: 0"]
_BAD_PATHS = ["/1K#x", "//1K", "/../1K", "http://a/1K", "*", "/1K\xe4", "", "/1K /1K"]
_BAD_FIELDS = [
    "Connection: close",
    "Connection: x, Keep-Alive",
    "Content-Length: 5",
    "Upgrade: h2c",
]
_BAD_FIELDS += [
    "Content-Length: x",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Host: y",
]
_BAD_FIELDS += ["Host: a b", " folded", "no colon", "Accept : x", "Accept: */*"]

_good = st.builds(
    lambda method, path, fields: "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]
    ),
    st.sampled_from(["GET"] * 5 + ["HEAD", "DELETE"]),
    st.sampled_from(_GOOD_PATHS),
    st.lists(st.sampled_from(_GOOD_FIELDS), max_size=3, unique=True),
)
_any = st.builds(
    lambda method, path, version, host, fields, end: end.join(
        [f"{method} {path} {version}", *host, *fields, "", ""]
    ),
    st.sampled_from(["GET"] * 6 + ["HEAD"] * 2 + ["get", "DELETE"]),
    st.sampled_from(_GOOD_PATHS + _BAD_PATHS)
    | st.text("0123456789kKbBiI./", max_size=6).map("/".__add__),
    st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/2.0", "HTTP"]),
    st.sampled_from([("Host: x",)] * 6 + [("host:a.b:80",), ()]),
    st.lists(
        st.sampled_from(_GOOD_FIELDS + _BAD_FIELDS) | st.text(max_size=9).map("Accept: {}".format),
        max_size=3,
    ),
    st.sampled_from(["\r\n"] * 8 + ["\n"]),
)


def answers(port: int, *pieces: bytes) -> bytes:
    """Return all that a server sends for these bytes, up to the end of the connection, without the
    dates, which are checked."""
    received = bytearray()
    with socket.create_connection((HOST, port), DEADLINE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(1 << 20):
                received += data
    for date in DATE.findall(received):
        assert abs(parsedate_to_datetime(date.decode()).timestamp() - time.time()) < DEADLINE_S
    return DATE.sub(b"\r\nDate: \r\n", bytes(received))


def test_answers_are_those_of_aiohttp(run: RunLoop) -> None:
    """Byte for byte, except for the date.

    A malformed request is sent alone and in one piece: of several requests that aiohttp reads at
    once, it answers none if one is malformed.
    """

    def compare(native: HttpOrigin, reference: HttpOrigin) -> None:
        @settings(max_examples=150)
        @given(_any)
        def check_one(request: str) -> None:
            text = request.encode() + LAST
            assert answers(native.port, text) == answers(reference.port, text)

        @settings(max_examples=50)
        @given(st.lists(_good, min_size=1, max_size=4), st.integers(0, 200))
        def check_several(requests: list[str], cut: int) -> None:
            text = "".join(requests).encode() + LAST
            pieces = (text[:cut], text[cut:])
            assert answers(native.port, *pieces) == answers(reference.port, *pieces)

        check_one()
        check_several()

    async def scenario() -> None:
        async with nm.serve_http(HOST) as native, nm.serve_http(HOST) as reference:
            await beside(compare, native, without_the_thread(reference))
            assert settle(lambda: native._files.answered > 20)
            assert reference._files.answered == 0

    run(scenario())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("size", [0, 1, 9, 10, 1000, 65_536, 262_144])
def test_heads_are_those_of_aiohttp(run_once: RunLoop, method: str, size: int) -> None:
    def compare(native: HttpOrigin, reference: HttpOrigin) -> None:
        text = f"{method} /bytes/{size} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        received = answers(native.port, text, LAST)
        assert received == answers(reference.port, text, LAST)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")

    async def scenario() -> None:
        async with nm.serve_http(HOST) as native, nm.serve_http(HOST) as reference:
            await beside(compare, native, without_the_thread(reference))
            assert answered(native, 1)

    run_once(scenario())


def test_a_file_above_the_limit_is_404(run_once: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST, limits=nm.OriginLimits(max_bytes=1000)) as origin:
            with RawClient(origin.address) as raw:
                await beside(ask, raw, GET.replace("1K", "bytes/1000"), 1000)
                await beside(raw.say, GET)
                assert (await beside(raw.until, b"\r\n")).startswith(b"HTTP/1.1 404 ")
            assert answered(origin, 1)

    run_once(scenario())


# ---- the thread ---------------------------------------------------------------------------------


def test_the_thread_begins_with_the_first_connection(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            assert not started()
            with RawClient(origin.address) as raw:
                await beside(ask, raw)
                assert started()
                assert answered(origin, 1)
        assert not started()

    run(scenario())


def test_small_files_do_not_wait_for_the_event_loop(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            with RawClient(origin.address) as raw:
                await beside(ask, raw)
                for _ in range(10):
                    ask(raw)  # blocks the event loop
                assert answered(origin, 11)

    run(scenario())


def test_a_connection_stays_with_aiohttp(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            with RawClient(origin.address) as raw:
                await beside(ask, raw)
                assert (origin._files.connections, len(origin._web.connections)) == (1, 0)
                await beside(raw.say, OTHER)
                await beside(raw.until, b"/1G.dat\n")
                await beside(ask, raw)
                assert (origin._files.connections, len(origin._web.connections)) == (0, 1)
                assert answered(origin, 1)

    run(scenario())


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (
            "netmeasure.engine.threads.TrafficThread.start",
            HostLimitError("no threads", phase="connect", reason="none", number=1),
        ),
        ("netmeasure.origins.small_files.SmallFiles", OSError(24, "no descriptors")),
    ],
    ids=["thread", "descriptor"],
)
def test_aiohttp_serves_all_where_no_thread_can_start(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(place, fail)

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            with RawClient(origin.address) as raw:
                await beside(ask, raw)
                assert (origin._files.connections, len(origin._web.connections)) == (0, 1)

    run(scenario())


# ---- clients that misbehave ---------------------------------------------------------------------


def test_connections_of_both_kinds_count(run: RunLoop) -> None:
    """One of two places is the thread's, one aiohttp's. Either is free again after its client."""

    async def scenario() -> None:
        async with nm.serve_http(HOST, limits=nm.OriginLimits(max_connections=2)) as origin:
            for text in (GET, OTHER):
                with RawClient(origin.address) as first, RawClient(origin.address) as second:
                    await beside(ask, first)
                    await beside(second.say, OTHER)
                    await beside(second.until, b"/1G.dat\n")
                    with RawClient(origin.address) as third:
                        assert await beside(third.rest) == 0
                    (first if text == GET else second).sock.close()
                    await until(
                        lambda: origin._files.connections + len(origin._web.connections) == 1
                    )
                    with RawClient(origin.address) as third:
                        await beside(third.say, text)
                        await beside(third.until, b"\r\n\r\n")
                await until(lambda: not origin._files.connections + len(origin._web.connections))

    run(scenario())


def test_a_client_that_does_not_read_delays_no_other(run: RunLoop) -> None:
    """Its answers fill the buffers of both ends."""

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            with RawClient(origin.address) as stuck, RawClient(origin.address) as other:
                await beside(ask, other)
                await until(lambda: fill(stuck))
                for _ in range(10):
                    await beside(ask, other)
                stuck.sock.settimeout(DEADLINE_S)
                for _ in range(3):  # it gets its answers once it reads
                    await beside(stuck.until, b"\r\n\r\n")
                    assert await beside(stuck.read, 256 * KIB) == expected(256 * KIB)

    run(scenario())


def fill(raw: RawClient) -> bool:
    """Send requests; return whether the server takes no more."""
    raw.sock.settimeout(0)
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    try:
        for _ in range(100):
            raw.sock.send(LARGEST.encode() * 20)
    except BlockingIOError:
        return True
    return False


def test_a_client_that_does_not_read_is_given_up(run: RunLoop) -> None:
    limits = nm.OriginLimits(stall_s=0.2)

    async def scenario() -> None:
        async with nm.serve_http(HOST, limits=limits) as origin:
            with RawClient(origin.address, receive_buffer=4096) as raw:
                await beside(raw.say, LARGEST * 40)
                poll = select.poll()
                poll.register(raw.sock, 0)  # the server resets: it has not read all requests
                assert await beside(poll.poll, DEADLINE_S * 1000)
                assert await beside(raw.rest) < 40 * 256 * KIB
            await until(lambda: origin._files.connections == 0)

    run(scenario())


@pytest.mark.parametrize("words", ["", GET], ids=["silent", "idle"])
def test_an_idle_client_is_closed(run: RunLoop, words: str) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST, limits=nm.OriginLimits(idle_s=0.2)) as origin:
            with RawClient(origin.address) as raw:
                await beside(raw.say, words)
                assert (await beside(raw.rest) > KIB) == bool(words)
                assert answered(origin, bool(words))
                assert not origin._web.connections

    run(scenario())


def test_a_head_that_comes_slowly_is_read(run: RunLoop) -> None:
    def client(address: str) -> None:
        with RawClient(address) as raw:
            raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for letter in GET:
                raw.say(letter)
            raw.until(b"\r\n\r\n")
            assert raw.read(KIB) == expected(KIB)

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            await beside(client, origin.address)

    run(scenario())


def test_a_client_that_closes_its_half_gets_the_answer(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            with RawClient(origin.address) as raw:
                await beside(raw.say, LARGEST)
                raw.sock.shutdown(socket.SHUT_WR)
                await beside(raw.until, b"\r\n\r\n")
                assert await beside(raw.rest) == 256 * KIB
            await until(lambda: origin._files.connections == 0)

    run(scenario())


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Allow this process so many; skip the test where that is impossible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this process may have {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_clients(run: RunLoop) -> None:
    def connect(stack: contextlib.ExitStack, address: str) -> list[RawClient]:
        return [stack.enter_context(RawClient(address)) for _ in range(1000)]

    async def scenario() -> None:
        with descriptors(4000), contextlib.ExitStack() as stack:
            limits = nm.OriginLimits(max_connections=1001)
            async with nm.serve_http(HOST, limits=limits) as origin:
                clients = await beside(connect, stack, origin.address)
                await until(lambda: origin._files.connections == 1000)
                with RawClient(origin.address) as raw:
                    await beside(ask, raw)
                for raw in clients[::100]:
                    await beside(ask, raw)
                assert not origin._web.connections
            for raw in clients:
                assert raw.rest() == 0

    run(scenario())


def test_the_end_does_not_wait_for_clients(run: RunLoop) -> None:
    """One is idle, one does not read, one was handed over a moment ago."""

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            clients = [RawClient(origin.address) for _ in range(3)]
            await beside(ask, clients[0])
            await until(lambda: fill(clients[1]))
            await asyncio.sleep(0)
            clients[2].say(OTHER)
        assert not started()
        for raw in clients:
            raw.sock.settimeout(DEADLINE_S)
            await beside(raw.rest)
            raw.sock.close()

    run(scenario())
