"""What the embedded servers have in common: an address, limits, a beginning and an end."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from netmeasure.engine.listeners import listen, reachable
from netmeasure.engine.sockets import address_text
from netmeasure.engine.tasks import uninterrupted
from netmeasure.origins.transfers import Transfers
from netmeasure.spec import Family, OriginLimits


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
        try:
            await self._open()
        except BaseException:
            await uninterrupted(self.close())
            raise
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
        await self._close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._disconnect()
        for sock in self._listeners:
            sock.close()
        self._listeners.clear()

    @abstractmethod
    async def _open(self) -> None:
        """Accept on the listeners."""

    @abstractmethod
    async def _close(self) -> None:
        """Accept no more."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close what connections are left; no task serves them any more."""
