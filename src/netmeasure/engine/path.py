"""Read the kernel's information about the path to another host, without sending a packet."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from pathlib import Path

from netmeasure.engine.addresses import Address
from netmeasure.engine.sockets import open_datagram, path_mtu
from netmeasure.result import PathFacts
from netmeasure.spec import SocketOptions

_DEVICES = Path("/sys/class/net")
#: linux/rtnetlink.h, linux/netlink.h
_NETLINK_ROUTE = 0
_RTM_NEWROUTE, _RTM_GETROUTE, _NLM_F_REQUEST = 24, 26, 1
_RTA_DST, _RTA_OIF = 1, 4
_NLMSGHDR, _RTMSG, _RTATTR = struct.Struct("=IHHII"), struct.Struct("=BBBBBBBBI"), "=HH"
_MAX_DEPTH = 8
#: linux/sockios.h
_SIOCGIFMTU = 0x8921


def path_facts(address: Address) -> PathFacts:
    """Return the kernel's information about the path to an address. Raises ConnectError if there is
    no route."""
    with open_datagram(address, SocketOptions(), 0) as sock:
        mtu = path_mtu(sock)
    name = _outgoing_interface(address)
    device = None if name is None else _device(name)
    speed = None if device is None else _speed_bps(device)
    return PathFacts(
        address=str(address.sockaddr[0]),
        ip_version=6 if address.family == socket.AF_INET6 else 4,
        path_mtu_bytes=mtu,
        interface=name,
        interface_kind=None if device is None else _kind(device),
        interface_mtu_bytes=None if device is None else _number(device / "mtu"),
        speed_bps=speed,
        speed_is_real=None if speed is None or device is None else _is_physical(device),
    )


def interface_mtu(name: str) -> int | None:
    """Return an interface's MTU (netdevice(7)). This works even if sysfs shows another
    namespace."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si12x", name.encode(), 0))
        return int(struct.unpack_from("16si", answer)[1])
    return None


def _outgoing_interface(address: Address) -> str | None:
    """Return the outgoing interface, which rtnetlink(7) finds by rules, marks and caches."""
    packed = socket.inet_pton(address.family, str(address.sockaddr[0]).partition("%")[0])
    attribute = struct.pack(_RTATTR, 4 + len(packed), _RTA_DST) + packed
    if len(address.sockaddr) == 4 and address.sockaddr[3]:  # a link-local address names its link
        attribute += struct.pack(_RTATTR + "I", 8, _RTA_OIF, address.sockaddr[3])
    request = _RTMSG.pack(address.family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + attribute
    head = _NLMSGHDR.pack(_NLMSGHDR.size + len(request), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0)
    with contextlib.suppress(OSError):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as sock:
            sock.settimeout(1)
            sock.send(head + request)
            index = _interface_index(sock.recv(65_536))
        return None if index is None else socket.if_indextoname(index)
    return None


def _interface_index(answer: bytes) -> int | None:
    """Return the interface index (RTA_OIF) of a route message; None if it has none."""
    length, kind, *_ = _NLMSGHDR.unpack_from(answer)
    offset = _NLMSGHDR.size + _RTMSG.size
    while kind == _RTM_NEWROUTE and offset + 4 <= min(length, len(answer)):
        size, name = struct.unpack_from(_RTATTR, answer, offset)
        if name == _RTA_OIF:
            return int(struct.unpack_from("=I", answer, offset + 4)[0])
        offset += max(4, -(-size // 4) * 4)
    return None


def _device(name: str) -> Path | None:
    """Return the interface's directory in sysfs; None if sysfs shows another network namespace."""
    device = _DEVICES / name
    try:
        ours = _number(device / "ifindex") == socket.if_nametoindex(name)
    except OSError:
        return None
    return device if ours else None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # the file is absent, or the driver gives no figure
        return None


def _speed_bps(device: Path) -> int | None:
    """Return the interface's speed. The kernel gives Mbit/s; -1 (2**32 - 1 in old drivers) means
    unknown."""
    speed = _number(device / "speed")
    return speed * 10**6 if speed is not None and 0 < speed < 2**31 else None


def _kind(device: Path) -> str | None:
    try:
        lines = (device / "uevent").read_text().splitlines()
    except OSError:
        return None
    return next((line[8:] for line in lines if line.startswith("DEVTYPE=")), None)


def _is_physical(device: Path, depth: int = 0) -> bool:
    """Return whether the interface is hardware, or all interfaces below it are (bonds, VLANs,
    bridges)."""
    if (device / "device").exists():
        return True
    lower = list(device.glob("lower_*"))
    return bool(lower) and depth < _MAX_DEPTH and all(_is_physical(d, depth + 1) for d in lower)
