"""Open listening sockets on the same port, one for each address family."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

from netmeasure.engine.addresses import address_text
from netmeasure.engine.names import FAMILIES
from netmeasure.engine.sockets import stream_protocol
from netmeasure.engine.sockopts import try_set
from netmeasure.errors import ServeError
from netmeasure.spec import Family

#: Connections that wait to be accepted. At a full queue the kernel drops SYNs, which a client sends
#: again after a second. The kernel's own limit (net.core.somaxconn) is 4096 since Linux 5.4.
BACKLOG = 4096
#: How often another free port is tried.
PORT_TRIES = 20


class Listening:
    """Hold the listeners of a server, and return its addresses."""

    _listeners: list[socket.socket]

    @property
    def port(self) -> int:
        """Return the port of the listeners."""
        return int(self._listeners[0].getsockname()[1])

    @property
    def address(self) -> str:
        """Return the address at which a client on this host reaches the server, as "host:port"."""
        return reachable(self._listeners[0])

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the addresses of all listeners."""
        return tuple(address_text(sock.getsockname()) for sock in self._listeners)


async def listen(
    host: str | None,
    port: int,
    family: Family,
    *,
    device: str | None = None,
    multipath: bool = False,
) -> list[socket.socket]:
    """Return non-blocking listeners on every address of `host`, or of this machine if it is None.

    Port 0 takes a free port, the same for all addresses. Raises ServeError if no address can be
    listened on.
    """
    loop = asyncio.get_running_loop()
    where = address_text((host or "*", port))
    try:
        wanted, flags = FAMILIES[family], socket.AI_PASSIVE
        if host is None or ":" in host:  # uvloop's look-up loses the zone of an address
            found = socket.getaddrinfo(host, port, wanted, socket.SOCK_STREAM, flags=flags)
        else:
            found = await loop.getaddrinfo(
                host, port, family=wanted, type=socket.SOCK_STREAM, flags=flags
            )
    except (socket.gaierror, OverflowError, UnicodeError) as exc:
        reason = str(getattr(exc, "strerror", None) or exc)
        raise ServeError(
            f"can't listen on {where}: {reason}",
            hint="bind to an address of this host",
            reason=reason,
        ) from None
    tries = PORT_TRIES
    while True:
        tries -= 1
        try:
            return _open_all(list(dict.fromkeys(found)), host, port, device, multipath)
        except OSError as exc:
            # the free port of the first family may be in use in the second: take another one
            if port == 0 and exc.errno == errno.EADDRINUSE and tries:
                continue
            reason = os.strerror(exc.errno or 0)
            raise ServeError(
                f"can't listen on {where}: {reason}", hint=listen_hint(exc), reason=reason
            ) from None


def _open_all(
    found: list[tuple[Any, ...]], host: str | None, port: int, device: str | None, multipath: bool
) -> list[socket.socket]:
    """Open a listener on each address that was found, all on one port. Raises the kernel's
    OSError."""
    listeners: list[socket.socket] = []
    failure: OSError | None = None
    for kind, _, _, _, sockaddr in found:
        try:
            where_to = (sockaddr[0], port, *sockaddr[2:])
            listeners.append(open_listener(kind, where_to, device=device, multipath=multipath))
        except OSError as exc:
            # this kernel or namespace has only one of the two families, which suffices
            if exc.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and host is None:
                failure = exc
                continue
            for sock in listeners:
                sock.close()
            raise
        port = listeners[0].getsockname()[1]  # the second family must have the port of the first
    if not listeners:
        where = address_text((host or "*", port))
        reason = (failure.strerror if failure else None) or "no address"
        raise ServeError(f"can't listen on {where}: {reason}", reason=reason)
    return listeners


def open_listener(
    family: int,
    sockaddr: tuple[object, ...],
    backlog: int = BACKLOG,
    *,
    device: str | None = None,
    multipath: bool = False,
) -> socket.socket:
    """Open one non-blocking listener. Raises the kernel's OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM, stream_protocol(multipath=multipath))
    try:
        try_set(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if device is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def reachable(sock: socket.socket) -> str:
    """Return the address at which a client on this host reaches a listener, as "host:port"."""
    host, port, *zone = sock.getsockname()
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return address_text((host, port, *zone))


def listen_hint(exc: OSError) -> str | None:
    if exc.errno == errno.EADDRINUSE:
        return "another program has that port: stop it, or take another port"
    if exc.errno == errno.ENODEV:
        return "there is no such network interface"
    if exc.errno == errno.EACCES:
        return "ports below 1024 need privileges"
    if exc.errno == errno.EADDRNOTAVAIL:
        return "bind to an address of this host"
    return None
