"""Pass TCP connections on, and misbehave on demand: stall, reset, close early, trickle, half-close.

Connections are numbered as they arrive, so a test of iperf3's protocol can disturb the control
connection (0) and leave the data connections alone. A test can give orders for a connection before
it exists. "up" is from the client to the target, "down" is the other direction.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal, Self, TypeVar

T = TypeVar("T")
Direction = Literal["up", "down", "both"]
Action = Literal["stall", "reset", "close", "half_close", "trickle"]

_BLOCK_BYTES = 256 * 1024
_DRAIN_BLOCKS = 64
_TRICKLE_S = 0.001
_ANSWER_S = 30.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class _Way:
    """Hold one direction of a connection: how data may pass, and how many bytes have passed."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.forwarded = 0
        self.marks: list[tuple[int, Action]] = []
        self.trickling_s: float | None = None
        self.discarding = False
        self.sink: socket.socket | None = None

    def allowance(self) -> int:
        """Return how many bytes may go in one piece: none beyond the next mark."""
        piece = _BLOCK_BYTES if self.trickling_s is None else 1
        return min([piece, *(count - self.forwarded for count, _ in self.marks)])

    def due(self) -> list[Action]:
        """Return the actions whose mark has been reached; each is returned once."""
        reached = [action for count, action in self.marks if count <= self.forwarded]
        self.marks = [mark for mark in self.marks if mark[0] > self.forwarded]
        return reached

    def half_close(self) -> None:
        self.discarding = True
        if self.sink is not None:
            with contextlib.suppress(OSError):
                self.sink.shutdown(socket.SHUT_WR)


class Connection:
    """Hold one connection through the proxy, existing or expected, and the faults that it is to
    have.

    Every order is in effect when its method returns.
    """

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self._ways = {"up": _Way(), "down": _Way()}
        self._verdict: asyncio.Future[Literal["reset", "close"]] = asyncio.Future()
        self._opened = threading.Event()
        self._ended = threading.Event()

    # ---- for the test's thread

    def forwarded(self, direction: Literal["up", "down"]) -> int:
        """Return how many bytes have been passed on so far."""
        return self._ways[direction].forwarded

    def wait_open(self, timeout: float = _ANSWER_S) -> bool:
        """Wait until the client is connected through to the target."""
        return self._opened.wait(timeout)

    def wait_ended(self, timeout: float = _ANSWER_S) -> bool:
        """Wait until both sides are closed, by the peers or by an order."""
        return self._ended.wait(timeout)

    def stall(self, direction: Direction = "both") -> None:
        """Pass nothing on; the proxy holds one block, and then the sender's window closes."""
        self._order(self._act, "stall", direction)

    def resume(self, direction: Direction = "both") -> None:
        """End a stall or a trickle: data that were held are passed on as fast as possible."""
        self._order(self._resume, direction)

    def trickle(self, direction: Direction = "both", pause_s: float = _TRICKLE_S) -> None:
        """Pass on byte by byte, each in a segment of its own, with a pause after each."""
        self._order(self._trickle, direction, pause_s)

    def half_close(self, direction: Direction) -> None:
        """End a direction as its sender would: the receiver gets FIN, and no further byte."""
        self._order(self._act, "half_close", direction)

    def reset(self) -> None:
        """Send RST to both sides, at any moment."""
        self._order(self._end, "reset")
        self._wait_if_open()

    def close(self) -> None:
        """Send FIN to both sides; as with any closed socket, what they send afterwards is answered
        by RST."""
        self._order(self._end, "close")
        self._wait_if_open()

    def after(self, count: int, direction: Literal["up", "down"], action: Action) -> None:
        """Do `action` once exactly `count` bytes have passed in `direction`.

        "stall", "half_close" and "trickle" then apply to this direction; 0 means before any byte.
        """
        self._order(self._ways[direction].marks.append, (count, action))

    def _order(self, action: Callable[..., T], *arguments: Any) -> T:
        return self._proxy._in_loop(action, *arguments)

    def _wait_if_open(self) -> None:
        if self._opened.is_set():
            assert self.wait_ended(), "the proxy did not end the connection"

    # ---- in the proxy's thread

    def _chosen(self, direction: Direction) -> list[_Way]:
        return list(self._ways.values()) if direction == "both" else [self._ways[direction]]

    def _act(self, action: Action, direction: Direction) -> None:
        if action in ("reset", "close"):
            self._end(action)
        elif action == "trickle":
            self._trickle(direction, _TRICKLE_S)
        else:
            for way in self._chosen(direction):
                way.open.clear() if action == "stall" else way.half_close()

    def _trickle(self, direction: Direction, pause_s: float) -> None:
        for way in self._chosen(direction):
            way.trickling_s = pause_s

    def _resume(self, direction: Direction) -> None:
        for way in self._chosen(direction):
            way.trickling_s = None
            way.open.set()

    def _end(self, how: Literal["reset", "close"]) -> None:
        """Stop both directions at this very byte; `carry` does the rest."""
        self._act("stall", "both")
        if not self._verdict.done():
            self._verdict.set_result(how)

    async def carry(self, client: socket.socket, target: socket.socket) -> None:
        """Copy both ways until the peers or an order end it, and close both sides."""
        how: Literal["reset", "close"] = "reset"
        pumps: asyncio.Future[Any] = asyncio.gather(
            self._pump("up", client, target),
            self._pump("down", target, client),
            return_exceptions=True,
        )
        self._opened.set()
        try:
            ends: list[asyncio.Future[Any]] = [pumps, self._verdict]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            how = self._verdict.result() if self._verdict.done() else "close"
        finally:
            # the pumps end first: the loop must not watch a descriptor that another socket reuses
            await _ended(pumps)
            for side in (client, target):
                _shut(side, how)
            self._ended.set()

    async def _pump(
        self, direction: Literal["up", "down"], source: socket.socket, sink: socket.socket
    ) -> None:
        way = self._ways[direction]
        way.sink = sink
        try:
            await self._copy(way, direction, source, sink)
        except OSError:
            self._end("reset")  # a reset by one side is passed on to the other side

    async def _copy(
        self, way: _Way, direction: Direction, source: socket.socket, sink: socket.socket
    ) -> None:
        loop = asyncio.get_running_loop()
        block = memoryview(bytearray(_BLOCK_BYTES))
        if way.discarding:
            way.half_close()
        self._act_on_marks(way, direction)
        while True:
            await way.open.wait()
            count = await loop.sock_recv_into(source, block)
            if not count:
                await way.open.wait()
                way.half_close()
                return
            await self._deliver(way, direction, block[:count], sink)

    async def _deliver(
        self, way: _Way, direction: Direction, data: memoryview, sink: socket.socket
    ) -> None:
        loop = asyncio.get_running_loop()
        while data:
            await way.open.wait()
            if way.discarding:
                return
            piece = data[: way.allowance()]
            await loop.sock_sendall(sink, piece)
            way.forwarded += len(piece)
            data = data[len(piece) :]
            self._act_on_marks(way, direction)
            if way.trickling_s is not None:
                await asyncio.sleep(way.trickling_s)

    def _act_on_marks(self, way: _Way, direction: Direction) -> None:
        for action in way.due():
            self._act(action, direction)


