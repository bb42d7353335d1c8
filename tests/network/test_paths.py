"""Paths with a delay: a line of 100 Mbit/s whose rate is known from the packets, not from a clock.

The relay counts whole IP packets, so with an MTU of 1500 and TCP timestamps 1448 of 1500 bytes are
payload.
"""

import asyncio
from typing import Any, Literal

import pytest

import netmeasure as nm
from support import relay
from support.relay import Relay

pytestmark = [
    pytest.mark.rates,
    pytest.mark.network,
    pytest.mark.skipif(
        relay.available() is not None, reason=relay.available() or "the relay works"
    ),
]

RATE_BPS = 100e6
PAYLOAD_BPS = RATE_BPS * 1448 / 1500

Direction = Literal["upload", "download"]
directions = pytest.mark.parametrize("direction", ["upload", "download"])


def measured(delay_ms: float, direction: Direction, duration_s: float) -> tuple[nm.Result, Relay]:
    """A test of our client with our server on a path whose queue holds one bandwidth-delay
    product, and that path with its counts."""
    spec = nm.TcpSpec(
        direction=direction,
        timing=nm.Timing(duration_s=duration_s),
        options=nm.SocketOptions(congestion="cubic"),
    )

    async def main() -> nm.Result:
        with line.enter("server"):
            server = await nm.serve(None, 0).__aenter__()
        try:
            with line.enter("client"):
                return await nm.measure(line.server.address, spec, port=server.port)
        finally:
            await server.close()

    product = round(RATE_BPS / 8 * 2 * delay_ms / 1000)
    with Relay(delay_ms=delay_ms, rate_bps=RATE_BPS, queue_bytes=product) as line:
        result = asyncio.run(asyncio.wait_for(main(), 60))
    return result, line


def steady(result: nm.Result) -> nm.Steady:
    assert result.complete
    assert result.steady is not None
    return result.steady


@directions
def test_the_steady_rate_of_a_path_is_that_of_its_line(direction: Direction) -> None:
    result, line = measured(10, direction, 3)
    found = steady(result)
    assert found.verdict == "steady"
    assert found.goodput_bps == pytest.approx(PAYLOAD_BPS, rel=0.015)
    counts = line.counts["up" if direction == "upload" else "down"]
    assert counts.overrun_packets == 0
    # every byte that was received crossed the line, and little else did
    assert result.receiver.bytes is not None
    assert result.receiver.bytes < counts.forwarded_bytes < 1.05 * result.receiver.bytes


@directions
def test_a_short_test_of_a_long_path_does_not_claim_to_be_steady(direction: Direction) -> None:
    """One second is seven round trips: hardly more than the slow start."""
    found: Any = steady(measured(75, direction, 1)[0])
    near = found.goodput_bps == pytest.approx(PAYLOAD_BPS, rel=0.02)
    assert found.verdict in ("not_steady", "too_short") or near
