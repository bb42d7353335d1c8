"""One dedicated thread per stream, its end told to the event loop, always joined.

Never the loop's default executor: a blocked receiver must not starve anybody's DNS look-ups.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Protocol

#: All signals but those that report a bug of the thread itself; handlers run in the main thread.
_MASKED = signal.valid_signals() - {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


class Runnable(Protocol):
    def run(self) -> None: ...


class TrafficThread:
    """Runs `work.run()` in a thread. `done` is set, in the event loop, once it has returned."""

    def __init__(self, work: Runnable, name: str) -> None:
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._work = work
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _main(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _MASKED)
        try:
            self._work.run()
        finally:
            try:
                self._loop.call_soon_threadsafe(self.done.set)
            except RuntimeError:
                pass  # the loop was closed under a run that nobody awaited to its end

    async def join(self) -> None:
        """Wait for the end. Whoever calls this has told the thread to end."""
        if self._thread.ident is not None:
            await self.done.wait()
            self._thread.join()
