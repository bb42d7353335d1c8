"""What a user reads while set-up waits: what for, and of which stream."""

from __future__ import annotations

import pytest

import netmeasure as nm
from netmeasure.report.live import LiveState, waiting_words
from netmeasure.result import Interval
from netmeasure.result.events import IntervalEvent, WaitingEvent


@pytest.mark.parametrize(
    ("step", "connection", "words"),
    [
        ("resolve", "control", "looking the name up"),
        ("control", "control", "connected, but the server has not answered"),
        ("greeting", "stream 1 control", "connected, but no greeting has come (stream 1)"),
        ("first_byte", "16 streams", "no data have come"),
        ("some_step", "stream 2", "some step (stream 2)"),
    ],
)
def test_a_step_is_told_in_words(step: str, connection: str, words: str) -> None:
    event = WaitingEvent(at_ns=0, step=step, connection=connection, waited_ns=1_500_000_000)
    assert waiting_words(event) == f"waiting for 1.5 s: {words}"


@pytest.mark.parametrize(
    ("syns", "words"), [(1, ", 1 SYN unanswered"), (3, ", 3 SYNs unanswered"), (None, "")]
)
def test_a_connect_tells_its_address_and_its_syns(syns: int | None, words: str) -> None:
    event = WaitingEvent(
        at_ns=0,
        step="connect",
        connection="control",
        address="192.0.2.1:5201",
        waited_ns=3_000_000_000,
        unanswered_syns=syns,
    )
    assert waiting_words(event) == f"waiting for 3.0 s: connecting to 192.0.2.1:5201{words}"


@pytest.mark.parametrize(
    ("elapsed_s", "results", "last"),
    [
        (1.5, False, "upload"),  # the last interval may be a little late
        (4.5, False, "waiting for 2.5 s: the last data have not arrived"),
        (
            4.5,
            True,
            "waiting for 1.5 s: the data are over, the server's results have not come",
        ),
    ],
)
def test_the_end_of_a_test_is_told_where_it_lasts(
    elapsed_s: float, results: bool, last: str
) -> None:
    state = LiveState(nm.TcpSpec(timing=nm.Timing(duration_s=2)), "lab1")
    interval = Interval(
        direction="upload",
        counted_by="sender",
        start_ns=0,
        end_ns=10**9,
        bytes=1000,
        streams=(),
    )
    state.add(IntervalEvent(at_ns=0, interval=interval))
    event = WaitingEvent(at_ns=0, step="results", connection="control", waited_ns=1_500_000_000)
    lines = state.lines(event if results else None, elapsed_s)
    assert lines[-1].startswith(last)
    assert len(lines) == (3 if last == "upload" else 4)
