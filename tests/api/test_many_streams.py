"""Test that many streams of a test start together."""

from __future__ import annotations

import pytest

from netmeasure.clock import SECOND_NS
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
