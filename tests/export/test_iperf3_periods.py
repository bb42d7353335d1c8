"""Test how intervals are combined: none is lost, and both directions of a period form one row."""

from __future__ import annotations

from hypothesis import given, strategies as st

from netmeasure.export.iperf3.periods import Period, Periods
from netmeasure.result import FlowDirection, Interval, StreamInterval

S = 10**9


def interval(way: FlowDirection, number: int, count: int, omitted: bool = False) -> Interval:
    stream = StreamInterval(id=1, bytes=count, packets=1, lost_packets=2, jitter_ns=number)
    return Interval(
        direction=way,
        counted_by="receiver",
        start_ns=number * S,
        end_ns=(number + 1) * S,
        bytes=count,
        streams=(stream,),
        omitted=omitted,
        packets=1,
        lost_packets=2,
        jitter_ns=number,
    )


def all_of(periods: Periods, intervals: list[Interval]) -> list[Period]:
    found = [period for one in intervals for period in periods.add(one)]
    return found + periods.rest()


def test_one_way_comes_at_once() -> None:
    periods = Periods(1)
    first = interval("download", 0, 5)
    assert periods.add(first) == [(first,)]
    assert periods.rest() == []


def test_two_ways_come_together_the_upload_first() -> None:
    up, down = interval("upload", 0, 5), interval("download", 0, 6)
    assert all_of(Periods(2), [down, up]) == [(up, down)]


def test_a_way_that_has_ended_is_not_waited_for() -> None:
    one, two = interval("upload", 0, 5), interval("upload", 1, 6)
    assert all_of(Periods(2), [one, two]) == [(one,), (two,)]


@given(st.lists(st.tuples(st.integers(0, 10**9), st.booleans()), max_size=9), st.integers(1, 2))
def test_without_an_interval_there_is_one_row_of_what_counts(
    counts: list[tuple[int, bool]], ways: int
) -> None:
    names: tuple[FlowDirection, ...] = ("upload", "download")
    intervals = [
        interval(way, number, count, omitted)
        for number, (count, omitted) in enumerate(counts)
        for way in names[:ways]
    ]
    counted = [one for one in intervals if not one.omitted and one.direction == "upload"]
    found = all_of(Periods(ways, whole=True), intervals)
    if not counted:
        assert found == []
        return
    ((upload, *others),) = found
    assert len(others) == ways - 1
    assert (upload.start_ns, upload.end_ns) == (counted[0].start_ns, counted[-1].end_ns)
    assert upload.bytes == upload.streams[0].bytes == sum(one.bytes for one in counted)
    assert upload.packets == upload.streams[0].packets == len(counted)
    assert upload.lost_packets == 2 * len(counted)
    assert upload.jitter_ns == counted[-1].jitter_ns
