"""Describe this machine: the facts that are stored beside every figure."""

from __future__ import annotations

import array
import fcntl
import platform
import socket
import struct
from collections.abc import Iterable

import psutil

from netmeasure.result import Host, NetworkInterface, StreamReport
from netmeasure.version import __version__

#: linux/sockios.h; linux/ethtool.h: the commands that ask for one flag each.
_SIOCGIFMTU, _SIOCETHTOOL = 0x8921, 0x8946
_SWITCHES = {
    "rx-checksum": 0x14,
    "tx-checksum": 0x16,
    "sg": 0x18,
    "tso": 0x1E,
    "gso": 0x23,
    "gro": 0x2B,
}
_GFLAGS, _LRO = 0x25, 1 << 15
_IFREQ = struct.Struct("16sP16x")


def this_host(streams: Iterable[StreamReport] = ()) -> Host:
    """Return the facts of this machine, and of the interfaces that `streams` of this end went
    through."""
    return Host(
        program="netmeasure",
        version=__version__,
        hostname=socket.gethostname(),
        system=platform.system(),
        kernel=platform.release(),
        machine=platform.machine(),
        cpu_count=psutil.cpu_count(),
        python=platform.python_version(),
        interfaces=_interfaces(
            stream.socket.local for stream in streams if stream.socket and stream.socket.local
        ),
    )


def _interfaces(sockets: Iterable[str]) -> tuple[NetworkInterface, ...]:
    """Return the interfaces that have the addresses of these "address:port"s. There is none where
    the calling thread is in another network namespace than the sockets."""
    addresses = {name.rpartition(":")[0].strip("[]").partition("%")[0] for name in sockets}
    if not addresses:
        return ()
    names = [
        name
        for name, found in psutil.net_if_addrs().items()
        if addresses & {one.address.partition("%")[0] for one in found}
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return tuple(
            NetworkInterface(name=name, mtu_bytes=_mtu(sock, name), offloads=_offloads(sock, name))
            for name in names
        )


def _mtu(sock: socket.socket, name: str) -> int | None:
    request = struct.pack("16si20x", name.encode(), 0)
    try:
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, request)
    except OSError:
        return None
    return int(struct.unpack_from("i", answer, 16)[0])


def _offloads(sock: socket.socket, name: str) -> tuple[str, ...] | None:
    """Return the offloads that are on, by ethtool's short names; None where the kernel does not
    tell."""
    try:
        on = [flag for flag, command in _SWITCHES.items() if _ethtool(sock, name, command)]
        if _ethtool(sock, name, _GFLAGS) & _LRO:
            on.append("lro")
    except OSError:
        return None
    return tuple(on)


def _ethtool(sock: socket.socket, name: str, command: int) -> int:
    """Return the kernel's answer to a command (struct ethtool_value)."""
    value = array.array("I", (command, 0))
    fcntl.ioctl(sock, _SIOCETHTOOL, _IFREQ.pack(name.encode(), value.buffer_info()[0]))
    return value[1]
