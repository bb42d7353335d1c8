"""Find ports that nothing uses, for programs that can't take any free port by themselves."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

#: Below the ports that the kernel gives to sockets which bind to port 0, or only connect: such a
#: socket of another test could take a port before it is used.
_FIRST, _COUNT = 10_000, 20_000
#: The most ports in a row.
_ROW = 8
#: Rows are taken in turn, so that a port is not used again while the kernel remembers connections.
_turns = itertools.count(os.getpid() * 61)


def free_port() -> int:
    """Return a port that is free for TCP and UDP on all addresses."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """Return the first of so many free ports in a row. No other worker of this run gets them."""
    assert count <= _ROW
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    rows = _COUNT // _ROW // workers
    for _ in range(rows):
        first = _FIRST + _ROW * (worker * rows + next(_turns) % rows)
        if all(map(_is_free, range(first, first + count))):
            return first
    raise AssertionError(f"there are no {count} free ports in a row")


def _is_free(port: int) -> bool:
    for family, every in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
            continue
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as sock:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    sock.bind((every, port))
                except OSError:
                    return False
    return True


@contextlib.contextmanager
def nobody(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Reserve a port on which nothing listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, port))
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