async def _ended(pumps: asyncio.Future[Any]) -> None:
    pumps.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        for error in await pumps:
            if error is not None:
                raise error


def _shut(side: socket.socket, how: Literal["reset", "close"]) -> None:
    with side, contextlib.suppress(OSError):
        if how == "reset":
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            return
        side.shutdown(socket.SHUT_WR)
        # unread bytes would turn the orderly close into a reset; but a sender may never pause
        for _ in range(_DRAIN_BLOCKS):
            if not side.recv(_BLOCK_BYTES):
                break


class Proxy:
    """Run the proxy, in a thread of its own, in front of `target`; clients connect to `address`.

    The proxy is in the network namespace of the thread that enters it: enter the namespace first to
    put it there.
    """

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self._target = target
        self._family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._host = host
        self._connections: dict[int, Connection] = {}
        self._accepted = 0
        self._running = threading.Event()

    @property
    def address(self) -> tuple[str, int]:
        return self._host, self._port

    @property
    def accepted(self) -> int:
        """Return how many connections have arrived so far."""
        return self._accepted

    def connection(self, index: int) -> Connection:
        """Return the connection with the number `index`, counted from 0, which may not have arrived
        yet."""
        return self._in_loop(self._connection, index)

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server((self._host, 0), family=family, backlog=128)
        self._listener.setblocking(False)
        self._port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="proxy")
        self._thread.start()
        assert self._running.wait(_ANSWER_S), "the proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself, with an error
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._listener.close()

    def _in_loop(self, action: Callable[..., T], *arguments: Any) -> T:
        """Run `action` in the proxy's thread, and wait for its result."""
        answer: Future[T] = Future()

        def step() -> None:
            try:
                answer.set_result(action(*arguments))
            except Exception as error:
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(step)
        return answer.result(_ANSWER_S)

    def _connection(self, index: int) -> Connection:
        if index not in self._connections:
            self._connections[index] = Connection(self)
        return self._connections[index]

    def _serve(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(self._accept(group))
            self._running.set()
            await self._stop.wait()
            accepting.cancel()
            for connection in self._connections.values():
                connection._end("close")

    async def _accept(self, group: asyncio.TaskGroup) -> None:
        """Connect to the target before accepting the next: both sides then agree on the order."""
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            connection = self._connection(self._accepted)
            self._accepted += 1
            try:
                target = await self._connect()
            except OSError:
                _shut(client, "reset")
                continue
            except BaseException:
                client.close()
                raise
            for side in (client, target):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            group.create_task(connection.carry(client, target))

    async def _connect(self) -> socket.socket:
        target = socket.socket(self._family, socket.SOCK_STREAM)
        target.setblocking(False)
        try:
            await self._loop.sock_connect(target, self._target)
        except BaseException:
            target.close()
            raise
        return target
