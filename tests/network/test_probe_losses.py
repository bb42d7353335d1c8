"""Losses beside a test: the probe must count the losses that the line counted, and no latency may
include them."""

from __future__ import annotations

import pytest

import netmeasure as nm
from netmeasure.workloads import latency
from support import relay
from support.elsewhere import loop_on
from support.relay import Relay

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(relay.available() is not None, reason=str(relay.available())),
]
DELAY_MS = 5
PROBE_BYTES = 16


def test_loss_is_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    # a busy machine may keep an answer for longer than a path does
    monkeypatch.setattr(latency, "LEAST_PATIENCE_NS", 1_500_000_000)
    spec = nm.TcpSpec(target_bps=10**7, timing=nm.Timing(duration_s=0.5))
    with Relay(delay_ms=DELAY_MS, loss=0.2, watch=PROBE_BYTES, only_watched=True) as line:
        with loop_on(line, "server") as there, loop_on(line, "client") as here:
            server = there(nm.serve(None, 0).__aenter__())
            try:
                result = here(nm.measure(line.server.address, spec, port=server.port))
            finally:
                there(server.close())
        line.stop()
        lost = sum(way.watched.lost_packets for way in line.counts.values())
    found = result.latency
    assert found is not None
    assert found.loaded is not None
    assert found.idle.lost + found.loaded.lost == lost > 0
    assert found.idle.min_ns is not None
    assert found.idle.min_ns >= 2 * DELAY_MS * 1e6
