"""The native loops of round trips by UDP: lost, late and duplicate responses must not be in the
latencies."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from netmeasure._fast.round_trips import DatagramRequester, DatagramResponder, Requester, Responder
from netmeasure._fast.worker import Group
from support.tcp_rig import PATIENCE_S
from support.udp_rig import pair

MS = 1_000_000
SIZE = 16
NUMBER = 8
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with pair() as (left, right):
        right.settimeout(PATIENCE_S)
        yield left, right


def begun(*loops: Requester | Responder) -> list[threading.Thread]:
    threads = [threading.Thread(target=loop.run) for loop in loops]
    for thread in threads:
        thread.start()
    return threads


def joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def requester(
    group: Group, sock: socket.socket, lost_after_ms: int = 20_000, **more: int
) -> DatagramRequester:
    return DatagramRequester(
        group,
        sock.fileno(),
        payload=bytes(SIZE),
        response_bytes=SIZE,
        lost_after_ns=lost_after_ms * MS,
        **more,
    )


@pytest.mark.parametrize("in_flight", [1, 9])
def test_every_transaction_counts(ends: Ends, in_flight: int) -> None:
    asking, answering = Group(300 * SIZE), Group()
    asks = requester(asking, ends[0], in_flight=in_flight)
    answers = DatagramResponder(
        answering, ends[1].fileno(), request_bytes=SIZE, payload=bytes(SIZE)
    )
    threads = begun(asks, answers)
    asking.open()
    joined(threads[:1])
    answering.stop()
    joined(threads)
    assert (asks.reason, answers.reason) == ("budget", "stopped")
    assert (asks.begun, asks.answered, asks.lost, asks.latency.count) == (300, 300, (0, 0), 300)
    assert asks.bytes == asks.acked_bytes == answers.bytes == answers.acked_bytes == 300 * SIZE
    assert sum(asks.latency_sums()[2]) == asks.latency.sum_ns
    assert (asks.late_responses, asks.invalid_responses, asks.refused) == (0, 0, 0)


def test_what_comes_after_it_was_lost_is_in_no_latency(ends: Ends) -> None:
    """The response to request 5 comes when the next request shows that it was given up; requests 0
    and 9 have none, and request 12 has two."""
    asking = Group(20 * SIZE)
    asks = requester(asking, ends[0], lost_after_ms=150)
    threads = begun(asks)
    asking.open()
    held = b""
    for count in range(20):
        request = ends[1].recv(100)
        assert len(request) == SIZE
        if count == 5:
            held = request
            continue
        if held:
            ends[1].send(held)
            held = b""
        if count not in (0, 9):
            ends[1].send(request)
        if count == 12:
            ends[1].send(request)
    joined(threads)
    # a machine that is busy for so long adds to what is lost, and to what is late
    assert asks.begun == 20 == asks.answered + asks.lost[0]
    assert asks.latency.count == asks.answered
    assert asks.lost[0] >= 3
    assert asks.lost[1] == 0  # nothing was to be omitted, not even before the first response
    assert asks.late_responses >= 2
    assert asks.invalid_responses == 0


def test_what_answers_no_request_is_told_apart(ends: Ends) -> None:
    asking = Group(SIZE)
    asks = requester(asking, ends[0])
    threads = begun(asks)
    asking.open()
    request = ends[1].recv(100)
    ends[1].send(b"6789")  # the answer to a hello that was sent twice: it tells nothing
    ends[1].send(b"too short")
    ends[1].send(request + b"longer")
    ends[1].send(b"\xff" * SIZE)
    ends[1].send(bytes(SIZE))
    ends[1].send(request)
    joined(threads)
    assert (asks.answered, asks.invalid_responses, asks.late_responses) == (1, 4, 0)


def test_a_refusing_host_is_counted_and_ends_nothing() -> None:
    with pair() as (sock, other):
        other.connect(("127.0.0.1", 1))  # it takes nothing from others
        asking = Group()
        asks = requester(asking, sock, lost_after_ms=20, duration_ns=100 * MS)
        threads = begun(asks)
        asking.open()
        joined(threads)
    assert asks.reason == "deadline"
    assert asks.begun == asks.lost[0] > 0
    assert asks.refused > 0
    assert asks.latency.count == 0


def test_a_repeated_hello_is_answered_and_is_no_request(ends: Ends) -> None:
    answering = Group()
    answers = DatagramResponder(
        answering,
        ends[0].fileno(),
        request_bytes=SIZE,
        payload=b"a" * SIZE,
        hello=b"9876",
        hello_bytes=SIZE,
        hello_reply=b"6789",
    )
    threads = begun(answers)
    ends[1].send(b"9876" + bytes(SIZE - 4))
    assert ends[1].recv(100) == b"6789"
    request = bytes(range(SIZE))
    ends[1].send(request)
    assert ends[1].recv(100) == request[:NUMBER] + b"a" * (SIZE - NUMBER)
    answering.abort()
    joined(threads)
    assert answers.bytes == SIZE


def test_nonsense_is_refused(ends: Ends) -> None:
    with pytest.raises(ValueError, match="at least 8 bytes"):
        DatagramRequester(Group(), ends[0].fileno(), payload=b"q", response_bytes=SIZE)
    with pytest.raises(ValueError, match="at least 8 bytes"):
        DatagramResponder(Group(), ends[0].fileno(), request_bytes=SIZE, payload=b"a")
    with pytest.raises(ValueError, match="positive"):
        requester(Group(), ends[0], lost_after_ms=0)
