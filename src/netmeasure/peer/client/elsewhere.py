"""Detect that one address belongs to several servers, such as a virtual address without session
affinity. A data connection may then reach another server than the control connection.

Such a server treats the data connection as a new client, and requests its parameters by one byte
within a round trip. The right server sends nothing on a data connection before the test starts.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from netmeasure.protocol import is_greeting

_LOOK_EVERY_S = 0.02
#: Data do not stop after one byte for this long, even if the message that the test has started is
#: late.
_QUIET_LOOKS = 10


async def answered_elsewhere(
    senders: Iterable[socket.socket], received: Callable[[], int], streams: int
) -> None:
    """Wait until another server has answered on a data connection.

    Args:
        senders: The sockets of the streams on which this end sends.
        received: Returns how many bytes the other streams have received.
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
    """Set `greeted` when the only byte in one of the sockets is the first byte of a server that
    requests parameters or is busy.

    The sockets are in an epoll set of their own, which the event loop waits for. If the loop waited
    for the sockets themselves, uvloop would make them non-blocking, and each thread that waits for
    data would run without pause instead.
    """
    loop = asyncio.get_running_loop()
    try:
        ready = select.epoll()
    except OSError:  # this host has no descriptor left, so another server remains undetected
        yield
        return
    watched = {sock.fileno(): sock for sock in socks}

    def look() -> None:
        for descriptor, _ in ready.poll(0):
            ready.unregister(descriptor)
            try:
                begin = watched[descriptor].recv(2, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except OSError:
                continue  # broken: the stream's own thread reports it
            if len(begin) == 1 and is_greeting(begin):
                greeted.set()

    with ready:
        for descriptor in watched:
            ready.register(descriptor, select.EPOLLIN)
        loop.add_reader(ready.fileno(), look)
        try:
            yield
        finally:
            loop.remove_reader(ready.fileno())
