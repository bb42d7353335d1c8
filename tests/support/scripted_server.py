"""Run a plain iperf3 server that follows a script, and check how a client of it must end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import netmeasure as nm
from support import failures

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

PARAM_EXCHANGE, CREATE_STREAMS, TEST_START, TEST_RUNNING = b"\x09", b"\x0a", b"\x01", b"\x02"
TEST_END, EXCHANGE_RESULTS, DISPLAY_RESULTS, IPERF_DONE = b"\x04", b"\x0d", b"\x0e", b"\x10"
SERVER_TERMINATE, ACCESS_DENIED = b"\x0b", b"\xff"
DIRECTIONS = ("upload", "download", "both")
BOTH_WAYS = ("upload", "download")
SHORT = {"connect_s": 0.3, "handshake_s": 0.3, "drain_s": 0.1, "results_s": 0.1}


def spec(
    direction: str = "upload",
    duration_s: float | None = 60,
    *,
    total_bytes: int | None = None,
    **more: Any,
) -> nm.TcpSpec:
    """Return a test of a minute, or of so many bytes, with a client that has short deadlines."""
    deadlines = nm.Deadlines(**{**SHORT, **more.pop("deadlines", {})})
    time_s = duration_s if total_bytes is None else None
    timing = nm.Timing(duration_s=time_s, total_bytes=total_bytes, interval_s=0.02)
    # proxies pass no UDP on: a probe would be one of the connections that are counted
    more.setdefault("latency", False)
    return nm.TcpSpec(direction=direction, timing=timing, deadlines=deadlines, **more)  # type: ignore[arg-type]


#: For tests in which data keep the event loop busy: only the fault may end the wait.
PATIENT = {"handshake_s": 5}
#: For tests in which no wait may end by its deadline.
UNHURRIED = {"connect_s": 5, "handshake_s": 5, "results_s": 5}


async def failure(
    target: str,
    wanted: nm.TcpSpec | None = None,
    meanwhile: Callable[[nm.Run], Awaitable[None]] | None = None,
) -> nm.MeasureError:
    """Return the exception that a run ends with, as checked by `failures.failure`."""
    return await failures.failure(target, wanted or spec(), meanwhile)


def assert_measured(error: nm.MeasureError) -> None:
    """Check that the result contains what had been transferred."""
    result = error.result
    assert len(result.flows) == (2 if result.spec.direction == "both" else 1)
    for flow in result.flows:
        assert flow.receiver.bytes or flow.sender.acked_bytes
        assert flow.series is not None


async def flowing(running: nm.Run) -> None:
    """Wait until there are bytes in each direction of a run."""
    way = running.spec.direction
    wanted = {"upload", "download"} if way == "both" else {way}
    async for interval in running:
        if interval.bytes:
            wanted.discard(interval.direction)
        if not wanted:
            return


# ---- a server that follows a script -----------------------------------------------------------


class Fake:
    """Be a plain iperf3 server on raw sockets that does only what its script orders."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.address = "{}:{}".format(*self.listener.getsockname())
        self.streams: list[socket.socket] = []
        self._socks = [self.listener]
        self._traffic: set[asyncio.Task[None]] = set()

    async def accept(self) -> socket.socket:
        sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socks.append(sock)
        return sock

    async def take(self, sock: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return data

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.control, data)

    # ---- the steps of a good server

    async def welcome(self) -> None:
        self.control = await self.accept()
        self.cookie = await self.take(self.control, 37)
        await self.say(PARAM_EXCHANGE)

    async def agree(self, extended: bool = False) -> None:
        await self.welcome()
        self.parameters = await self.take_json()
        if extended:
            await self.say(b"\x40")
            await self.say_json({"version": 1, "host": {"program": "netmeasure"}})
        await self.say(CREATE_STREAMS)
        both = 2 if self.parameters.get("bidirectional") else 1
        for _ in range(self.parameters["parallel"] * both):
            sock = await self.accept()
            assert await self.take(sock, 37) == self.cookie
            if extended:
                await self.take(sock, 4)
            self.streams.append(sock)

    async def start(self, extended: bool = False) -> None:
        await self.agree(extended)
        await self.say(TEST_START + TEST_RUNNING)
        receives = 0 if self.parameters.get("reverse") else self.parameters["parallel"]
        for index, sock in enumerate(self.streams):
            self._go(self._sink(sock) if index < receives else self._source(sock))

    async def finish(self) -> None:
        await self.start()
        assert await self.take(self.control, 1) == TEST_END
        await self.say(EXCHANGE_RESULTS)

    async def answer(self) -> None:
        await self.finish()
        theirs = await self.take_json()
        streams = [
            {"id": s["id"], "bytes": s["bytes"], "retransmits": -1, "jitter": 0, "errors": 0}
            | {"packets": 0, "start_time": 0, "end_time": 0.1}
            for s in theirs["streams"]
        ]
        await self.say_json({**theirs, "sender_has_retransmits": -1, "streams": streams})

    async def take_json(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", await self.take(self.control, 4))
        value: dict[str, Any] = json.loads(await self.take(self.control, length))
        return value

    async def say_json(self, value: object) -> None:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        await self.say(struct.pack(">I", len(text)) + text)

    # ---- data, and the end

    def _go(self, traffic: Coroutine[Any, Any, None]) -> None:
        self._traffic.add(asyncio.create_task(traffic))

    async def _sink(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                if not await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
                    return
                await asyncio.sleep(
                    0
                )  # a socket that is always ready would keep all others waiting

    async def _source(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                await asyncio.get_running_loop().sock_sendall(sock, bytes(1 << 17))
                await asyncio.sleep(0)

    async def still(self) -> None:
        """Stop watching the data: a descriptor must not be closed while the loop watches it."""
        for task in self._traffic:
            task.cancel()
        await asyncio.gather(*self._traffic, return_exceptions=True)
        self._traffic.clear()

    async def stay(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        for sock in self._socks:
            sock.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


Script = Callable[[Fake], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def fake(script: Script) -> AsyncIterator[Fake]:
    """Run a server that plays its script for one client."""
    it = Fake()

    async def play() -> None:
        with contextlib.suppress(ConnectionError):
            await script(it)

    playing = asyncio.create_task(play())
    try:
        yield it
    finally:
        playing.cancel()
        (outcome,) = await asyncio.gather(playing, return_exceptions=True)
        await it.still()
        it.close()
    assert outcome is None or isinstance(outcome, asyncio.CancelledError)


async def failure_with(script: Script, wanted: nm.TcpSpec | None = None) -> nm.MeasureError:
    async with fake(script) as it:
        return await failure(it.address, wanted)


async def silent_after_the_data(it: Fake) -> None:
    await it.start()
    await it.stay()


def answers(said: bytes, *, before: int = 0) -> Script:
    async def script(it: Fake) -> None:
        it.control = await it.accept()
        await it.take(it.control, before)
        await it.say(said)
        await it.stay()

    return script
