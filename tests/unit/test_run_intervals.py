"""Test that a run keeps its intervals for its readers, but never without bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

import netmeasure as nm
from netmeasure.measurement.events import MOST_KEPT
from netmeasure.result import ErrorRecord, Interval, Result
from support.full_result import EMPTY

FIRST = Interval(direction="upload", counted_by="sender", start_ns=0, end_ns=1, bytes=1, streams=())


class Course:
    """Act as a measurement of so many intervals, which would take too long on a real connection."""

    step = "data"
    transferring = True

    def __init__(self, count: int) -> None:
        self.stop = asyncio.Event()
        self._count = count

    async def run(self, emit: Callable[[Interval], None]) -> None:
        for number in range(self._count):
            emit(replace(FIRST, start_ns=number, end_ns=number + 1))

    async def leave(self) -> None: ...

    def result(self, error: ErrorRecord | None) -> Result:
        return EMPTY

    def close(self) -> None: ...


async def intervals_of(count: int) -> list[Interval]:
    """Return the intervals that a loop gets if it begins after the run."""
    run = nm.Run(nm.TcpSpec(), lambda: Course(count))
    async with run:
        await run.wait()
    return [interval async for interval in run]


def test_a_loop_that_comes_late_gets_all_intervals() -> None:
    assert [one.start_ns for one in asyncio.run(intervals_of(100))] == list(range(100))


def test_intervals_that_nobody_reads_do_not_grow_without_bound() -> None:
    got = asyncio.run(intervals_of(MOST_KEPT + 1000))
    assert len(got) < MOST_KEPT + 1
    assert got[-1].start_ns == MOST_KEPT + 999
    assert [one.start_ns for one in got] == list(range(got[0].start_ns, MOST_KEPT + 1000))
