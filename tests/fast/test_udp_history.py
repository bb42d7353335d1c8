"""Read the counts in the course of a UDP run."""

from __future__ import annotations

from netmeasure._fast.udp import UdpReceiver
from netmeasure._fast.worker import Group
from support.udp_rig import (
    one_by_one,
    pair,
    threads,
)


def test_the_history_ends_with_the_total() -> None:
    """Counts in the course of the run, cumulative, the last ones those of the end."""
    with pair() as (near, far):
        group = Group()
        receiver = UdpReceiver(group, far.fileno(), datagram_bytes=16, sample_every_ns=1)
        with threads(group, receiver):
            one_by_one(near, receiver, (1, 2, 4, 4, 3))
        counts, history = receiver.snapshot(), receiver.history()
    assert [s.highest_sequence for s in history[:5]] == [1, 2, 4, 4, 4]
    assert [s.received_packets for s in history[:5]] == [1, 2, 3, 3, 4]
    assert [s.duplicate_packets for s in history[:5]] == [0, 0, 0, 1, 1]
    assert [s.reordered_packets for s in history[:5]] == [0, 0, 0, 0, 1]
    assert history[0].jitter_ns is None
    assert history[-1].received_packets == counts.received_packets == 4
    assert history[-1].jitter_ns == counts.jitter_ns
    assert [s.at_ns for s in history] == sorted(s.at_ns for s in history)


def test_the_history_is_bounded() -> None:
    """256 samples at the most, however many datagrams come; the first and the last are kept."""
    with pair() as (near, far):
        group = Group()
        receiver = UdpReceiver(group, far.fileno(), datagram_bytes=16, sample_every_ns=1)
        with threads(group, receiver):
            one_by_one(near, receiver, range(1, 2001))
        history = receiver.history()
    assert 2 <= len(history) <= 256
    assert (history[0].received_packets, history[-1].received_packets) == (1, 2000)
