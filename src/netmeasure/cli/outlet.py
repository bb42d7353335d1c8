"""Write to a stream in a thread of its own, so that a reader who stops reading delays no test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO

_Job = tuple[Callable[[], None], "asyncio.Future[None]"]


class Outlet:
    """Write one thing after the other to a stream, away from the event loop.

    The thread is a daemon: a reader who never reads again does not keep the process.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def write(self, text: str) -> None:
        """Write and flush text. Raises OSError."""
        await self.do(lambda: self._write(text))

    async def do(self, job: Callable[[], None]) -> None:
        """Do a job after those before it. Raises what it raises."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="outlet", daemon=True)
            self._thread.start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((job, done))
        await done

    def close(self) -> None:
        """End the thread when it has done its jobs; wait for that unless one is stuck."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(1.0)
            self._thread = None

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def _work(self) -> None:
        while (one := self._jobs.get()) is not None:
            job, done = one
            error: BaseException | None = None
            try:
                job()
            except Exception as exc:
                error = exc
            try:
                done.get_loop().call_soon_threadsafe(_finish, done, error)
            except RuntimeError:
                return  # the event loop has ended meanwhile


def _finish(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
