"""Find ports that nothing uses. Another process may still take one before it is used."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def free_ports(count: int, host: str = "127.0.0.1") -> int:
    """Return the first of so many free ports in a row, below those that the kernel gives for port
    0.

    Each process of a run begins its search at another port, so that two do not find the same ports.
    """
    begin = os.getpid() * 61 % 10_000
    for step in range(0, 10_000, count):
        first = 20_000 + (begin + step) % 10_000
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server((host, port)))
            return first
    raise AssertionError(f"there are no {count} free ports in a row")


@contextlib.contextmanager
def nobody(host: str = "127.0.0.1") -> Iterator[int]:
    """Reserve a port on which nothing listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def deaf(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Hold a port whose backlog is full: the kernel drops all further SYNs."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, port), family=family, backlog=0))
        where = listener.getsockname()
        for _ in range(3):
            sock = stack.enter_context(socket.socket(family))
            sock.setblocking(False)
            sock.connect_ex(where)
        yield where[1]
