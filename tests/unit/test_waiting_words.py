"""Test what a user reads while set-up waits: what it waits for, and for which stream."""

from __future__ import annotations

import pytest

import netmeasure as nm
from netmeasure.engine.progress import Progress
from netmeasure.report.live import LiveState, waiting_words
from netmeasure.result import Interval, Phase, StreamInterval
from netmeasure.result.events import IntervalEvent, PhaseEvent, WaitingEvent


@pytest.mark.parametrize(
    ("step", "connection", "words"),
    [
        ("resolve", "control", "looking the name up"),
        ("control", "control", "connected, but the server has not answered"),
        ("greeting", "stream 1 control", "connected, but no greeting has come (stream 1)"),
        ("first_byte", "16 streams", "no data have come"),
        ("request", "stream 1 #2", "the request is sent, no answer has come (stream 1)"),
        ("proxy", "stream 1", "connected, but the proxy has not answered (stream 1)"),
        ("response", "connections", "requests are sent, no response has come"),
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
    ("elapsed_s", "step", "last"),
    [
        (1.5, None, "upload"),  # the last interval may be a little late
        (1.5, "connect", "upload"),  # a later connection, while data flow on others
        (4.5, None, "waiting for 2.5 s: the last data have not arrived"),
        (
            4.5,
            "results",
            "waiting for 1.5 s: the data are over, the server's results have not come",
        ),
        (
            1.5,
            "last_reply",
            "waiting for 1.5 s: the data are over, no final reply has come",
        ),
        (1.5, "response", "waiting for 1.5 s: requests are sent, no response has come"),
    ],
)
def test_a_wait_beside_the_data_is_told(elapsed_s: float, step: str | None, last: str) -> None:
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
    event = None
    if step is not None:
        event = WaitingEvent(at_ns=0, step=step, connection="control", waited_ns=1_500_000_000)
    lines = state.lines(event, elapsed_s)
    assert lines[-1].startswith(last)
    assert len(lines) == (3 if last == "upload" else 4)


def test_each_stream_has_a_line_on_request() -> None:
    streams = (
        StreamInterval(id=1, bytes=1_000_000, rtt_ns=20_000_000, retransmits=3),
        StreamInterval(id=3, bytes=500_000, lost_packets=2),
    )
    interval = Interval(
        direction="upload",
        counted_by="sender",
        start_ns=0,
        end_ns=10**9,
        bytes=1_500_000,
        streams=streams,
    )
    shown = {}
    for per_stream in (False, True):
        state = LiveState(nm.TcpSpec(streams=2), "lab1", per_stream=per_stream)
        state.add(IntervalEvent(at_ns=0, interval=interval))
        shown[per_stream] = [" ".join(line.split()) for line in state.lines(None, 1.0)]
    assert shown[True][-3].startswith("upload 12.0 Mbit/s")
    assert shown[True][-2:] == [
        "stream 1 8.00 Mbit/s RTT 20.0 ms 3 retransmits",
        "stream 3 4.00 Mbit/s 2 lost",
    ]
    assert shown[False] == shown[True][:-2]


def test_a_step_is_waited_for_until_it_is_over() -> None:
    progress = Progress(lambda _: None)
    over: list[bool] = []
    with (
        progress.step("first_byte", "stream 1", lambda: bool(over)),
        progress.step("request", "stream 2"),
    ):
        assert waited(progress) == ("first_byte", "stream 1")
        over.append(True)
        assert waited(progress) == ("request", "stream 2")
    assert progress.waiting() is None


def waited(progress: Progress) -> tuple[str, str]:
    found = progress.waiting()
    assert found is not None
    return found.step, found.connection


def test_the_size_of_datagrams_is_told_once_it_is_known() -> None:
    unknown, known = nm.UdpSpec(target_bps=10**6), nm.UdpSpec(target_bps=10**6, datagram_bytes=1400)
    first, second = (LiveState(spec, "lab1").lines(None, 0.0)[0] for spec in (unknown, known))
    assert first == "UDP upload at 1.00 Mbit/s, 1 stream, 10.0 s, lab1"
    assert second == first.replace(", 1 stream", ", datagrams of 1400 bytes, 1 stream")


@pytest.mark.parametrize(
    ("syns", "words"), [(0, "took 3.00 s"), (1, "1 SYN lost"), (2, "2 SYNs lost")]
)
def test_a_phase_that_is_over_tells_its_lost_syns(syns: int, words: str) -> None:
    phase = Phase(
        name="connect",
        connection="control",
        start_ns=0,
        duration_ns=3 * 10**9,
        syn_retransmits=syns,
    )
    state = LiveState(nm.TcpSpec(), "lab1")
    state.add(PhaseEvent(at_ns=0, phase=phase))
    assert state.lines(None, 0.0)[-1].endswith(words)
