"""The client's way to a server: the control connection first, then one connection per stream.

Every step is a phase of set-up, with its own deadline. Sockets are the caller's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from netmeasure.clock import now_ns
from netmeasure.engine import sockets, sockopts
from netmeasure.engine.hello import greet
from netmeasure.engine.phases import PhaseLog
from netmeasure.errors import ConnectError, MeasureError, StreamError
from netmeasure.protocol import make_hello, stream_tag
from netmeasure.spec import PeerSpec, UdpSpec


class Approach:
    """Opens the connections of one test."""

    def __init__(self, host: str, port: int, spec: PeerSpec, cookie: str) -> None:
        self.phases = PhaseLog()
        self._spec = spec
        self._host = host
        self._port = port
        self._cookie = cookie
        self._address: sockets.Address | None = None

    @property
    def address(self) -> sockets.Address:
        """The server's, once the control connection has found it."""
        if self._address is None:
            raise MeasureError("not connected yet")
        return self._address

    def begin(self) -> None:
        """The first attempt is now."""
        self.phases = PhaseLog()

    async def control(self) -> socket.socket:
        """Resolve, and connect to the first address that answers."""
        deadlines, options = self._spec.deadlines, self._spec.options
        with self.phases.measure("resolve", "control"):
            addresses = await sockets.resolve(
                self._host, self._port, options.family, deadlines.resolve_s
            )
        made = await self._timed_connect(
            "control", sockets.connect_first(addresses, options, deadlines.connect_s)
        )
        sockopts.watch_peer(made.sock, deadlines.vanished_s)
        if options.keepalive is not None:
            sockopts.set_keepalive(made.sock, options.keepalive)
        self._address = made.address
        return made.sock

    async def stream(
        self, index: int, number: int, heard: Callable[[], bool], *, extended: bool
    ) -> tuple[socket.socket, int | None]:
        """The socket of one stream, and how many SYNs it took beyond the first. `index` counts the
        streams from 0, `number` is the protocol's. `extended`: the server is netmeasure, too;
        `heard` tells whether it has gone on meanwhile."""
        if isinstance(self._spec, UdpSpec):
            return await self._greet(index, number, heard, extended=extended), None
        return await self._connect_stream(index, number, extended=extended)

    async def _greet(
        self, index: int, number: int, heard: Callable[[], bool], *, extended: bool
    ) -> socket.socket:
        """Open a UDP stream: its socket, and a hello that is repeated until it is answered."""
        name, start = f"stream {number}", now_ns()
        sock = sockets.open_datagram(self.address, self._spec.options, index)
        try:
            hello = make_hello(self._cookie, number, extended=extended)
            made = await greet(sock, self.address, hello, self._spec.deadlines.connect_s)
        except BaseException as exc:
            # the server may have heard it and go on, which ends this wait: then the stream is good
            if isinstance(exc, asyncio.CancelledError) and heard():
                self.phases.add("hello", name, start, now_ns(), detail="answer lost")
                return sock
            sock.close()
            if isinstance(exc, MeasureError):
                self.phases.add("hello", name, start, now_ns(), detail=exc.code)
            raise
        repeats = f"{made.repeats} repeated" if made.repeats else None
        self.phases.add(
            "hello", name, made.start_ns, made.end_ns, address=str(self.address), detail=repeats
        )
        return sock

    async def _connect_stream(
        self, index: int, number: int, *, extended: bool
    ) -> tuple[socket.socket, int | None]:
        """Open a TCP stream: connect, and say to which test it belongs."""
        deadlines = self._spec.deadlines
        name = f"stream {number}"
        made = await self._timed_connect(name, self._reach_again(index))
        hello = self._cookie.encode() + b"\0"
        if extended:
            hello += stream_tag(number)
        try:
            async with asyncio.timeout(deadlines.handshake_s):
                await asyncio.get_running_loop().sock_sendall(made.sock, hello)
        except OSError as exc:
            made.sock.close()
            raise StreamError(
                f"{name} failed before any data: {exc.strerror or 'timed out'}", phase="connect"
            ) from None
        except BaseException:
            made.sock.close()
            raise
        return made.sock, made.syn_retransmits

    async def _reach_again(self, index: int) -> sockets.Connected:
        return await sockets.connect_one(
            self.address,
            self._spec.options,
            self._spec.deadlines.connect_s,
            port_offset=index,
        )

    async def _timed_connect(
        self, connection: str, connecting: Coroutine[Any, Any, sockets.Connected]
    ) -> sockets.Connected:
        start = now_ns()
        try:
            made = await connecting
        except ConnectError as exc:
            self.phases.add("connect", connection, start, now_ns(), detail=exc.code)
            raise
        self.phases.add(
            "connect",
            connection,
            made.start_ns,
            made.end_ns,
            syn_retransmits=made.syn_retransmits,
            address=str(made.address),
        )
        return made
