"""Control a measurement: start, live intervals, early stop, abort, result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from netmeasure.clock import now_ns
from netmeasure.engine import loading
from netmeasure.engine.progress import Progress
from netmeasure.engine.tasks import cancel_and_wait, uninterrupted
from netmeasure.engine.threads import in_turn
from netmeasure.errors import MeasureError, NetmeasureError
from netmeasure.measurement.events import MOST_KEPT, EventLog
from netmeasure.observe import Observer
from netmeasure.result import ErrorRecord, Interval, Phase, Result
from netmeasure.result.events import (
    EndEvent,
    ErrorEvent,
    Event,
    IntervalEvent,
    PhaseEvent,
    WaitingEvent,
    WarningEvent,
)
from netmeasure.spec import Spec

#: The phase in which this end waits for the peer's results.
RESULTS = "results"
#: The step in which the data are over, and a server of HTTP or FTP has not confirmed them yet.
LAST_REPLY = "last_reply"
#: The steps after the data phase.
_AFTER_DATA = (RESULTS, LAST_REPLY)
#: The step in which requests are sent, and no response has come yet.
RESPONSE = "response"
#: A set-up step that has lasted this long is reported as an event, and again each time the same
#: period has passed.
WAITING_S = 0.5


class Course(Protocol):
    """Carry out one measurement of any kind, from its first step to its Result; a Run controls
    it."""

    @property
    def stop(self) -> asyncio.Event:
        """Return an event that ends the data phase gracefully when it is set."""
        ...

    @property
    def step(self) -> str:
        """Return the present step. It is the phase of an error that names none."""
        ...

    @property
    def transferring(self) -> bool: ...

    async def run(self, emit: Callable[[Interval], None]) -> None:
        """Take all steps. Raise a MeasureError at the first step that fails."""

    async def leave(self) -> None:
        """Stop every thread, and close everything that the result does not need."""

    def result(self, error: ErrorRecord | None) -> Result: ...

    def close(self) -> None: ...


class Run:
    """Control a running measurement. Use as an async context manager and iterate for live
    intervals::

        async with client.run(spec) as run:
            async for interval in run:
                ...
        result = run.result

    The latest 4096 intervals are kept for the loop; a loop further behind misses older ones.
    `events()` yields more than the intervals: phases of set-up, waits, and the result.

    Leaving the block waits for the end of the run; leaving it by an exception aborts the run. Once
    set-up has begun, `result` is always set after the block; it is incomplete if the run failed.
    """

    def __init__(
        self, spec: Spec, begin: Callable[[], Course], observer: Observer | None = None
    ) -> None:
        self.spec = spec
        self._observer = observer or Observer()
        self.result: Result | None = None
        self._task: asyncio.Task[Result] | None = None
        self._intervals: asyncio.Queue[Interval | None] = asyncio.Queue(MOST_KEPT)
        self._events = EventLog()
        self._progress = Progress(self._on_phase)
        self._loop: asyncio.AbstractEventLoop
        self._thread_id: int  # of the loop
        self._origin_ns = now_ns()
        self._begin = begin
        self._course: Course | None = None
        self._stop_asked = False
        self._aborted = False

    async def __aenter__(self) -> Run:
        self._origin_ns = now_ns()
        self._task = asyncio.create_task(self._drive(), name="netmeasure-run")
        self._task.add_done_callback(lambda _: self._keep(None))
        self._task.add_done_callback(lambda _: self._events.close())
        return self

    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        assert self._task is not None
        if exc_type is not None:
            await self.abort()
            # The run's own error must not replace a cancellation that came at the same moment. It
            # is retrieved, so that asyncio does not report it as lost; `result` has it.
            if not self._task.cancelled():
                self._task.exception()
        elif not self._aborted:
            await self.wait()

    async def __aiter__(self) -> AsyncIterator[Interval]:
        while (interval := await self._intervals.get()) is not None:
            yield interval
        await self.wait()

    def events(self) -> AsyncIterator[Event]:
        """Return all events of the run, from its start to its result, which is the last event.

        Several followers may iterate, each at its own pace. The measurement never waits for a
        follower: one that is thousands of events behind is told how many were skipped. The iterator
        raises no error of the test: an error is an event, too.
        """
        return self._events.follow()

    @property
    def waiting(self) -> WaitingEvent | None:
        """Return what set-up is waiting for; None: nothing."""
        one = self._progress.waiting()
        return None if one is None else WaitingEvent(at_ns=self._now_ns(), **one._asdict())

    async def wait(self) -> Result:
        """Return the result when the run is over. Raise the MeasureError of a run that failed."""
        if self._task is None:
            raise MeasureError("the run has not been started", hint="use `async with`")
        if self._aborted:
            raise MeasureError("the run was aborted")
        try:
            await asyncio.wait([self._task])  # asyncio.shield would log an error raised after this
            return self._task.result()
        except asyncio.CancelledError as exc:
            if not self._task.done():
                self._task.cancel()
                await uninterrupted(_settled(self._task))
            exc.result = self.result  # type: ignore[attr-defined]  # see partial_result
            raise

    @property
    def is_over(self) -> bool:
        """Return whether the run has ended, with or without a result."""
        return self._task is not None and self._task.done()

    async def abort(self) -> None:
        """End the run at once if it is still running. `result` is then incomplete."""
        if self._task is not None and not self._task.done():
            self._aborted = True
            await cancel_and_wait(self._task)

    def stop(self) -> None:
        """End the data phase now. The result is complete, and has a note about the early end."""
        self._stop_asked = True
        if self._course is not None:
            self._course.stop.set()

    @property
    def transferring(self) -> bool:
        """Return whether the data phase has begun, so that `stop` can end it gracefully."""
        return self._course is not None and self._course.transferring

    @property
    def ending(self) -> bool:
        """Return whether the data phase is over, and the peer's results or a server's last reply
        are waited for."""
        one = self._progress.waiting()
        return one is not None and one.step in _AFTER_DATA

    @property
    def unanswered(self) -> bool:
        """Return whether requests are sent, and no response has come yet."""
        one = self._progress.waiting()
        return one is not None and one.step == RESPONSE

    async def _drive(self) -> Result:
        self._loop, self._thread_id = asyncio.get_running_loop(), threading.get_ident()
        self._progress.follow()
        course = self._course = self._begin()
        if self._stop_asked:
            course.stop.set()
        error: BaseException | None = None
        teller = asyncio.create_task(self._tell_waiting(course))
        try:
            await loading.settled()
            await course.run(self._emit)
        except BaseException as exc:
            error = exc
            if isinstance(exc, MeasureError) and exc.phase is None:
                exc.phase = course.step
            raise
        finally:
            # the wait is later, so that the peer is told at once that this run is over
            teller.cancel()
            try:
                await uninterrupted(self._end(course, teller, error))
            finally:
                if (result := self.result) is not None:
                    if isinstance(error, MeasureError):
                        error.result = result
                    if isinstance(error, NetmeasureError):
                        self._observer.on_failed(error)
                    self._observer.on_ended(result)
                    self._tell_end(result)
                self._progress.end()
        assert self.result is not None
        return self.result

    async def _end(
        self, course: Course, teller: asyncio.Task[None], error: BaseException | None
    ) -> None:
        """Close all threads and sockets, and set the result. This is a single step, because a
        cancellation between its parts would leave the rest undone."""
        try:
            await course.leave()
        finally:
            await cancel_and_wait(teller)
            record = error_record(error)
            try:
                self.result = await in_turn(lambda: course.result(record))
            finally:
                course.close()

    def _emit(self, interval: Interval) -> None:
        self._observer.on_interval(interval)
        self._keep(interval)
        self._events.add(IntervalEvent(at_ns=self._now_ns(), interval=interval))

    def _keep(self, interval: Interval | None) -> None:
        """Keep an interval for the iterator; None: the end of the intervals. If no program
        iterates, the oldest interval is dropped, so that an endless run does not use more and more
        memory."""
        if self._intervals.full():
            self._intervals.get_nowait()
        self._intervals.put_nowait(interval)

    # ---- events ---------------------------------------------------------------------------------

    def _now_ns(self) -> int:
        return now_ns() - self._origin_ns

    def _on_phase(self, phase: Phase) -> None:
        """Report a phase. Some are found by the thread that assembles the result, and the log of
        events belongs to the event loop."""
        event = PhaseEvent(at_ns=self._now_ns(), phase=phase)
        if threading.get_ident() == self._thread_id:
            self._events.add(event)
        else:
            self._loop.call_soon_threadsafe(self._events.add, event)

    async def _tell_waiting(self, course: Course) -> None:
        """Report what set-up is waiting for, the wait for the first response to requests and, after
        the data phase, the wait for the peer's results or a server's last reply."""
        while True:
            await asyncio.sleep(WAITING_S)
            one = self.waiting
            beside_data = one is not None and one.step in (RESPONSE, *_AFTER_DATA)
            if one is None or (course.transferring and not beside_data):
                continue
            if one.waited_ns >= WAITING_S * 0.9e9:
                self._events.add(one)

    def _tell_end(self, result: Result) -> None:
        at = self._now_ns()
        for note in result.notes:
            self._events.add(WarningEvent(at_ns=at, message=note))
        if result.error is not None:
            self._events.add(ErrorEvent(at_ns=at, error=result.error))
        self._events.add(EndEvent(at_ns=at, result=result))


def error_record(error: BaseException | None) -> ErrorRecord | None:
    """Return an exception in the form that a Result has."""
    if error is None:
        return None
    if isinstance(error, NetmeasureError):
        return ErrorRecord(
            code=error.code,
            message=str(error),
            phase=getattr(error, "phase", None),
            hint=error.hint,
            number=getattr(error, "number", None),
        )
    if isinstance(error, asyncio.CancelledError):
        return ErrorRecord(code="cancelled", message="the run was cancelled")
    return ErrorRecord(code="internal", message=f"{type(error).__name__}: {error}")


def partial_result(error: BaseException | None) -> Result | None:
    """Return the result that an exception carries, of the measurement that it ended; None: nothing
    was measured.

    The exception may be a MeasureError, the CancelledError of a cancelled `measure`, or the
    TimeoutError that `asyncio.timeout` or `asyncio.wait_for` makes of a CancelledError.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        found = getattr(error, "result", None)
        if isinstance(found, Result):
            return found
        error = error.__cause__ or error.__context__
    return None


async def _settled(task: asyncio.Task[Result]) -> None:
    await asyncio.wait([task])
