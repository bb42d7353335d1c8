"""What observers are told of a test, put together from the test's own parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal

from msgspec.structs import replace

from netmeasure.clock import unix_s
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.tasks import beside
from netmeasure.measurement.intervals import IntervalClock
from netmeasure.measurement.roles import server_role
from netmeasure.observe import Control, Observer, Opening, OpenStream
from netmeasure.protocol import PeerResults
from netmeasure.result import ErrorRecord, Host, Result
from netmeasure.spec import PeerSpec, Timing
from netmeasure.workloads.base import Workload


def control_seen(channel: ControlChannel, cookie: str) -> Control:
    local, remote = channel.addresses
    return Control(local=local, remote=remote, cookie=cookie, mss_bytes=channel.mss_bytes)


def opening(
    end: Literal["client", "server"],
    started_at: str,
    control: Control,
    workload: Workload,
    spec: PeerSpec,
    peer: Host,
    *,
    extended: bool,
) -> Opening:
    return Opening(
        end=end,
        started_at=started_at,
        unix_s=unix_s(),
        control=control,
        streams=tuple(
            OpenStream(id=number, role=role, socket=facts)
            for number, role, facts in workload.opened()
        ),
        spec=spec,
        peer=peer,
        extended=extended,
    )


class Witness:
    """Tells an observer of a test at the server; without one, does nothing."""

    def __init__(self, observer: Observer | None, interval_s: float) -> None:
        self._observer = observer
        self._interval_s = interval_s
        self._ticker: IntervalClock | None = None

    def accepted(self, control: Control) -> None:
        if self._observer is not None:
            self._observer.on_accepted(control)

    def opened(self, opened: Opening) -> None:
        if self._observer is not None:
            self._observer.on_opening(opened)

    @asynccontextmanager
    async def intervals(self, workload: Workload, omit_s: float) -> AsyncIterator[None]:
        """Live intervals of this end, at the period that the observer wants. The end is for the
        client to say, so whole periods are followed by a short last one."""
        if self._observer is None:
            yield
            return
        timing = Timing(omit_s=omit_s, interval_s=self._interval_s)
        emit = self._observer.on_interval
        self._ticker = IntervalClock(workload, timing, None, emit, server_role)
        async with beside(self._ticker.run()):
            yield

    def last_interval(self) -> None:
        """Once everything has been counted, and before the sockets are closed."""
        if self._ticker is not None:
            self._ticker.last()

    def with_output(self, mine: PeerResults, result: Callable[[], Result | None]) -> PeerResults:
        """The results for a client that asked for what this server prints of the test."""
        known = result() if self._observer is not None else None
        if self._observer is None or known is None:
            return mine
        output = self._observer.output(known)
        if isinstance(output, Mapping):
            return replace(mine, server_output_json=dict(output))
        return replace(mine, server_output_text=output)

    def over(self, result: Result | None, error: ErrorRecord | None) -> None:
        if self._observer is None:
            return
        if result is not None:
            self._observer.on_ended(result)
        elif error is not None:
            self._observer.on_refused(error)
