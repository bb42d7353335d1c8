"""Count the datagrams that the socket of a UDP receiver drops."""

from __future__ import annotations

from netmeasure._fast.udp import UdpReceiver, UdpSender
from netmeasure._fast.worker import Group
from support.census import settle
from support.udp_rig import (
    all_arrived,
    datagram,
    pair,
    send,
    threads,
)


def test_drops_of_our_own_socket_are_told_apart_even_at_the_tail() -> None:
    """The receiver comes late and its buffer is small: after it is full nothing gets through, so no
    datagram can bring the news; the kernel is asked."""
    with pair(receive_buffer=20_000) as (near, far):
        sending, receiving = Group(budget=500 * 100), Group()
        receiver = UdpReceiver(receiving, far.fileno(), datagram_bytes=100)
        send(UdpSender(sending, near.fileno(), datagram_bytes=100), sending)
        with threads(receiving, receiver):
            assert settle(lambda: receiver.packets > 0)
            near.send(datagram(501, size=100))
            assert settle(lambda: receiver.snapshot().highest_sequence == 501)
            assert receiver.snapshot().host_dropped_packets == receiver.snapshot().lost_packets
    counts = receiver.snapshot()
    assert 0 < counts.received_packets < 400
    assert counts.host_dropped_packets == counts.lost_packets == 501 - counts.received_packets


def test_drops_without_any_later_datagram() -> None:
    with pair(receive_buffer=20_000) as (near, far):
        sending, receiving = Group(budget=500 * 100), Group()
        receiver = UdpReceiver(receiving, far.fileno(), datagram_bytes=100)
        send(UdpSender(sending, near.fileno(), datagram_bytes=100), sending)
        assert all_arrived(far, 500, 100)
        receiving.stop()
        receiver.run()
    counts = receiver.snapshot()
    assert counts.lost_packets == 0  # only the sender knows how many there were
    assert counts.host_dropped_packets == 500 - counts.received_packets > 0


def test_drops_before_the_test_are_not_counted() -> None:
    with pair(receive_buffer=20_000) as (near, far):
        for _ in range(500):
            near.send(b"noise")
        assert all_arrived(far, 500, 5)
        receiver = UdpReceiver(group := Group(), far.fileno(), datagram_bytes=100)
        group.stop()
        receiver.run()
    assert receiver.snapshot().host_dropped_packets == 0
    assert receiver.snapshot().malformed_packets > 0
