"""Take a socket over from an asyncio transport, to give it to a native loop.

The transport stays its owner and closes it; the native loop gets a descriptor of its own for the
same connection.
"""

from __future__ import annotations

import asyncio
import os
import socket


def share(transport: asyncio.Transport) -> socket.socket:
    """Return a second descriptor of a plain transport's socket. The two share O_NONBLOCK, which
    belongs to the open file: it stays set, because the transport goes on using its own."""
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))


def take_over(transport: asyncio.Transport) -> socket.socket:
    """Return a second descriptor, as `share` does, but a blocking one, and let the transport never
    read again: close it afterwards. The caller has taken what the transport had read already, with
    no await since."""
    transport.pause_reading()
    sock = share(transport)
    sock.setblocking(True)
    return sock


class Opened(socket.socket):
    """Pass a connected socket to a library that insists on connecting it itself: so the time of the
    connect, its SYNs and its options are ours."""

    @classmethod
    def from_socket(cls, sock: socket.socket) -> Opened:
        return cls(sock.family, sock.type, sock.proto, fileno=sock.detach())

    def connect(self, address: object, /) -> None:
        """Do nothing: the socket is connected."""
