"""Notify the observer of one test at the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
from msgspec.structs import replace

from netmeasure.engine.tasks import beside
from netmeasure.errors import NetmeasureError
from netmeasure.measurement.intervals import IntervalClock
from netmeasure.measurement.roles import server_role
from netmeasure.measurement.run import error_record
from netmeasure.observe import Control, Observer, Opening
from netmeasure.protocol import PeerResults
from netmeasure.result import Result
from netmeasure.spec import Timing
from netmeasure.workloads.base import Workload


class Notifier:
    """Call the observer of a test, with intervals of `interval_s`; without one, do nothing."""

    def __init__(self, observer: Observer | None, interval_s: float) -> None:
        self._observer = observer
        self._interval_s = interval_s
        self._ticker: IntervalClock | None = None

    @property
    def reads_analysis(self) -> bool:
        """Return whether the observer reads what a result says beyond counts."""
        return self._observer is not None and self._observer.reads_analysis

    def accepted(self, control: Control) -> None:
        """Notify that a client has sent its cookie."""
        if self._observer is not None:
            self._observer.on_accepted(control)

    def opened(self, opening: Opening) -> None:
        """Notify that all streams are open."""
        if self._observer is not None:
            self._observer.on_opening(opening)

    @asynccontextmanager
    async def intervals(self, workload: Workload, omit_s: float) -> AsyncIterator[None]:
        """Emit the intervals of this end beside the block. The client decides when the test ends,
        so a short last interval follows the whole periods."""
        if self._observer is None:
            yield
            return
        timing = Timing(omit_s=omit_s, interval_s=self._interval_s)
        emit = self._observer.on_interval
        self._ticker = IntervalClock(workload, timing, None, emit, server_role)
        async with beside(self._ticker.run()):
            yield

    def last_interval(self) -> None:
        """Emit the last interval. Call this once everything has been counted, before the sockets
        are closed."""
        if self._ticker is not None:
            self._ticker.last()

    def with_output(self, mine: PeerResults, result: Callable[[], Result | None]) -> PeerResults:
        """Return the results with the observer's output, for a client that requested the server's
        output."""
        known = result() if self._observer is not None else None
        if self._observer is None or known is None:
            return mine
        output = self._observer.output(known)
        if isinstance(output, Mapping):
            return replace(mine, server_output_json=msgspec.Raw(msgspec.json.encode(output)))
        return replace(mine, server_output_text=output)

    def over(self, result: Result | None, error: BaseException | None) -> None:
        """Notify that the test has ended with a result, or was refused."""
        if self._observer is None:
            return
        if isinstance(error, NetmeasureError):
            self._observer.on_failed(error)
        if result is not None:
            self._observer.on_ended(result)
        elif (record := error_record(error)) is not None:
            self._observer.on_refused(record)
