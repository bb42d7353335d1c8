"""Provide what the tests of the harness itself share: sockets on a link, and what must be left."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from support import census, iperf3, netns, relay

needs_namespaces = pytest.mark.skipif(
    netns.available() is not None, reason=netns.available() or "namespaces work"
)
needs_relay = pytest.mark.skipif(
    relay.available() is not None, reason=relay.available() or "the relay works"
)
needs_iperf3 = pytest.mark.skipif(
    iperf3.available() is not None, reason=iperf3.available() or "iperf3 works"
)

STEADY = ("-t", "1", "-O", "1", "-C", "cubic")  # iperf3, past its slow start


def own_namespaces() -> set[str]:
    """Return the namespaces of this process: another run of the tests has its own."""
    return {name for name in netns.existing() if name.startswith(f"{netns.PREFIX}{os.getpid()}-")}


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that the block leaves no thread, descriptor, process or namespace behind."""
    before, names = census.take(), own_namespaces()
    yield
    assert census.leftovers(before) == []
    assert own_namespaces() - names == set()


def listener(network: netns.NamespacePair, host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with network.enter("server"):
        return socket.create_server((host, 0), family=family)


def joined(network: netns.NamespacePair, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Open a TCP connection between the sides; return the client's socket and the server's."""
    listening = stack.enter_context(listener(network, network.server.address))
    with network.enter("client"):
        client = stack.enter_context(socket.create_connection(listening.getsockname(), timeout=30))
    server = stack.enter_context(listening.accept()[0])
    server.settimeout(5)
    return client, server


def receive(side: socket.socket, count: int) -> bytes:
    """Receive exactly `count` bytes, or those that came before the end."""
    data = bytearray()
    while len(data) < count:
        block = side.recv(min(count - len(data), 1 << 20))
        if not block:
            break
        data += block
    return bytes(data)


def receive_to_the_end(side: socket.socket) -> tuple[bytes, str]:
    """Return all that arrives, and how it ended: FIN, RST, or silence until the timeout."""
    data = bytearray()
    while True:
        try:
            block = side.recv(100)
        except TimeoutError:
            return bytes(data), "silence"
        except ConnectionResetError:
            return bytes(data), "RST"
        if not block:
            return bytes(data), "FIN"
        data += block
