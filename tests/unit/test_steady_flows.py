"""Test what decides on a flow's steady state: round trips of either end, and enough time."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.bench_analysis import analysed, report
from msgspec.structs import replace

from netmeasure.clock import MILLISECOND_NS
from netmeasure.result import Flow, SideReport, StreamReport
from netmeasure.spec import TcpSpec, Timing

#: 1.5 s in buckets of 10 ms.
BYTES = np.full(150, 100_000)


def flow(sender: StreamReport, receiver: StreamReport, seconds: float = 1.5) -> Flow:
    spec = TcpSpec(timing=Timing(duration_s=seconds))
    (found,) = analysed(spec, SideReport(streams=(sender,)), SideReport(streams=(receiver,)))
    return found


def with_rtt(one: StreamReport, rtt_ms: int | None) -> StreamReport:
    assert one.tcp_info is not None
    times = None if rtt_ms is None else (rtt_ms * MILLISECOND_NS,) * len(one.tcp_info.at_ns)
    return replace(one, tcp_info=replace(one.tcp_info, min_rtt_ns=times))


@pytest.mark.parametrize(
    ("sender_ms", "receiver_ms", "verdict"),
    [
        (1, 1, "steady"),
        (100, None, "too_short"),
        (None, 100, "too_short"),
        (1, 100, "steady"),  # the sender measures it all the time, the receiver hardly once
        (None, None, "steady"),
    ],
)
def test_the_round_trip_is_known_from_either_end(
    sender_ms: int | None, receiver_ms: int | None, verdict: str
) -> None:
    sender = with_rtt(report(1, "sender", BYTES), sender_ms)
    receiver = with_rtt(report(1, "receiver", BYTES), receiver_ms)
    found = flow(sender, receiver).steady
    assert found is not None
    assert found.verdict == verdict


def test_a_sender_without_tcp_info_leaves_the_receivers() -> None:
    sender = replace(report(1, "sender", BYTES), tcp_info=None)
    found = flow(sender, with_rtt(report(1, "receiver", BYTES), 100)).steady
    assert found is not None
    assert (found.verdict, found.grade) == ("too_short", None)


def test_what_came_within_a_bucket_has_no_steady_state() -> None:
    sender = report(1, "sender", BYTES[:1])
    receiver = replace(report(1, "receiver", BYTES[:1]), last_ns=MILLISECOND_NS)
    assert flow(sender, receiver).steady is None
