"""Test that the clock of set-up stands still while other work is done."""

from __future__ import annotations

import time

from netmeasure.clock import now_ns
from netmeasure.engine.phases import PhaseLog

PAUSE_S = 0.02


def test_what_is_done_in_a_pause_is_no_part_of_set_up() -> None:
    log = PhaseLog()
    began_ns = log.origin_ns
    with log.measure("control", "control"):
        pass
    before_ns = now_ns() - log.origin_ns
    with log.paused():
        time.sleep(PAUSE_S)
    first, second = log.origin_ns - began_ns, log.origin_ns
    assert first >= PAUSE_S * 1e9
    with log.measure("connect", "stream 1"):
        pass
    whole_ns = now_ns() - second
    phases = {phase.name: phase for phase in log.collected(whole_ns)}
    assert 0 <= phases["control"].start_ns <= phases["control"].end_ns <= before_ns
    assert phases["control"].end_ns <= phases["connect"].start_ns <= whole_ns
    assert whole_ns <= now_ns() - began_ns - PAUSE_S * 1e9
