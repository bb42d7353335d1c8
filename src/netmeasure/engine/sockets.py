"""Look names up and connect sockets, with the time and a deadline of each step.

No asyncio transport owns these sockets: data sockets are passed directly to native threads.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

from netmeasure.clock import now_ns
from netmeasure.engine import names, progress, sockopts, tcpinfo
from netmeasure.engine.addresses import Address, address_text, numeric
from netmeasure.engine.tasks import cancel_and_wait, uninterrupted
from netmeasure.errors import (
    ConnectError,
    ConnectRefusedError,
    ConnectTimeoutError,
    HostLimitError,
    SocketOptionError,
    UnreachableError,
)
from netmeasure.protocol import ErrorCode
from netmeasure.spec import MIN_DATAGRAM_BYTES, Family, SocketOptions

#: RFC 8305 section 5: the next address is tried if the previous one has not answered for this long.
HAPPY_EYEBALLS_DELAY_S = 0.25
#: connect() of a non-blocking socket takes less CPU time than this.
PREEMPTED_NS = 500_000
NO_ANSWER_YET = "no answer yet: the next address was tried"
#: The size of a jumbo frame; only loopback has a larger MTU, which does not matter here.
LARGEST_DEFAULT_DATAGRAM = 9000 - 28
_IP_MTU, _IPV6_MTU = 14, 24  # linux/in.h, linux/in6.h; missing from Python's socket module
# linux/in.h; in Python's socket module since 3.10, but only if its libc has it
_IPPROTO_MPTCP = 262


class Attempt(NamedTuple):
    """Describe a failed connect: to which address, from when to when, and how it ended."""

    address: Address
    start_ns: int
    end_ns: int
    outcome: str


class Connected(NamedTuple):
    """Hold a connected, non-blocking socket, and the time of the connect (CLOCK_MONOTONIC ns).
    `end_ns` is when the kernel received the answer, which is before the event loop notices it.
    `before`: the attempts at other addresses until this connect began."""

    sock: socket.socket
    address: Address
    start_ns: int
    end_ns: int
    syn_retransmits: int | None
    before: tuple[Attempt, ...] = ()


class Found(NamedTuple):
    """Hold the addresses of a host, and the time of the look-up (CLOCK_MONOTONIC ns)."""

    addresses: list[Address]
    start_ns: int
    end_ns: int
    detail: str | None = None


async def resolve(
    host: str, port: int, family: Family, deadline_s: float, again_s: float | None = None
) -> Found:
    """Look the addresses of `host` up, in the system's order. See `Deadlines` for the time limits.
    Raises NameNotFoundError, PeerTimeoutError."""
    again_s = deadline_s if again_s is None else min(again_s, deadline_s)
    found = await names.look_up(host, port, family, deadline_s, again_s)
    addresses = [Address(entry[0], entry[4]) for entry in found.entries]
    return Found(addresses, found.start_ns, found.end_ns, found.detail)


def path_mtu(sock: socket.socket) -> int | None:
    """Return the kernel's MTU of a connected socket's path (ip(7), IP_MTU)."""
    level, option = (socket.IPPROTO_IP, _IP_MTU)
    if sock.family == socket.AF_INET6:
        level, option = socket.IPPROTO_IPV6, _IPV6_MTU
    try:
        return sock.getsockopt(level, option)
    except OSError:
        return None


def stream_protocol(*, multipath: bool) -> int:
    """Return the protocol number of TCP sockets."""
    return _IPPROTO_MPTCP if multipath else socket.IPPROTO_TCP


#: Errors that only this host causes: no descriptor, no memory.
_EXHAUSTED = {
    errno.EMFILE: "file descriptors: raise `ulimit -n`, or use fewer streams",
    errno.ENFILE: "file descriptors of the whole host: see the sysctl fs.file-max",
    errno.ENOBUFS: "memory for sockets: see the sysctl net.core, or use fewer streams",
    errno.ENOMEM: "memory for sockets: use fewer streams",
}


def host_limit(exc: OSError, phase: str) -> HostLimitError | None:
    """Return the error for a socket that this host has no resources for; None: it is another
    error."""
    lacks = _EXHAUSTED.get(exc.errno or 0)
    if lacks is None:
        return None
    what, _, hint = lacks.partition(": ")
    reason = os.strerror(exc.errno or 0)
    return HostLimitError(
        f"this host has no {what} left: {reason}",
        phase=phase,
        hint=hint,
        reason=reason,
        number=ErrorCode.STREAM_ACCEPT,
    )


def _open(address: Address, options: SocketOptions, *, port_offset: int | None) -> socket.socket:
    """Open a non-blocking socket with everything that must be set before connect. `port_offset` is
    the data stream's number; None for the control connection, which never takes the bound port."""
    try:
        protocol = stream_protocol(multipath=options.multipath)
        sock = socket.socket(address.family, socket.SOCK_STREAM, protocol)
    except OSError as exc:
        if (limit := host_limit(exc, "connect")) is not None:
            raise limit from None
        if not options.multipath:
            raise
        raise SocketOptionError(
            f"this kernel has no MPTCP: {exc.strerror}",
            phase="connect",
            reason=exc.strerror,
            hint="see the sysctl net.mptcp.enabled, or measure with TCP",
        ) from None
    try:
        sock.setblocking(False)
        if port_offset is not None:
            sockopts.set_tcp_options(sock, options)
        elif options.mss_bytes is not None:
            # the user did not ask for this option of the control connection
            with suppress(SocketOptionError):
                sockopts.set_mss(sock, options.mss_bytes)
        if port_offset is None or options.no_delay:
            sockopts.set_no_delay(sock, asked=port_offset is not None)
        _bind(sock, address, options, port_offset)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(
    sock: socket.socket, address: Address, options: SocketOptions, port_offset: int | None
) -> None:
    """Bind to the address and port that the user asked for, if any."""
    if options.bind_device is not None:
        sockopts.set_device(sock, options.bind_device)
    port = 0
    if port_offset is not None and options.bind_port is not None:
        port = options.bind_port + port_offset
        sockopts.try_set(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if options.bind_address is not None or port:
        wildcard = "::" if address.family == socket.AF_INET6 else "0.0.0.0"
        source = options.bind_address or wildcard
        try:
            sock.bind(numeric(source, port, address.family))
        except (OSError, OverflowError) as exc:
            reason = getattr(exc, "strerror", None) or str(exc)
            raise SocketOptionError(
                f"can't bind to {address_text((source, port)) if port else source}: {reason}",
                phase="connect",
                reason=reason,
                hint="bind to an address of this host, and to a free port",
            ) from None


def _destination(
    sock: socket.socket, address: Address, options: SocketOptions, port_offset: int | None
) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return the address to connect a socket to, with the flow label if the data stream has one."""
    label = options.flow_label
    if label is None or port_offset is None:
        return address.sockaddr
    host, port, *more = address.sockaddr
    sockopts.use_flow_label(sock, label, host)
    return (host, port, label, more[1])


def open_datagram(address: Address, options: SocketOptions, index: int) -> socket.socket:
    """Open a connected, non-blocking UDP socket for stream number `index`."""
    try:
        sock = socket.socket(address.family, socket.SOCK_DGRAM)
    except OSError as exc:
        raise host_limit(exc, "connect") or _connect_error(exc, address, 0.0) from None
    try:
        sock.setblocking(False)
        _bind(sock, address, options, index)
        if options.tos:
            sockopts.set_tos(sock, options.tos)
        if options.dont_fragment:
            sockopts.set_dont_fragment(sock)
        sock.connect(_destination(sock, address, options, index))
    except OSError as exc:
        sock.close()
        raise _connect_error(exc, address, 0.0) from None
    except BaseException:
        sock.close()
        raise
    return sock


def longest_packet(address: Address) -> int:
    """Return the path's MTU to an address in bytes, as far as the kernel knows it."""
    with open_datagram(address, SocketOptions(), 0) as sock:
        return path_mtu(sock) or 1500


def datagram_room(address: Address) -> int:
    """Return the largest UDP payload that the path to an address takes without fragments, as far as
    the kernel knows its MTU (RFC 768, 791, 8200: headers of 8 and 20 or 40 bytes)."""
    room = longest_packet(address) - 8 - (40 if address.family == socket.AF_INET6 else 20)
    return max(MIN_DATAGRAM_BYTES, min(room, LARGEST_DEFAULT_DATAGRAM))


def _connect_error(exc: OSError, address: Address, deadline_s: float) -> ConnectError:
    reason = os.strerror(exc.errno) if exc.errno else str(exc)
    if exc.errno == errno.ECONNREFUSED:
        return ConnectRefusedError(
            f"{address} refused the connection",
            phase="connect",
            reason=reason,
            hint="is a server running there, on that port?",
        )
    if isinstance(exc, TimeoutError) or exc.errno == errno.ETIMEDOUT:
        return ConnectTimeoutError(
            f"no answer from {address} in {deadline_s:g} s",
            phase="connect",
            hint="packets are lost or dropped on the way: check the route and the firewall",
        )
    if exc.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EADDRNOTAVAIL):
        return UnreachableError(
            f"no route to {address}: {reason}",
            phase="connect",
            reason=reason,
            hint="check the routing table and the network's state",
        )
    hint = None
    if exc.errno == errno.EINVAL and address.sockaddr[0].startswith("fe80:"):  # without a scope
        hint = "a link-local address needs its interface, as in fe80::1%eth0"
    return ConnectError(
        f"can't connect to {address}: {reason}", phase="connect", reason=reason, hint=hint
    )


