"""Several UDP streams share a thread: each counts, loses and waits as if it had one of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from netmeasure._fast.round_trips import (
    DatagramRequester,
    DatagramResponder,
    Requester,
    Responder,
    SharedLoop,
)
from netmeasure._fast.worker import Group
from support.census import settle
from support.tcp_rig import PATIENCE_S
from support.udp_rig import pair

MS = 1_000_000
SIZE = 16
STREAMS = 5
Pairs = list[tuple[socket.socket, socket.socket]]


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    with ExitStack() as stack:
        yield [stack.enter_context(pair()) for _ in range(STREAMS)]


def begun(loops: Sequence[Requester | Responder]) -> threading.Thread:
    """Return the thread that runs all loops."""
    shared = SharedLoop()
    for loop in loops:
        shared.add(loop)
    thread = threading.Thread(target=shared.run)
    thread.start()
    return thread


def joined(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def requesters(
    pairs: Pairs, group: Group, lost_after_ms: int = 20_000, **more: int
) -> list[DatagramRequester]:
    return [
        DatagramRequester(
            group,
            left.fileno(),
            payload=bytes(SIZE),
            response_bytes=SIZE,
            lost_after_ns=lost_after_ms * MS,
            **more,
        )
        for left, _ in pairs
    ]


def responders(pairs: Pairs, group: Group) -> list[DatagramResponder]:
    return [
        DatagramResponder(
            group,
            right.fileno(),
            request_bytes=SIZE,
            payload=bytes(SIZE),
            hello=b"9876",
            hello_bytes=40,
            hello_reply=b"6789",
        )
        for _, right in pairs
    ]


@pytest.mark.parametrize("in_flight", [1, 9])
def test_every_transaction_counts(pairs: Pairs, in_flight: int) -> None:
    asking, answering = Group(500 * SIZE), Group()
    asks = requesters(pairs, asking, in_flight=in_flight)
    answers = responders(pairs, answering)
    threads = begun(asks), begun(answers)
    asking.open()
    joined(threads[0])
    answering.stop()
    joined(threads[1])
    assert sum(one.begun for one in asks) == 500
    for one, other in zip(asks, answers, strict=True):
        count = one.begun
        assert (one.reason, other.reason) == ("budget", "stopped")
        assert 0 < count == one.answered == one.latency.count
        assert one.bytes == one.acked_bytes == other.bytes == other.acked_bytes == count * SIZE
        assert sum(one.latency_sums()[2]) == one.latency.sum_ns
        assert one.lost == (0, 0)
        assert (one.late_responses, one.invalid_responses, one.refused) == (0, 0, 0)


def test_lost_requests_are_counted_and_do_not_hold_up_the_others(pairs: Pairs) -> None:
    """The first stream's requests get no answer: each is lost after 40 ms."""
    asking, answering = Group(), Group()
    asks = requesters(pairs, asking, lost_after_ms=40, duration_ns=200 * MS)
    answers = responders(pairs[1:], answering)
    threads = begun(asks), begun(answers)
    asking.open()
    joined(threads[0])
    answering.stop()
    joined(threads[1])
    assert {one.reason for one in asks} == {"deadline"}
    silent, *others = asks
    assert silent.answered == silent.latency.count == 0
    assert silent.lost[0] == silent.begun
    assert 2 <= silent.begun <= 6
    for one in others:
        assert one.begun == one.answered + one.lost[0]
        assert one.answered > silent.begun


def test_a_port_that_nobody_listens_on_ends_nothing(pairs: Pairs) -> None:
    pairs[0][1].close()
    asking, answering = Group(), Group()
    asks = requesters(pairs, asking, lost_after_ms=40, duration_ns=150 * MS)
    answers = responders(pairs[1:], answering)
    threads = begun(asks), begun(answers)
    asking.open()
    joined(threads[0])
    answering.stop()
    joined(threads[1])
    assert {one.reason for one in asks} == {"deadline"}
    assert asks[0].refused >= 1
    assert asks[0].answered == 0
    assert all(one.answered > 0 for one in asks[1:])


@pytest.mark.parametrize("how", ["stop", "abort"])
def test_orders_end_what_waits(pairs: Pairs, how: str) -> None:
    """Requesters wait for answers, and responders for requests."""
    asking, answering = Group(), Group()
    asks = requesters(pairs[:3], asking, drain_ns=20 * MS)
    answers = responders(pairs[3:], answering)
    threads = begun(asks), begun(answers)
    asking.open()
    assert settle(lambda: all(one.begun == 1 for one in asks))
    for group in (asking, answering):
        getattr(group, how)()
    joined(*threads)
    wanted = {"stop": "stopped", "abort": "aborted"}[how]
    assert {one.reason for one in (*asks, *answers)} == {wanted}


def test_hellos_and_strange_datagrams_are_told_apart(pairs: Pairs) -> None:
    group = Group()
    answers = responders(pairs, group)
    thread = begun(answers)
    left = pairs[1][0]
    left.settimeout(PATIENCE_S)
    left.send(b"9876".ljust(40))
    assert left.recv(100) == b"6789"
    left.send(bytes(SIZE - 1))
    left.send(b"12345678".ljust(SIZE))
    assert left.recv(100) == b"12345678".ljust(SIZE, b"\0")
    group.stop()
    joined(thread)
    assert [one.invalid_requests for one in answers] == [0, 1, 0, 0, 0]
    assert [one.bytes for one in answers] == [0, SIZE, 0, 0, 0]
