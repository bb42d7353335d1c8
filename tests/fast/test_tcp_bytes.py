"""Count every byte: the native TCP loops on real sockets over loopback."""

from __future__ import annotations

import socket
import sys

import pytest

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Group
from netmeasure.clock import MILLISECOND_NS
from support.census import settle
from support.tcp_rig import (
    BLOCK,
    MIB,
    PATIENCE_S,
    PAYLOAD,
    Rig,
    total,
)


@pytest.mark.parametrize("discard", [False, True], ids=["recv", "discard"])
@pytest.mark.parametrize("mode", ["copy", "sendfile"])
@pytest.mark.parametrize("budget", [1, 65535, 65536, MIB + 1, 64 * MIB])
def test_both_ends_count_the_budget(rig: Rig, mode: str, discard: bool, budget: int) -> None:
    pair, group = rig.pair(), rig.group(budget)
    sender = rig.sender(group, pair.left, mode)
    receiver = Receiver(rig.group(), pair.right.fileno(), discard=discard)
    assert (sender.reason, receiver.reason) == ("not_started", "not_started")
    rig.start(sender, receiver)
    group.open()
    rig.join()
    assert (sender.reason, receiver.reason) == ("budget", "eof")
    assert (sender.errno, receiver.errno) == (0, 0)
    assert sender.bytes == sender.acked_bytes == receiver.bytes == budget
    assert total(sender) == total(receiver) == budget
    assert receiver.acked_bytes == 0
    assert 1 <= receiver.calls <= budget
    assert sender.calls >= -(-budget // BLOCK)


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
@pytest.mark.parametrize("rate_bps", [100_000, 20_000_000])
def test_no_more_is_handed_over_than_a_rate_allows(rig: Rig, rate_bps: int, mode: str) -> None:
    """A low rate is less than one segment of the loopback in all of the time, a higher one less
    than its first ten."""
    duration_ns, ahead_ns, piece = 150 * MILLISECOND_NS, 50 * MILLISECOND_NS, 256
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left, mode, duration_ns=duration_ns, rate_bps=rate_bps)
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(sender, receiver)
    group.open()
    rig.join()
    assert (sender.reason, receiver.reason) == ("deadline", "eof")
    assert sender.bytes == receiver.bytes == sender.acked_bytes
    assert piece <= sender.bytes <= rate_bps * (duration_ns + ahead_ns) / 8e9


def test_the_first_piece_of_a_low_rate_leaves_at_once(rig: Rig) -> None:
    """Else the wait of two seconds until the rate allows it would be taken for set-up."""
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left, duration_ns=150 * MILLISECOND_NS, rate_bps=1000)
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(sender, receiver)
    group.open()
    rig.join()
    assert sender.bytes == receiver.bytes == 256


def test_senders_share_their_payload(rig: Rig) -> None:
    """A thousand streams hold one block; the last of them lets it go."""
    payload, fd = bytes(BLOCK), rig.pair().left.fileno()
    before = sys.getrefcount(payload)
    senders = [Sender(Group(), fd, payload=payload) for _ in range(8)]
    assert sys.getrefcount(payload) == before + len(senders)
    senders.clear()
    assert sys.getrefcount(payload) == before


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_payload_arrives_as_it_is(rig: Rig, mode: str) -> None:
    """Two blocks and a bit, with a partial send(): the peer reads only after it timed out."""
    pair, group = rig.pair(small=True), rig.group(2 * BLOCK + 100)
    sender = rig.sender(group, pair.left, mode)
    rig.start(sender)
    group.open()
    assert settle(lambda: sender.bytes > 0, PATIENCE_S)
    assert sender.bytes < BLOCK
    with pair.right.makefile("rb") as stream:
        assert stream.read() == (PAYLOAD * 3)[: 2 * BLOCK + 100]
    rig.join()
    assert sender.calls > 3


def test_four_senders_share_a_budget_exactly(rig: Rig) -> None:
    budget = 16 * MIB + 12_345
    group, receiving = rig.group(budget), rig.group()
    pairs = [rig.pair() for _ in range(4)]
    senders = [rig.sender(group, pair.left) for pair in pairs]
    receivers = [Receiver(receiving, pair.right.fileno()) for pair in pairs]
    rig.start(*senders, *receivers)
    group.open()
    rig.join()
    assert {sender.reason for sender in senders} == {"budget"}
    assert sum(sender.bytes for sender in senders) == budget
    assert [r.bytes for r in receivers] == [s.acked_bytes for s in senders]


def test_receivers_leave_after_their_budget(rig: Rig) -> None:
    """What is over comes of the last recv() only; a second stream of the group leaves as well."""
    sending, receiving = rig.group(), rig.group(MIB)
    busy, idle = rig.pair(), rig.pair()
    first = Receiver(receiving, busy.right.fileno(), buffer_bytes=BLOCK)
    second = Receiver(receiving, idle.right.fileno())
    threads = rig.start(first, second)
    rig.start(rig.sender(sending, busy.left))
    sending.open()
    rig.join(*threads)
    assert (first.reason, second.reason) == ("budget", "budget")
    assert MIB <= first.bytes < MIB + BLOCK
    assert second.bytes == 0


def test_omitted_bytes_are_not_in_the_senders_budget(rig: Rig) -> None:
    """What is acknowledged before the omitted time is over comes on top; then the budget."""
    omit_ns, budget = 50 * MILLISECOND_NS, 64 * MIB
    pair, group = rig.pair(), rig.group(budget)
    sender = rig.sender(group, pair.left, omit_ns=omit_ns)
    receiver = Receiver(rig.group(), pair.right.fileno(), discard=True)
    rig.start(sender, receiver)
    opened = group.open()
    rig.join()
    assert sender.reason == "budget"
    assert receiver.bytes == sender.bytes == sender.acked_bytes
    assert sender.ended_ns is not None
    assert sender.ended_ns - opened >= omit_ns
    origin, width_ns, buckets = sender.series()
    assert origin is not None
    omitted = (opened + omit_ns - origin) // width_ns
    # the look that ends the omitted time may be late, never early
    assert 0 < sum(buckets[:omitted]) <= sender.bytes - budget


def test_omitted_bytes_are_not_in_the_receivers_budget(rig: Rig) -> None:
    omit_ns = 50 * MILLISECOND_NS
    pair, sending, receiving = rig.pair(), rig.group(), rig.group(BLOCK)
    receiver = Receiver(receiving, pair.right.fileno(), buffer_bytes=4096, omit_ns=omit_ns)
    (thread,) = rig.start(receiver)
    rig.start(rig.sender(sending, pair.left))
    sending.open()
    rig.join(thread)
    assert receiver.reason == "budget"
    assert receiver.first_ns is not None
    assert receiver.last_ns is not None
    assert receiver.last_ns - receiver.first_ns >= omit_ns
    assert receiver.bytes > BLOCK


def test_half_close_false_leaves_the_stream_open(rig: Rig) -> None:
    pair, group = rig.pair(), rig.group(MIB)
    sender = rig.sender(group, pair.left, half_close=False)
    receiver = Receiver(rig.group(), pair.right.fileno())
    sending, receiving = rig.start(sender, receiver)
    group.open()
    rig.join(sending)
    assert sender.acked_bytes == MIB
    pair.left.sendall(b"more")
    pair.left.shutdown(socket.SHUT_WR)
    rig.join(receiving)
    assert (receiver.reason, receiver.bytes) == ("eof", MIB + 4)
