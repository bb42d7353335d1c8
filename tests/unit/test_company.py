"""Test by how much a server's tests overlap, on a clock that the tests set."""

from __future__ import annotations

import pytest

from netmeasure.peer.server import company
from netmeasure.peer.server.company import Company


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1000

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(company, "now_ns", clock)
    return clock


def test_a_test_alone(clock: Clock) -> None:
    alone = Company().join()
    clock.now_ns += 10
    alone.leave()
    assert alone.mean == 1


def test_tests_that_overlap_by_halves(clock: Clock) -> None:
    together = Company()
    first = together.join()
    clock.now_ns += 10
    second = together.join()
    clock.now_ns += 10
    first.leave()
    clock.now_ns += 30
    second.leave()
    clock.now_ns += 1000
    later = together.join()
    clock.now_ns += 10
    later.leave()
    assert (first.mean, second.mean, later.mean) == (1.5, 1.25, 1)


def test_a_test_leaves_once(clock: Clock) -> None:
    together = Company()
    first, second = together.join(), together.join()
    clock.now_ns += 10
    first.leave()
    clock.now_ns += 10
    first.leave()
    second.leave()
    assert (first.mean, second.mean) == (2, 1.5)


def test_before_the_end_and_in_no_time_there_is_no_mean(clock: Clock) -> None:
    together = Company()
    one = together.join()
    clock.now_ns += 10
    assert one.mean is None
    at_once = together.join()
    at_once.leave()
    assert at_once.mean is None
