"""Add up transfers in a Tally."""

from __future__ import annotations

import pytest

from netmeasure._fast.tcp import Receiver
from netmeasure._fast.worker import Tally
from netmeasure.clock import now_ns
from support.tcp_rig import (
    BLOCK,
    MIB,
    PAYLOAD,
    Rig,
    wait_until_running,
)


def test_a_tally_adds_up_what_others_moved(rig: Rig) -> None:
    tally = Tally(rig.group(), -1)
    tally.add(7, now_ns())
    for number in (1, 2):
        pair = rig.pair()
        receiver = Receiver(rig.group(), pair.right.fileno(), limit_bytes=number * 1000)
        (thread,) = rig.start(receiver)
        pair.left.sendall(PAYLOAD[: number * 1000])
        rig.join(thread)
        tally.absorb(receiver)
        assert tally.last_ns == receiver.last_ns
        assert tally.reason == "budget"
    assert tally.bytes == sum(tally.series()[2]) == 3007
    assert tally.first_ns == tally.series()[0]
    assert tally.counted_until(now_ns() + 10**10) == 3007


def test_a_tally_of_one_loop_is_that_loop(rig: Rig) -> None:
    pair = rig.pair()
    receiver = Receiver(rig.group(), pair.right.fileno(), limit_bytes=MIB)
    threads = rig.start(receiver)
    pair.left.sendall(PAYLOAD * 16)
    rig.join(*threads)
    tally = Tally(rig.group(), -1)
    tally.absorb(receiver)
    assert tally.series() == receiver.series()
    assert tally.cpu_ns == receiver.cpu_ns
    assert tally.cpu_samples() == receiver.cpu_samples()
    assert tally.samples() == []  # what TCP says belongs to one connection


def test_the_cpu_time_of_a_tally_goes_on_from_loop_to_loop(rig: Rig) -> None:
    tally = Tally(rig.group(), -1)
    for _ in range(2):
        pair = rig.pair()
        receiver = Receiver(rig.group(), pair.right.fileno(), limit_bytes=MIB)
        threads = rig.start(receiver)
        pair.left.sendall(PAYLOAD * 16)
        rig.join(*threads)
        so_far = [spent for _, spent, _ in tally.cpu_samples()]
        tally.absorb(receiver)
        spent = [spent for _, spent, _ in tally.cpu_samples()]
        own = [spent for _, spent, _ in receiver.cpu_samples()]
        assert spent == so_far + [(so_far or [0])[-1] + one for one in own]


def test_a_tally_leaves_framing_out(rig: Rig) -> None:
    """Of every 10 bytes 7 count; no bucket is rounded by more than one."""
    pair = rig.pair()
    receiver = Receiver(rig.group(), pair.right.fileno(), limit_bytes=BLOCK * 10)
    threads = rig.start(receiver)
    pair.left.sendall(PAYLOAD * 10)
    rig.join(*threads)
    tally = Tally(rig.group(), -1)
    tally.absorb(receiver, 7, 10)
    assert tally.bytes == sum(tally.series()[2]) == BLOCK * 7
    for ours, theirs in zip(tally.series()[2], receiver.series()[2], strict=True):
        assert abs(ours - theirs * 0.7) <= 1
    with pytest.raises(ValueError, match="payload"):
        tally.absorb(receiver, 2, 1)


def test_a_tally_of_nothing_is_nothing(rig: Rig) -> None:
    tally = Tally(rig.group(), -1)
    tally.absorb(Receiver(rig.group(), rig.pair().right.fileno()))
    assert (tally.bytes, tally.first_ns, tally.last_ns) == (0, None, None)
    assert tally.series()[0] is None
    with pytest.raises(NotImplementedError):
        tally.run()


def test_a_moment_before_the_first_counts_in_the_first_bucket(rig: Rig) -> None:
    """A merge of earlier buckets would make the index of an unchecked bucket negative."""
    tally = Tally(rig.group(), -1, width_ns=1000, buckets=4)
    start = now_ns()
    for moment in (start, start - 10**9, start + 10**6, 1, 0, -1, -(2**63), start - 1):
        tally.add(1, moment)
    origin, width, counts = tally.series()
    assert origin == tally.first_ns == start
    assert (counts[0], sum(counts), len(counts)) == (7, 8, 4)
    assert tally.last_ns == start + 10**6
    assert tally.counted_until(start - 1) == 0
    assert tally.counted_until(origin + width * 4) == tally.bytes == 8


@pytest.mark.parametrize("first", [0, -5, -(2**63), 1, 2**63 - 1])
def test_any_moment_can_be_the_first(rig: Rig, first: int) -> None:
    tally = Tally(rig.group(), -1, buckets=2)
    tally.add(3, first)
    tally.add(4, 2**63 - 1)
    assert tally.first_ns == tally.series()[0] == max(first, 1)
    assert sum(tally.series()[2]) == tally.bytes == 7
    assert tally.counted_until(-(2**63)) == 0


def test_a_tally_takes_over_a_loop_that_began_before_it(rig: Rig) -> None:
    pair = rig.pair()
    receiver = Receiver(rig.group(), pair.right.fileno(), limit_bytes=MIB)
    threads = rig.start(receiver)
    pair.left.sendall(PAYLOAD * 16)
    rig.join(*threads)
    tally = Tally(rig.group(), -1)
    tally.add(1, now_ns() + 10**9)
    tally.absorb(receiver)
    assert tally.bytes == sum(tally.series()[2]) == tally.series()[2][0] == MIB + 1


def test_a_loop_that_is_running_is_not_taken_over(rig: Rig) -> None:
    pair, tally = rig.pair(), Tally(rig.group(), -1)
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(receiver)
    wait_until_running(receiver)
    with pytest.raises(RuntimeError, match="has ended"):
        tally.absorb(receiver)
    assert tally.bytes == 0


def test_framing_of_huge_counts_does_not_overflow(rig: Rig) -> None:
    source, tally = Tally(rig.group(), -1), Tally(rig.group(), -1)
    source.add(2**62, now_ns())
    tally.absorb(source, 2**61, 2**62)
    assert tally.bytes == 2**61
