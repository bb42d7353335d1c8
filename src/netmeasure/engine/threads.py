"""Run each stream in its own thread, which reports its end to the event loop and is always joined.

The loop's default executor is not used: a blocked receiver would delay DNS look-ups.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from netmeasure.engine.tasks import uninterrupted
from netmeasure.errors import HostLimitError, SocketOptionError
from netmeasure.protocol import ErrorCode

T = TypeVar("T")

#: Up to this many threads are started or joined on the event loop; a helper thread would cost more.
FEW = 4
#: All signals but those that report a bug of the thread itself; handlers run in the main thread.
_MASKED = signal.valid_signals() - {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


def check_cpu(cpu: int | None) -> None:
    """Raise SocketOptionError if threads of this process can't run on the given CPU."""
    allowed = os.sched_getaffinity(0)
    if cpu is not None and cpu not in allowed:
        raise SocketOptionError(
            f"threads can't run on CPU {cpu} here",
            phase="connect",
            hint=f"this process may use CPUs {', '.join(map(str, sorted(allowed)))}",
            number=ErrorCode.AFFINITY,
        )


async def in_thread(work: Callable[[], T]) -> T:
    """Return the result of a computation that is too long for the event loop, on which handshakes
    of other tests wait. The computation runs to its end even if the caller is cancelled
    meanwhile."""
    thread = _Computing(work)
    try:
        runner = TrafficThread(thread, "netmeasure-compute")
        runner.start()
    except HostLimitError:  # no thread can be started, so that other tests have to wait
        return work()
    await uninterrupted(runner.join())
    if thread.error is not None:
        raise thread.error
    return thread.result


async def in_turn(work: Callable[[], T]) -> T:
    """Return the result of a computation in a thread, which begins after those that were requested
    before.

    Computations that run at the same time would share the interpreter's lock with the event loop,
    which would get it the more seldom the more they are, and not at all during a call of native
    code such as a decoder's. A caller that is cancelled before its turn leaves the queue.
    """
    loop = asyncio.get_running_loop()
    queue = _queues.setdefault(loop, _Queue())
    queue.users += 1
    try:
        async with queue.turn:
            return await in_thread(work)
    finally:
        queue.users -= 1
        if not queue.users:
            del _queues[loop]


class _Queue:
    """Hold the computations of one event loop that wait for their turn, while there are any."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.users = 0


_queues: dict[asyncio.AbstractEventLoop, _Queue] = {}


class _Computing(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as exc:
            self.error = exc


class Runnable(Protocol):
    def run(self) -> None: ...


class TrafficThread:
    """Run `work.run()` in a thread, on `cpu` only if one is given (see `check_cpu`). `done` is set,
    in the event loop, once `run` has returned."""

    def __init__(self, work: Runnable, name: str, cpu: int | None = None) -> None:
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._work = work
        self._cpu = cpu
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. Raise HostLimitError if this host can't start another thread."""
        try:
            self._thread.start()
        except RuntimeError as exc:
            raise HostLimitError(
                f"this host has no threads left: {exc}",
                phase="connect",
                hint="use fewer streams, or raise `ulimit -u`, `ulimit -v` or the cgroup's limits",
                reason=str(exc),
                number=ErrorCode.STREAM_ACCEPT,
            ) from None

    def _main(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _MASKED)
        try:
            if self._cpu is not None:
                with suppress(OSError):  # the CPU was taken offline after it was checked
                    os.sched_setaffinity(0, {self._cpu})  # of this thread: sched_setaffinity(2)
            self._work.run()
        finally:
            try:
                self._loop.call_soon_threadsafe(self.done.set)
            except RuntimeError:
                pass  # the event loop was closed before the end of the run

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    async def join(self) -> None:
        """Wait for the end of a thread that was told to end, or ends by its plan."""
        if self.started:
            await self.done.wait()
            self.join_now()

    def join_now(self) -> None:
        """Join a thread that is `done`. It has a few instructions left, for which it needs a
        CPU."""
        self._thread.join()


async def start_all(threads: Sequence[TrafficThread]) -> None:
    """Start threads. Many threads are started from a helper thread, since each start waits until
    the new thread runs."""

    def start() -> None:
        for thread in threads:
            thread.start()

    await _beside_loop(len(threads), start)


async def join_all(threads: Sequence[TrafficThread]) -> None:
    """Wait for the end of threads that were told to end, or end by their plan."""
    started = [thread for thread in threads if thread.started]
    for thread in started:
        await thread.done.wait()

    def join() -> None:
        for thread in started:
            thread.join_now()

    await _beside_loop(len(started), join)


async def _beside_loop(count: int, work: Callable[[], None]) -> None:
    """Run an operation on a number of threads: on the event loop if they are few, otherwise in a
    helper thread."""
    if count <= FEW:
        work()
    else:
        await in_thread(work)
