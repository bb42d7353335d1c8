"""Open the connections of a client to a server: first the control connection, then one per stream.

Every step is a phase of set-up, with its own deadline. The sockets belong to the caller.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

from msgspec.structs import replace

from netmeasure.clock import MICROSECOND_NS, SECOND_NS, now_ns
from netmeasure.engine import progress, sockets, sockopts, tcpinfo
from netmeasure.engine.addresses import Address
from netmeasure.engine.hello import FIRST_REPEAT_S, greet, plain_repeat_s
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.watch import Watch, Watched
from netmeasure.errors import ConnectError, MeasureError, PeerTimeoutError, StreamError
from netmeasure.protocol import PROBE_NUMBER, make_hello, stream_tag
from netmeasure.spec import PeerSpec, SocketOptions

#: How long the server may take to answer the hello of a probe; the test waits for this answer.
PROBE_HELLO_S, PROBE_HELLO_RTTS = 0.2, 4
#: The name, in set-up, of the first fresh connection, which carries no transaction.
FRESH = "fresh connection"


class Connector:
    """Open the connections of one test, and record the phases of set-up."""

    def __init__(
        self,
        host: str,
        port: int,
        spec: PeerSpec,
        cookie: str,
        *,
        control_mss_bytes: int | None = None,
    ) -> None:
        self.phases = PhaseLog()
        self._control_mss_bytes = control_mss_bytes
        self._watch = Watch()
        self._watched: Watched | None = None
        self._spec = spec
        self._host = host
        self._port = port
        self._cookie = cookie
        self._address: Address | None = None
        self._control: socket.socket | None = None

    @property
    def address(self) -> Address:
        """Return the server's address, once the control connection is open."""
        if self._address is None:
            raise MeasureError("not connected yet")
        return self._address

    def begin(self) -> None:
        """Start the clock of set-up: the first attempt to reach the server follows."""
        self._watch.start()
        self.phases = PhaseLog(self._watch)

    async def connect_control(self) -> socket.socket:
        """Resolve the host, and return a socket connected to the first address that answers."""
        deadlines = self._spec.deadlines
        options = replace(self._spec.options, mss_bytes=self._control_mss_bytes)
        addresses = await self.phases.looked_up(
            "control",
            sockets.resolve(
                self._host,
                self._port,
                options.family,
                deadlines.resolve_s,
                deadlines.connect_s,
            ),
        )
        made = await self.phases.connected(
            "control", sockets.connect_first(addresses, options, deadlines.connect_s)
        )
        self._watched = self.phases.watch(made.sock)
        sockopts.watch_peer(made.sock, deadlines.vanished_s)
        if options.keepalive is not None:
            sockopts.set_keepalive(made.sock, options.keepalive)
        self._address, self._control = made.address, made.sock
        return made.sock

    @property
    def _round_trip_ns(self) -> int:
        """Return the kernel's smoothed round-trip time of the control connection; 0: unknown. The
        time of its connect is not used: lost SYNs can make it seconds long."""
        raw = b"" if self._control is None else tcpinfo.read(self._control)
        return (tcpinfo.field(raw, "rtt_us") or 0) * MICROSECOND_NS

    def answered(self, name: str) -> AbstractContextManager[None]:
        """Record a phase of the control connection that ends with a message of the server."""
        return self.phases.measure(name, "control", self._watched)

    def add_start(self, begun_ns: int) -> None:
        """Record how long the senders waited until the server started the test, just now."""
        self.phases.add_answered("start", "control", begun_ns, now_ns(), self._watched)

    def end_set_up(self) -> None:
        """Stop watching the control connection, since time stamps cost CPU time during the
        transfer."""
        if self._watched is not None:
            self._watched.remove()

    async def leave(self) -> None:
        """End the watching thread."""
        self.end_set_up()
        await self._watch.close()

    def set_up_paused(self) -> AbstractContextManager[None]:
        """Stop the clock of set-up during the block."""
        return self.phases.paused()

    async def open_probe(self) -> socket.socket:
        """Return the socket of a latency probe: UDP if the server answers a hello, otherwise TCP.

        Raises ConnectError, PeerTimeoutError or StreamError if the server accepts no probe.
        """
        spec = self._spec
        options = SocketOptions(
            tos=spec.options.tos,
            bind_address=spec.options.bind_address,
            bind_device=spec.options.bind_device,
            family=spec.options.family,
        )
        deadline_s = max(PROBE_HELLO_S, PROBE_HELLO_RTTS * self._round_trip_ns / SECOND_NS)
        try:
            sock = sockets.open_datagram(self.address, options, 0)
            try:
                hello = make_hello(self._cookie, PROBE_NUMBER, extended=True)
                await greet(sock, self.address, hello, deadline_s)
            except BaseException:
                sock.close()
                raise
        except (ConnectError, PeerTimeoutError):
            made = await sockets.connect_one(self.address, options, max(1.0, deadline_s))
            await self._say_whose(made.sock, PROBE_NUMBER, "the probe", extended=True)
            return made.sock
        return sock

    async def reach(self, port: int) -> Address:
        """Return the server's address with another port, to which a connection could be opened.

        Raises ConnectError if it could not.
        """
        family, (host, _, *more) = self.address
        address = Address(family, (host, port, *more))  # type: ignore[arg-type]
        spec = self._spec
        connecting = sockets.connect_one(address, spec.options, spec.deadlines.connect_s)
        try:
            made = await self.phases.connected(FRESH, connecting)
        except ConnectError as exc:
            exc.hint = f"fresh connections go to port {port}, too: firewalls must let it through"
            raise
        made.sock.close()
        return address

    async def open_stream(
        self, index: int, number: int, heard: Callable[[], bool], *, extended: bool
    ) -> tuple[socket.socket, int | None]:
        """Return the socket of a stream, and how many SYNs were retransmitted for it.

        Args:
            index: the stream's place among those of the test, from 0
            number: the protocol's number of the stream
            heard: returns whether the server has sent a further message meanwhile
            extended: whether the server is netmeasure as well

        Raises:
            ConnectError, PeerTimeoutError, StreamError: there is no connection
            SocketOptionError: this host refuses a requested option
        """
        if self._spec.over_udp:
            return await self._greet(index, number, heard, extended=extended), None
        return await self._connect_stream(index, number, extended=extended)

    async def _greet(
        self, index: int, number: int, heard: Callable[[], bool], *, extended: bool
    ) -> socket.socket:
        """Open a UDP stream: open a socket, and repeat a hello until the server answers."""
        name, start = f"stream {number}", now_ns()
        sock = sockets.open_datagram(self.address, self._spec.options, index)
        try:
            hello = make_hello(self._cookie, number, extended=extended)
            repeat_s = FIRST_REPEAT_S if extended else plain_repeat_s(self._round_trip_ns)
            deadline_s = self._spec.deadlines.connect_s
            with progress.current().step("hello", name):
                made = await greet(sock, self.address, hello, deadline_s, repeat_s=repeat_s)
        except BaseException as exc:
            # a server that received the hello may go on, which cancels this task: the stream is
            # open
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
        """Open a TCP stream: connect, and send the cookie of the test it belongs to."""
        name = f"stream {number}"
        made = await self.phases.connected(name, self._connect_again(index))
        await self._say_whose(made.sock, number, name, extended=extended)
        return made.sock, made.syn_retransmits

    async def _say_whose(
        self, sock: socket.socket, number: int, name: str, *, extended: bool
    ) -> None:
        """Send the cookie of the test that a connection belongs to. Close the connection if this
        fails."""
        hello = self._cookie.encode() + b"\0"
        if extended:
            hello += stream_tag(number)
        try:
            async with asyncio.timeout(self._spec.deadlines.handshake_s):
                await asyncio.get_running_loop().sock_sendall(sock, hello)
        except OSError as exc:
            sock.close()
            reason = exc.strerror or "timed out"
            raise StreamError(
                f"{name} failed before any data: {reason}",
                phase="connect",
                reason=reason,
                sending=True,
            ) from None
        except BaseException:
            sock.close()
            raise

    async def _connect_again(self, index: int) -> sockets.Connected:
        """Connect to the address to which the control connection is connected."""
        deadline_s = self._spec.deadlines.connect_s
        return await sockets.connect_one(
            self.address, self._spec.options, deadline_s, port_offset=index
        )
