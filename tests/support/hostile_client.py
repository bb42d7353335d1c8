"""Run a server under test, and a plain iperf3 client that does to it only what a test orders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import netmeasure as nm
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

PARAM_EXCHANGE, CREATE_STREAMS, TEST_START, TEST_RUNNING = b"\x09", b"\x0a", b"\x01", b"\x02"
TEST_END, EXCHANGE_RESULTS, DISPLAY_RESULTS, IPERF_DONE = b"\x04", b"\x0d", b"\x0e", b"\x10"
CLIENT_TERMINATE, ACCESS_DENIED, SERVER_ERROR = b"\x0c", b"\xff", b"\xfe"
DIRECTIONS = ("upload", "download", "both")
#: Shorter than the deadlines of a server, longer than a busy machine needs.
SOON_S = 10


class Watched:
    """Hold a server, and everything that it has reported."""

    def __init__(self, **limits: Any) -> None:
        self.results: list[nm.Result] = []
        self.refusals: list[str] = []
        self.crashes: list[dict[str, Any]] = []
        self.server = nm.serve(
            "127.0.0.1",
            0,
            limits=nm.ServerLimits(**limits),
            on_result=self.results.append,
            on_refusal=self.refusals.append,
        )

    def moved_bytes(self, cookie: str | None = None) -> int:
        """Return how many bytes the test with a cookie has moved so far; None stands for all
        running tests."""
        sessions = [*self.server._sessions]
        if cookie is not None:
            found = self.server._sessions.with_cookie(cookie)
            sessions = [] if found is None else [found]
        workloads = [session._workload for session in sessions]
        return sum(workload.moved_bytes() for workload in workloads if workload is not None)

    async def idle(self) -> None:
        """Wait until no client is left; by then, its result or refusal has been reported."""
        await until(lambda: len(self.server._sessions) == 0)

    async def told(self) -> str:
        """Return the only refusal that is reported."""
        await until(lambda: self.refusals)
        assert len(self.refusals) == 1
        return self.refusals.pop()

    async def failed(self, code: str) -> nm.Result:
        """Return the only result that is reported, which must be of a test that failed for that
        reason."""
        await until(lambda: self.results)
        assert len(self.results) == 1
        result = self.results.pop()
        assert not result.complete
        assert result.error is not None
        assert result.error.code == code
        assert result.target.startswith("127.0.0.1:")
        assert nm.Result.from_json(result.to_json()) == result
        return result


@contextlib.asynccontextmanager
async def watched(**limits: Any) -> AsyncIterator[Watched]:
    """Run a server that a test may mistreat.

    Afterwards the server must be idle, must have reported nothing that the test has not looked at,
    and must serve a good test. None of its tasks may have crashed.
    """
    it = Watched(**limits)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: it.crashes.append(context))
    async with it.server:
        yield it
        await it.idle()
        assert (it.refusals, it.results) == ([], [])
        # even if the server has short deadlines, the good test may be slow on a busy machine
        it.server._limits = nm.ServerLimits()
        spec = nm.TcpSpec(direction="both", timing=nm.Timing(total_bytes=100_000))
        good = await nm.measure(it.server.address, spec)
        await until(lambda: it.results)
        for result in (good, *it.results):
            assert result.complete
            assert [flow.receiver.bytes for flow in result.flows] == [100_000, 100_000]
        assert it.refusals == []
        assert it.server.active_tests == 0
    assert it.crashes == []


class Peer:
    """Be a plain iperf3 client on raw sockets that does only what a test orders."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._where = ("127.0.0.1", watched.server.port)
        self.cookie = os.urandom(18).hex().encode()
        self.streams: list[socket.socket] = []
        self.control = self.connect()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> socket.socket:
        """Return a new connection on which nothing has been sent."""
        sock = socket.create_connection(self._where)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        for sock in (self.control, *self.streams):
            sock.close()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(SOON_S):
            await asyncio.get_running_loop().sock_sendall(self.control, data)

    async def expect(self, data: bytes) -> None:
        assert await read(self.control, len(data)) == data

    async def expect_end(self) -> None:
        assert await read(self.control, 64) == b""

    async def expect_error(self, code: int) -> None:
        """Expect SERVER_ERROR, and then the end of the connection, at once."""
        assert await read(self.control, 64) == SERVER_ERROR + struct.pack(">ii", code, 0)

    async def hello(self) -> None:
        await self.send(self.cookie + b"\0")
        await self.expect(PARAM_EXCHANGE)

    async def ask(self, **parameters: Any) -> None:
        """Request a test, by default of a minute."""
        wanted = {"tcp": True, "time": 60, "parallel": 1, "len": 1000, **parameters}
        await self.send(framed(wanted))

    async def agree(self, **parameters: Any) -> None:
        await self.hello()
        await self.ask(**parameters)
        await self.expect(CREATE_STREAMS)

    async def agree_extended(self, **parameters: Any) -> None:
        """Agree on the extension, as a netmeasure client does: its data connections send their
        number."""
        await self.hello()
        await self.ask(netmeasure={"duration_ms": 60_000}, **parameters)
        assert await read(self.control, 1) == b"\x40"
        (length,) = struct.unpack(">I", await read(self.control, 4))
        assert "host" in json.loads(await read(self.control, length))
        await self.expect(CREATE_STREAMS)

    async def open_stream(self, cookie: bytes | None = None, tag: bytes = b"") -> socket.socket:
        sock = self.connect()
        self.streams.append(sock)
        hello = (self.cookie if cookie is None else cookie) + b"\0" + tag
        await asyncio.get_running_loop().sock_sendall(sock, hello)
        return sock

    async def start(self, count: int = 1, **parameters: Any) -> None:
        """Take all steps before the data."""
        await self.agree(parallel=count, **parameters)
        for _ in range(count * (2 if parameters.get("bidirectional") else 1)):
            await self.open_stream()
        await self.expect(TEST_START + TEST_RUNNING)

    async def send_data(self, count: int = 5000) -> None:
        """Send data on the first stream, and wait until the server's thread has counted them."""
        cookie = self.cookie.decode()
        before = self._watched.moved_bytes(cookie)
        await asyncio.get_running_loop().sock_sendall(self.streams[0], bytes(count))
        await until(lambda: self._watched.moved_bytes(cookie) == before + count)

    async def give_results(self, count: int = 5000) -> None:
        await self.expect(EXCHANGE_RESULTS)
        await self.send(framed(results(count)))

    async def take_results(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", await read(self.control, 4))
        theirs: dict[str, Any] = json.loads(await read(self.control, length))
        await self.expect(DISPLAY_RESULTS)
        return theirs


def framed(value: object) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack(">I", len(text)) + text


def results(count: int) -> dict[str, Any]:
    """Return the results of a client, in iperf3's form."""
    stream = {"id": 1, "bytes": count, "retransmits": 0, "jitter": 0, "errors": 0, "packets": 0}
    cpu = dict.fromkeys(("cpu_util_total", "cpu_util_user", "cpu_util_system"), 0.5)
    return {**cpu, "sender_has_retransmits": 1, "streams": [stream]}


async def read(sock: socket.socket, count: int) -> bytes:
    """Read so many bytes, or fewer if the connection ends; FIN or RST must arrive soon."""
    data = b""
    async with asyncio.timeout(SOON_S):
        with contextlib.suppress(ConnectionResetError):
            while len(data) < count:
                piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
                if not piece:
                    break
                data += piece
    return data


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def after_cookie(peer: Peer) -> None:
    await peer.hello()


async def after_parameters(peer: Peer) -> None:
    await peer.agree(parallel=2)
    await peer.open_stream()


async def after_start(peer: Peer) -> None:
    await peer.start()
    await peer.send_data()


async def after_start_in_reverse(peer: Peer) -> None:
    await peer.start(2, reverse=True)
    await read(peer.streams[1], 1000)


async def after_test_end(peer: Peer) -> None:
    await after_start(peer)
    await peer.send(TEST_END)
    await peer.expect(EXCHANGE_RESULTS)


STEPS = (after_cookie, after_parameters, after_start, after_start_in_reverse, after_test_end)


async def drained(sock: socket.socket) -> None:
    while await read(sock, 1 << 20):
        pass
