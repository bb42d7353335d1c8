"""End a native UDP loop: deadline, stop, abort, errors."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from netmeasure._fast.udp import UdpReceiver, UdpSender
from netmeasure._fast.worker import Group
from netmeasure.clock import MILLISECOND_NS
from support.census import settle
from support.udp_rig import (
    attempts,
    datagram,
    pair,
    send,
    threads,
)


@pytest.mark.rates
def test_nothing_is_sent_after_the_deadline() -> None:
    """`last_ns` is the end of the last call, which began before the deadline."""

    def once() -> None:
        with pair() as (near, _):
            group = Group()
            duration_ns = 100 * MILLISECOND_NS
            sender = UdpSender(
                group, near.fileno(), datagram_bytes=1400, segments=64, duration_ns=duration_ns
            )
            send(sender, group)
        assert sender.reason == "deadline"
        assert sender.largest_burst_bytes is sender.quantum_datagrams is None
        assert sender.last_ns is not None
        assert group.opened_ns is not None
        assert sender.last_ns - group.opened_ns < duration_ns + MILLISECOND_NS // 10

    attempts(once)


def test_a_closed_port_does_not_end_the_sender() -> None:
    """Every ICMP message makes one call fail; sendmmsg hides all but those of its first message."""
    with pair() as (near, far):
        # the kernel refuses what comes from others, and no other test gets the port
        far.connect(("127.0.0.1", 1))
        group = Group(budget=1000 * 100)
        sender = UdpSender(group, near.fileno(), datagram_bytes=100)
        send(sender, group)
    assert sender.reason == "budget"
    assert sender.packets == 1000
    assert sender.icmp_errors > 0
    assert sender.refused == 0


def test_a_broken_descriptor_is_an_error() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as lonely:  # not connected
        sender = UdpSender(group := Group(), lonely.fileno(), datagram_bytes=100)
        send(sender, group)
    assert sender.reason == "error"
    assert sender.errno == errno.EDESTADDRREQ


@pytest.mark.rates
@pytest.mark.parametrize(("order", "reason"), [("stop", "stopped"), ("abort", "aborted")])
def test_a_sleeping_sender_is_told_to_leave(order: str, reason: str) -> None:
    """One datagram in 1000 s: it sleeps, and must notice."""
    with pair() as (near, _):
        group = Group()
        sender = UdpSender(group, near.fileno(), datagram_bytes=1000, target_bps=8)
        with threads(group, sender):
            group.open()
            assert settle(lambda: sender.packets == 1)
            started = time.monotonic()
            getattr(group, order)()
            assert settle(lambda: sender.ended_ns)
            assert time.monotonic() - started < 0.5
    assert sender.reason == reason


@pytest.mark.parametrize(("duration_ns", "reason"), [(1, "deadline"), (10**12, "stopped")])
def test_an_order_after_the_deadline_is_late(duration_ns: int, reason: str) -> None:
    with pair() as (near, _):
        group = Group()
        group.open()
        group.stop()
        sender = UdpSender(group, near.fileno(), datagram_bytes=1000, duration_ns=duration_ns)
        with threads(group, sender):
            pass
    assert sender.reason == reason


@pytest.mark.parametrize(("order", "reason"), [("stop", "stopped"), ("abort", "aborted")])
def test_a_sender_at_a_shut_gate_is_told_to_leave(order: str, reason: str) -> None:
    with pair() as (near, _):
        group = Group()
        sender = UdpSender(group, near.fileno(), datagram_bytes=1000)
        with threads(group, sender):
            getattr(group, order)()
    assert sender.reason == reason
    assert sender.first_ns is None


@pytest.mark.rates
def test_an_idle_receiver_is_told_to_stop() -> None:
    with pair() as (_, far):
        group = Group()
        receiver = UdpReceiver(group, far.fileno(), datagram_bytes=1000)
        started = time.monotonic()
        with threads(group, receiver):
            assert settle(lambda: receiver.reason == "running")
        assert time.monotonic() - started < 1
    assert receiver.reason == "stopped"
    assert receiver.first_ns is None


@pytest.mark.rates
def test_shutdown_wakes_an_aborted_receiver_at_once() -> None:
    def once() -> None:
        with pair() as (near, far):
            group = Group()
            receiver = UdpReceiver(group, far.fileno(), datagram_bytes=1000)
            with threads(group, receiver):
                near.send(datagram(1))
                assert settle(lambda: receiver.packets == 1)
                started = time.monotonic()
                group.abort()
                far.shutdown(socket.SHUT_RDWR)
                while receiver.ended_ns is None and time.monotonic() - started < 1:
                    pass
                took = time.monotonic() - started
        assert receiver.reason == "aborted"
        assert receiver.errno == 0
        assert took < 0.03

    attempts(once)


def test_a_receiver_does_not_spin_on_a_socket_that_was_shut_down() -> None:
    with pair() as (_, far):
        group = Group()
        receiver = UdpReceiver(group, far.fileno(), datagram_bytes=1000)
        with threads(group, receiver):
            far.shutdown(socket.SHUT_RDWR)
            assert settle(lambda: receiver.ended_ns)
    assert receiver.reason == "eof"


def test_a_receiver_stops_although_the_sender_does_not() -> None:
    with pair() as (near, far):
        sending, receiving = Group(), Group()
        sender = UdpSender(sending, near.fileno(), datagram_bytes=64)
        receiver = UdpReceiver(receiving, far.fileno(), datagram_bytes=64)
        with threads(sending, sender), threads(receiving, receiver):
            sending.open()
            assert settle(lambda: receiver.packets > 0)
            receiving.stop()
            assert settle(lambda: receiver.ended_ns)
    assert receiver.reason == "stopped"
    counts = receiver.snapshot()
    assert counts.received_packets + counts.lost_packets == counts.highest_sequence


def test_the_loops_hold_no_gil() -> None:
    """Python goes on, snapshots in the meantime agree with themselves and only grow."""
    with pair() as (near, far):
        sending, receiving = Group(), Group()
        sender = UdpSender(sending, near.fileno(), datagram_bytes=64, segments=64)
        receiver = UdpReceiver(receiving, far.fileno(), datagram_bytes=64, coalesce=True)
        snapshots = [receiver.snapshot()]

        def grown() -> bool:
            snapshots.append(receiver.snapshot())
            return snapshots[-1].received_packets > snapshots[0].received_packets + 100_000

        # neither loop ends by itself: if one held the GIL, this would never go on
        with threads(sending, sender), threads(receiving, receiver):
            sending.open()
            assert settle(grown, 20)
    for sooner, later in itertools.pairwise(snapshots):
        assert later.received_packets + later.lost_packets == later.highest_sequence
        assert later.received_bytes == 64 * later.received_packets
        assert later.received_packets >= sooner.received_packets
    assert sum(sender.cpu_ns) > 0


def test_the_timer_slack_of_the_thread_is_given_back() -> None:
    with pair() as (near, _):
        slack = Path(f"/proc/self/task/{threading.get_native_id()}/timerslack_ns")
        if not slack.exists():
            slack = Path("/proc/self/timerslack_ns")
        before = slack.read_text() if os.access(slack, os.R_OK) else None
        group = Group(budget=100)
        send(UdpSender(group, near.fileno(), datagram_bytes=100), group)
        assert (slack.read_text() if before is not None else None) == before
