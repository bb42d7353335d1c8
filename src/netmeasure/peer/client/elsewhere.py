"""Notice that one address stands for several servers, as a virtual address without affinity does:
then a data connection may come to another one than its test's control connection.

A server takes such a connection for a new client and asks for its parameters, by one byte, within a
round trip. The right server says nothing on a data connection before the test starts.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from netmeasure.protocol import is_greeting

_LOOK_EVERY_S = 0.02
#: Data don't stop after a byte for so long, even where the news that the test has started is late.
_QUIET_LOOKS = 10


async def answered_elsewhere(
    senders: Iterable[socket.socket], received: Callable[[], int], streams: int
) -> None:
    """Return when another server has answered on a data connection.

    Args:
        senders: The sockets of the streams on which this end sends.
        received: Returns how many bytes have been received on the others.
        streams: How many streams there are.
    """
    greeted = asyncio.Event()
    with _readable(senders, greeted):
        before, quiet = 0, 0
        while not greeted.is_set():
            came = received()
            quiet = quiet + 1 if 0 < came == before <= streams else 0
            before = came
            if quiet >= _QUIET_LOOKS:
                return
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await greeted.wait()
            except TimeoutError:
                continue


@contextmanager
def _readable(socks: Iterable[socket.socket], greeted: asyncio.Event) -> Iterator[None]:
    """Set `greeted` when one of the sockets holds the first byte of a server that asks for
    parameters or is busy, and nothing else."""
    loop = asyncio.get_running_loop()
    watched = list(socks)

    def look(sock: socket.socket) -> None:
        loop.remove_reader(sock)
        try:
            begin = sock.recv(2, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return  # broken: its own thread says so
        if len(begin) == 1 and is_greeting(begin):
            greeted.set()

    for sock in watched:
        loop.add_reader(sock, look, sock)
    try:
        yield
    finally:
        for sock in watched:
            loop.remove_reader(sock)
