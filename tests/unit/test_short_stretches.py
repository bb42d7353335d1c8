"""Test that averages end where their bytes end, and that a time that is too short has no rate."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace
from rich.console import Console

from netmeasure.analysis.bottleneck import End, Rate, limits
from netmeasure.measurement.flows import Measured, build_flows
from netmeasure.measurement.intervals import IntervalClock
from netmeasure.report.text import print_report
from netmeasure.report.words import interval_line, server_line
from netmeasure.result import (
    Averages,
    Interval,
    Limits,
    Result,
    Role,
    Series,
    SideReport,
    StreamInterval,
    StreamReport,
    Totals,
)
from netmeasure.spec import TcpSpec, Timing, UdpSpec
from support.recorded import recorded

MS = 1_000_000
SECOND = 1000 * MS


# ---- averages -----------------------------------------------------------------------------------


def stream(role: Role, first_ns: int, last_ns: int, **facts: Any) -> StreamReport:
    return StreamReport(
        id=1,
        role=role,
        bytes=10**7,
        counted_bytes=10**7,
        counted_from_ns=first_ns,
        counted_to_ns=last_ns,
        first_ns=first_ns,
        last_ns=last_ns,
        series=Series(origin_ns=first_ns, width_ns=10 * MS, bytes=(10**7,)),
        **facts,
    )


def averages(sent_to_ns: int, first_ns: int, received_to_ns: int, origin_ns: int) -> Averages:
    """Return the averages of a UDP upload that the client sends in `sent_to_ns` and that arrives
    later."""
    measured = Measured(
        UdpSpec(timing=Timing(total_bytes=10**7), datagram_bytes=1000),
        ["upload"],
        SideReport(streams=(stream("sender", 0, sent_to_ns),)),
        SideReport(streams=(stream("receiver", first_ns, received_to_ns),)),
        origin_ns,
    )
    flows = build_flows(measured)
    return flows[0].averages


def test_a_queue_that_drains_after_the_last_send_counts_in_every_average() -> None:
    found = averages(SECOND, 5 * MS, 1200 * MS, 10 * MS)
    assert found.from_first_attempt_bps == pytest.approx(8e7 / 1.21)
    assert found.from_first_byte_bps == pytest.approx(8e7 / 1.195)


@given(
    sent=st.integers(MS, 10 * SECOND),
    first=st.integers(-50 * MS, 50 * MS),
    span=st.integers(2 * MS, 20 * SECOND),
    origin=st.integers(0, 3 * SECOND),
)
def test_set_up_never_makes_an_average_faster(
    sent: int, first: int, span: int, origin: int
) -> None:
    found = averages(sent, first, first + span, origin)
    assert found.from_first_attempt_bps is not None
    assert found.from_first_byte_bps is not None
    assert found.from_first_attempt_bps <= found.from_first_byte_bps * (1 + 1e-12)


# ---- shares of time -----------------------------------------------------------------------------


def busy(ran_ns: int, span_ns: int) -> Limits | None:
    report = StreamReport(
        id=1,
        role="sender",
        first_ns=0,
        last_ns=span_ns,
        cpu_user_ns=ran_ns // 2,
        cpu_system_ns=ran_ns - ran_ns // 2,
    )
    return limits(End([report]), End([]), Rate(1e6, None))


def test_a_thread_has_one_cpu_at_most() -> None:
    found = busy(990 * MS, SECOND)
    assert found is not None
    assert found.sender_cpu_ratio == pytest.approx(0.99)
    slightly_more = busy(1050 * MS, SECOND)
    assert slightly_more is not None
    assert slightly_more.sender_cpu_ratio == 1.0


def test_time_spent_before_the_first_byte_is_no_share_of_the_bytes_time() -> None:
    """A test of 3 s has one datagram: its bytes take 1 ms, its thread takes 46 ms."""
    assert busy(46 * MS, MS) is None


@pytest.mark.parametrize(
    ("span_ns", "named"), [(SECOND, "sender_cpu"), (MS // 2, None)], ids=["second", "moment"]
)
def test_nothing_limited_what_came_within_a_moment(span_ns: int, named: str | None) -> None:
    series = Series(origin_ns=0, width_ns=span_ns // 10, bytes=(10**6,) * 10)

    def side(role: Role, ran_ns: int) -> SideReport:
        report = stream(role, 0, span_ns, cpu_user_ns=ran_ns, cpu_system_ns=0)
        return SideReport(streams=(replace(report, series=series),))

    sides = side("sender", span_ns), side("receiver", 0)
    (flow,) = build_flows(Measured(TcpSpec(), ["upload"], *sides, 0))
    assert flow.no_steady == (None if named else "too_short")
    assert flow.limits is not None
    assert flow.limits.sender_cpu_ratio == pytest.approx(1)
    assert flow.limits.limited_by == named


# ---- words --------------------------------------------------------------------------------------


def shown(result: Result) -> str:
    paper = io.StringIO()
    print_report(result, Console(file=paper, width=200))
    return paper.getvalue()


def of_a_moment() -> Result:
    """Return a run whose bytes all arrived within 1 ms."""
    result = recorded(1e9)
    flow = result.flows[0]
    assert flow.steady is not None
    steady = replace(
        flow.steady, start_ns=0, end_ns=MS, bytes=256, goodput_bps=2.048e6, verdict="too_short"
    )
    spent = Totals(bytes=256, cpu_user_ns=20 * MS, cpu_system_ns=27 * MS)
    flow = replace(
        flow,
        ramp=None,
        steady=steady,
        sender=spent,
        receiver=spent,
        limits=Limits(limited_by="sender_cpu", sender_cpu_ratio=46.27, sender_wait_ratio=869.0),
    )
    return replace(result, flows=(flow,))


def test_a_moment_has_no_rate_and_no_share() -> None:
    lines = [" ".join(line.split()) for line in shown(of_a_moment()).split("\n")]
    words = "best effort: too short to tell; bytes received over 1.00 ms"
    assert f"steady bitrate unknown {words}" in lines
    assert any(line.startswith("sender's CPU unknown of one CPU") for line in lines)
    assert "limited by the sender's CPU" in lines
    assert "2.05 Mbit/s" not in " ".join(lines) + server_line(of_a_moment())


def interval(start_ns: int, end_ns: int, count: int) -> Interval:
    return Interval(
        direction="upload",
        counted_by="receiver",
        start_ns=start_ns,
        end_ns=end_ns,
        bytes=count,
        streams=(StreamInterval(id=1, bytes=count),),
    )


def test_a_live_interval_of_a_moment_has_no_rate() -> None:
    assert "15 B            -" in interval_line(interval(2 * SECOND, 2 * SECOND + 1, 15))
    assert "15 B   120 kbit/s" in interval_line(interval(0, 2 * MS, 30)).replace("30 B", "15 B")


# ---- the last interval --------------------------------------------------------------------------


class Counted:
    """Act as a receiver whose last bytes arrived at the edge of an interval, and were counted after
    it."""

    origin_ns = first_ns = 1000 * SECOND
    last_ns = origin_ns + 2 * SECOND
    bucket_ns = 10 * MS

    def __init__(self) -> None:
        self.bytes = 0

    def ids(self, role: str) -> tuple[int, ...]:
        return (1,) if role == "receiver" else ()

    def levels(self, role: str, until_ns: int) -> tuple[StreamInterval, ...]:
        return (StreamInterval(id=1, bytes=1000 if until_ns < 2**62 else 1015),)


def test_the_last_interval_is_no_shorter_than_what_the_series_resolves() -> None:
    told: list[Interval] = []
    clock = IntervalClock(
        Counted(),
        Timing(duration_s=2),
        2.0,
        told.append,
        lambda direction: "receiver" if direction == "upload" else "sender",
    )
    clock._ended = Counted.last_ns
    clock._next(SECOND)
    clock._next(2 * SECOND)
    clock.last()
    last = told[-1]
    assert (last.start_ns, last.bytes) == (2 * SECOND, 15)
    assert last.duration_ns == Counted.bucket_ns
    assert sum(one.bytes for one in told) == 1015
