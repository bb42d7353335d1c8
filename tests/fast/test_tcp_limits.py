"""Receive an exact number of bytes, and wait on a socket that does not block."""

from __future__ import annotations

from typing import Any

import pytest

from netmeasure._fast.tcp import Receiver
from netmeasure.clock import now_ns
from support.census import settle
from support.tcp_rig import (
    MIB,
    PAYLOAD,
    Rig,
)


def test_a_limit_is_read_exactly(rig: Rig) -> None:
    """Bytes beyond the limit stay in the socket."""
    pair = rig.pair()
    receiver = Receiver(rig.group(), pair.right.fileno(), buffer_bytes=4096, limit_bytes=10_000)
    pair.left.sendall(PAYLOAD[:10_007])
    (thread,) = rig.start(receiver)
    rig.join(thread)
    assert (receiver.reason, receiver.bytes) == ("budget", 10_000)
    assert pair.right.recv(100) == PAYLOAD[10_000:10_007]


def test_leading_bytes_count_and_need_no_reading(rig: Rig) -> None:
    pair, since = rig.pair(), now_ns()
    receiver = Receiver(
        rig.group(), pair.right.fileno(), limit_bytes=500, leading_bytes=500, leading_ns=since
    )
    (thread,) = rig.start(receiver)
    rig.join(thread)
    assert (receiver.reason, receiver.bytes, receiver.first_ns) == ("budget", 500, since)
    origin, _, buckets = receiver.series()
    assert (origin, buckets) == (since, [500])


def test_leading_bytes_and_read_ones_add_up(rig: Rig) -> None:
    pair, since = rig.pair(), now_ns()
    receiver = Receiver(
        rig.group(), pair.right.fileno(), limit_bytes=900, leading_bytes=500, leading_ns=since
    )
    (thread,) = rig.start(receiver)
    pair.left.sendall(PAYLOAD[:400])
    rig.join(thread)
    assert (receiver.reason, receiver.bytes) == ("budget", 900)
    assert sum(receiver.series()[2]) == 900


@pytest.mark.parametrize(
    "wrong",
    [{"leading_bytes": 1}, {"leading_bytes": 2, "leading_ns": 5, "limit_bytes": 1}],
)
def test_leading_bytes_without_sense_are_refused(rig: Rig, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="leading_bytes"):
        Receiver(rig.group(), rig.pair().right.fileno(), **wrong)


def test_a_sender_waits_on_a_socket_that_does_not_block(rig: Rig) -> None:
    """It shares the socket with a transport: no spinning while the peer does not read."""
    pair, group = rig.pair(small=True), rig.group(MIB)
    pair.left.setblocking(False)
    sender = rig.sender(group, pair.left)
    rig.start(sender)
    group.open()
    assert settle(lambda: sender.bytes > 0)
    stuck = Receiver(rig.group(), pair.right.fileno())
    rig.start(stuck)
    rig.join()
    assert (sender.reason, sender.bytes, stuck.bytes) == ("budget", MIB, MIB)
    assert sender.calls < 20_000
