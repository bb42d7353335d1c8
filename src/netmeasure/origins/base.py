"""What the embedded servers have in common: an address, limits, a beginning and an end."""

from __future__ import annotations

import asyncio
import errno
import socket
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from netmeasure.engine.listeners import listen, reachable
from netmeasure.engine.sockets import address_text
from netmeasure.engine.tasks import uninterrupted
from netmeasure.origins.transfers import Transfers
from netmeasure.spec import Family, OriginLimits

#: Failures of accept() that pass when others close their descriptors, and how long we wait then.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ACCEPT_PAUSE_S = 0.1


class Origin(ABC):
    """Use as an async context manager; raises ServeError when it can't listen."""

    def __init__(
        self, host: str | None, port: int, *, family: Family, limits: OriginLimits | None
    ) -> None:
        self._host = host
        self._port = port
        self._family: Family = family
        self._limits = limits or OriginLimits()
        self._transfers = Transfers(self._limits)
        self._listeners: list[socket.socket] = []
        #: what serves a client at the moment; cancelled, and awaited, at the end
        self._tasks: set[asyncio.Task[object]] = set()
        self._closed = False

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._listeners[0].getsockname()[1])

    @property
    def address(self) -> str:
        """Where a client on this host reaches the server, as "host:port"."""
        return reachable(self._listeners[0])

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses that are listened on."""
        return tuple(address_text(sock.getsockname()) for sock in self._listeners)

    async def __aenter__(self) -> Self:
        self._listeners = await listen(self._host, self._port, self._family)
        self._open()
        self._accept_on()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await uninterrupted(self.close())

    async def close(self) -> None:
        """Stop listening, end what is going on, join every thread. Takes well below a second."""
        self._closed = True
        self._accept_off()
        await asyncio.sleep(0)  # every task has begun now, and cleans up behind itself
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._disconnect()
        for sock in self._listeners:
            sock.close()
        self._listeners.clear()
        await asyncio.sleep(0)  # transports close their sockets in the loop's next turn

    # ---- connections ----------------------------------------------------------------------------

    def _accept_on(self) -> None:
        if not self._closed:
            for listener in self._listeners:
                asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept_off(self) -> None:
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take what waits in the backlog. By hand: the loops' own servers may lose a connection
        that comes while they are closed."""
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in _EXHAUSTED:
                    self._accept_off()
                    asyncio.get_running_loop().call_later(_ACCEPT_PAUSE_S, self._accept_on)
                    return
                continue  # reset while it waited
            sock.setblocking(False)
            task = asyncio.create_task(self._admitted(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _admitted(self, sock: socket.socket) -> None:
        try:
            await self._admit(sock)
        except OSError:  # it has gone, or TLS failed
            sock.close()

    @abstractmethod
    def _open(self) -> None:
        """Get ready for the first client."""

    @abstractmethod
    async def _admit(self, sock: socket.socket) -> None:
        """Serve a client, or begin to. The socket is this method's."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close what connections are left; no task serves them any more."""
