"""End a native TCP loop: deadline, stop, abort, the gate."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from netmeasure._fast.tcp import Receiver
from netmeasure._fast.worker import Group, Stream
from netmeasure.clock import MILLISECOND_NS, now_ns
from netmeasure.engine import sockopts
from support.census import settle
from support.tcp_rig import (
    MIB,
    PATIENCE_S,
    PAYLOAD,
    UNREAD,
    Rig,
    total,
    unacknowledged_pair,
    wait_for_arrival,
    wait_until_full,
    wait_until_running,
)


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_deadline_ends_the_sender_and_everything_arrives(rig: Rig, mode: str) -> None:
    duration_ns = 150 * MILLISECOND_NS
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left, mode, duration_ns=duration_ns)
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(sender, receiver)
    opened = group.open()
    rig.join()
    assert (sender.reason, receiver.reason) == ("deadline", "eof")
    assert sender.ended_ns is not None
    assert sender.ended_ns - opened >= duration_ns
    assert 0 < sender.bytes == sender.acked_bytes == receiver.bytes


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_deadline_holds_though_the_peer_does_not_read(rig: Rig, mode: str) -> None:
    duration_ns = 50 * MILLISECOND_NS
    pair, group = rig.pair(small=True), rig.group()
    options = {"duration_ns": duration_ns, "drain_ns": 20 * MILLISECOND_NS}
    sender = rig.sender(group, pair.left, mode, **options)
    rig.start(sender)
    opened = group.open()
    rig.join()
    assert sender.reason == "deadline"
    assert sender.ended_ns is not None
    assert duration_ns <= sender.ended_ns - opened < duration_ns + 10_000 * MILLISECOND_NS
    assert sender.acked_bytes < sender.bytes


@pytest.mark.parametrize("order", ["deadline", "stop"])
@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_a_slow_path_delays_no_order(rig: Rig, mode: str, order: str) -> None:
    """250 kB/s and a block of 1 MiB: the order comes in the middle of it, not 4 s later."""
    duration_ns = 100 * MILLISECOND_NS
    pair, group = rig.pair(mss=1448), rig.group()
    sockopts.set_pacing(pair.left, 2_000_000)
    sockopts.keep_little_unsent(pair.left, 2_000_000)
    options = {"duration_ns": duration_ns} if order == "deadline" else {}
    sender = rig.sender(group, pair.left, mode, block_bytes=MIB, drain_ns=0, **options)
    receiver = Receiver(rig.group(), pair.right.fileno())
    (sending, _) = rig.start(sender, receiver)
    given = group.open() + duration_ns
    if order == "stop":
        assert settle(lambda: receiver.bytes > 0, PATIENCE_S)
        given = now_ns()
        group.stop()
    rig.join(sending)
    assert sender.ended_ns is not None
    assert sender.ended_ns - given < 2000 * MILLISECOND_NS


def test_stop_ends_the_sender_and_everything_arrives(rig: Rig) -> None:
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left)
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(sender, receiver)
    group.open()
    assert settle(lambda: receiver.bytes > 0, PATIENCE_S)
    group.stop()
    rig.join()
    assert (sender.reason, receiver.reason) == ("stopped", "eof")
    assert sender.bytes == sender.acked_bytes == receiver.bytes


def test_an_order_after_the_deadline_is_late(rig: Rig) -> None:
    """After a pause of the host, the planned time may be over before the order to stop."""
    pair, group = rig.pair(), rig.group()
    group.open()
    group.stop()
    sender = rig.sender(group, pair.left, duration_ns=1)
    rig.start(sender)
    rig.join()
    assert sender.reason == "deadline"


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_stop_reaches_a_sender_whose_peer_does_not_read(rig: Rig, mode: str) -> None:
    pair, group = rig.pair(small=True), rig.group()
    sender = rig.sender(group, pair.left, mode, drain_ns=20 * MILLISECOND_NS)
    rig.start(sender)
    group.open()
    wait_until_full(pair.left)
    group.stop()
    rig.join()
    assert (sender.reason, sender.errno) == ("stopped", 0)
    assert sender.acked_bytes < sender.bytes


@pytest.mark.parametrize("discard", [False, True])
def test_a_stopped_receiver_empties_its_socket_first(rig: Rig, discard: bool) -> None:
    pair, group = rig.pair(), rig.group()
    pair.left.sendall(PAYLOAD[:50_000])
    wait_for_arrival(pair.right, 50_000)
    group.stop()
    receiver = Receiver(group, pair.right.fileno(), buffer_bytes=1000, discard=discard)
    rig.start(receiver)
    rig.join()
    assert (receiver.reason, receiver.errno, receiver.bytes) == ("stopped", 0, 50_000)
    assert total(receiver) == 50_000


def test_stop_ends_a_receiver_whose_peer_goes_on_sending(rig: Rig) -> None:
    """Such a peer refills the socket faster than one byte per call empties it. What had arrived by
    the time of the order is all that must be taken."""
    pair, sending, receiving = rig.pair(small=True), rig.group(), rig.group()
    receiver = Receiver(receiving, pair.right.fileno(), buffer_bytes=1)
    (thread,) = rig.start(receiver)
    rig.start(rig.sender(sending, pair.left))
    sending.open()
    wait_until_full(pair.left)
    receiving.stop()
    rig.join(thread)
    assert receiver.reason == "stopped"


def test_stop_ends_a_receiver_that_waits_for_data(rig: Rig) -> None:
    pair, group = rig.pair(), rig.group()
    receiver = Receiver(group, pair.right.fileno())
    rig.start(receiver)
    wait_until_running(receiver)
    group.stop()
    rig.join()
    assert (receiver.reason, receiver.bytes) == ("stopped", 0)
    assert receiver.series() == (None, 10 * MILLISECOND_NS, [])
    assert (receiver.first_ns, receiver.last_ns) == (None, None)


def _best_abort_s(rig: Rig, block: Callable[[], tuple[Group, socket.socket, Stream]]) -> float:
    """The shortest of five times from abort to the thread's end: a busy machine may delay one,
    hardly five. A time-out (100 ms) would delay them all."""
    times = []
    for _ in range(5):
        group, sock, stream = block()
        start = time.monotonic()
        group.abort()
        sock.shutdown(socket.SHUT_RDWR)
        rig.join()
        times.append(time.monotonic() - start)
        assert (stream.reason, stream.errno) == ("aborted", 0)
    return min(times)


def test_abort_wakes_a_blocked_receiver(rig: Rig) -> None:
    def block() -> tuple[Group, socket.socket, Stream]:
        pair, group = rig.pair(), rig.group()
        receiver = Receiver(group, pair.right.fileno())
        rig.start(receiver)
        wait_until_running(receiver)
        return group, pair.right, receiver

    assert _best_abort_s(rig, block) < 0.05


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_abort_wakes_a_blocked_sender(rig: Rig, mode: str) -> None:
    def block() -> tuple[Group, socket.socket, Stream]:
        pair, group = rig.pair(small=True), rig.group()
        sender = rig.sender(group, pair.left, mode)
        rig.start(sender)
        group.open()
        wait_until_full(pair.left)
        return group, pair.left, sender

    assert _best_abort_s(rig, block) < 0.05


def test_abort_ends_the_wait_for_acknowledgements(rig: Rig) -> None:
    pair, group = unacknowledged_pair(rig)
    sender = rig.sender(group, pair.left, drain_ns=60_000 * MILLISECOND_NS)
    rig.start(sender)
    group.open()
    assert settle(lambda: sender.ended_ns is not None, PATIENCE_S)
    group.abort()
    rig.join()
    assert sender.errno == 0


def test_unread_bytes_are_waited_for_no_longer_than_drain_ns(rig: Rig) -> None:
    """All data were sent but never completely acknowledged: the sender reports this and ends."""
    pair, group = unacknowledged_pair(rig)
    sender = rig.sender(group, pair.left, drain_ns=50 * MILLISECOND_NS)
    rig.start(sender)
    group.open()
    rig.join()
    assert (sender.reason, sender.bytes) == ("budget", UNREAD)
    assert 0 < sender.acked_bytes < UNREAD
    assert total(sender) == sender.acked_bytes


@pytest.mark.parametrize("order", ["stop", "abort"])
def test_a_sender_whose_gate_never_opens(rig: Rig, order: str) -> None:
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left)
    (thread,) = rig.start(sender)
    assert group.opened_ns is None
    assert not group.stopping
    getattr(group, order)()
    rig.join(thread)
    assert group.stopping
    assert sender.reason == {"stop": "stopped", "abort": "aborted"}[order]
    assert (sender.bytes, sender.first_ns, sender.ended_ns) == (0, None, None)
    assert sender.series()[2] == []
    pair.right.setblocking(False)
    with pytest.raises(BlockingIOError):  # neither data nor FIN came
        pair.right.recv(1)


def test_gate_opens_once(rig: Rig) -> None:
    group = rig.group()
    first = group.open()
    assert group.open() == group.opened_ns == first
