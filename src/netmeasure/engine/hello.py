"""Open UDP streams: the client repeats a hello until the server answers, and the server opens a
socket for each stream, connected to that client.

The server answers only hellos from the address of a control connection, and path queries with the
token of their sender (`path_answers`). An attacker therefore can't make the server send datagrams
to a third party.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from netmeasure.clock import SECOND_NS, from_unix_ns, now_ns
from netmeasure.engine import hello_filter
from netmeasure.engine.addresses import Address
from netmeasure.engine.path_answers import PathAnswers
from netmeasure.engine.sockopts import known, known_bytes, set_path_probing, try_set
from netmeasure.errors import ConnectRefusedError, PeerTimeoutError
from netmeasure.protocol import (
    ANSWERS,
    HEADER_BYTES,
    MAX_HELLO_BYTES,
    Hello,
    is_path_query,
    read_hello,
)

#: The first pause before a hello is repeated; the pause doubles up to the second figure.
FIRST_REPEAT_S, LAST_REPEAT_S = 0.02, 1.0
#: iperf3 counts every hello after the first as data with a packet number of billions, which makes
#: all its counts wrong. The wait for its answer is therefore as long as TCP's for the answer to a
#: SYN (RFC 6298), or this many round trips.
PLAIN_REPEAT_S, PLAIN_REPEAT_RTTS = 1.0, 3
#: The size of the largest hello and one byte more, so that longer datagrams are recognised.
_ROOM = MAX_HELLO_BYTES + 1
#: Datagrams that are read in one turn of the event loop: a flood must not keep it from other work.
_AT_ONCE = 64
#: The least memory that the kernel counts for a datagram in a socket's buffer (struct sk_buff).
_LEAST_IN_BUFFER = 512
#: The buffer's size where this host does not tell it (socket(7), rmem_default).
_USUAL_BUFFER_BYTES = 212992
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; missing from Python's socket module
_STAMP = struct.Struct("=qq")  # struct timespec
_ANCILLARY_BYTES = 128
#: linux/in.h: the local address to which a datagram was sent, or from which to send one
_IP_PKTINFO, _IN_PKTINFO, _IN6_PKTINFO = 8, struct.Struct("=i4s4s"), struct.Struct("=16si")


class Greeted(NamedTuple):
    """Hold the time that the opening of a stream took, and the number of repeated hellos."""

    start_ns: int
    end_ns: int
    repeats: int


def plain_repeat_s(round_trip_ns: int) -> float:
    """Return how long to wait for a plain iperf3's answer before sending another hello."""
    return max(PLAIN_REPEAT_S, PLAIN_REPEAT_RTTS * round_trip_ns / SECOND_NS)