async def _connect(
    sock: socket.socket, destination: tuple[str, int] | tuple[str, int, int, int]
) -> int:
    """Connect as the loop's sock_connect does, which does not know MPTCP and may lose a flow label.
    Return the moment by which the first SYN had been sent."""
    loop = asyncio.get_running_loop()
    try:
        sock.connect(destination)
        return now_ns()
    except BlockingIOError:
        sent = now_ns()
    writable = asyncio.Event()
    loop.add_writer(sock, writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(sock)
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    # only an open connection can be reset (a refused one is ECONNREFUSED, tcp(7)): the next use of
    # the socket raises the error
    if code not in (0, errno.ECONNRESET):
        raise OSError(code, os.strerror(code))
    return sent


async def connect_one(
    address: Address, options: SocketOptions, deadline_s: float, *, port_offset: int | None = None
) -> Connected:
    """Connect to one address. Raise ConnectError with the reason if this fails."""
    try:
        sock = _open(address, options, port_offset=port_offset)
    except OSError as exc:
        raise _connect_error(exc, address, deadline_s) from None
    start = now_ns()
    try:
        destination = _destination(sock, address, options, port_offset)
        with progress.current().socket(sock, str(address)):
            async with asyncio.timeout(deadline_s):
                sent = await _connect(sock, destination)
        if sent - start > PREEMPTED_NS:
            sent = start  # other threads ran after the SYN was sent: its answer woke them
        end, syns = tcpinfo.connected_at(sock, sent, now_ns())
    except OSError as exc:  # TimeoutError is one
        sock.close()
        raise _connect_error(exc, address, deadline_s) from None
    except BaseException:
        sock.close()
        raise
    return Connected(sock, address, start, end, syns)


def _interleave(addresses: Sequence[Address]) -> list[Address]:
    """Order addresses by RFC 8305 section 4: families take turns, the system's first choice stays
    first."""
    first = [a for a in addresses if a.family == addresses[0].family]
    other = [a for a in addresses if a.family != addresses[0].family]
    mixed: list[Address] = []
    for index in range(max(len(first), len(other))):
        mixed += first[index : index + 1] + other[index : index + 1]
    return mixed


async def connect_first(
    addresses: Sequence[Address],
    options: SocketOptions,
    deadline_s: float,
    *,
    port_offset: int | None = None,
) -> Connected:
    """Connect to the first address that answers (happy eyeballs, RFC 8305).

    Raises the first error when all addresses fail.
    """
    errors: list[ConnectError | SocketOptionError | HostLimitError] = []
    tasks: set[asyncio.Task[Connected]] = set()
    begun: dict[asyncio.Task[Connected], tuple[Address, int]] = {}
    failed: list[Attempt] = []
    waiting = _interleave(addresses)
    winner: Connected | None = None
    try:
        try:
            while winner is None and (waiting or tasks):
                if waiting:
                    address = waiting.pop(0)
                    attempt = connect_one(address, options, deadline_s, port_offset=port_offset)
                    task = asyncio.create_task(attempt)
                    begun[task] = (address, now_ns())
                    tasks.add(task)
                done, tasks = await asyncio.wait(
                    tasks,
                    timeout=HAPPY_EYEBALLS_DELAY_S if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    failure = task.exception()
                    if failure is None and winner is None:
                        winner = task.result()
                    elif failure is None:
                        task.result().sock.close()
                    elif isinstance(failure, ConnectError | SocketOptionError | HostLimitError):
                        errors.append(failure)
                        failed.append(Attempt(*begun[task], now_ns(), failure.code))
                    else:
                        raise failure
            open_still = [Attempt(*begun[task], now_ns(), NO_ANSWER_YET) for task in tasks]
        finally:
            await uninterrupted(_close_all(tasks))
    except BaseException:  # such as a cancellation at the moment of success
        if winner is not None:
            winner.sock.close()
        raise
    if winner is None:
        raise errors[0]
    return winner._replace(before=_before(winner, [*failed, *open_still]))


async def _close_all(tasks: Collection[asyncio.Task[Connected]]) -> None:
    """End attempts to connect, and close the sockets that have been connected meanwhile."""
    for outcome in await cancel_and_wait(*tasks):
        if isinstance(outcome, Connected):
            outcome.sock.close()


def _before(winner: Connected, others: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Return the attempts before the successful connect began, in order."""
    found: list[Attempt] = []
    tried = sorted(
        (one for one in others if one.start_ns < winner.start_ns), key=lambda one: one.start_ns
    )
    for index, one in enumerate(tried):
        later = tried[index + 1].start_ns if index + 1 < len(tried) else winner.start_ns
        found.append(one._replace(end_ns=min(one.end_ns, later)))
    return tuple(found)


async def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """Read `count` bytes, or fewer at the end of the stream. No more bytes are read, so that the
    socket can be passed to a native receiver afterwards."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < count:
        piece = await loop.sock_recv(sock, count - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)
