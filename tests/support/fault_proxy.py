"""Follow the control protocol from state to state as a proxy, and cause a fault in one state.

The proxy finds the end of a message by the table of states and the lengths in the bytes. It has a
certificate of its own for encrypted conversations. It also passes data connections and datagrams
on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from typing import Self

from netmeasure.protocol.connection import _SIZES
from netmeasure.protocol.messages import COOKIE_BYTES
from netmeasure.protocol.states import BYTES, Kind, Side, origin
from support.fault_table import TO_PROCESS, Cell

_BLOCK_BYTES = 64 * 1024
_DELAY_S = 0.1
_CRUMBS = 40
#: On a busy machine a turn of the event loop may take longer than this; then the rest is sent at
#: once.
_CREEP_S = 2.0
_POLL_S = 0.01
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_JSON = {Kind.PARAMETERS, Kind.EXTENSION, Kind.CLIENT_RESULTS, Kind.SERVER_RESULTS}
#: No message begins with these bytes, and no length of a JSON text has them.
GARBAGE = bytes(byte | 0x80 for byte in random.Random(12).randbytes(256))
_OVERSIZE_BYTES = 20 * 2**20
#: How long the target may take to listen: iperf3 has only just been started.
_TARGET_S = 20.0


class _Way:
    """Hold one direction of one connection."""

    def __init__(
        self, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.side = side  # who sends in this direction
        self.reader = reader
        self.writer = writer
        self.go = asyncio.Event()
        self.go.set()
        self.swallows = False
        self.mute = False  # swallows everything; the end of the stream is still passed on
        self.creeps = False
        self.late = False


class FaultProxy:
    """Be the proxy of one test.

    `struck` is set when the fault has happened, and `on_strike` is called at that moment.
    `on_message` is called with each message that has passed.
    """

    def __init__(
        self,
        target: tuple[str, int],
        cell: Cell,
        *,
        on_strike: Callable[[], None] | None = None,
        on_message: Callable[[Kind], None] | None = None,
        server_tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.struck = asyncio.Event()
        self._target, self._cell = target, cell
        self._on_strike, self._on_message = on_strike, on_message
        self._server_tls, self._client_tls = server_tls, client_tls
        self._route = cell.talk.route()
        self._passed = 0
        self._heard = {side: bytearray() for side in Side}
        self._control: list[_Way] = []
        self._data: list[_Way] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._relay: _Relay | None = None

    @property
    def steps_passed(self) -> int:
        return self._passed

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        while True:
            # a client that searches for the reason of a standstill opens many connections at once
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            self._listener.setblocking(False)
            self.port: int = self._listener.getsockname()[1]
            if self._cell.talk.test != "udp":
                break
            relay = _Relay(self._target)
            try:
                await loop.create_datagram_endpoint(
                    lambda relay=relay: relay,  # type: ignore[misc]
                    local_addr=("127.0.0.1", self.port),
                )
            except OSError:  # that port is in use for UDP
                self._listener.close()
                continue
            self._relay = relay
            break
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._accepting is not None
        tasks = [self._accepting, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        for way in (*self._control, *self._data):
            way.writer.transport.abort()
        if self._relay is not None:
            self._relay.close()
        await asyncio.sleep(0)

    def thaw(self) -> None:
        """Again pass on what a process sends that was stopped."""
        for way in self._control:
            way.go.set()

    # ---- connections

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            is_control = not self._control
            tls = self._server_tls if is_control else None
            self._spawn(self._carry(client, tls, is_control=is_control))
            if is_control:
                while not self._control:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)

    async def _carry(
        self, client: socket.socket, tls: ssl.SSLContext | None, *, is_control: bool
    ) -> None:
        with contextlib.suppress(OSError):
            up_reader, down_writer = await _adopt(client, tls)
            try:
                down_reader, up_writer = await self._connect(
                    self._client_tls if is_control else None
                )
            except BaseException:
                down_writer.transport.abort()
                raise
            ways = [
                _Way(Side.CLIENT, up_reader, up_writer),
                _Way(Side.SERVER, down_reader, down_writer),
            ]
            (self._control if is_control else self._data).extend(ways)
            if is_control and self._cell.step == 0:
                self._strike()
            await asyncio.gather(*(self._pump(way, ways, is_control) for way in ways))

    async def _connect(
        self, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        end = asyncio.get_running_loop().time() + _TARGET_S
        while True:
            try:
                name = "localhost" if tls is not None else None
                reader, writer = await asyncio.open_connection(
                    *self._target, ssl=tls, server_hostname=name
                )
                _no_delay(writer)
                return reader, writer
            except ConnectionRefusedError:
                if asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(0.01)

    async def _pump(self, way: _Way, ways: list[_Way], is_control: bool) -> None:
        try:
            while True:
                await way.go.wait()
                data = await way.reader.read(_BLOCK_BYTES)
                await way.go.wait()
                if not data:
                    break
                for piece in self._pieces(way.side, data) if is_control else (data,):
                    await self._pass(way, piece)
                    if is_control:
                        self._note(way.side, piece)
            if not way.swallows:
                _end_of_file(way.writer)
        except OSError:  # a reset by one side is passed on to the other side
            for each in ways:
                _reset(each.writer)

    async def _pass(self, way: _Way, data: bytes) -> None:
        if way.late:
            await asyncio.sleep(_DELAY_S)
        pieces = _crumbs(data) if way.creeps else [data]
        since = time.monotonic()
        while pieces:
            if time.monotonic() - since > _CREEP_S:
                pieces = [b"".join(pieces)]
            piece = pieces.pop(0)
            await way.go.wait()
            if way.swallows or way.mute:
                return
            way.writer.write(piece)
            await way.writer.drain()
            if way.creeps:
                await asyncio.sleep(0)

    # ---- messages

    def _pieces(self, side: Side, data: bytes) -> Iterator[bytes]:
        """Split the bytes that an end sends into messages."""
        rest = data
        while rest:
            need = self._missing(side)
            if need is None:
                yield rest
                return
            piece, rest = rest[:need], rest[need:]
            yield piece

    def _missing(self, side: Side) -> int | None:
        """Return how many bytes of its message, or of the head, an end has still to send.

        Return None if it is not this end's turn.
        """
        kind = self._next_kind()
        if kind is None or origin(kind) is not side:
            return None
        heard = self._heard[side]
        return max(1, _size(kind, heard) - len(heard))

    def _next_kind(self) -> Kind | None:
        return self._route[self._passed] if self._passed < len(self._route) else None

    def _note(self, side: Side, piece: bytes) -> None:
        """Follow the conversation by the messages that have been passed on."""
        kind = self._next_kind()
        if kind is None or origin(kind) is not side:
            return
        heard = self._heard[side]
        heard += piece
        first = BYTES.get(kind)
        if first is not None and heard[0] != first:
            heard.clear()  # one of the messages that may be sent at any time
            return
        if len(heard) < _size(kind, heard):
            return
        heard.clear()
        self._passed += 1
        if self._on_message is not None:
            self._on_message(kind)
        if self._passed == self._cell.step:
            self._strike()

    # ---- faults

    def _strike(self) -> None:
        cell = self._cell
        ways = self._control if cell.where == "control" else self._data
        if not ways:
            return
        self.struck.set()
        if cell.fault in TO_PROCESS and self._on_strike is not None:
            self._on_strike()
        if cell.fault == "reset":
            for way in ways:
                _reset(way.writer)
            return
        for way in ways:
            if way.side is cell.victim:
                self._spoil(way)

    def _spoil(self, way: _Way) -> None:
        match self._cell.fault:
            case "drop":
                way.swallows = True
            case "stall":
                way.go.clear()
            case "freeze":  # the bytes that it sent before the signal have arrived
                way.go.clear()
            case "kill":
                way.mute = True
            case "delay":
                way.late = True
            case "trickle":
                way.creeps = True
            case "half_close":
                way.swallows = True
                _end_of_file(way.writer)
            case "garbage":
                way.writer.write(GARBAGE)
            case "oversize":
                way.go.clear()
                self._spawn(self._flood(way))

    async def _flood(self, way: _Way) -> None:
        """Return the head of the longest message that this end could send now, with more bytes than
        that."""
        kind = self._next_kind()
        head = b""
        if kind in _JSON and kind in BYTES:
            head = bytes([BYTES[kind]])
        with contextlib.suppress(OSError):
            way.writer.write(head + struct.pack(">I", 2**24 - 1) + b"[")
            block = b"[" * _BLOCK_BYTES
            for _ in range(_OVERSIZE_BYTES // _BLOCK_BYTES):
                way.writer.write(block)
                await way.writer.drain()


def _crumbs(data: bytes) -> list[bytes]:
    """Send the first bytes one by one, and the rest in pieces, so that long reports come to an
    end."""
    rest = data[_CRUMBS:]
    step = len(rest) // _CRUMBS + 1
    single = [data[at : at + 1] for at in range(min(_CRUMBS, len(data)))]
    return single + [rest[at : at + step] for at in range(0, len(rest), step)]


def _size(kind: Kind, heard: bytearray) -> int:
    """Return the length of a message, as far as its first bytes tell it."""
    if kind is Kind.COOKIE:
        return COOKIE_BYTES
    head = 1 if kind in BYTES else 0
    if kind in _JSON:
        if len(heard) < head + 4:
            return head + 4
        return head + 4 + int(struct.unpack_from(">I", heard, head)[0])
    return head + _SIZES.get(kind, 0)


async def _adopt(
    sock: socket.socket, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return streams on a socket that was accepted."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_BLOCK_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=tls)
    except BaseException:
        sock.close()
        raise
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    _no_delay(writer)
    return reader, writer


def _no_delay(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def _end_of_file(writer: asyncio.StreamWriter) -> None:
    """Send FIN. TLS has no such signal: the connection below TLS ends, as when its line is cut."""
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
        else:
            sock = writer.get_extra_info("socket")
            with socket.socket(fileno=socket.dup(sock.fileno())) as copy:
                copy.shutdown(socket.SHUT_WR)


class _Relay(asyncio.DatagramProtocol):
    """Relay datagrams to the target and back, for each client address on a socket of its own."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._out: dict[tuple[str, int], socket.socket] = {}
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr not in self._out:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(self._target)
            self._out[addr] = sock
            self._loop.add_reader(sock, self._back, sock, addr)
        with contextlib.suppress(OSError):
            self._out[addr].send(data)

    def _back(self, sock: socket.socket, addr: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._transport.sendto(sock.recv(65536), addr)  # type: ignore[attr-defined]

    def close(self) -> None:
        for sock in self._out.values():
            self._loop.remove_reader(sock)
            sock.close()
        self._transport.close()
