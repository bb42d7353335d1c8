"""Live intervals: read from the series at their edges, whenever the event loop gets to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Protocol

from netmeasure.clock import nanoseconds, now_ns, seconds
from netmeasure.negotiate import client_role
from netmeasure.result import FlowDirection, Interval, Role
from netmeasure.spec import Timing

#: Later than everything that was counted.
END_OF_TIME_NS = 2**62


def edges_ns(timing: Timing) -> Iterator[int]:
    """The ends of the intervals, in ns after the start. One edge is the end of the omitted time,
    so that no interval is half omitted; from there the periods count anew."""
    period, omit = nanoseconds(timing.interval_s), nanoseconds(timing.omit_s)
    yield from range(period, omit, period)
    edge = omit if omit else period
    while True:
        yield edge
        edge += period


class Counting(Protocol):
    """What intervals are read from, see `workloads.base.Workload`."""

    @property
    def origin_ns(self) -> int | None: ...
    @property
    def last_ns(self) -> int | None: ...
    @property
    def bucket_ns(self) -> int: ...
    def ids(self, role: Role, /) -> tuple[int, ...]: ...
    def counts(self, role: Role, until_ns: int, /) -> tuple[int, ...]: ...
    def retransmits(self) -> int | None: ...
    def packets(self, role: Role, until_ns: int, /) -> int | None: ...
    def lost_packets(self) -> int | None: ...
    def jitter_ns(self) -> int | None: ...


class IntervalClock:
    """Emits an Interval per direction at each edge, counted at this end of `workload`.

    What a thread adds late to an interval that has been emitted shows in the next one: the sum of
    all intervals is the total.
    """

    def __init__(
        self,
        workload: Counting,
        timing: Timing,
        limit_s: float | None,
        emit: Callable[[Interval], None],
    ) -> None:
        self._workload = workload
        self._timing = timing
        self._limit_s = limit_s
        self._emit = emit
        self._origin = workload.origin_ns or now_ns()
        self._since = 0
        self._seen: dict[FlowDirection, tuple[int, ...]] = {}
        self._retransmits = 0
        self._packets: dict[FlowDirection, int] = {}
        self._lost = 0

    async def run(self) -> None:
        """Emit until cancelled."""
        settle = 2 * self._workload.bucket_ns
        limit_s = self._limit_s
        end = math.inf if limit_s is None else nanoseconds(self._timing.omit_s + limit_s)
        for edge in edges_ns(self._timing):
            if edge >= end:
                return  # the last interval ends with the last byte: `last` emits it
            await asyncio.sleep(seconds(max(0, self._origin + edge + settle - now_ns())))
            self._read(edge)

    def last(self) -> None:
        """Emit what came after the last edge; call when the threads have ended."""
        counted = [
            sum(self._workload.counts(client_role(direction), END_OF_TIME_NS))
            - sum(self._seen.get(direction, ()))
            for direction in self._directions
        ]
        if any(counted):
            last = (self._workload.last_ns or now_ns()) - self._origin
            self._read(max(self._since + 1, last), END_OF_TIME_NS)

    @property
    def _directions(self) -> tuple[FlowDirection, ...]:
        both: tuple[FlowDirection, ...] = ("upload", "download")
        return tuple(d for d in both if self._workload.ids(client_role(d)))

    def _read(self, edge: int, moment: int | None = None) -> None:
        moment = self._origin + edge if moment is None else moment
        omitted = edge <= nanoseconds(self._timing.omit_s)
        for direction in self._directions:
            role = client_role(direction)
            counts = self._workload.counts(role, moment)
            before = self._seen.get(direction, (0,) * len(counts))
            new = tuple(max(0, now - then) for now, then in zip(counts, before, strict=True))
            self._seen[direction] = tuple(map(max, counts, before))
            self._emit(
                Interval(
                    direction=direction,
                    counted_by=role,
                    start_ns=self._since,
                    end_ns=edge,
                    bytes=sum(new),
                    stream_bytes=new,
                    omitted=omitted,
                    retransmits=self._new_retransmits() if role == "sender" else None,
                    packets=self._new_packets(direction, moment),
                    lost_packets=self._new_losses() if role == "receiver" else None,
                    jitter_ns=self._workload.jitter_ns() if role == "receiver" else None,
                )
            )
        self._since = edge

    def _new_retransmits(self) -> int | None:
        total = self._workload.retransmits()
        if total is None:
            return None
        new = total - self._retransmits
        self._retransmits = total
        return new

    def _new_packets(self, direction: FlowDirection, moment: int) -> int | None:
        total = self._workload.packets(client_role(direction), moment)
        if total is None:
            return None
        new = total - self._packets.get(direction, 0)
        self._packets[direction] = total
        return new

    def _new_losses(self) -> int | None:
        """Losses seen since the last look; negative when late datagrams turned up meanwhile."""
        total = self._workload.lost_packets()
        if total is None:
            return None
        new = total - self._lost
        self._lost = total
        return new
