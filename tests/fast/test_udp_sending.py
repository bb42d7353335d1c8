"""Look at what the UDP sender puts on the wire."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

import pytest

from netmeasure._fast.udp import UdpReceiver, UdpSender
from netmeasure._fast.worker import Group
from netmeasure.clock import MILLISECOND_NS
from support.census import settle
from support.udp_rig import (
    datagram,
    longest_train,
    pair,
    put,
    send,
    threads,
)


@pytest.mark.parametrize("segments", [0, 4])
@pytest.mark.parametrize("wide", [False, True])
def test_header(wide: bool, segments: int) -> None:
    with pair() as (near, far):
        group = Group(budget=10 * 100)
        sender = UdpSender(
            group,
            near.fileno(),
            datagram_bytes=100,
            counters_64bit=wide,
            segments=segments,
            payload=b"abc",
        )
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        send(sender, group)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        head = ">IIQ" if wide else ">III"
        start = struct.calcsize(head)
        for number in range(1, 11):
            data = far.recv(65536)
            seconds, micros, sequence = struct.unpack_from(head, data)
            assert sequence == number
            assert before <= seconds * 1_000_000 + micros <= after
            assert data[start:] == (b"abc" * 40)[start:100]
    assert sender.reason == "budget"
    assert (sender.packets, sender.bytes) == (10, 1000)


def test_payload_is_random_by_default() -> None:
    with pair() as (near, far):
        for _ in range(2):
            group = Group(budget=1000)
            send(UdpSender(group, near.fileno(), datagram_bytes=1000), group)
        assert far.recv(2000)[16:] != far.recv(2000)[16:]


@pytest.mark.parametrize("coalesce", [False, True], ids=["plain", "gro"])
@pytest.mark.parametrize("segments", [0, 64, 128], ids=["single", "gso", "long"])
@pytest.mark.parametrize("wide", [False, True], ids=["32", "64"])
@pytest.mark.parametrize("size", [16, 64, 1400, 1472, 8900, 65507])
def test_every_mode_counts_exactly(size: int, wide: bool, segments: int, coalesce: bool) -> None:
    with pair() as (near, far):
        room = far.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        count = max(2, min(500, room // (2 * size + 2048)))
        sending, receiving = Group(budget=count * size), Group()
        sender = UdpSender(
            sending, near.fileno(), datagram_bytes=size, counters_64bit=wide, segments=segments
        )
        receiver = UdpReceiver(
            receiving, far.fileno(), datagram_bytes=size, counters_64bit=wide, coalesce=coalesce
        )
        with threads(receiving, receiver):
            send(sender, sending)
            assert settle(lambda: receiver.packets == count)
    counts = receiver.snapshot()
    assert sender.packets == counts.received_packets == counts.highest_sequence == count
    assert sender.bytes == counts.received_bytes == count * size
    assert counts.lost_packets == counts.reordered_packets == counts.duplicate_packets == 0
    assert counts.malformed_packets == counts.truncated_packets == 0
    assert sender.refused == sender.icmp_errors == sender.errno == 0
    assert sender.segments == max(1, min(segments, longest_train(), 65507 // size))
    assert sender.segmentation == (sender.segments > 1)
    assert sum(sender.packet_series()[2]) == count
    assert sum(sender.series()[2]) == count * size
    assert receiver.coalescing == coalesce
    assert receiver.kernel_stamps
    assert (counts.coalesced_packets > 0) == (coalesce and sender.segmentation)
    assert counts.jitter_valid is False or counts.coalesced_packets == 0


def test_a_budget_is_shared_and_met_with_whole_datagrams() -> None:
    with pair() as (near, _), pair() as (other, _):
        group = Group(budget=10 * 100 + 1)
        senders = [UdpSender(group, sock.fileno(), datagram_bytes=100) for sock in (near, other)]
        with threads(group, *senders):
            group.open()
            assert settle(lambda: all(sender.ended_ns for sender in senders))
    assert [sender.reason for sender in senders] == ["budget", "budget"]
    assert 11 * 100 <= sum(sender.bytes for sender in senders) <= 12 * 100


@pytest.mark.rates
def test_the_omitted_time_costs_no_budget() -> None:
    with pair() as (near, _):
        group = Group(budget=500)
        sender = UdpSender(
            group,
            near.fileno(),
            datagram_bytes=100,
            target_pps=1000,
            omit_ns=50 * MILLISECOND_NS,
        )
        send(sender, group)
    assert sender.reason == "budget"
    # about 50 before (fewer where stalls were given up), exactly 5 after
    assert 5 < sender.packets <= 57


def test_the_receiver_leaves_with_its_budget() -> None:
    with pair() as (near, far):
        group = Group(budget=160)
        receiver = UdpReceiver(group, far.fileno(), datagram_bytes=16)
        for number in range(1, 11):
            put(near, far, datagram(number))
        receiver.run()
    assert receiver.reason == "budget"
    assert receiver.bytes == 160


@pytest.mark.parametrize(
    "options",
    [
        {"datagram_bytes": 15},
        {"datagram_bytes": 65508},
        {"datagram_bytes": 100, "target_bps": 1, "target_pps": 1},
    ],
)
def test_bad_sender_options(options: dict[str, Any]) -> None:
    with pair() as (near, _), pytest.raises(ValueError):
        UdpSender(Group(), near.fileno(), **options)


@pytest.mark.parametrize("window", [0, 32, 100, 2**21])
def test_bad_windows(window: int) -> None:
    with pair() as (near, _), pytest.raises(ValueError):
        UdpReceiver(Group(), near.fileno(), datagram_bytes=16, window=window)
