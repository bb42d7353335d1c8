"""Pace datagrams: the rate, the gaps, the bursts, the stalls."""

from __future__ import annotations

import itertools
import json
import math
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from netmeasure._fast.udp import UdpReceiver, UdpSender
from netmeasure._fast.worker import Group
from netmeasure.clock import MILLISECOND_NS, SECOND_NS
from support.udp_rig import (
    SO_TIMESTAMPNS,
    arrivals,
    attempts,
    pair,
    send,
    threads,
)


@pytest.mark.rates
@pytest.mark.parametrize("unit", ["bps", "pps"])
@pytest.mark.parametrize(
    ("bps", "size", "segments"),
    [(10**6, 250, 64), (10**7, 1250, 0), (10**8, 1400, 0), (10**9, 1400, 0), (10**9, 1400, 64)],
)
def test_the_rate_is_kept(bps: int, size: int, segments: int, unit: str) -> None:
    """At the receiver, from its first datagram to its last, and in the sender's own count."""

    def once() -> None:
        pps = bps // (8 * size)
        target: dict[str, Any] = {"target_bps": bps} if unit == "bps" else {"target_pps": pps}
        rate = bps if unit == "bps" else pps * 8 * size
        with pair() as (near, far):
            sending, receiving = Group(), Group()
            sender = UdpSender(
                sending,
                near.fileno(),
                datagram_bytes=size,
                duration_ns=SECOND_NS,
                segments=segments,
                **target,
            )
            receiver = UdpReceiver(receiving, far.fileno(), datagram_bytes=size)
            with threads(receiving, receiver):
                send(sender, sending)
        assert sender.reason == "deadline"
        first, last = receiver.first_ns, receiver.last_ns
        assert first is not None
        assert last is not None
        quantum = sender.quantum_datagrams
        assert quantum == math.ceil(rate / (8 * size) / 10_000)
        assert sender.segments <= quantum
        assert sender.wakeups <= 10_000
        seen = (receiver.bytes - quantum * size) * 8 * SECOND_NS / (last - first)
        assert seen == pytest.approx(rate, rel=0.005)
        assert sender.bytes * 8 == pytest.approx(rate, rel=0.005, abs=8 * size)
        assert sender.largest_burst_bytes is not None
        # 10 ms of the rate are made up for at most, on top of one portion
        most = quantum * size + rate / 8 / 100
        assert quantum * size <= sender.largest_burst_bytes <= most

    attempts(once)


def sent(near: socket.socket, size: int = 100, **options: Any) -> UdpSender:
    """A sender that has sent for 200 ms."""
    group = Group()
    sender = UdpSender(
        group,
        near.fileno(),
        datagram_bytes=size,
        duration_ns=200 * MILLISECOND_NS,
        **options,
    )
    send(sender, group)
    return sender


@pytest.mark.rates
@pytest.mark.parametrize("segments", [0, 64])
def test_low_rates_are_sent_one_by_one(segments: int) -> None:
    """iperf3 sends 2 Mbit/s as trains of 64 KiB; here the gaps are even. Kernel time stamps."""

    def once() -> None:
        with pair() as (near, far):
            far.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sent(near, segments=segments, target_bps=2_000_000, size=250)
            stamps = arrivals(far)
        gaps = [later - sooner for sooner, later in itertools.pairwise(stamps)]
        assert len(stamps) == 200
        assert sum(gap < 0.5 * MILLISECOND_NS for gap in gaps) <= 4

    attempts(once)


@pytest.mark.rates
def test_bursts_are_sent_when_ordered() -> None:
    with pair() as (near, _):
        sender = sent(near, target_pps=1000, burst_datagrams=20)
    assert sender.quantum_datagrams == 20
    assert sender.largest_burst_bytes is not None
    # by design, and what is made up for where a wake-up was late: one decision of 20 ms
    assert 20 * 100 <= sender.largest_burst_bytes <= 2 * 20 * 100
    assert 5 <= sender.wakeups <= 11
    assert sender.packets <= 200


@pytest.mark.rates
def test_spinning_is_closer_than_sleeping_and_just_as_exact() -> None:
    def once() -> None:
        with pair() as (near, _):
            sender = sent(near, target_pps=1000, spin_ns=200_000)
        assert sender.packets == 200
        assert sender.late_wakeups <= 10

    attempts(once)


STALLING = """
import json, sys, threading
from netmeasure._fast.udp import UdpSender
from netmeasure._fast.worker import Group
group = Group()
sender = UdpSender(group, int(sys.argv[1]), datagram_bytes=1000, target_pps=5000, segments=64,
                   duration_ns=800_000_000)
group.open()
sender.run()
print(json.dumps([sender.packets, sender.skipped_ns, sender.late_wakeups,
                  sender.largest_burst_bytes]))
"""


@pytest.mark.rates
def test_a_stall_is_not_made_up_for_in_a_burst() -> None:
    """A sender stopped for 300 ms: 1500 datagrams are missed, and at most 10 ms of them repaid."""
    with pair() as (near, far):
        far.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        far.settimeout(10)
        command = [sys.executable, "-c", STALLING, str(near.fileno())]
        with subprocess.Popen(
            command, pass_fds=[near.fileno()], stdout=subprocess.PIPE, text=True
        ) as child:
            try:
                far.recv(1, socket.MSG_PEEK)  # it is sending
                far.setblocking(True)
                time.sleep(0.1)
                child.send_signal(signal.SIGSTOP)
                time.sleep(0.3)
                child.send_signal(signal.SIGCONT)
                packets, skipped_ns, late, burst = json.loads(child.communicate(timeout=20)[0])
            finally:
                child.kill()
        stamps = arrivals(far)
    assert len(stamps) == packets
    gaps = [later - sooner for sooner, later in itertools.pairwise(stamps)]
    stall = max(gaps)
    assert stall > 250 * MILLISECOND_NS
    assert late >= 1
    # a policer sees all that is repaid as one burst: 10 ms of 5000 per second, and a portion
    assert 45 * 1000 <= burst <= 51 * 1000
    assert skipped_ns >= stall - 11 * MILLISECOND_NS
    resumed = stamps[gaps.index(stall) + 1]
    for after_ms in (1, 2, 5, 20, 40):  # never more than twice the rate and one portion ...
        soon = sum(resumed <= stamp < resumed + after_ms * MILLISECOND_NS for stamp in stamps)
        assert soon <= 2 * 5 * after_ms + 3 + 1
        assert soon <= 5 * after_ms + 50 + 3 + 1  # ... nor more than 10 ms ahead of the rate
    expected = 5000 * (0.8 - skipped_ns / SECOND_NS)
    assert packets == pytest.approx(expected, abs=15)


def test_a_sender_that_is_stopped_at_its_end_says_what_it_missed() -> None:
    """Every datagram of the schedule was sent or is in the time that was given up."""
    with pair() as (near, far):
        far.settimeout(10)
        command = [sys.executable, "-c", STALLING, str(near.fileno())]
        with subprocess.Popen(
            command, pass_fds=[near.fileno()], stdout=subprocess.PIPE, text=True
        ) as child:
            try:
                far.recv(1, socket.MSG_PEEK)  # it is sending
                child.send_signal(signal.SIGSTOP)
                time.sleep(1)  # its 0.8 s are over before it goes on
                child.send_signal(signal.SIGCONT)
                packets, skipped_ns, *_ = json.loads(child.communicate(timeout=20)[0])
            finally:
                child.kill()
    assert packets < 4000
    assert packets == pytest.approx(5000 * (0.8 - skipped_ns / SECOND_NS), abs=1)
