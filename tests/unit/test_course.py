"""Test how a flow is split into periods of its run, and what is reported for each period."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, strategies as st

from netmeasure.analysis import course
from netmeasure.analysis.bottleneck import End, Rate, limits, variation
from netmeasure.analysis.columns import Window, covered, grown, indices
from netmeasure.analysis.series import curve
from netmeasure.report.bottleneck import limit_rows
from netmeasure.result import Flow, FlowInterval, Limits, Series, StreamReport, Stretch, TcpInfo
from netmeasure.result.resources import ThreadCpu

MS, SECOND = 1_000_000, 1_000_000_000
STEPS = 40
#: Four seconds, with a sample every 100 ms. There is no queue in the first two, then one of 15 ms.
AT = tuple(i * 100 * MS for i in range(STEPS + 1))
RATE = 125_000_000  # bytes per second


def info() -> TcpInfo:
    queues = [at > 2 * SECOND for at in AT]
    rtt = tuple(25 * MS if queue else 10 * MS for queue in queues)
    return TcpInfo(
        at_ns=AT,
        rtt_ns=rtt,
        min_rtt_ns=(10 * MS,) * len(AT),
        acked_bytes=tuple(RATE * at // SECOND for at in AT),
        cwnd_bytes=tuple(RATE * each // SECOND for each in rtt),
        snd_wnd_bytes=(10**8,) * len(AT),
        unsent_bytes=(10**6,) * len(AT),
        mss_bytes=(1448,) * len(AT),
        pacing_bps=(10 * RATE,) * len(AT),
        sent_bytes=tuple(RATE * at // SECOND for at in AT),
        retransmitted_bytes=tuple(0 if at <= 2 * SECOND else 1000 for at in AT),
        busy_ns=AT,
        rwnd_limited_ns=(3,) * len(AT),
        sndbuf_limited_ns=(4,) * len(AT),
    )


def sender(tcp_info: TcpInfo | None = None) -> StreamReport:
    """Return a sender whose thread is on the CPU only in the last second."""
    busy = tuple(max(0, at - 3 * SECOND) for at in AT)
    return StreamReport(
        id=1,
        role="sender",
        first_ns=1,
        last_ns=4 * SECOND,
        cpu_user_ns=SECOND,
        cpu_system_ns=0,
        thread=ThreadCpu(at_ns=AT, cpu_ns=busy, wait_ns=(7,) * len(AT)),
        tcp_info=tcp_info or info(),
    )


SERIES = Series(origin_ns=0, width_ns=10 * MS, bytes=(RATE // 100,) * 400)


def told() -> tuple[FlowInterval, ...]:
    edges = [i * SECOND for i in range(1, 10)]
    end = End([sender()])
    return course.intervals(edges, curve(SERIES), SECOND, end, End([]), None)


def test_each_period_has_a_verdict_of_its_own() -> None:
    found = told()
    assert [(i.start_ns // SECOND, i.end_ns // SECOND) for i in found] == list(pairwise(range(5)))
    names = [interval.limits.limited_by for interval in found if interval.limits]
    assert names == ["congestion_window", "congestion_window", "link", "sender_cpu"]
    assert [interval.bytes for interval in found] == [RATE] * 4
    assert [interval.omitted for interval in found] == [True, False, False, False]
    assert all(interval.goodput_bps == 8 * RATE for interval in found)
    assert all(interval.sender is None for interval in found)  # the host was not watched


def test_the_figures_behind_it() -> None:
    before, after = (interval.limits for interval in told()[1:3])
    assert before is not None
    assert after is not None
    assert (before.queue_delay_ns, after.queue_delay_ns) == (0, 15 * MS)
    assert after.buffer_delay_ratio == pytest.approx(1.5)
    assert before.cwnd_used_ratio == pytest.approx(1.0)
    assert before.rwnd_used_ratio == pytest.approx(RATE * 0.01 / 10**8)
    assert before.unsent_ratio == before.busy_ratio == 1.0
    assert before.pacing_ratio == pytest.approx(1.25)
    assert before.sender_cpu_ratio == before.sender_wait_ratio == 0.0
    assert before.rate_variation == pytest.approx(0.0, abs=1e-9)
    assert before.tcp_efficiency == 1.0
    assert after.tcp_efficiency == pytest.approx(1 - 1000 / RATE)
    assert before.window_needed_bytes == RATE // 100


def test_the_line_in_the_report() -> None:
    flow = Flow(direction="upload", streams=(), limits=Limits(limited_by="link"), intervals=told())
    rows = limit_rows(flow)
    assert [row[0] for row in rows] == ["limited by", "in its course"]
    assert rows[1][2] == "0-2 s congestion window, 2-3 s link, 3-4 s sender's CPU"
    same = Flow(direction="upload", streams=(), limits=flow.limits, intervals=told()[:2])
    assert len(limit_rows(same)) == 1
    by_turns = Flow(direction="upload", streams=(), limits=flow.limits, intervals=told() * 3)
    assert limit_rows(by_turns)[1][2] == (
        "alternating: congestion window 50 % of the time, link 25 % of the time,"
        " sender's CPU 25 % of the time"
    )
    assert limit_rows(Flow(direction="upload", streams=(), intervals=told())) == []


@pytest.mark.parametrize(
    ("rwnd_limited", "rwnd_used", "delay", "words"),
    [
        (0.73, 1.0, 0.1, " (for 73 % of the sender's busy time), this rate needs 250 KiB"),
        # rate and window say it, the kernel's accounting does not
        (0.02, 0.9, 0.1, ", this rate needs 250 KiB"),
        # a large window that is full: of a receiver that does not read
        (0.73, 1.0, 20.0, " (for 73 % of the sender's busy time)"),
        (0.73, None, None, " (for 73 % of the sender's busy time)"),
    ],
)
def test_words_for_a_receive_window(
    rwnd_limited: float, rwnd_used: float | None, delay: float | None, words: str
) -> None:
    found = Limits(
        limited_by="receive_window",
        rwnd_limited_ratio=rwnd_limited,
        rwnd_used_ratio=rwnd_used,
        buffer_delay_ratio=delay,
        window_needed_bytes=256_000,
    )
    ((_, _, said),) = limit_rows(Flow(direction="upload", streams=(), limits=found))
    assert said == f"the receiver's window{words}"


def test_a_sliver_at_the_end_belongs_to_the_last_period() -> None:
    def ends(last_ns: int) -> list[int]:
        whole = curve(SERIES, last_ns)
        found = course.intervals(
            [1500 * MS, 3000 * MS, 4500 * MS], whole, 0, End([]), End([]), None
        )
        return [interval.end_ns for interval in found]

    assert ends(4 * SECOND) == [1500 * MS, 3000 * MS, 4 * SECOND]
    short = Series(origin_ns=0, width_ns=10 * MS, bytes=(7,) * 310)
    found = course.intervals([1500 * MS, 3000 * MS], curve(short), 0, End([]), End([]), None)
    assert [interval.end_ns for interval in found] == [1500 * MS, 3100 * MS]
    assert sum(interval.bytes for interval in found) == 7 * 310


@given(st.integers(-20 * MS, 20 * MS), st.integers(1, 40), st.integers(50 * MS, 200 * MS))
def test_intervals_lose_nothing(origin: int, buckets: int, period: int) -> None:
    """In a download, the first bytes may arrive before the client has read the start signal; in a
    short one, all bytes may."""
    series = Series(origin_ns=origin, width_ns=10 * MS, bytes=(7,) * buckets)
    none = End([])
    found = course.intervals(range(period, SECOND, period), curve(series), 0, none, none, None)
    assert sum(interval.bytes for interval in found) == 7 * buckets
    assert all(before.end_ns == after.start_ns for before, after in pairwise(found))
    assert all(interval.duration_ns > 0 for interval in found)
    assert found[0].start_ns == min(0, origin)
    assert found[-1].end_ns == origin + buckets * 10 * MS


@given(
    st.integers(10 * MS, 100 * SECOND),
    st.integers(1, 86_400 * SECOND),
    st.integers(1, 128),
)
@example(10 * MS, 10_000 * SECOND + 1, 1)
def test_periods_are_joined_until_they_tell_something(period: int, span: int, streams: int) -> None:
    joined = course.joined_period_ns(period, span, [sender()] * streams)
    assert joined % period == 0
    assert joined >= course.LEAST_NS
    assert joined >= course.SAMPLES * 100 * MS
    assert span / joined <= course.MAX_INTERVALS
    assert streams * span / joined <= max(course.MAX_STREAM_INTERVALS, 10 * streams)
    # and no further
    less = joined - period
    assert (
        less < max(course.LEAST_NS, course.SAMPLES * 100 * MS)
        or span / less > course.MAX_INTERVALS
        or streams * (span / less + 1) > course.MAX_STREAM_INTERVALS
    )


def test_windows_of_columns() -> None:
    at, column = (0, 10, 20), (5, 15, 55)
    assert grown(at, column, None) == 50
    assert grown(at, column, Window(5, 15)) == pytest.approx(25)
    assert grown(at, column, Window(-5, 5)) == pytest.approx(5)
    assert grown(at, column, Window(30, 40)) == 0
    assert grown(at, None, None) is None
    assert grown((0,), (5,), None) is None
    assert list(indices(at, Window(0, 10))) == [1]
    assert list(indices(at, None)) == [0, 1, 2]
    assert (covered(at, None), covered(at, Window(15, 99)), covered(at, Window(30, 40))) == (
        20,
        5,
        0,
    )


def test_a_counter_that_falls_is_of_several_connections() -> None:
    """In repeated transfers by URL, the counts of one connection say nothing about the next."""
    at, column = (0, 10, 20, 30), (5, 15, 3, 8)
    assert grown(at, column, None) is None
    assert grown(at, column, Window(5, 25)) is None
    assert grown(at, column, Window(22, 28)) == pytest.approx(3)


def test_an_interval_without_samples_says_nothing() -> None:
    late = Window(10 * SECOND, 11 * SECOND)
    assert limits(End([sender()]), End([]), Rate(None, None), late) is None


def test_the_variation_of_a_rate() -> None:
    plain = variation(curve(SERIES), 0, 4 * SECOND)
    assert plain is not None
    assert plain.ratio == pytest.approx(0.0, abs=1e-9)
    assert plain.part_ns == 400 * MS
    assert variation(curve(SERIES), 0, 100 * MS) is None
    halves = Series(origin_ns=0, width_ns=10 * MS, bytes=(1,) * 100 + (3,) * 100)
    changed = variation(curve(halves), 0, 2 * SECOND)
    assert changed is not None
    assert changed.ratio == pytest.approx(0.5)
    nothing = Series(origin_ns=0, width_ns=10 * MS, bytes=(0,) * 200)
    assert variation(curve(nothing), 0, 2 * SECOND) is None


def test_stalls_are_no_variation_of_a_rate() -> None:
    counts = [7] * 200
    counts[0:20] = [0] * 20
    counts[90:130] = [0] * 40
    series = Series(origin_ns=0, width_ns=10 * MS, bytes=tuple(counts))
    stalls = [
        Stretch(start_ns=0, end_ns=200 * MS, bytes=0),
        Stretch(start_ns=900 * MS, end_ns=1300 * MS, bytes=0),
    ]
    found = variation(curve(series), 0, 2 * SECOND, stalls)
    assert found is not None
    assert found.ratio == pytest.approx(0.0, abs=1e-9)
    assert found.part_ns == 140 * MS
    with_them = variation(curve(series), 0, 2 * SECOND)
    assert with_them is not None
    assert with_them.ratio > 0.3
