"""Run the control connection: the state machine of `protocol` on a socket, with deadlines."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from netmeasure.engine import tcpinfo
from netmeasure.engine.addresses import Address, address_text
from netmeasure.engine.tasks import cancel_and_wait
from netmeasure.engine.threads import in_turn
from netmeasure.engine.tls import TlsStream
from netmeasure.errors import PeerClosedError, PeerTimeoutError, RemoteProtocolError
from netmeasure.protocol import Closed, Connection, Kind, Message, NeedData, Payload, Side, State

_RECEIVE_BYTES = 64 * 1024
#: Longer messages are decoded in a thread.
LARGE_BYTES = 64 * 1024


class ControlChannel:
    """Send and receive messages. A pump task reads, so that `receive` may be cancelled at any time
    without losing a byte; it lives until `close`."""

    def __init__(
        self,
        sock: socket.socket,
        side: Side,
        received: bytes = b"",
        room: Callable[[int], Awaitable[None]] | None = None,
        tls: TlsStream | None = None,
    ) -> None:
        """Take over a connected socket; `received` are bytes already read from it. With `tls`,
        whose handshake is complete, everything is encrypted.

        `room` waits until this process has memory for a large message of a given size, which stays
        unread until then.
        """
        self.connection = Connection(side)
        self._room = room
        self._decoding: asyncio.Task[Message | NeedData | Closed] | None = None
        self._sock = sock
        self._tls = tls
        self._news = asyncio.Event()
        self._failure: Exception | None = None
        self._ahead: Message | None = None
        try:
            self.peer_host = str(sock.getpeername()[0])
        except OSError:
            self.peer_host = ""  # the peer is gone, and the first receive will raise the error
        if received:
            self.connection.receive_data(received)
        self._pump: asyncio.Task[None] | None = asyncio.create_task(
            self._read(), name="netmeasure-control"
        )

    @property
    def is_encrypted(self) -> bool:
        """Return whether this is a TLS connection."""
        return self._tls is not None

    @property
    def binding(self) -> bytes:
        """Return the digest of the TLS certificate, which both ends know; empty without TLS."""
        return self._tls.binding if self._tls is not None else b""

    @property
    def local_host(self) -> str:
        """Return the address of this end, as text."""
        return str(self._sock.getsockname()[0])

    @property
    def local_address(self) -> Address:
        """Return the address of this end."""
        return Address(self._sock.family, self._sock.getsockname())

    @property
    def peer_address(self) -> Address:
        """Return the address of the peer. Raises OSError if the peer is gone."""
        return Address(self._sock.family, self._sock.getpeername())

    @property
    def addresses(self) -> tuple[str, str]:
        """Return the addresses of this end and of the peer, with ports; empty if the peer is
        gone."""
        try:
            return address_text(self._sock.getsockname()), address_text(self._sock.getpeername())
        except OSError:
            return "", ""

    @property
    def mss_bytes(self) -> int | None:
        """Return this connection's maximum segment size; None: the kernel does not report it."""
        try:
            return self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        except OSError:
            return None

    @property
    def min_rtt_us(self) -> int | None:
        """Return this connection's shortest round trip so far; None: the kernel does not report
        it."""
        return tcpinfo.field(tcpinfo.read(self._sock), "min_rtt_us")

    @property
    def has_news(self) -> bool:
        """Return whether an arrived message waits for `receive`."""
        return self._ahead is not None

    async def arrives(self) -> None:
        """Wait until a message has arrived, and leave it for `receive`."""
        if self._ahead is None:
            self._ahead = await self._next()

    async def _read(self) -> None:
        has_room = self._room is None
        try:
            while True:
                data = await self._receive_bytes()
                if self._decoding is not None:  # a thread is using the connection
                    await asyncio.wait([self._decoding])
                self.connection.receive_data(data)
                self._news.set()
                if not data:
                    return
                size = self.connection.announced_bytes
                if not has_room and size > LARGE_BYTES and self._room is not None:
                    await self._room(size)
                    has_room = True
                await asyncio.sleep(0)  # a peer that sends without a pause must not stop the loop
        except (OSError, RemoteProtocolError) as exc:
            self._failure = exc
            self._news.set()

    async def _receive_bytes(self) -> bytes:
        if self._tls is not None:
            return await self._tls.receive(_RECEIVE_BYTES)
        return await asyncio.get_running_loop().sock_recv(self._sock, _RECEIVE_BYTES)

    async def _send_bytes(self, data: bytes) -> None:
        if self._tls is not None:
            await self._tls.send(data)
        else:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def send(self, kind: Kind, payload: Payload = None, *, deadline_s: float) -> None:
        """Send one message. Raise PeerClosedError, PeerTimeoutError or LocalProtocolError if the
        message can't be sent."""
        data = self.connection.send(kind, payload)
        try:
            async with asyncio.timeout(deadline_s):
                await self._send_bytes(data)
        except TimeoutError:
            raise PeerTimeoutError(
                f"the {self._peer} did not read {kind.name} in {deadline_s:g} s", phase="control"
            ) from None
        except OSError as exc:
            raise self._closed(exc) from None

    async def receive(self, *, deadline_s: float | None) -> Message:
        """Return the peer's next message. Raise PeerClosedError, PeerTimeoutError or
        RemoteProtocolError if no valid message arrives."""
        try:
            async with asyncio.timeout(deadline_s):
                return await self._next()
        except TimeoutError:
            raise PeerTimeoutError(
                f"the {self._peer} was silent for {deadline_s:g} s{self._withheld} in state"
                f" {self.connection.state.value}",
                phase="control",
                hint="the server may be overloaded or stopped, or packets are lost on the way",
            ) from None

    async def _next(self) -> Message:
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return ahead
        while True:
            self._news.clear()
            message = await self._next_of_connection()
            if isinstance(message, Message):
                return message
            if isinstance(message, Closed):
                raise self._closed(None)
            if isinstance(self._failure, RemoteProtocolError):
                raise self._failure
            if isinstance(self._failure, OSError):
                raise self._closed(self._failure)
            assert isinstance(message, NeedData)
            await self._news.wait()

    async def _next_of_connection(self) -> Message | NeedData | Closed:
        """Return the connection's `next_message`. A large message is decoded in a thread; if the
        caller is cancelled meanwhile, the next call returns the decoded message."""
        if self._decoding is None:
            if self.connection.waiting_bytes <= LARGE_BYTES:
                return self.connection.next_message()
            self._decoding = asyncio.create_task(in_turn(self.connection.next_message))
        await asyncio.wait([self._decoding])
        decoded, self._decoding = self._decoding, None
        return decoded.result()

    @property
    def _peer(self) -> str:
        return self.connection.side.other.value

    @property
    def _withheld(self) -> str:
        """Return a clause about the missing message, for states whose names would not explain the
        error."""
        ending = self.connection.state in (State.ENDING, State.ANSWERING, State.ANSWERED)
        if ending and self.connection.side is Side.CLIENT:
            return " and did not send its results,"
        return ""

    def _closed(self, exc: OSError | None) -> PeerClosedError:
        how = f" ({exc.strerror or exc})" if exc else ""
        return PeerClosedError(
            f"the {self._peer} closed the control connection{how} in state"
            f" {self.connection.state.value}",
            phase="control",
        )

    async def finish(self, deadline_s: float) -> None:
        """Close the connection for sending, and wait until the peer has closed it, for `deadline_s`
        at most."""
        if self._pump is None:
            return
        with suppress(OSError, TimeoutError):
            if self._tls is not None:
                self._tls.say_goodbye()
            self._sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(deadline_s):
                await asyncio.wait([self._pump])

    async def close(self) -> None:
        """Stop reading and close. The peer sees a FIN after everything that was sent."""
        pump, self._pump = self._pump, None  # the frames of its exception refer to this channel
        if pump is not None:
            await cancel_and_wait(pump)
        if self._decoding is not None:
            await asyncio.wait([self._decoding])
            with suppress(RemoteProtocolError):
                self._decoding.result()
        if self._tls is not None:
            self._tls.say_goodbye()
        self._failure = None  # its traceback holds the connection's buffers
        self._sock.close()
