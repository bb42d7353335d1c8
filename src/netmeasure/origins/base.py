"""Define the common base of the embedded servers: address, limits, start and shutdown."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from netmeasure.engine.acceptor import Acceptor
from netmeasure.engine.listeners import Listening, listen
from netmeasure.engine.tasks import cancel_and_wait, uninterrupted
from netmeasure.origins.transfers import Transfers
from netmeasure.spec import Family, OriginLimits

Serve = Callable[[socket.socket], Coroutine[Any, Any, None]]


class Origin(Listening, ABC):
    """Serve clients while it is used as an async context manager. Entering it raises ServeError if
    it can't listen."""

    def __init__(
        self, host: str | None, port: int, *, family: Family, limits: OriginLimits | None
    ) -> None:
        self._host = host
        self._port = port
        self._family: Family = family
        self._limits = limits or OriginLimits()
        self._transfers = Transfers(self._limits)
        self._listeners = []
        self._acceptor: Acceptor | None = None
        #: the tasks that serve clients now; close() cancels and awaits them
        self._tasks: set[asyncio.Task[object]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        self._listeners = await listen(self._host, self._port, self._family)
        self._open()
        self._acceptor = Acceptor(self._listeners, self._accept)
        self._acceptor.on()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await uninterrupted(self.close())

    async def close(self) -> None:
        """Stop listening, end all sessions and transfers, and join every thread.

        This takes well below a second.
        """
        self._closed = True
        if self._acceptor is not None:
            self._acceptor.close()
        # let every task begin, so that it closes its socket on cancellation
        await asyncio.sleep(0)
        while self._tasks:  # a task may start another one while it ends
            ended = tuple(self._tasks)
            await cancel_and_wait(*ended)
            self._tasks.difference_update(ended)
        await self._disconnect()
        for sock in self._listeners:
            sock.close()
        self._listeners.clear()
        await asyncio.sleep(0)  # transports close their sockets in the loop's next turn

    # ---- connections ----------------------------------------------------------------------------

    def _accept(self, sock: socket.socket, _: object) -> None:
        self._begin(sock, self._admit)

    def _begin(self, sock: socket.socket, serve: Serve) -> None:
        """Serve a connection in a task of its own."""
        task = asyncio.create_task(self._served(sock, serve))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _served(self, sock: socket.socket, serve: Serve) -> None:
        try:
            await serve(sock)
        except OSError:  # the client has closed, or TLS failed
            sock.close()

    @abstractmethod
    def _open(self) -> None:
        """Prepare for the first client."""

    @abstractmethod
    async def _admit(self, sock: socket.socket) -> None:
        """Serve a client, or start to serve it. This method has to close the socket."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close the remaining connections, whose tasks have ended."""
