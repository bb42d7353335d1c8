"""Test that many streams of a test start together, and what their reports hold."""

from __future__ import annotations

import pytest

from netmeasure.clock import MILLISECOND_NS, SECOND_NS
from support.measured import BOTH_WAYS, RunLoop, measured, spec
from support.optional import known

STREAMS, SPAN_S = 128, 2


@pytest.mark.rates
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_they_start_together(run_once: RunLoop, direction: str) -> None:
    """Each of them takes as much of the CPUs as it gets, as soon as it has started."""
    mine, _ = run_once(measured(spec(direction, STREAMS, duration_s=SPAN_S)))
    assert mine.complete
    for stream in mine.flow.streams:
        assert known(known(stream.sender).first_ns) < SPAN_S * SECOND_NS / 4


def test_reports_of_many_streams_are_rarer(run_once: RunLoop) -> None:
    mine, _ = run_once(measured(spec("upload", STREAMS, duration_s=SPAN_S)))
    for stream in mine.flow.streams:
        for report in (known(stream.sender), known(stream.receiver)):
            moments = known(report.thread).at_ns
            assert known(report.tcp_info).at_ns == (*moments[:-1:2], moments[-1])
            assert known(report.series).width_ns == 3 * MILLISECOND_NS
            assert known(report.series).total_bytes == report.bytes
