"""Test which limit the figures name, one rule after the other."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from netmeasure.analysis.bottleneck_rules import verdict
from netmeasure.result import Limit, Limits

#: A bulk sender on a path without a queue, its congestion window full.
BUSY = Limits(
    sender_cpu_ratio=0.05,
    sender_wait_ratio=0.02,
    receiver_cpu_ratio=0.05,
    receiver_wait_ratio=0.02,
    busy_ratio=1.0,
    rwnd_limited_ratio=0.0,
    sndbuf_limited_ratio=0.0,
    cwnd_used_ratio=0.95,
    rwnd_used_ratio=0.1,
    unsent_ratio=1.0,
    pacing_ratio=1.2,
    queue_delay_ns=500_000,
    buffer_delay_ratio=0.025,
    rate_variation=0.3,
    tcp_efficiency=0.99,
)
#: Data wait to be sent, but no window is full.
PACED = {"cwnd_used_ratio": 0.45, "pacing_ratio": 1.0}
#: All data in the socket are in flight.
NOTHING_WAITS = {"cwnd_used_ratio": 0.45, "unsent_ratio": 0.0}

#: Losses by a policer: if chance had lost these segments, so constant a rate would be rare.
POLICED = {
    "rate_variation": 0.05,
    "retransmit_dispersion": 4.0,
    "retransmits_per_part": 40.0,
    "tcp_efficiency": 0.97,
}

#: A constant rate and a short delay, while every tenth segment is lost, not in clusters.
DROPPING = {
    "buffer_delay_ratio": 0.6,
    "queue_delay_ns": 300_000,
    "rate_variation": 0.01,
    "retransmit_dispersion": 0.7,
    "tcp_efficiency": 0.9,
}

STARVED = {"sender_cpu_ratio": 0.5, "sender_wait_ratio": 0.45}
UNHINDERED = {"cwnd_used_ratio": 0.25, "pacing_ratio": 4.0}
LATE_ACKS = {"buffer_delay_ratio": 400.0, "queue_delay_ns": 2_000_000}
SLOW_READER = {"receiver_cpu_ratio": 0.1, "receiver_wait_ratio": 0.85}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({}, "congestion_window"),
        ({"sender_cpu_ratio": 0.95}, "sender_cpu"),
        ({"sender_cpu_ratio": 0.95, "sender_wait_ratio": None}, "sender_cpu"),
        ({"receiver_cpu_ratio": 0.95}, "receiver_cpu"),
        # sharing a CPU is being without one, where that keeps TCP waiting
        ({**STARVED, "unsent_ratio": 0.1}, "sender_cpu"),
        ({**STARVED, "unsent_ratio": None}, "sender_cpu"),
        (STARVED, "congestion_window"),
        ({**SLOW_READER, "rwnd_limited_ratio": 0.3}, "receiver_cpu"),
        ({**SLOW_READER, "rwnd_used_ratio": 0.9}, "receiver_cpu"),
        (SLOW_READER, "congestion_window"),
        ({**SLOW_READER, "unsent_ratio": 0.1}, "receiver_cpu"),
        ({**SLOW_READER, "unsent_ratio": None}, "congestion_window"),
        # data wait, and neither a window nor pacing keeps them back: the round trip seems long
        # because a receiver without a CPU acknowledges late
        ({**SLOW_READER, **UNHINDERED, **LATE_ACKS}, "receiver_cpu"),
        ({**SLOW_READER, **UNHINDERED, **LATE_ACKS, "pacing_ratio": 1.1}, "link"),
        ({**SLOW_READER, **LATE_ACKS}, "link"),
        ({**UNHINDERED, **LATE_ACKS}, "link"),
        # nothing in the network explains it; the receiver does
        ({**SLOW_READER, "buffer_delay_ratio": 8.0, "queue_delay_ns": 400_000}, "receiver_cpu"),
        ({**SLOW_READER, "buffer_delay_ratio": None}, "receiver_cpu"),
        ({"sender_cpu_ratio": None}, "congestion_window"),
        # limits that the kernel accounts for
        ({"rwnd_limited_ratio": 0.6}, "receive_window"),
        ({"sndbuf_limited_ratio": 0.6}, "send_buffer"),
        ({"busy_ratio": 0.5}, "application"),
        # a bulk sender is idle for want of a CPU, not for want of data
        ({"busy_ratio": 0.5, "sender_cpu_ratio": 0.3, "sender_wait_ratio": 0.4}, "sender_cpu"),
        ({"busy_ratio": None}, None),
        # a queue: as long as no host's answer takes, or at a rate that does not move
        ({"buffer_delay_ratio": 0.5, "queue_delay_ns": 10_000_000}, "link"),
        ({"buffer_delay_ratio": 8.0, "queue_delay_ns": 400_000}, "network"),
        ({"buffer_delay_ratio": 8.0, "queue_delay_ns": 400_000, "rate_variation": 0.01}, "link"),
        ({"buffer_delay_ratio": 8.0, "queue_delay_ns": 400_000, "rate_variation": None}, "network"),
        # the smaller window is the one that stops
        ({"cwnd_used_ratio": 0.4, "rwnd_used_ratio": 0.95}, "receive_window"),
        ({"cwnd_used_ratio": 0.85, "rwnd_used_ratio": 0.95}, "receive_window"),
        ({"cwnd_used_ratio": 0.95, "rwnd_used_ratio": None}, "congestion_window"),
        # losses in clusters at a rate that the losses do not move
        (POLICED, "policer"),
        ({**POLICED, "retransmits_per_part": None}, "policer"),
        ({**POLICED, "retransmit_dispersion": 1.0}, "congestion_window"),
        ({**POLICED, "rate_variation": 0.2}, "congestion_window"),
        ({**POLICED, "retransmits_per_part": 400.0}, "congestion_window"),
        ({**POLICED, "retransmits_per_part": 400.0, "tcp_efficiency": 0.7}, "policer"),
        ({**POLICED, "tcp_efficiency": 0.999}, "congestion_window"),
        ({**POLICED, "buffer_delay_ratio": 0.5, "queue_delay_ns": 10_000_000}, "link"),
        ({**DROPPING, "tcp_efficiency": 0.97}, "link"),
        (DROPPING, "network"),
        # no window is full
        (PACED, "link"),
        ({**PACED, "pacing_ratio": 2.8}, "congestion_window"),
        ({**PACED, "pacing_ratio": None}, "network"),
        # the target's own pacing, in a stretch whose rate falls short of it for another reason
        ({**PACED, "target_ratio": 0.93}, "pacing"),
        ({**PACED, "target_ratio": 0.5, "pacing_ratio": 1.1}, "pacing"),
        ({**PACED, "target_ratio": 0.93, "pacing_ratio": 1.2}, "link"),
        (NOTHING_WAITS, "send_buffer"),
        ({**NOTHING_WAITS, "sender_cpu_ratio": 0.6}, "network"),
        # an older kernel, or another end that tells less
        ({"cwnd_used_ratio": 0.4, "unsent_ratio": None}, "network"),
        ({"buffer_delay_ratio": None}, "network"),
        ({"queue_delay_ns": None}, "network"),
    ],
)
def test_what_is_named(changed: dict[str, Any], name: Limit | None) -> None:
    assert verdict(replace(BUSY, **changed)) == name


def test_what_is_nearer_to_the_sender_comes_first() -> None:
    everything = replace(
        BUSY,
        target_ratio=1.0,
        sender_cpu_ratio=0.95,
        receiver_cpu_ratio=0.95,
        rwnd_limited_ratio=0.9,
        sndbuf_limited_ratio=0.9,
        buffer_delay_ratio=3.0,
        queue_delay_ns=10**8,
    )
    hidden: list[tuple[Limit, dict[str, float]]] = [
        ("pacing", {"target_ratio": 0.5}),
        ("sender_cpu", {"sender_cpu_ratio": 0.1}),
        ("receiver_cpu", {"receiver_cpu_ratio": 0.1}),
        ("receive_window", {"rwnd_limited_ratio": 0.1}),
        ("send_buffer", {"sndbuf_limited_ratio": 0.1}),
    ]
    for name, without in hidden:
        assert verdict(everything) == name
        everything = replace(everything, **without)
    assert verdict(everything) == "link"


def test_nothing_is_known() -> None:
    assert verdict(Limits()) is None


@pytest.mark.parametrize(
    ("paused", "name"), [(None, "application"), (0.1, "application"), (0.32, "congestion_window")]
)
def test_a_pause_of_the_sender_is_no_application_that_has_nothing_to_send(
    paused: float | None, name: Limit
) -> None:
    """A process that was stopped for a third of the time was busy in all of the rest."""
    found = replace(BUSY, busy_ratio=0.67, sender_paused_ratio=paused)
    assert verdict(found) == name
