"""Write to a stream in a separate thread, so that a reader that stops reading does not delay a
test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO

_Job = tuple[Callable[[], None], "asyncio.Future[None]"]


class Outlet:
    """Write texts in order to a stream, outside the event loop.

    The thread is a daemon, so that a reader that never reads again does not keep the process alive.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def write(self, text: str) -> None:
        """Write and flush text. Raises OSError."""
        await self.do(lambda: self._write(text))

    async def do(self, job: Callable[[], None]) -> None:
        """Run a job after the earlier jobs. Raises the job's exceptions."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="outlet", daemon=True)
            self._thread.start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((job, done))
        await done

    def close(self) -> None:
        """End the thread after its jobs; wait for its end unless a job is stuck."""
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
                return  # the event loop has already ended


def _finish(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
