"""Queues of known delay: the latency beside a test tells them, idle and under load."""

from __future__ import annotations

import pytest

import netmeasure as nm
from netmeasure.spec import Direction
from support import relay
from support.elsewhere import loop_on
from support.relay import Relay

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(relay.available() is not None, reason=str(relay.available())),
]
RATE = 50e6
TIME_S = 1.6
MS = 1e6


def measured(line: Relay, spec: nm.TcpSpec | nm.UdpSpec) -> nm.Result:
    """Measure between the hosts of a line."""
    with loop_on(line, "server") as there, loop_on(line, "client") as here:
        server = there(nm.serve(None, 0).__aenter__())
        try:
            result: nm.Result = here(nm.measure(line.server.address, spec, port=server.port))
        finally:
            there(server.close())
    return result


def near(ns: float) -> object:
    """Return what is within 2 ms or 2 % of a delay."""
    return pytest.approx(ns, rel=0.02, abs=2 * MS)


@pytest.mark.rates
@pytest.mark.parametrize(
    ("queue_ms", "direction"), [(5, "upload"), (50, "download"), (200, "both")]
)
def test_a_full_queue_is_told(queue_ms: int, direction: Direction) -> None:
    """Datagrams at twice the line's rate keep its queue full."""
    queue_bytes = int(RATE / 8 * queue_ms / 1000)
    spec = nm.UdpSpec(
        direction=direction,
        target_bps=int(2 * RATE),
        datagram_bytes=1400,
        timing=nm.Timing(duration_s=TIME_S, omit_s=0.5),
    )
    with Relay(delay_ms=queue_ms / 2, rate_bps=RATE, queue_bytes=queue_bytes) as line:
        result = measured(line, spec)
    found = result.latency
    assert found is not None
    assert found.loaded is not None
    queues = 2 if direction == "both" else 1
    idle_ns, loaded_ns = queue_ms * MS, (1 + queues) * queue_ms * MS
    assert (found.idle.count, found.idle.lost) == (105, 0)
    assert found.idle.p50_ns == near(idle_ns)
    # a stall of this machine of 5 ms holds up two of these probes: too few for a p99
    assert found.idle.p90_ns == near(idle_ns)
    assert found.loaded.p50_ns == near(loaded_ns)
    assert found.loaded.p90_ns == near(loaded_ns)
    assert found.loaded.sent == found.loaded.count + found.loaded.lost
    assert found.late_answers == found.invalid_answers == 0


def test_loss_is_no_latency() -> None:
    with Relay(delay_ms=5, loss=0.2, watch=16, only_watched=True) as line:
        result = measured(line, nm.TcpSpec(timing=nm.Timing(duration_s=0.5)))
        line.stop()
        lost = sum(way.watched.lost_packets for way in line.counts.values())
    found = result.latency
    assert found is not None
    assert found.loaded is not None
    assert found.idle.lost + found.loaded.lost == lost > 0
    assert found.idle.min_ns is not None
    assert found.idle.min_ns >= 10 * MS
