"""Test that the latency beside a test tells in which direction the queue is."""

from __future__ import annotations

import pytest

import netmeasure as nm
from netmeasure.clock import MILLISECOND_NS
from netmeasure.spec import Direction
from support import relay
from support.elsewhere import loop_on
from support.relay import Relay

pytestmark = [
    pytest.mark.network,
    pytest.mark.rates,
    pytest.mark.skipif(relay.available() is not None, reason=str(relay.available())),
]
#: A full queue takes a probe only in the short time until the next datagram comes: in both
#: directions, one of four or fewer. At this rate 90 are sent; at a third of it, often one answer or
#: none came.
RATE_BPS, SENT_BPS = 60_000_000, 66_000_000
QUEUE_MS = 50
WITHIN_MS = 5


@pytest.mark.parametrize("direction", ["upload", "download", "both"])
def test_a_queue_is_told_in_its_direction(direction: Direction) -> None:
    """The line's queue is kept full, and takes a known time."""
    timing = nm.Timing(duration_s=1, omit_s=1)
    spec = nm.UdpSpec(direction=direction, target_bps=SENT_BPS, datagram_bytes=1400, timing=timing)
    queue_bytes = RATE_BPS // 8 * QUEUE_MS // 1000
    with (
        Relay(delay_ms=5, rate_bps=RATE_BPS, queue_bytes=queue_bytes) as line,
        loop_on(line, "server") as there,
        loop_on(line, "client") as here,
    ):
        server = there(nm.serve(None, 0).__aenter__())
        try:
            result: nm.Result = here(nm.measure(line.server.address, spec, port=server.port))
        finally:
            there(server.close())
    found = result.latency
    assert found is not None
    assert found.loaded is not None
    assert found.pdv_error_ns is not None
    assert found.pdv_error_ns < MILLISECOND_NS
    for way in ("upload", "download"):
        told_ns = getattr(found.loaded, f"{way}_pdv_p50_ns")
        known_ns = QUEUE_MS * MILLISECOND_NS if direction in (way, "both") else 0
        assert told_ns == pytest.approx(known_ns, abs=WITHIN_MS * MILLISECOND_NS)
