"""The native loops of round trips: every transaction is timed, and no wait is hidden."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from netmeasure._fast.round_trips import Histogram, Requester, Responder
from netmeasure._fast.worker import Group
from netmeasure.clock import now_ns
from support.census import settle
from support.tcp_rig import PATIENCE_S, tcp_pair

MS = 1_000_000


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = tcp_pair()
    for sock in pair:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    yield pair.left, pair.right
    for sock in pair:
        sock.close()


def begun(*loops: Requester | Responder) -> list[threading.Thread]:
    threads = [threading.Thread(target=loop.run) for loop in loops]
    for thread in threads:
        thread.start()
    return threads


def joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


Ends = tuple[socket.socket, socket.socket]


def test_the_histogram_holds_three_digits() -> None:
    histogram = Histogram()
    values = [0, 1, 999, 2047, 2048, 123_456, 10**6 + 7, 987_654_321, 60 * 10**9]
    for value in values:
        histogram.add(value)
    assert (histogram.count, histogram.min_ns, histogram.max_ns) == (len(values), 0, values[-1])
    assert histogram.sum_ns == sum(values)
    for (start, end, count), value in zip(histogram.buckets(), values, strict=True):
        assert start <= value < end
        assert count == 1
        assert (start + end - 1) / 2 == pytest.approx(value, rel=0.0005, abs=0.5)
    assert Histogram().min_ns is None


@pytest.mark.parametrize("in_flight", [1, 7])
@pytest.mark.parametrize(("request_bytes", "response_bytes"), [(1, 1), (100_000, 3), (5, 100_000)])
def test_every_transaction_counts(
    ends: Ends, in_flight: int, request_bytes: int, response_bytes: int
) -> None:
    asking, answering = Group(300 * request_bytes), Group()
    requester = Requester(
        asking,
        ends[0].fileno(),
        payload=b"q" * request_bytes,
        response_bytes=response_bytes,
        in_flight=in_flight,
    )
    responder = Responder(
        answering, ends[1].fileno(), request_bytes=request_bytes, payload=b"a" * response_bytes
    )
    threads = begun(requester, responder)
    asking.open()
    joined(threads)
    assert (requester.reason, responder.reason) == ("budget", "eof")
    assert (requester.begun, requester.answered, requester.latency.count) == (300, 300, 300)
    assert requester.bytes == requester.acked_bytes == responder.bytes == 300 * request_bytes
    assert responder.acked_bytes == 300 * response_bytes
    assert sum(requester.series()[2]) == 300 * request_bytes
    assert sum(requester.latency_sums()[2]) == requester.latency.sum_ns
    assert requester.latency_sums()[:2] == requester.series()[:2]


def test_a_slow_answer_does_not_hide_the_waits_behind_it(ends: Ends) -> None:
    """At 200 requests a second, an answer that takes 200 ms delays 40 requests: each waits for less
    than the one before (no coordinated omission)."""
    group = Group()
    requester = Requester(group, ends[0].fileno(), payload=b"q", duration_ns=600 * MS, per_s=200)

    def answer() -> None:
        count = 0
        while ends[1].recv(1):
            count += 1
            if count == 20:
                time.sleep(0.2)
            ends[1].sendall(b"a")

    answering = threading.Thread(target=answer)
    answering.start()
    threads = begun(requester)
    group.open()
    joined([*threads, answering])
    waited = sum(count for start, _, count in requester.latency.buckets() if start > 50 * MS)
    assert requester.latency.max_ns is not None
    assert requester.latency.max_ns >= 200 * MS
    assert waited >= 28  # those that were due in the first 150 of the 200 ms
    assert requester.begun + requester.skipped == 120


def test_a_rate_that_the_peer_keeps_up_with_is_kept(ends: Ends) -> None:
    asking = Group()
    requester = Requester(
        asking, ends[0].fileno(), payload=b"q", in_flight=64, duration_ns=300 * MS, per_s=500
    )
    threads = begun(requester, Responder(Group(), ends[1].fileno(), payload=b"a"))
    opened = asking.open()
    joined(threads)
    assert requester.begun + requester.skipped == 150
    assert (requester.ended_ns or 0) - opened >= 300 * MS
    assert (requester.last_ns or 0) - opened >= 250 * MS
    assert requester.late[0] <= 150


def test_what_comes_in_the_omitted_time_is_in_no_latency(ends: Ends) -> None:
    asking = Group()
    requester = Requester(
        asking, ends[0].fileno(), payload=b"q", duration_ns=200 * MS, omit_ns=100 * MS
    )
    threads = begun(requester, Responder(Group(), ends[1].fileno(), payload=b"a"))
    asking.open()
    joined(threads)
    assert requester.reason == "deadline"
    assert requester.answered == sum(requester.series()[2]) > requester.latency.count > 0


@pytest.mark.parametrize("how", ["stop", "abort"])
def test_orders_end_both_ends(ends: Ends, how: str) -> None:
    asking, answering = Group(), Group()
    requester = Requester(asking, ends[0].fileno(), payload=b"q")
    responder = Responder(answering, ends[1].fileno(), payload=b"a")
    threads = begun(requester, responder)
    asking.open()
    while requester.answered < 10:
        time.sleep(0.001)
    if how == "stop":
        asking.stop()
    else:
        asking.abort()
        answering.abort()
        for sock in ends:
            with suppress(OSError):  # the other end's may have reset it
                sock.shutdown(socket.SHUT_RDWR)
    joined(threads)
    assert requester.reason == {"stop": "stopped", "abort": "aborted"}[how]
    assert requester.begun - requester.answered in ({0} if how == "stop" else {0, 1})


def test_a_responder_without_requests_has_samples_of_its_thread(ends: Ends) -> None:
    """A gap between two of them would be a pause of its host."""
    group = Group()
    responder = Responder(group, ends[1].fileno(), payload=b"a")
    threads = begun(responder)
    time.sleep(0.45)
    group.stop()
    joined(threads)
    assert len(responder.cpu_samples()) >= 3


def test_a_responder_stops_beside_a_requester_that_goes_on(ends: Ends) -> None:
    """It reads its answers, and there are more than it reads in the time of a stop."""
    group = Group()
    size = 2**20
    responder = Responder(group, ends[1].fileno(), payload=b"a" * size)
    threads = begun(responder)
    ends[0].sendall(b"q" * 60_000)  # 60 GB

    def reading() -> None:
        with suppress(OSError):
            while ends[0].recv(2**20):
                pass

    reader = threading.Thread(target=reading)
    reader.start()
    assert settle(lambda: responder.acked_bytes > 10 * size)
    group.stop()
    joined(threads)
    assert responder.reason == "stopped"
    ends[1].shutdown(socket.SHUT_RDWR)
    joined([reader])


def test_an_answer_that_never_comes_is_no_latency(ends: Ends) -> None:
    group = Group()
    requester = Requester(
        group, ends[0].fileno(), payload=b"q", duration_ns=50 * MS, drain_ns=50 * MS, in_flight=3
    )
    threads = begun(requester)
    start = now_ns()
    group.open()
    joined(threads)
    assert now_ns() - start >= 100 * MS
    assert (requester.begun, requester.answered, requester.latency.count) == (3, 0, 0)
    assert requester.latency.max_ns is None
    assert requester.series()[0] is None


@pytest.mark.parametrize("more", [b"", b"aaa"])
def test_a_peer_that_breaks_the_rules_is_an_error(ends: Ends, more: bytes) -> None:
    """It leaves in the middle, or answers what nobody has asked."""
    group = Group()
    requester = Requester(group, ends[0].fileno(), payload=b"q")
    threads = begun(requester)
    group.open()
    assert ends[1].recv(1) == b"q"
    if more:
        ends[1].sendall(more)
    else:
        ends[1].close()
    joined(threads)
    assert requester.reason == "error"
    assert requester.errno in ({errno.EPROTO} if more else {errno.ECONNRESET, errno.EPIPE})


def test_nonsense_is_refused(ends: Ends) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Requester(Group(), ends[0].fileno(), payload=b"")
    with pytest.raises(ValueError, match="at least 1"):
        Requester(Group(), ends[0].fileno(), payload=b"q", in_flight=0)
    with pytest.raises(ValueError, match="at least 1"):
        Responder(Group(), ends[0].fileno(), payload=b"")
