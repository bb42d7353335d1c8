"""Find the largest packet that gets through to a server and back, by TCP connections of its own.

A path that drops long packets and sends no "packet too big" (a path MTU black hole, RFC 2923, 2.1;
RFC 8899) lets a connection be opened and then carries nothing. Here every length is tried by a
connection whose MSS makes one packet of just that length (RFC 9293, 3.7.1): the packet has got
through when the server's kernel acknowledges it, answers, or resets the connection. Any server
will do for the way there; the way back needs a netmeasure server, which sends an answer of the
length that it is asked for.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import struct
import termios
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from netmeasure.clock import seconds
from netmeasure.engine import sockopts
from netmeasure.engine.sockets import Address, connect_one
from netmeasure.engine.tasks import all_of
from netmeasure.errors import MeasureError
from netmeasure.protocol import COOKIE_BYTES, make_probe
from netmeasure.result import FlowDirection, PathHole
from netmeasure.spec import SocketOptions

#: The shortest packets that are tried: a path that does not carry these is no path.
LEAST_BYTES = {socket.AF_INET: 200, socket.AF_INET6: 220}
#: Lengths tried at a time.
AT_ONCE = 16
#: Lengths tried at a time where nothing else is measured: two rounds find any length.
ALONE_AT_ONCE = 96
#: Each packet has so long, and some round trips: one that is lost by chance is sent again after 0.2
#: s at the least, and after another 0.4 s (RFC 6298, with Linux' lower bound).
PATIENCE_S = 0.7
ROUND_TRIPS = 3
CONNECT_S = 1.0
_POLL_S = 0.01
#: The second where the server had closed its end before (tcp_reset(), net/ipv4/tcp_input.c).
_RESET = (errno.ECONNRESET, errno.EPIPE)
#: IP and TCP headers, without options; the time stamps of RFC 7323 take 12 bytes of each segment.
_HEADERS = {socket.AF_INET: 40, socket.AF_INET6: 60}
_TIMESTAMPS = 12
_OPTIONS_AT, _TCPI_OPT_TIMESTAMPS = 5, 1
#: tcpi_snd_mss and tcpi_rcv_mss (linux/tcp.h). The latter is the longest segment received; the
#: kernel begins with 536 (tcp_initialize_rcv_mss(), net/ipv4/tcp_input.c).
_SND_MSS_AT, _RCV_MSS_AT, _FIRST_RCV_MSS = 16, 20, 536
#: How a packet got through: in one piece; as shorter ones, since its sender learnt of the limit;
#: not at all.
Fate = Literal["whole", "shortened", "dropped"]


class Length(NamedTuple):
    """Hold the longest packet of one direction.

    Attributes:
        passed_bytes: Its length; None: not even the shortest got through.
        longer: What became of longer ones; None: none was longer, or none got through.
    """

    passed_bytes: int | None
    longer: Literal["shortened", "dropped"] | None


#: The longest that is tried: jumbo frames. Loopback's 64 KiB mean nothing on a real path.
MOST_BYTES = 9216


async def find_hole(
    address: Address, options: SocketOptions, direction: FlowDirection, longest_bytes: int
) -> PathHole | None:
    """Return the hole of one direction, to the byte; None where there is none, or no way at all.

    Args:
        address: the server's.
        options: the test's own; where to bind, and marks.
        direction: upload (from here) or download (needs a netmeasure server).
        longest_bytes: an IP packet of this length is the longest that is tried.
    """
    longest_bytes = min(longest_bytes, MOST_BYTES)
    least = LEAST_BYTES[socket.AddressFamily(address.family)]
    if longest_bytes <= least:
        return None
    passed, lost = 0, longest_bytes + 1
    sizes = [least, *_between(least, longest_bytes, AT_ONCE), longest_bytes]
    while sizes:
        passed = max(await _through(address, options, direction, sizes), default=passed)
        lost = min((size for size in sizes if size > passed), default=lost)
        if not passed or passed == longest_bytes:
            return None  # not even the shortest gets through, or the longest does
        sizes = _between(passed, lost, AT_ONCE)
    return PathHole(direction=direction, passed_bytes=passed, lost_bytes=lost)


async def find_lengths(
    address: Address, options: SocketOptions, longest_bytes: int
) -> tuple[Length, Length]:
    """Return the longest packet that gets through in one piece, to the server and back.

    A kernel that learns of a limit from ICMP announces a shorter MSS from then on, which shortens
    what comes back, too. So all connections of the first round, both ways, are open before any of
    them carries data: there a direction without a limit of its own shows it.
    """
    least = min(LEAST_BYTES[socket.AddressFamily(address.family)], longest_bytes)
    between = _between(least, longest_bytes, ALONE_AT_ONCE)
    sizes = sorted({least, *between, longest_bytes})
    opened = asyncio.Barrier(2 * len(sizes))
    up, down = await all_of(
        _find_length(address, options, "upload", sizes, opened),
        _find_length(address, options, "download", sizes, opened),
    )
    return up, down


async def _find_length(
    address: Address,
    options: SocketOptions,
    direction: FlowDirection,
    sizes: Sequence[int],
    opened: asyncio.Barrier | None,
) -> Length:
    longest = sizes[-1]
    passed, failed = 0, longest + 1
    fates: dict[int, Fate] = {}
    while sizes:
        found = await all_of(*(_fate(address, options, direction, size, opened) for size in sizes))
        fates.update(zip(sizes, found, strict=True))
        passed = max((size for size in sizes if fates[size] == "whole"), default=passed)
        if not passed:
            return Length(None, None)
        failed = min((size for size in sizes if size > passed), default=failed)
        if failed > longest:
            return Length(passed, None)
        sizes, opened = _between(passed, failed, ALONE_AT_ONCE), None
    longer = fates[failed]
    assert longer != "whole"
    return Length(passed, longer)


def _between(passed: int, lost: int, at_once: int) -> list[int]:
    """Return at most so many lengths that part the span evenly."""
    count = max(0, min(at_once, lost - passed - 1))
    return [passed + (lost - passed) * i // (count + 1) for i in range(1, count + 1)]


async def _through(
    address: Address, options: SocketOptions, direction: FlowDirection, sizes: Sequence[int]
) -> list[int]:
    """Return those packet lengths that get through, of all that are tried at the same time."""
    found: set[int] = set()

    async def one(size: int) -> None:
        if await _fate(address, options, direction, size) != "dropped":
            found.add(size)

    await all_of(*(one(size) for size in sizes))
    return _with_shorter(found, sizes)


def _with_shorter(found: Iterable[int], sizes: Sequence[int]) -> list[int]:
    """Add the shorter lengths. A length passes when a longer one does: a single loss is not a
    hole."""
    longest = max(found, default=0)
    return [size for size in sizes if size <= longest]


async def _fate(
    address: Address,
    options: SocketOptions,
    direction: FlowDirection,
    size: int,
    opened: asyncio.Barrier | None = None,
) -> Fate:
    """Return how a packet of some length got through; it is sent once the others are open, too."""
    family = socket.AddressFamily(address.family)
    mss = size - _HEADERS[family]
    payload = mss - _TIMESTAMPS  # as long as the server's kernel uses time stamps: nearly all do
    plain = replace(
        options, mss_bytes=mss, window_bytes=None, congestion=None, bind_port=None, multipath=False
    )
    try:
        made = await connect_one(address, plain, CONNECT_S, port_offset=0)
    except MeasureError:
        if opened is not None:
            await opened.wait()
        return "dropped"
    with made.sock as sock:
        sockopts.set_no_delay(sock, asked=False)
        if not _uses_timestamps(sock):
            payload = mss
        if opened is not None:
            await opened.wait()
        try:
            round_trip_s = seconds(made.end_ns - made.start_ns)
            async with asyncio.timeout(PATIENCE_S + ROUND_TRIPS * round_trip_s):
                if direction == "upload":
                    arrived = await _sent(sock, payload)
                else:
                    arrived = await _answered(sock, payload)
        except TimeoutError:
            arrived = _arrived_unseen(sock, direction, payload)
        except OSError:
            return "dropped"
        if not arrived:
            return "dropped"
        return "whole" if _in_one_piece(sock, direction, payload) else "shortened"


async def _sent(sock: socket.socket, payload: int) -> bool:
    """Send one segment, and wait until it is acknowledged or answered by a reset.

    What the server says proves nothing: one that is busy says so before it has read a byte.
    """
    sock.send(make_probe(1) + bytes(max(0, payload - COOKIE_BYTES)))
    while _unacknowledged(sock):
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in _RESET:
            return True
        await asyncio.sleep(_POLL_S)
    return True


async def _answered(sock: socket.socket, payload: int) -> bool:
    """Ask for an answer that fills one segment, and wait for all of it."""
    sock.send(make_probe(payload))
    left = payload
    while left > 0:
        piece = await asyncio.get_running_loop().sock_recv(sock, left)
        if not piece:
            return False
        left -= len(piece)
    return True


def _uses_timestamps(sock: socket.socket) -> bool:
    """Return whether each segment carries a time stamp (tcpi_options, linux/tcp.h)."""
    head = sockopts.known_bytes(sock, socket.IPPROTO_TCP, socket.TCP_INFO, _OPTIONS_AT + 1) or b""
    return len(head) > _OPTIONS_AT and bool(head[_OPTIONS_AT] & _TCPI_OPT_TIMESTAMPS)


def _arrived_unseen(sock: socket.socket, direction: FlowDirection, payload: int) -> bool:
    """Return whether a packet had got through while this process was kept from running."""
    if direction == "upload":
        return not _unacknowledged(sock)
    return payload > _FIRST_RCV_MSS and _in_one_piece(sock, direction, payload)


def _in_one_piece(sock: socket.socket, direction: FlowDirection, payload: int) -> bool:
    """Return whether a segment of so many bytes went in one packet, by this end's kernel."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RCV_MSS_AT + 4)
    sent, received = struct.unpack_from("=II", info, _SND_MSS_AT)
    if direction == "upload":
        return int(sent) >= payload
    return int(received) >= payload or payload <= _FIRST_RCV_MSS


def _unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes wait for an acknowledgement (SIOCOUTQ, tcp(7))."""
    waiting: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]
    return waiting
