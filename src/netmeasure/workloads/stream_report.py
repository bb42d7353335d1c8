"""Make a stream's report from its native loop: times, counts, CPU time, the series of bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from netmeasure._fast.worker import Stream
from netmeasure.result import Role, Series, SocketFacts, StreamReport
from netmeasure.result.resources import ThreadCpu


def stretch(loops: Iterable[Stream], omit_ns: int) -> tuple[int, int] | None:
    """Return the counted period, which is the same for all streams of a role so that their sums are
    consistent: from the first byte plus the omitted time to the last byte (CLOCK_MONOTONIC, ns)."""
    moments = [(loop.series()[0], loop.last_ns) for loop in loops]
    starts = [start for start, _ in moments if start is not None]
    ends = [end for _, end in moments if end is not None]
    if not starts or not ends:
        return None
    start = min(starts) + omit_ns
    return start, max(start, *ends)


class Reported(Protocol):
    """Hold the parts of a stream that its report needs. `loop` has ended."""

    @property
    def id(self) -> int: ...
    @property
    def role(self) -> Role: ...
    @property
    def loop(self) -> Stream: ...
    @property
    def syn_retransmits(self) -> int | None: ...
    @property
    def facts(self) -> SocketFacts | None: ...
    @property
    def error(self) -> str | None: ...


def relative(series: tuple[int | None, int, list[int]], origin_ns: int) -> Series | None:
    """Return a native loop's series, counted from `origin_ns`. None: the loop has not begun."""
    begin, width, counts = series
    if begin is None:
        return None
    return Series(origin_ns=begin - origin_ns, width_ns=width, bytes=tuple(counts))


def _until(loop: Stream, moment_ns: int) -> int:
    """Return the bytes up to a moment: all of them from the last one on, which comes before its
    bucket is full."""
    last_ns = loop.last_ns
    ended = last_ns is not None and last_ns <= moment_ns
    return sum(loop.series()[2]) if ended else loop.counted_until(moment_ns)


def stream_report(stream: Reported, origin_ns: int, window: tuple[int, int] | None) -> StreamReport:
    """Return the report with the members that all kinds of stream have. Times count from
    `origin_ns`."""
    loop = stream.loop
    series = relative(loop.series(), origin_ns)
    counted = None
    if series is not None and window is not None:
        start, end = window
        # also where the bytes all came at one moment, they came after the start
        before = 0 if start <= series.origin_ns else _until(loop, origin_ns + start)
        counted = _until(loop, origin_ns + end) - before
    user_ns, system_ns = loop.cpu_ns
    return StreamReport(
        id=stream.id,
        role=stream.role,
        bytes=loop.bytes,
        counted_bytes=counted,
        counted_from_ns=window[0] if window else None,
        counted_to_ns=window[1] if window else None,
        first_ns=None if loop.first_ns is None else loop.first_ns - origin_ns,
        last_ns=None if loop.last_ns is None else loop.last_ns - origin_ns,
        syn_retransmits=stream.syn_retransmits,
        end_reason=loop.reason,
        error=stream.error,
        cpu_user_ns=user_ns,
        cpu_system_ns=system_ns,
        thread=thread_cpu(loop, origin_ns),
        series=series,
        socket=stream.facts,
    )


def thread_cpu(loop: Stream, origin_ns: int) -> ThreadCpu | None:
    """Return the CPU time of a loop's threads, in columns; None: the loop never ran."""
    if not (samples := loop.cpu_samples()):
        return None
    at_ns, cpu_ns, wait_ns = zip(*samples, strict=True)
    return ThreadCpu(
        at_ns=tuple(at - origin_ns for at in at_ns),
        cpu_ns=cpu_ns,
        wait_ns=None if None in wait_ns else wait_ns,
    )
