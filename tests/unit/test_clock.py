"""Test the conversion between the two clocks, with faked clocks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netmeasure import clock

#: The wall clock less the other one.
OFFSET_NS = 1_700_000_000_000_000_000
#: How long a reading takes, and how long a thread without a CPU.
STEP_NS, LOST_NS = 200, 3_000_000


class Clocks:
    """Two clocks that take a step at each reading; at some readings the thread loses its CPU before
    it can return."""

    def __init__(self, lost_at: set[int]) -> None:
        self.now = 0
        self._lost_at = lost_at
        self._readings: Iterator[int] = iter(range(1000))

    def read(self, offset: int = 0) -> int:
        found = self.now + offset
        self.now += LOST_NS if next(self._readings) in self._lost_at else STEP_NS
        return found


@pytest.mark.parametrize("lost_at", [set(), {0}, {1}, {0, 4}, {1, 3}], ids=str)
def test_a_thread_without_a_cpu_does_not_move_a_moment(
    monkeypatch: pytest.MonkeyPatch, lost_at: set[int]
) -> None:
    """The first readings are of CLOCK_MONOTONIC, of the wall clock, and again of the first one."""
    clocks = Clocks(lost_at)
    monkeypatch.setattr(clock, "now_ns", clocks.read)
    monkeypatch.setattr(clock, "unix_ns", lambda: clocks.read(OFFSET_NS))
    moment = -5_000_000
    assert abs(clock.from_unix_ns(OFFSET_NS + moment) - moment) <= STEP_NS


def test_a_moment_of_a_clock_that_was_set_back_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(set())
    monkeypatch.setattr(clock, "now_ns", clocks.read)
    monkeypatch.setattr(clock, "unix_ns", lambda: clocks.read(OFFSET_NS))
    assert clock.from_unix_ns(OFFSET_NS + 10**9) <= clocks.now
