"""Group intervals as iperf3 reports them: by period, both directions together."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from netmeasure.result import FlowDirection, Interval, StreamInterval

#: The intervals of one period: the upload first, as iperf3 has it at both ends.
Period = tuple[Interval, ...]


class Periods:
    """Group intervals into periods.

    With `whole` (iperf3's -i 0) there is one period for all of the time after the omitted part.
    """

    def __init__(self, directions: int, *, whole: bool = False) -> None:
        self._directions = directions
        self._whole = whole
        self._waiting: dict[FlowDirection, Interval] = {}

    def add(self, interval: Interval) -> list[Period]:
        """Take the next interval, and return the periods that are complete with it."""
        if self._whole:
            if not interval.omitted:
                so_far = self._waiting.get(interval.direction)
                self._waiting[interval.direction] = join(so_far, interval) if so_far else interval
            return []
        ready = self.rest() if interval.direction in self._waiting else []
        self._waiting[interval.direction] = interval
        return ready + self.rest() if len(self._waiting) == self._directions else ready

    def rest(self) -> list[Period]:
        """Return the period that is not complete yet, at the end of the test."""
        order: tuple[FlowDirection, ...] = ("upload", "download")
        period = tuple(self._waiting[d] for d in order if d in self._waiting)
        self._waiting.clear()
        return [period] if period else []


def join(first: Interval, second: Interval) -> Interval:
    """Return two adjacent intervals of one direction as one."""
    return replace(
        second,
        start_ns=first.start_ns,
        bytes=first.bytes + second.bytes,
        retransmits=_sum(first.retransmits, second.retransmits),
        packets=_sum(first.packets, second.packets),
        lost_packets=_sum(first.lost_packets, second.lost_packets),
        streams=tuple(_join_streams(first.streams, second.streams)),
    )


def _join_streams(
    first: Iterable[StreamInterval], second: Iterable[StreamInterval]
) -> Iterable[StreamInterval]:
    before = {stream.id: stream for stream in first}
    for stream in second:
        then = before.get(stream.id)
        yield (
            stream
            if then is None
            else replace(
                stream,
                bytes=then.bytes + stream.bytes,
                retransmits=_sum(then.retransmits, stream.retransmits),
                packets=_sum(then.packets, stream.packets),
                lost_packets=_sum(then.lost_packets, stream.lost_packets),
                reordered_packets=_sum(then.reordered_packets, stream.reordered_packets),
            )
        )


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
