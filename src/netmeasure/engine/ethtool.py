"""Read facts about network interfaces by ethtool's ioctl: driver, speed, counts, offloads.

linux/ethtool.h has the structures. The socket determines the network namespace.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct

_SIOCGIFMTU, _SIOCETHTOOL = 0x8921, 0x8946
_IFREQ = struct.Struct("16sP16x")
_GSET, _GDRVINFO, _GSTRINGS, _GSTATS, _GSSET_INFO = 0x01, 0x03, 0x1B, 0x1D, 0x37
_STATS_SET, _NAME = 1, 32
_SPEED_AT, _SPEED_HIGH_AT, _SPEED_UNKNOWN = 12, 28, 0xFFFF
_SWITCHES = {
    "rx-checksum": 0x14,
    "tx-checksum": 0x16,
    "sg": 0x18,
    "tso": 0x1E,
    "gso": 0x23,
    "gro": 0x2B,
}
_GFLAGS, _LRO = 0x25, 1 << 15
#: No interface has more statistics than this.
_MOST = 100_000


def driver(sock: socket.socket, name: str) -> tuple[str, str] | None:
    """Return an interface's driver and its version; None: unknown."""
    answer = _ask(sock, name, struct.pack("I192x", _GDRVINFO))
    if answer is None:
        return None
    return _text(answer[4:36]), _text(answer[36:68])


def speed_bps(sock: socket.socket, name: str) -> int | None:
    """Return an interface's rate in bit/s; None: unknown."""
    answer = _ask(sock, name, struct.pack("I60x", _GSET))
    if answer is None:
        return None
    low, high = (
        struct.unpack_from("H", answer, _SPEED_AT)[0],
        struct.unpack_from("H", answer, _SPEED_HIGH_AT)[0],
    )
    if low == high == _SPEED_UNKNOWN:
        return None
    return int(high << 16 | low) * 10**6 or None


def mtu_bytes(sock: socket.socket, name: str) -> int | None:
    """Return an interface's MTU; None: unknown."""
    request = struct.pack("16si20x", name.encode(), 0)
    try:
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, request)
    except OSError:
        return None
    return int(struct.unpack_from("i", answer, 16)[0])


def offloads(sock: socket.socket, name: str) -> tuple[str, ...] | None:
    """Return the offloads that are on, by ethtool's short names; None: unknown."""
    on = []
    for flag, command in {**_SWITCHES, "lro": _GFLAGS}.items():
        answer = _ask(sock, name, struct.pack("II", command, 0))
        if answer is None:
            return None
        value = struct.unpack_from("I", answer, 4)[0]
        if value & _LRO if flag == "lro" else value:
            on.append(flag)
    return tuple(on)


def statistics(sock: socket.socket, name: str) -> dict[str, int]:
    """Return the statistics of an interface's driver by name; {}: it has none."""
    asked = struct.pack("IIQI4x", _GSSET_INFO, 0, 1 << _STATS_SET, 0)
    answer = _ask(sock, name, asked)
    if answer is None or not struct.unpack_from("Q", answer, 8)[0]:
        return {}
    count = struct.unpack_from("I", answer, 16)[0]
    if not 0 < count <= _MOST:
        return {}
    names = _ask(
        sock, name, struct.pack("III", _GSTRINGS, _STATS_SET, count) + bytes(_NAME * count)
    )
    values = _ask(sock, name, struct.pack("II", _GSTATS, count) + bytes(8 * count))
    if names is None or values is None:
        return {}
    found = {}
    for number in range(count):
        at = 12 + number * _NAME
        found[_text(names[at : at + _NAME])] = struct.unpack_from("Q", values, 8 + 8 * number)[0]
    return found


def _ask(sock: socket.socket, name: str, request: bytes) -> bytes | None:
    """Return the kernel's answer to a command; None: the kernel refused it."""
    buffer = array.array("B", request)
    try:
        fcntl.ioctl(sock, _SIOCETHTOOL, _IFREQ.pack(name.encode(), buffer.buffer_info()[0]))
    except OSError:
        return None
    return buffer.tobytes()


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="replace").strip()
