"""Find the largest packet that gets through to a server and back, by separate TCP connections.

A path that drops long packets and sends no "packet too big" (a path MTU black hole, RFC 2923, 2.1;
RFC 8899) allows connections to be opened but then carries no data. This module tries each length by
a connection whose MSS makes one packet of exactly that length (RFC 9293, 3.7.1). The packet has got
through if the server's kernel acknowledges it, answers, or resets the connection. The upload
direction works with any server; the download direction needs a netmeasure server, which sends an
answer of the requested length.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import struct
import termios
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from msgspec.structs import replace

from netmeasure.clock import seconds
from netmeasure.engine import sockopts
from netmeasure.engine.addresses import Address
from netmeasure.engine.sockets import Connected, connect_one
from netmeasure.engine.tasks import all_of
from netmeasure.errors import ConnectError
from netmeasure.protocol import COOKIE_BYTES, make_probe
from netmeasure.result import FlowDirection, PathHole
from netmeasure.spec import SocketOptions

#: The shortest packets to try: a path that does not carry these is unusable.
LEAST_BYTES = {socket.AF_INET: 200, socket.AF_INET6: 220}
#: The number of lengths tried at a time during a test.
AT_ONCE = 16
#: Lengths tried at a time if no test runs: two rounds find any length.
ALONE_AT_ONCE = 96
#: The time limit of each packet, to which some round trips are added: a randomly lost packet is
#: retransmitted after at least 0.2 s, and after another 0.4 s (RFC 6298, with Linux' lower bound).
PATIENCE_S = 0.55
ROUND_TRIPS = 3
#: The number of further packets of a length that seems to be dropped, before it counts as dropped.
AGAIN = 3
#: The number of attempts to connect, and the time limit of each. The kernel retransmits a lost SYN
#: after 1 s.
CONNECT_S = (1.0, 1.0, 2.0)
_POLL_S = 0.01
#: The second error occurs if the server has already closed its end (tcp_reset(),
#: net/ipv4/tcp_input.c).
_RESET = (errno.ECONNRESET, errno.EPIPE)
#: IP and TCP headers, without options; the time stamps of RFC 7323 take 12 bytes of each segment.
_HEADERS = {socket.AF_INET: 40, socket.AF_INET6: 60}
_TIMESTAMPS = 12
_OPTIONS_AT, _TCPI_OPT_TIMESTAMPS = 5, 1
#: tcpi_snd_mss and tcpi_rcv_mss (linux/tcp.h). The latter is the longest segment received; the
#: kernel begins with 536 (tcp_initialize_rcv_mss(), net/ipv4/tcp_input.c).
_SND_MSS_AT, _RCV_MSS_AT, _FIRST_RCV_MSS = 16, 20, 536
#: The fate of a packet: it arrived unfragmented; as shorter packets, since its sender was informed
#: of the limit; or not at all.
Fate = Literal["whole", "shortened", "dropped"]


class Length(NamedTuple):
    """Hold the longest packet of one direction.

    Attributes:
        passed_bytes: The packet's length; None: not even the shortest got through.
        longer: The fate of longer packets; None: no longer packet was tried, or no packet at all
            got through. Datagrams are not shortened: "reported" by ICMP to their sender, or too
            long for its own interface ("local").
    """

    passed_bytes: int | None
    longer: Literal["shortened", "dropped", "reported", "local"] | None


#: The longest packet to try: jumbo frames. Loopback's 64 KiB do not exist on real paths.
MOST_BYTES = 9216


async def find_hole(
    address: Address, options: SocketOptions, direction: FlowDirection, longest_bytes: int
) -> PathHole | None:
    """Return the black hole of one direction, to the byte; None: there is none, or no packet gets
    through.

    Args:
        address: The server's address.
        options: The options of the test, with the local address and marks.
        direction: Upload (from this host) or download (needs a netmeasure server).
        longest_bytes: The length of the longest IP packet to try.
    """
    probe = _Prober(address, options, direction)
    passed = await find_limit(probe, address.family, longest_bytes, AT_ONCE)
    if passed is None:
        return None
    return PathHole(direction=direction, passed_bytes=passed, lost_bytes=passed + 1)


async def find_limit(probe: Prober, family: int, longest_bytes: int, at_once: int) -> int | None:
    """Return the length of the longest packet that gets through, if longer ones are dropped; None:
    no length is dropped, or no packet gets through. The longest packet is tried first, alone.

    Args:
        probe: What tries a length.
        family: The address family, which the shortest length depends on.
        longest_bytes: The length of the longest IP packet to try.
        at_once: How many lengths are tried at a time.
    """
    longest_bytes = min(longest_bytes, MOST_BYTES)
    least = LEAST_BYTES[socket.AddressFamily(family)]
    if longest_bytes <= least:
        return None
    # most standstills have another reason, such as a host with too many tests, which would be made
    # worse by many connections of each
    if await probe.fate(longest_bytes) != "dropped":
        return None
    sizes = [least, *between(least, longest_bytes, at_once), longest_bytes]
    try:
        passed, longer = await _search(probe, sizes, at_once, passing=("whole", "shortened"))
    except ConnectError:
        return None
    return passed if longer is not None else None


def hole_words(hole: PathHole) -> str:
    """Return a sentence about a black hole."""
    way = "to the server" if hole.direction == "upload" else "from the server"
    return (
        f"packets of {hole.lost_bytes} bytes and more do not get through {way} (path MTU); those of"
        f" {hole.passed_bytes} do"
    )


async def find_lengths(
    address: Address, options: SocketOptions, longest_bytes: int
) -> tuple[Length, Length]:
    """Return the longest packet that gets through unfragmented, to the server and back.

    A kernel that is informed of a limit by ICMP announces a shorter MSS from then on, which also
    shortens packets of the other direction. All connections of the first round, in both directions,
    are therefore opened before any of them carries data, so that a direction without a limit is
    recognised. A direction in which the server ends the connections is unknown.

    Raises ConnectError if the server does not accept further connections, HostLimitError if this
    host has no room for them.
    """
    least = min(LEAST_BYTES[socket.AddressFamily(address.family)], longest_bytes)
    sizes = sorted({least, *between(least, longest_bytes, ALONE_AT_ONCE), longest_bytes})
    opened = asyncio.Barrier(2 * len(sizes))

    def one_way(direction: FlowDirection) -> Coroutine[Any, Any, Length]:
        probe = _Prober(address, options, direction, opened)
        return _search(probe, sizes, ALONE_AT_ONCE, passing=("whole",))

    up, down = await all_of(one_way("upload"), one_way("download"))
    return up, down


class Prober(Protocol):
    """Try packets of one direction.

    Attributes:
        opened: Packets are sent once this many connections are open; None: each packet is sent at
            once.
        error: Why the last connection was not opened; None: all were opened.
    """

    opened: asyncio.Barrier | None
    error: ConnectError | None

    async def fate(self, size: int) -> Fate | None: ...


async def _search(
    probe: Prober, sizes: Sequence[int], at_once: int, passing: Sequence[Fate]
) -> Length:
    """Return the longest packet whose fate is one of `passing`; the last of `sizes` is the longest
    to try.

    A length passes if a longer one passes, so that most random losses are recognised. A packet that
    seems to be dropped at the limit is sent again before the loss counts. A length whose connection
    was not opened, or was ended by the server, neither passes nor fails.
    """
    longest = sizes[-1]
    fates: dict[int, Fate] = {}
    confirmed = 0
    while True:
        found = await all_of(*(probe.fate(size) for size in sizes))
        probe.opened = None
        news = [(size, fate) for size, fate in zip(sizes, found, strict=True) if fate is not None]
        if not news or (longest in sizes and longest not in dict(news)):
            if probe.error is not None:
                raise probe.error
            return Length(None, None)  # the server ended their connections
        for size, fate in news:
            if fate in passing or fates.get(size) not in passing:
                fates[size] = fate
        passed = max((size for size, fate in fates.items() if fate in passing), default=0)
        if not passed:
            return Length(None, None)
        failed = min((size for size in fates if size > passed), default=None)
        if failed is None:
            return Length(passed, None)
        sizes = between(passed, failed, at_once)
        if not sizes:
            longer = fates[failed]
            assert longer != "whole"
            if longer == "shortened" or confirmed == failed:
                return Length(passed, longer)
            sizes, confirmed = [failed] * AGAIN, failed
        assert failed <= longest


def between(passed: int, lost: int, at_once: int) -> list[int]:
    """Return at most `at_once` lengths that divide the span evenly."""
    count = max(0, min(at_once, lost - passed - 1))
    return [passed + (lost - passed) * i // (count + 1) for i in range(1, count + 1)]


class _Prober:
    """Send packets of one direction, each by a TCP connection of its own."""

    def __init__(
        self,
        address: Address,
        options: SocketOptions,
        direction: FlowDirection,
        opened: asyncio.Barrier | None = None,
    ) -> None:
        self.opened = opened
        self.error: ConnectError | None = None
        self._address = address
        self._options = options
        self._direction = direction

    async def fate(self, size: int) -> Fate | None:
        """Return the fate of a packet of a given length; None: it had no connection, or the server
        ended its connection, as a proxy or a busy server does."""
        mss = size - _HEADERS[socket.AddressFamily(self._address.family)]
        made = await self._connected(mss)
        opened = self.opened
        if made is None:
            if opened is not None:
                await opened.wait()
            return None
        with made.sock as sock:
            sockopts.set_no_delay(sock, asked=False)
            # assume that the server's kernel uses time stamps, as nearly all do
            payload = mss - _TIMESTAMPS if _uses_timestamps(sock) else mss
            if opened is not None:
                await opened.wait()
            return await self._sent(sock, payload, seconds(made.end_ns - made.start_ns))

    async def _connected(self, mss: int) -> Connected | None:
        """Return a connection with an MSS. A lost SYN does not mean that a packet is too long: it
        is sent again, by the kernel and by further connects."""
        plain = replace(
            self._options,
            mss_bytes=mss,
            window_bytes=None,
            congestion=None,
            bind_port=None,
            multipath=False,
        )
        error: ConnectError | None = None
        for deadline_s in CONNECT_S:
            try:
                return await connect_one(self._address, plain, deadline_s, port_offset=0)
            except ConnectError as exc:
                error = exc
        self.error = error
        return None

    async def _sent(self, sock: socket.socket, payload: int, round_trip_s: float) -> Fate | None:
        """Return the fate of a segment of a given length; None: the connection was ended."""
        direction = self._direction
        try:
            async with asyncio.timeout(PATIENCE_S + ROUND_TRIPS * round_trip_s):
                await (_sent if direction == "upload" else _answered)(sock, payload)
        except TimeoutError:
            if not _arrived_unseen(sock, direction, payload):
                return "dropped"
        except OSError:
            return None
        return "whole" if _in_one_piece(sock, direction, payload) else "shortened"


async def _sent(sock: socket.socket, payload: int) -> None:
    """Send one segment, and wait until it is acknowledged or answered by a reset.

    Data from the server prove nothing: a busy server sends its refusal before it has read a byte.
    """
    sock.send(make_probe(1) + bytes(max(0, payload - COOKIE_BYTES)))
    while _unacknowledged(sock):
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in _RESET:
            return
        await asyncio.sleep(_POLL_S)


async def _answered(sock: socket.socket, payload: int) -> None:
    """Request an answer that fills one segment, and wait for all of it. Raises OSError if the
    server ends the connection before."""
    sock.send(make_probe(payload))
    left = payload
    while left > 0:
        piece = await asyncio.get_running_loop().sock_recv(sock, left)
        if not piece:
            raise ConnectionResetError(errno.ECONNRESET, "the server ended the connection")
        left -= len(piece)


def _uses_timestamps(sock: socket.socket) -> bool:
    """Return whether each segment carries a time stamp (tcpi_options, linux/tcp.h)."""
    head = sockopts.known_bytes(sock, socket.IPPROTO_TCP, socket.TCP_INFO, _OPTIONS_AT + 1) or b""
    return len(head) > _OPTIONS_AT and bool(head[_OPTIONS_AT] & _TCPI_OPT_TIMESTAMPS)


def _arrived_unseen(sock: socket.socket, direction: FlowDirection, payload: int) -> bool:
    """Return whether a packet got through while this process was kept from running."""
    if direction == "upload":
        return not _unacknowledged(sock)
    return payload > _FIRST_RCV_MSS and _in_one_piece(sock, direction, payload)


def _in_one_piece(sock: socket.socket, direction: FlowDirection, payload: int) -> bool:
    """Return whether, by this end's kernel, a segment of a given length was a single packet."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RCV_MSS_AT + 4)
    sent, received = struct.unpack_from("=II", info, _SND_MSS_AT)
    if direction == "upload":
        return int(sent) >= payload
    return int(received) >= payload or payload <= _FIRST_RCV_MSS


def _unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes wait for an acknowledgement (SIOCOUTQ, tcp(7))."""
    waiting: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]
    return waiting
