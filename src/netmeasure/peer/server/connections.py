"""Keep the tasks that serve connections, and release the memory that many connections have used."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from functools import partial
from typing import Any

from netmeasure.engine import memory
from netmeasure.engine.tasks import cancel_and_wait
from netmeasure.engine.threads import in_thread

#: After this many concurrent connections, memory is returned to the kernel a moment after most have
#: ended. A few may remain: probes of a monitor, or a test, may never leave a server without any.
CROWD, FEW, CALM_S = 8, 2, 1.0


class Connections:
    """Run a task for each connection, until `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._own: set[asyncio.Task[None]] = set()
        self._most = 0
        self._calm: asyncio.TimerHandle | None = None

    def start(self, sock: socket.socket, serving: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Serve a connection in its own task."""
        task = asyncio.create_task(serving)
        self._tasks.add(task)
        self._most = max(self._most, len(self._tasks))
        task.add_done_callback(partial(self._served, sock))
        return task

    def note_use(self, connections: int) -> None:
        """Note that a task has used as much memory as so many connections do."""
        self._most = max(self._most, connections)

    def beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a task of the server that serves no connection."""
        task = asyncio.create_task(work, name=name)
        self._own.add(task)
        task.add_done_callback(self._own.discard)

    async def close(self) -> None:
        """End all tasks."""
        if self._calm is not None:
            self._calm.cancel()
        await cancel_and_wait(*self._tasks, *self._own)

    def _served(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # if it was cancelled before its first step, it has not closed the socket
        if task.cancelled():
            sock.close()
        if self._most > CROWD and len(self._tasks) <= FEW and self._calm is None:
            self._calm = asyncio.get_running_loop().call_later(CALM_S, self._return_memory)

    def _return_memory(self) -> None:
        """Return memory to the kernel after many connections have ended."""
        self._calm = None
        if len(self._tasks) <= FEW:
            self._most = len(self._tasks)
            self.beside(in_thread(memory.release), "netmeasure-memory")
