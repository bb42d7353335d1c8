"""Read the queueing disciplines of all interfaces and their counters (rtnetlink(7), tc(8)).

The netlink socket belongs to the network namespace of the calling thread.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_GETQDISC, _NLMSG_ERROR, _NLMSG_DONE = 38, 2, 3
_REQUEST_DUMP = 0x301
_HEADER, _TCMSG, _ATTRIBUTE = struct.Struct("IHHII"), struct.Struct("BxxxiIII"), struct.Struct("HH")
_KIND, _STATS2 = 1, 7
_BASIC, _QUEUE = 1, 3
_ROOT = 0xFFFFFFFF
_BUFFER = 65_536
_TIMEOUT_S = 2.0


class Qdisc(NamedTuple):
    """Hold the present counters of one queueing discipline."""

    interface: str
    kind: str
    handle: int
    root: bool
    packets: int
    drops: int
    requeues: int
    overlimits: int

    @property
    def name(self) -> str:
        """Return the queueing discipline's kind and handle, such as "tbf 8001:"."""
        return f"{self.kind} {self.handle >> 16:x}:" if self.handle else self.kind


def read_qdiscs() -> list[Qdisc]:
    """Return the queueing disciplines of this namespace. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_TIMEOUT_S)
        size = _HEADER.size + _TCMSG.size
        head = _HEADER.pack(size, _GETQDISC, _REQUEST_DUMP, 1, 0)
        sock.sendto(head + _TCMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0), (0, 0))
        names = dict(socket.if_nameindex())
        found = []
        for kind, message in _messages(sock):
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("i", message)[0]
                raise OSError(number, os.strerror(number))
            found.append(_qdisc(message, names))
        return found


def _messages(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    while True:
        data = sock.recv(_BUFFER)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind == _NLMSG_DONE or length < _HEADER.size:
                return
            yield kind, data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3


def _qdisc(message: bytes, names: dict[int, str]) -> Qdisc:
    _, index, handle, parent, _ = _TCMSG.unpack_from(message)
    given = dict(_attributes(message[_TCMSG.size :]))
    kind = given.get(_KIND, b"").rstrip(b"\0").decode(errors="replace")
    stats = dict(_attributes(given.get(_STATS2, b"")))
    basic, queue = stats.get(_BASIC, b""), stats.get(_QUEUE, b"")
    packets = struct.unpack_from("QI", basic)[1] if len(basic) >= 12 else 0
    drops = requeues = overlimits = 0
    if len(queue) >= 20:
        _, _, drops, requeues, overlimits = struct.unpack_from("IIIII", queue)
    return Qdisc(
        interface=names.get(index, f"#{index}"),
        kind=kind,
        handle=handle,
        root=parent == _ROOT,
        packets=packets,
        drops=drops,
        requeues=requeues,
        overlimits=overlimits,
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
