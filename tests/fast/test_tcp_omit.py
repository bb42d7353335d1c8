"""Move exactly the budget after the omitted time, also where that time ends within a block."""

from __future__ import annotations

from typing import Any

import pytest

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Stream
from netmeasure.clock import MILLISECOND_NS
from support.tcp_rig import BLOCK, MIB, Rig

OMIT_NS = 100 * MILLISECOND_NS
#: The omitted time ends at the edge of a bucket, so no bucket is divided.
FINE: dict[str, Any] = {"width_ns": MILLISECOND_NS}


def counted(stream: Stream) -> int:
    """Bytes in the series after the omitted time."""
    origin, width_ns, buckets = stream.series()
    assert origin is not None
    assert OMIT_NS % width_ns == 0
    return sum(buckets[OMIT_NS // width_ns :])


def paced(
    rig: Rig, mode: str, budget: int, rate_bps: int, **options: int
) -> tuple[Sender, Receiver]:
    pair, group = rig.pair(), rig.group(budget)
    sender = rig.sender(
        group, pair.left, mode, omit_ns=OMIT_NS, rate_bps=rate_bps, **options, **FINE
    )
    receiver = Receiver(rig.group(), pair.right.fileno(), **FINE)
    rig.start(sender, receiver)
    group.open()
    rig.join()
    assert (sender.reason, receiver.reason) == ("budget", "eof")
    assert sender.bytes == sender.acked_bytes == receiver.bytes
    return sender, receiver


# a piece that is due before the end of the omitted time, and sent after it, counts
@pytest.mark.rates
@pytest.mark.parametrize("mode", ["copy", "sendfile"])
@pytest.mark.parametrize("budget", [1, 12_345, BLOCK])
@pytest.mark.parametrize("rate_bps", [2_000_000, 8_000_000])
def test_a_paced_sender_meets_its_budget(rig: Rig, rate_bps: int, budget: int, mode: str) -> None:
    """At 2 Mbit/s a block of 1 MiB lasts for 4 s: the omitted time is over within it."""
    sender, _ = paced(rig, mode, budget, rate_bps, block_bytes=MIB)
    assert counted(sender) == budget
    origin, opened = sender.series()[0], sender.group.opened_ns
    assert origin is not None
    assert opened is not None
    ahead_ns = 50 * MILLISECOND_NS
    assert 0 < sender.bytes - budget <= rate_bps * (origin - opened + OMIT_NS + ahead_ns) / 8e9


@pytest.mark.rates
def test_a_receiver_of_a_paced_sender_counts_the_same(rig: Rig) -> None:
    """Nothing is under way when the omitted time ends, so both ends divide at the same byte."""
    sender, receiver = paced(rig, "copy", BLOCK, 2_000_000)
    assert counted(sender) == counted(receiver) == BLOCK


def test_four_paced_senders_share_a_budget(rig: Rig) -> None:
    group = rig.group(BLOCK + 1)
    pairs = [rig.pair() for _ in range(4)]
    senders = [
        rig.sender(group, pair.left, omit_ns=OMIT_NS, rate_bps=500_000, block_bytes=MIB, **FINE)
        for pair in pairs
    ]
    rig.start(*senders, *(Receiver(rig.group(), pair.right.fileno()) for pair in pairs))
    group.open()
    rig.join()
    assert sum(counted(sender) for sender in senders) == BLOCK + 1


def test_a_sender_at_full_speed_meets_a_budget_above_what_is_on_its_way(rig: Rig) -> None:
    pair, group = rig.pair(small=True), rig.group(64 * MIB)
    sender = rig.sender(group, pair.left, omit_ns=OMIT_NS, **FINE)
    rig.start(sender, Receiver(rig.group(), pair.right.fileno(), discard=True))
    group.open()
    rig.join()
    assert sender.reason == "budget"
    assert counted(sender) == 64 * MIB


@pytest.mark.parametrize("budget", [1, 1000, BLOCK])
def test_a_receiver_reads_no_more_than_its_budget(rig: Rig, budget: int) -> None:
    """The peer sends without an end, as a plain iperf3 does until TEST_END."""
    pair, sending, receiving = rig.pair(), rig.group(), rig.group(budget)
    receiver = Receiver(receiving, pair.right.fileno(), omit_ns=OMIT_NS, **FINE)
    (thread,) = rig.start(receiver)
    rig.start(rig.sender(sending, pair.left, rate_bps=2_000_000))
    sending.open()
    rig.join(thread)
    assert receiver.reason == "budget"
    _, width_ns, buckets = receiver.series()
    crossing = next(count for count in buckets[OMIT_NS // width_ns :] if count)
    # the read that ends the omitted time can't know that it does; all later ones do
    assert counted(receiver) == max(budget, crossing)
