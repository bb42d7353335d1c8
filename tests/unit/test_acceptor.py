"""Test how a server accepts clients with limited room, without descriptors, and after its close."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from netmeasure.engine.acceptor import Acceptor
from netmeasure.engine.listeners import open_listener

Runner = Callable[[Coroutine[Any, Any, Any]], Any]
#: Longer than the pause after a failed accept().
PAUSE_S = 0.3


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    copies = [os.dup(0)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (copies[0] + 20, hard))
        try:
            while True:
                copies.append(os.dup(0))
        except OSError:
            pass
        yield
    finally:
        for copy in copies:
            os.close(copy)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Doorway:
    """Hold an acceptor, its listener, and the clients that have connected and been accepted."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.room = 100
        self.taken: list[tuple[str, int]] = []
        self.news = asyncio.Event()
        self.listener = stack.enter_context(open_listener(socket.AF_INET, ("127.0.0.1", 0)))
        self._where = self.listener.getsockname()
        self.acceptor = Acceptor([self.listener], self._take, lambda: self.room > 0)
        stack.callback(self.acceptor.close)

    def come(self) -> tuple[str, int]:
        client = self._stack.enter_context(socket.create_connection(self._where))
        address: tuple[str, int] = client.getsockname()
        return address

    def _take(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        with sock:
            assert not sock.getblocking()
        self.room -= 1
        self.taken.append(peer)
        self.news.set()

    async def until(self, count: int) -> None:
        while len(self.taken) < count:
            self.news.clear()
            await self.news.wait()


def test_as_many_as_there_is_room_for(run: Runner) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            door = Doorway(stack)
            door.room = 2
            clients = [door.come() for _ in range(3)]
            door.acceptor.on()
            await door.until(2)
            await asyncio.sleep(0)
            assert door.taken == clients[:2]
            door.room = 1
            door.acceptor.on()
            await door.until(3)
            assert door.taken == clients

    run(main())


def test_without_descriptors_clients_wait_in_the_backlog(run: Runner) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            door = Doorway(stack)
            client = door.come()
            with no_descriptor_left():
                door.acceptor.on()
                await asyncio.sleep(PAUSE_S)
                assert door.taken == []
            await door.until(1)
            assert door.taken == [client]

    run(main())


@pytest.mark.parametrize(("number", "failures"), [(errno.ENOSYS, 2), (errno.EPERM, 32)])
def test_an_unexpected_failure_does_not_keep_the_loop_busy(
    run: Runner, number: int, failures: int
) -> None:
    """Test failures such as those of a system call filter that answers ENOSYS, or EPERM.

    EPERM could also come from a firewall that rejects one connection.
    """

    class Refusing:
        def __init__(self, listener: socket.socket) -> None:
            self._listener = listener
            self.asked = 0

        def fileno(self) -> int:
            return self._listener.fileno()

        def accept(self) -> tuple[socket.socket, tuple[str, int]]:
            self.asked += 1
            if self.asked <= failures:
                raise OSError(number, os.strerror(number))
            return self._listener.accept()

    async def main() -> None:
        with ExitStack() as stack:
            door = Doorway(stack)
            refusing = Refusing(door.listener)
            troubles: list[OSError] = []
            door.acceptor = Acceptor(
                [refusing],  # type: ignore[list-item]
                door._take,
                trouble=troubles.append,
            )
            stack.callback(door.acceptor.close)
            client = door.come()
            door.acceptor.on()
            await door.until(1)
            assert door.taken == [client]
            assert [trouble.errno for trouble in troubles] == [number, number]
            assert refusing.asked <= failures + 2

    run(main())


def test_closed_is_for_good(run: Runner) -> None:
    """A close is also final if a pause is about to end."""

    async def main() -> None:
        with ExitStack() as stack:
            door = Doorway(stack)
            door.come()
            with no_descriptor_left():
                door.acceptor.on()
                await asyncio.sleep(PAUSE_S)
            door.acceptor.close()
            door.acceptor.on()
            await asyncio.sleep(PAUSE_S)
            assert door.taken == []

    run(main())
