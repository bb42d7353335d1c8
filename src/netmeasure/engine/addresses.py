"""Hold socket addresses, and convert them to text and back."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple


class Address(NamedTuple):
    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    def __str__(self) -> str:
        return address_text(self.sockaddr)


def address_text(sockaddr: Sequence[object]) -> str:
    """ "192.0.2.1:5201", "[2001:db8::1]:5201" or "[fe80::1%eth0]:5201"; a v4-mapped IPv6 address is
    shown as IPv4."""
    host, port = str(sockaddr[0]).removeprefix("::ffff:"), sockaddr[1]
    if len(sockaddr) > 3 and sockaddr[3] and "%" not in host:
        host += f"%{_zone(sockaddr[3])}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _zone(number: object) -> str:
    """Return the name of the interface that a link-local address is on (RFC 4007, 11)."""
    with suppress(OSError, TypeError, OverflowError):
        return socket.if_indextoname(number)  # type: ignore[arg-type]
    return str(number)


def numeric(host: str, port: int, family: int) -> tuple[object, ...]:
    """Return the socket address of a literal address, its zone included: bind(2) would not take
    one that is only in the text."""
    with suppress(socket.gaierror, UnicodeError):
        flags = socket.AI_NUMERICHOST | socket.AI_PASSIVE
        found = socket.getaddrinfo(host, port, family=family, flags=flags)
        return found[0][4]
    return host, port