async def greet(
    sock: socket.socket,
    address: Address,
    hello: bytes,
    deadline_s: float,
    *,
    repeat_s: float = FIRST_REPEAT_S,
) -> Greeted:
    """Send hellos on a connected, non-blocking socket until the server answers.

    `repeat_s` is the first pause between hellos; the pause doubles up to LAST_REPEAT_S. Data count
    as an answer: they mean that the answer was lost and the server has begun to send. They stay in
    the socket for the traffic thread to count. Raises ConnectRefusedError, PeerTimeoutError.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[int] = loop.create_future()
    try_set(sock, socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def readable() -> None:
        try:
            for _ in range(_AT_ONCE):
                if answered.done():  # data follow, which the traffic thread reads
                    return
                begins, came_ns = _peek(sock)
                if len(begins) < HEADER_BYTES:
                    sock.recv(_ROOM)
                if begins in ANSWERS or len(begins) >= HEADER_BYTES:
                    answered.set_result(came_ns)
        except BlockingIOError:
            pass
        except OSError as exc:
            if not answered.done():
                answered.set_exception(exc)

    start, repeats, pause = now_ns(), 0, repeat_s
    loop.add_reader(sock, readable)
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                with suppress(BlockingIOError):
                    sock.send(hello)
                done, _ = await asyncio.wait([answered], timeout=pause)
                if done:
                    return Greeted(start, max(start, answered.result()), repeats)
                repeats, pause = repeats + 1, min(pause * 2, max(repeat_s, LAST_REPEAT_S))
    except TimeoutError:
        raise PeerTimeoutError(
            f"no answer to {repeats} UDP hellos from {address} in {deadline_s:g} s",
            phase="connect",
            hint="UDP is lost or blocked on the way: check the firewall for that port",
        ) from None
    except OSError as exc:
        raise ConnectRefusedError(
            f"{address} refused UDP: {exc.strerror}",
            phase="connect",
            reason=exc.strerror,
            hint="the server's UDP port is the number of its TCP port",
        ) from None
    finally:
        loop.remove_reader(sock)
        try_set(sock, socket.SOL_SOCKET, _SO_TIMESTAMPNS, 0)
        if answered.done() and not answered.cancelled():
            answered.exception()  # mark the exception as retrieved, whichever event came first


def _peek(sock: socket.socket) -> tuple[bytes, int]:
    """Return the next datagram, which stays in the socket, and the time when the kernel received
    it, since the event loop may be late."""
    begins, ancillary, _, _ = sock.recvmsg(_ROOM, _ANCILLARY_BYTES, socket.MSG_PEEK)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) >= _STAMP.size:
            whole_s, rest_ns = _STAMP.unpack_from(data)
            return begins, from_unix_ns(whole_s * SECOND_NS + rest_ns)
    return begins, now_ns()


class ExpectedHello(NamedTuple):
    """Describe how to handle an expected hello.

    Attributes:
        local_host: The local address of its test's control connection: answers must be sent from
            this address, even if this host has several.
        take: Called with the stream's socket.
        fail: Called with the error if this host can't open one.
    """

    local_host: str
    take: Callable[[socket.socket], None]
    fail: Callable[[OSError], None]


class HelloListener:
    """Receive hellos on unconnected UDP sockets, on the addresses and the port of the server's TCP
    listeners, and answer the expected ones.

    `expected` is called with a hello and its sender's address; if it returns None, the hello is not
    answered. `path` answers path queries; None: they are ignored. The kernel discards datagrams
    that are neither.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        expected: Callable[[Hello, tuple[str, int]], ExpectedHello | None],
        path: PathAnswers | None = None,
    ) -> None:
        self._expected = expected
        self._path = path
        self._sockets: list[socket.socket] = []
        self._room = bytearray(_ROOM)
        self._ignored = 0
        try:
            for tcp in listeners:
                self._sockets.append(_bound(tcp.family, tcp.getsockname(), _device(tcp)))
                hello_filter.attach(self._sockets[-1])
        except BaseException:
            self.close()
            raise
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            if path is not None:
                set_path_probing(listener)
                _ask_for_local_address(listener)
            loop.add_reader(listener, self._readable, listener)

    @property
    def ignored(self) -> int:
        """Return the number of unanswered hellos and of discarded datagrams."""
        return self._ignored + sum(map(hello_filter.discarded, self._sockets))

    def _readable(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                length, ancillary, _, peer = listener.recvmsg_into(
                    [self._room], _ANCILLARY_BYTES, socket.MSG_TRUNC
                )
            except OSError:
                return  # no more datagrams, or an ICMP error that belongs to no stream
            data = bytes(self._room[:length])
            if self._path is not None and is_path_query(data):
                send = partial(_send_from, listener, ancillary, peer)
                self._ignored += not self._path.answer(data, length, peer, send)
                continue
            hello = read_hello(data)
            found = self._expected(hello, peer) if hello else None
            if hello is None or found is None:
                self._ignored += 1
                continue
            try:
                sock = _stream_socket(listener, found.local_host, peer)
            except OSError as exc:
                found.fail(exc)
                continue
            with suppress(OSError):  # the client repeats its hello
                sock.send(hello.answer)
            found.take(sock)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            loop.remove_reader(listener)
            listener.close()
        self._sockets.clear()


class HelloResponder:
    """Answer repeated hellos on a stream's own socket until its test begins."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock, self._readable)

    def _readable(self) -> None:
        try:
            for _ in range(_AT_ONCE):
                hello = read_hello(self._sock.recv(_ROOM))
                if hello is not None:
                    self._sock.send(hello.answer)
        except OSError:
            return

    def leave(self) -> socket.socket:
        """Stop answering, and return the socket, which the caller must close."""
        asyncio.get_running_loop().remove_reader(self._sock)
        return self._sock


def _ask_for_local_address(sock: socket.socket) -> None:
    """Make the kernel tell to which local address each datagram was sent (ip(7), ipv6(7))."""
    if sock.family == socket.AF_INET6:
        try_set(sock, socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        try_set(sock, socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _send_from(
    sock: socket.socket,
    ancillary: list[tuple[int, int, bytes]],
    peer: tuple[Any, ...],
    payload: bytes,
) -> None:
    """Send a datagram from the local address to which another one was sent, as its ancillary data
    say."""
    control: list[tuple[int, int, bytes]] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= _IN_PKTINFO.size:
            _, local, _ = _IN_PKTINFO.unpack_from(data)
            control = [(level, kind, _IN_PKTINFO.pack(0, local, bytes(4)))]
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            local, link = _IN6_PKTINFO.unpack_from(data)
            has_zone = len(peer) > 3 and peer[3]  # only a link-local address needs its link
            control = [(level, kind, _IN6_PKTINFO.pack(local, link if has_zone else 0))]
    sock.sendmsg([payload], control, 0, peer)


def _device(sock: socket.socket) -> bytes:
    """Return the name of the interface that a socket is bound to; empty if there is none."""
    return known_bytes(sock, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) or b""


def _bound(family: int, sockaddr: tuple[object, ...], device: bytes) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        # every stream's socket is bound to the same port
        try_set(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _stream_socket(listener: socket.socket, host: str, peer: tuple[Any, ...]) -> socket.socket:
    """Return a socket on the listener's port that is connected to one client.

    Datagrams of other clients that arrived between bind() and connect() are discarded. These
    clients repeat their hellos.
    """
    mine = (host, *listener.getsockname()[1:])
    if len(peer) > 3 and len(mine) > 3:
        # a link-local address needs the client's zone, even if the listener has none
        mine = (*mine[:3], mine[3] or peer[3])
    sock = _bound(listener.family, mine, _device(listener))
    try:
        sock.connect(peer)
        with suppress(BlockingIOError):
            # as many as the buffer holds, since the client may send faster than this loop reads
            held = known(sock, socket.SOL_SOCKET, socket.SO_RCVBUF) or _USUAL_BUFFER_BYTES
            for _ in range(held // _LEAST_IN_BUFFER):
                sock.recv(_ROOM)
    except BaseException:
        sock.close()
        raise
    return sock
