"""Find out whether this host still waits for the ARP answer of the next hop to an IPv4 address.

Until the neighbour has answered ARP (RFC 826) no packet leaves this host. Every user can read the
kernel's table (proc_net(5), arp). For IPv6 there is no such file, and an attempt ends with
EHOSTUNREACH after some seconds.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_COMPLETE = 0x2  # ATF_COM, include/uapi/linux/if_arp.h
_GATEWAY = 0x2  # RTF_GATEWAY, include/uapi/linux/route.h
_ARP = Path("/proc/thread-self/net/arp")
_ROUTES = Path("/proc/thread-self/net/route")


class Neighbours(NamedTuple):
    """Hold the next hops that do not answer, and the routes (network, mask, gateway or 0)."""

    unresolved: frozenset[int]
    routes: tuple[tuple[int, int, int], ...]

    def is_sought(self, address: str) -> bool:
        """Return whether packets to an address wait for the ARP answer of the next hop."""
        if not self.unresolved:
            return False
        try:
            wanted = _number(address)
        except OSError:
            return False
        matching = [route for route in self.routes if wanted & route[1] == route[0]]
        gateway = max(matching, key=lambda route: route[1])[2] if matching else 0
        return (gateway or wanted) in self.unresolved


def read_neighbours() -> Neighbours:
    """Return the kernel's present tables; empty: /proc can't be read."""
    unresolved: set[int] = set()
    routes: list[tuple[int, int, int]] = []
    with suppress(OSError, ValueError, IndexError):
        for line in _ARP.read_text().splitlines()[1:]:
            fields = line.split()
            if not int(fields[2], 16) & _COMPLETE:
                unresolved.add(_number(fields[0]))
    if unresolved:
        with suppress(OSError, ValueError, IndexError):
            for line in _ROUTES.read_text().splitlines()[1:]:
                fields = line.split()
                gateway = _kernel(fields[2]) if int(fields[3], 16) & _GATEWAY else 0
                routes.append((_kernel(fields[1]), _kernel(fields[7]), gateway))
    return Neighbours(frozenset(unresolved), tuple(routes))


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")


def _kernel(digits: str) -> int:
    """Parse an address of the file: bytes in network order, printed as a native number."""
    return int.from_bytes(struct.pack("=I", int(digits, 16)), "big")
