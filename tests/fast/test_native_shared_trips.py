"""Several connections share a thread: each counts as if it had one of its own."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest

from netmeasure._fast.round_trips import DatagramRequester, Requester, Responder, SharedLoop
from netmeasure._fast.worker import Group
from support.census import settle
from support.tcp_rig import PATIENCE_S, Pair, tcp_pair

MS = 1_000_000
CONNECTIONS = 5


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [tcp_pair() for _ in range(CONNECTIONS)]
    for pair in made:
        for sock in pair:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


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


def requesters(pairs: list[Pair], group: Group, **options: int) -> list[Requester]:
    return [Requester(group, pair.left.fileno(), payload=b"q", **options) for pair in pairs]


def responders(pairs: list[Pair], group: Group) -> list[Responder]:
    return [Responder(group, pair.right.fileno(), payload=b"a") for pair in pairs]


@pytest.mark.parametrize("in_flight", [1, 7])
@pytest.mark.parametrize(
    ("request_bytes", "response_bytes", "wanted"),
    [
        (1, 1, 300),
        (100_000, 3, 300),
        (5, 100_000, 300),
        # more than a connection may read or write in one turn
        (3_000_000, 3, 40),
        (5, 3_000_000, 40),
    ],
)
def test_every_transaction_counts(
    pairs: list[Pair], in_flight: int, request_bytes: int, response_bytes: int, wanted: int
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    asking, answering = Group(wanted * request_bytes), Group()
    asks = [
        Requester(
            asking,
            pair.left.fileno(),
            payload=b"q" * request_bytes,
            response_bytes=response_bytes,
            in_flight=in_flight,
        )
        for pair in pairs
    ]
    answers = [
        Responder(
            answering,
            pair.right.fileno(),
            request_bytes=request_bytes,
            payload=b"a" * response_bytes,
        )
        for pair in pairs
    ]
    threads = begun(asks), begun(answers)
    asking.open()
    joined(*threads)
    assert {one.reason for one in asks} == {"budget"}
    assert {one.reason for one in answers} == {"eof"}
    assert sum(one.begun for one in asks) == wanted
    for one, other in zip(asks, answers, strict=True):
        count = one.begun
        assert 0 < count == one.answered == one.latency.count
        assert one.bytes == one.acked_bytes == other.bytes == count * request_bytes
        assert other.acked_bytes == count * response_bytes
        assert sum(one.series()[2]) == sum(other.series()[2]) == count * request_bytes
        assert sum(one.latency_sums()[2]) == one.latency.sum_ns
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_deadline_ends_all_of_them(pairs: list[Pair]) -> None:
    asking = Group()
    asks = requesters(pairs, asking, duration_ns=120 * MS, omit_ns=50 * MS)
    threads = begun(asks), begun(responders(pairs, Group()))
    opened = asking.open()
    joined(*threads)
    for one in asks:
        assert one.reason == "deadline"
        assert one.begun == one.answered == sum(one.series()[2]) > one.latency.count > 0
        assert (one.ended_ns or 0) >= opened + 120 * MS


@pytest.mark.parametrize("how", ["stop", "abort"])
def test_orders_end_both_ends(pairs: list[Pair], how: str) -> None:
    asking, answering = Group(), Group()
    asks, answers = requesters(pairs, asking), responders(pairs, answering)
    threads = begun(asks), begun(answers)
    asking.open()
    assert settle(lambda: all(one.answered > 10 for one in asks))
    if how == "stop":
        asking.stop()
    else:
        asking.abort()
        answering.abort()
        for pair in pairs:
            for sock in pair:
                with suppress(OSError):  # the other end's may have reset it
                    sock.shutdown(socket.SHUT_RDWR)
    joined(*threads)
    assert {one.reason for one in asks} == {{"stop": "stopped", "abort": "aborted"}[how]}
    # an aborted requester's socket is shut, which the responder may see before its own order
    assert {one.reason for one in answers} <= {"eof"} | ({"aborted"} if how == "abort" else set())
    assert all(one.begun - one.answered in ({0} if how == "stop" else {0, 1}) for one in asks)


@pytest.mark.parametrize("how", ["stop", "abort"])
def test_orders_end_what_waits(pairs: list[Pair], how: str) -> None:
    """Requesters wait at the gate, and responders for requests."""
    group = Group()
    asks, answers = requesters(pairs, group), responders(pairs, group)
    threads = begun(asks), begun(answers)
    getattr(group, how)()
    joined(*threads)
    wanted = {"stop": "stopped", "abort": "aborted"}[how]
    assert {one.reason for one in (*asks, *answers)} == {wanted}
    assert sum(one.begun for one in asks) == 0
    assert {one.ended_ns for one in asks} == {None}


def test_answers_that_never_come_are_no_latency(pairs: list[Pair]) -> None:
    group = Group()
    asks = requesters(pairs, group, duration_ns=50 * MS, drain_ns=50 * MS, in_flight=3)
    thread = begun(asks)
    opened = group.open()
    joined(thread)
    assert time.monotonic_ns() - opened >= 100 * MS
    for one in asks:
        assert (one.reason, one.begun, one.answered) == ("deadline", 3, 0)
        assert one.latency.max_ns is None
        assert one.series()[0] is None


@pytest.mark.parametrize("more", [b"", b"aaa"])
def test_a_peer_that_breaks_the_rules_ends_all_of_them(pairs: list[Pair], more: bytes) -> None:
    """It leaves in the middle, or answers what nobody has asked."""
    group = Group()
    asks = requesters(pairs, group)
    answers = responders(pairs[1:], Group())
    threads = begun(asks), begun(answers)
    group.open()
    assert pairs[0].right.recv(1) == b"q"
    assert settle(lambda: all(one.answered > 10 for one in asks[1:]))
    if more:
        pairs[0].right.sendall(more)
    else:
        pairs[0].right.close()
    joined(threads[0])
    assert [one.reason for one in asks] == ["error", *["aborted"] * (CONNECTIONS - 1)]
    assert asks[0].errno in ({errno.EPROTO} if more else {errno.ECONNRESET, errno.EPIPE})
    for pair in pairs:
        pair.left.close()
    joined(threads[1])


def test_a_requester_that_is_reset_ends_all_responders(pairs: list[Pair]) -> None:
    answers = responders(pairs, Group())
    thread = begun(answers)
    pairs[2].left.sendall(b"q")
    assert pairs[2].left.recv(1) == b"a"
    pairs[2].left.sendall(b"q")
    assert settle(lambda: answers[2].bytes == 2)
    pairs[2].left.close()  # with an answer that was not read: RST
    joined(thread)
    wanted = ["aborted"] * CONNECTIONS
    wanted[2] = "error"
    assert [one.reason for one in answers] == wanted
    assert answers[2].errno == errno.ECONNRESET


def test_the_end_may_come_with_the_last_request(pairs: list[Pair]) -> None:
    answers = responders(pairs, Group())
    for pair in pairs:
        pair.left.sendall(b"qqq")
        pair.left.shutdown(socket.SHUT_WR)
    joined(begun(answers))
    assert {(one.reason, one.bytes, one.acked_bytes) for one in answers} == {("eof", 3, 3)}


def test_a_client_that_reads_late_delays_only_its_own_answers(pairs: list[Pair]) -> None:
    """Its answers fill both sockets' buffers; the others' come meanwhile."""
    size = 4 * 2**20
    group = Group()
    answers = [Responder(group, pair.right.fileno(), payload=b"a" * size) for pair in pairs]
    thread = begun(answers)
    pairs[0].left.sendall(b"qqq")
    assert settle(lambda: answers[0].bytes == 3)
    for pair in pairs[1:]:
        pair.left.settimeout(PATIENCE_S)
        pair.left.sendall(b"q")
        assert read(pair.left, size) == size
    assert answers[0].acked_bytes < 3 * size
    pairs[0].left.settimeout(PATIENCE_S)
    assert read(pairs[0].left, 3 * size) == 3 * size
    for pair in pairs:
        pair.left.shutdown(socket.SHUT_WR)
    joined(thread)
    assert answers[0].acked_bytes == 3 * size
    assert {one.reason for one in answers} == {"eof"}


def test_a_responder_stops_beside_a_requester_that_goes_on(pairs: list[Pair]) -> None:
    """It reads its answers, 60 GB of them. Another connection has an answer meanwhile."""
    group, size = Group(), 2**20
    answers = [Responder(group, pair.right.fileno(), payload=b"a" * size) for pair in pairs]
    thread = begun(answers)
    pairs[0].left.sendall(b"q" * 60_000)

    def reading() -> None:
        with suppress(OSError):
            while pairs[0].left.recv(2**20):
                pass

    reader = threading.Thread(target=reading)
    reader.start()
    assert settle(lambda: answers[0].acked_bytes > 10 * size)
    pairs[1].left.settimeout(PATIENCE_S)
    pairs[1].left.sendall(b"q")
    assert read(pairs[1].left, size) == size
    group.stop()
    joined(thread)
    assert {one.reason for one in answers} == {"stopped"}
    pairs[0].right.shutdown(socket.SHUT_RDWR)
    joined(reader)


def read(sock: socket.socket, most: int) -> int:
    """Return how many bytes have come, once it is `most`."""
    count = 0
    while count < most and (piece := sock.recv(min(most - count, 2**20))):
        count += len(piece)
    return count


def test_a_thread_without_descriptors_says_so(pairs: list[Pair]) -> None:
    """Its epoll set needs one."""
    group = Group()
    asks, answers = requesters(pairs, group), responders(pairs, group)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    group.open()
    for loops in (asks, answers):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            thread = begun(loops)
            joined(thread)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert {(one.reason, one.errno) for one in loops} == {("error", errno.EMFILE)}


def test_the_threads_cpu_time_is_told_once(pairs: list[Pair]) -> None:
    asking = Group()
    asks = [
        Requester(
            asking, pair.left.fileno(), payload=b"q", duration_ns=60 * MS, sample_every_ns=10 * MS
        )
        for pair in pairs
    ]
    threads = begun(asks), begun(responders(pairs, Group()))
    asking.open()
    joined(*threads)
    assert [bool(one.cpu_samples()) for one in asks] == [True, *[False] * (CONNECTIONS - 1)]
    assert all(one.samples() for one in asks)
    assert len({one.cpu_ns for one in asks}) == 1
    last_ns = asks[0].cpu_samples()[-1][1]
    assert sum(sum(one.cpu_ns) for one in asks) == pytest.approx(last_ns, rel=0.5, abs=10 * MS)


def test_what_cannot_share_a_thread_is_refused(pairs: list[Pair]) -> None:
    group, descriptor = Group(), pairs[0].left.fileno()
    shared = SharedLoop()
    shared.add(Requester(group, descriptor, payload=b"q"))
    for other in (
        Requester(Group(), descriptor, payload=b"q"),
        Responder(group, descriptor, payload=b"q"),
        DatagramRequester(group, descriptor, payload=bytes(8), response_bytes=8),
    ):
        with pytest.raises(ValueError, match="one kind and one group"):
            shared.add(other)
    with pytest.raises(ValueError, match="set rate"):
        shared.add(Requester(group, descriptor, payload=b"q", per_s=10))
