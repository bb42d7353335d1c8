"""Take a socket over from an asyncio transport for a native loop.

The transport remains the socket's owner and closes it; the native loop gets its own descriptor of
the same connection.
"""

from __future__ import annotations

import asyncio
import os
import socket


def share(transport: asyncio.Transport) -> socket.socket:
    """Return a second descriptor of a plain transport's socket. The two share O_NONBLOCK, which
    belongs to the open file description. It remains set, because the transport goes on using its
    own descriptor."""
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))


def take_over(transport: asyncio.Transport) -> socket.socket:
    """Return a second, blocking descriptor, and stop the transport from reading for good: the
    caller must close the transport afterwards. Before, the caller must have taken the bytes that
    the transport had already read, with no await in between."""
    transport.pause_reading()
    sock = share(transport)
    sock.setblocking(True)
    return sock


class Opened(socket.socket):
    """Pass a connected socket to a library that always connects its sockets itself, so that
    netmeasure measures the connect and its SYNs and sets its options."""

    @classmethod
    def from_socket(cls, sock: socket.socket) -> Opened:
        return cls(sock.family, sock.type, sock.proto, fileno=sock.detach())

    def connect(self, address: object, /) -> None:
        """Do nothing: the socket is connected."""
