"""Check the reported events of real transfers: a part of `python -m benchmarks.bench_events`.

Each result must show what the relay did to the line, and the counts of the relay and the receiver
must show that the relay did it. The transfers wait more than they compute, so all run concurrently.
"""

from __future__ import annotations

import pytest
from benchmarks.events import OUTAGE_S, Case, Outcome, measure_all

from support import relay

pytestmark = [
    pytest.mark.rates,
    pytest.mark.network,
    pytest.mark.skipif(
        relay.available() is not None, reason=relay.available() or "the relay works"
    ),
]

CASES = [
    Case("cubic", 40, "outage", 0.45),
    Case("bbr", 40, "outage", 0.45),
    Case("bbr", 40, "down", 0.40),
    Case("reno", 10, "up", 0.45, seconds=6),
]


def check_outage(found: Outcome) -> None:
    """Check that one stall contains the outage.

    Data in flight at its start arrived within 0.2 s, and no other data before its end.
    """
    assert found.counts.lost_packets > 0  # packets that arrived at the line while it was cut
    assert found.end_ns - found.begin_ns >= OUTAGE_S * 1e9
    assert found.steady.start_ns < found.begin_ns
    assert any(
        stall.start_ns <= found.begin_ns + 0.2e9
        and stall.end_ns >= found.begin_ns + OUTAGE_S * 1e9 - found.steady.batch_ns
        for stall in found.steady.stalls
    )


def check_step(found: Outcome) -> None:
    """Check that the line was never cut, and carried no more than its rates allow."""
    assert found.counts.lost_packets == 0
    assert found.steady.verdict in ("shifted", "not_steady")
    before, after = found.case.rates_bps
    assert 0.5 * min(before, after) < found.steady.goodput_bps < max(before, after)


def test_each_event_on_a_line_is_reported() -> None:
    for found in measure_all(CASES, len(CASES)):
        assert found.counts.overrun_packets == 0
        assert found.received_bytes <= found.counts.forwarded_bytes
        assert found.told_as, (found.case, found.steady, found.shape_mbps)
        if found.case.event == "outage":
            check_outage(found)
        else:
            check_step(found)
