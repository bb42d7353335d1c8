"""Emit live intervals. They are read from the time series at their edges, so that a late event loop
does not shift them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec.structs import replace

from netmeasure.clock import nanoseconds, now_ns, seconds
from netmeasure.result import FlowDirection, Interval, Role, StreamInterval
from netmeasure.spec import Timing

#: A time later than all counted bytes.
END_OF_TIME_NS = 2**62
#: A last interval without data is reported if it is at least this fraction of a period.
LEAST_LAST_PART = 0.1
#: The members of a StreamInterval that count from the start of the test: an interval has the
#: difference.
_COUNTS = ("bytes", "retransmits", "packets", "lost_packets", "reordered_packets")


def edges_ns(timing: Timing) -> Iterator[int]:
    """Return the ends of the intervals, in ns after the start. The end of the omitted time is an
    edge, so that no interval is partly omitted; a new period begins there."""
    period, omit = nanoseconds(timing.interval_s), nanoseconds(timing.omit_s)
    yield from range(period, omit, period)
    edge = omit if omit else period
    while True:
        yield edge
        edge += period


class Counting(Protocol):
    """Provide the counts from which intervals are made, see `workloads.base.Workload`."""

    @property
    def origin_ns(self) -> int | None: ...
    @property
    def first_ns(self) -> int | None: ...
    @property
    def last_ns(self) -> int | None: ...
    @property
    def bucket_ns(self) -> int: ...
    def ids(self, role: Role, /) -> tuple[int, ...]: ...
    def levels(self, role: Role, until_ns: int, /) -> tuple[StreamInterval, ...]: ...


class IntervalClock:
    """Emit an Interval per direction at each edge, counted at this end of `workload`; `role_of`
    returns this end's role in a direction.

    With `limit_s`, the last interval ends with the last byte of the test, even if that is a little
    after the last edge; without, a short last interval follows the whole periods.

    Times count from the start signal, or from the first byte if that came earlier: threads read
    before a busy event loop notices the start, and what they read took that time.

    Bytes that a thread adds late to an interval that was already emitted are counted in the next
    one, so that the sum of all intervals is the total.
    """

    def __init__(
        self,
        workload: Counting,
        timing: Timing,
        limit_s: float | None,
        emit: Callable[[Interval], None],
        role_of: Callable[[FlowDirection], Role],
    ) -> None:
        self._workload = workload
        self._timing = timing
        self._emit = emit
        origin_ns = workload.origin_ns or now_ns()
        self._origin = min(origin_ns, workload.first_ns or origin_ns)
        both: tuple[FlowDirection, ...] = ("upload", "download")
        self._roles = {d: role_of(d) for d in both if workload.ids(role_of(d))}
        self._end = math.inf if limit_s is None else nanoseconds(timing.omit_s + limit_s)
        self._edges = edges_ns(timing)
        self._edge = next(self._edges)
        self._since = 0
        self._seen: dict[FlowDirection, tuple[StreamInterval, ...]] = {}
        self._ended: int | None = None
        self._over = False

    async def run(self) -> None:
        """Emit until cancelled."""
        settle = 2 * self._workload.bucket_ns
        try:
            while self._edge < self._end:
                due = self._origin + self._edge + settle
                await asyncio.sleep(seconds(max(0, due - now_ns())))
                self._next(self._edge)
            await asyncio.Event().wait()  # the last interval ends with the last byte
        finally:
            self._ended = now_ns()

    def last(self) -> None:
        """Emit the interval after the last edge. Call this when the threads have ended; further
        calls do nothing."""
        if self._over:
            return
        self._over = True
        ended = (self._ended or now_ns()) - self._origin
        last = (self._workload.last_ns or 0) - self._origin
        while self._edge < min(self._end, max(last, ended)):
            self._next(self._edge)
        least = LEAST_LAST_PART * nanoseconds(self._timing.interval_s)
        if self._uncounted():
            # at least one bucket of the series: over less time, bytes have no rate
            shortest = self._since + self._workload.bucket_ns
            self._read(max(shortest, last), END_OF_TIME_NS)
        elif (end := int(min(self._end, ended))) - self._since >= least:
            self._read(end, END_OF_TIME_NS)

    def _uncounted(self) -> bool:
        """Return whether some counted bytes are in no interval yet."""
        return any(
            sum(level.bytes for level in self._workload.levels(role, END_OF_TIME_NS))
            > sum(level.bytes for level in self._seen.get(direction, ()))
            for direction, role in self._roles.items()
        )

    def _next(self, edge: int) -> None:
        self._read(edge, self._origin + edge)
        self._edge = next(self._edges)

    def _read(self, edge: int, moment: int) -> None:
        omitted = edge <= nanoseconds(self._timing.omit_s)
        for direction, role in self._roles.items():
            levels = self._workload.levels(role, moment)
            before = self._seen.get(direction) or tuple(_zero(level) for level in levels)
            streams = tuple(_since(b, level) for b, level in zip(before, levels, strict=True))
            # bytes counted late may have been emitted already; a count never decreases
            self._seen[direction] = tuple(
                replace(level, bytes=max(b.bytes, level.bytes))
                for b, level in zip(before, levels, strict=True)
            )
            jitters = [s.jitter_ns for s in streams if s.jitter_ns is not None]
            self._emit(
                Interval(
                    direction=direction,
                    counted_by=role,
                    start_ns=self._since,
                    end_ns=edge,
                    bytes=sum(stream.bytes for stream in streams),
                    streams=streams,
                    omitted=omitted,
                    retransmits=_total(streams, "retransmits"),
                    packets=_total(streams, "packets"),
                    lost_packets=_total(streams, "lost_packets"),
                    jitter_ns=sum(jitters) // len(jitters) if jitters else None,
                )
            )
        self._since = edge


def _zero(level: StreamInterval) -> StreamInterval:
    """Return the level before the start, with 0 for each count that this stream has."""
    counts = {name: None if getattr(level, name) is None else 0 for name in _COUNTS}
    return replace(level, **counts)


def _since(before: StreamInterval, level: StreamInterval) -> StreamInterval:
    """Return the increase since `before`. The count of losses may decrease, when datagrams arrive
    late."""
    new = {name: _difference(getattr(before, name), getattr(level, name)) for name in _COUNTS}
    return replace(level, **new | {"bytes": max(0, level.bytes - before.bytes)})


def _difference(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else now - before


def _total(streams: tuple[StreamInterval, ...], name: str) -> int | None:
    known = [value for s in streams if (value := getattr(s, name)) is not None]
    return sum(known) if known and len(known) == len(streams) else None
