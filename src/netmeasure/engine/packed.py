"""Write addresses and socket options in the kernel's form, for native loops that open sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from netmeasure.engine import sockopts
from netmeasure.spec import SocketOptions


def packed_address(family: int, sockaddr: tuple[object, ...]) -> bytes:
    """Return an address in the kernel's form (ip(7), ipv6(7))."""
    host, port, *more = sockaddr
    name = str(host).partition("%")[0]
    head = struct.pack("=H", family) + struct.pack("!H", port)
    if family == socket.AF_INET:
        return head + socket.inet_pton(socket.AF_INET, name) + bytes(8)
    flow, scope = more or (0, 0)
    packed = socket.inet_pton(socket.AF_INET6, name)
    return head + struct.pack("!I", flow) + packed + struct.pack("=I", scope)


def packed_options(options: SocketOptions, family: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the options that every connection gets. The first connection has shown that the kernel
    accepts them."""

    def number(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "little" if struct.pack("=H", 1)[0] else "big")

    tcp, any_socket = socket.IPPROTO_TCP, socket.SOL_SOCKET
    if options.mss_bytes is not None:
        yield tcp, socket.TCP_MAXSEG, number(options.mss_bytes)
    if options.window_bytes is not None:
        yield any_socket, socket.SO_SNDBUF, number(options.window_bytes)
        yield any_socket, socket.SO_RCVBUF, number(options.window_bytes)
    if options.congestion is not None:
        yield tcp, socket.TCP_CONGESTION, options.congestion.encode()
    if options.pacing_bps is not None:
        yield any_socket, sockopts.SO_MAX_PACING_RATE, number(max(1, options.pacing_bps // 8), 8)
    if options.tos:
        if family == socket.AF_INET6:
            yield socket.IPPROTO_IPV6, socket.IPV6_TCLASS, number(options.tos)
        else:
            yield socket.IPPROTO_IP, socket.IP_TOS, number(options.tos)
    if options.bind_device is not None:
        yield any_socket, socket.SO_BINDTODEVICE, options.bind_device.encode() + b"\0"
