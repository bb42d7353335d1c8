"""Test round trips between two netmeasure ends, and with a server that is not netmeasure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any

import pytest

import netmeasure as nm
from support import iperf3

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
LONG = nm.Timing(duration_s=60, interval_s=0.02)


async def measured(spec: nm.RrSpec) -> tuple[nm.Result, nm.Result]:
    """Return both ends' results."""
    results: asyncio.Queue[nm.Result] = asyncio.Queue()
    async with nm.serve("127.0.0.1", 0, on_result=results.put_nowait) as server:
        return await nm.measure(server.address, spec), await results.get()


def test_both_ends_count_every_transaction(run: RunLoop) -> None:
    spec = nm.RrSpec(
        streams=3, request_bytes=10, response_bytes=20, timing=nm.Timing(total_blocks=999)
    )
    here, there = run(measured(spec))
    trips = here.round_trips
    assert here.complete
    assert (trips.transactions, trips.begun, trips.unanswered) == (999, 999, 0)
    assert trips.latency.min_ns <= trips.p50_ns <= trips.p99_ns <= trips.latency.max_ns
    assert trips.p99_99_ns is None  # 999 transactions are too few for it
    assert sum(trips.series.transactions) == 999
    assert sum(trips.series.sum_ns) == trips.latency.sum_ns
    assert here.flow.receiver.bytes == here.flow.sender.acked_bytes == 9990
    assert here.flow.limits is None
    assert nm.Result.from_json(here.to_json()) == here
    # the server knows what the client requested, but has no latencies
    assert isinstance(there.spec, nm.RrSpec)
    assert (there.spec.request_bytes, there.spec.response_bytes, there.spec.streams) == (10, 20, 3)
    assert there.round_trips is None
    assert there.complete
    assert there.flow.receiver.bytes == 9990


def udp(**more: Any) -> nm.RrSpec:
    return nm.RrSpec(transport="udp", request_bytes=100, response_bytes=20, **more)


def test_both_ends_count_every_transaction_by_udp(run: RunLoop) -> None:
    here, there = run(measured(udp(streams=3, in_flight=2, timing=nm.Timing(total_blocks=600))))
    trips = here.round_trips
    assert here.complete
    assert trips.begun == 600 == trips.transactions + trips.lost
    assert (trips.unanswered, trips.invalid_responses, trips.refused) == (0, 0, 0)
    assert sum(trips.series.transactions) == trips.transactions
    assert here.flow.counted_by == "sender"
    assert here.flow.sender.acked_bytes == 100 * trips.transactions
    assert nm.Result.from_json(here.to_json()) == here
    assert (there.spec.transport, there.spec.request_bytes, there.spec.lost_after_s) == (
        "udp",
        100,
        1.0,
    )
    assert there.round_trips is None
    assert there.flow.receiver.bytes <= 60_000


def test_a_set_rate_for_a_time(run: RunLoop) -> None:
    spec = nm.RrSpec(target_tps=200, in_flight=4, timing=nm.Timing(duration_s=0.4, omit_s=0.1))
    here, there = run(measured(spec))
    trips = here.round_trips
    assert trips.begun + trips.skipped == 100
    assert trips.begun == sum(trips.series.transactions) + trips.unanswered
    assert 0 < trips.transactions < trips.begun
    assert (there.spec.target_tps, there.spec.in_flight) == (200, 4)


def test_parameters_of_round_trips_are_checked() -> None:
    with pytest.raises(nm.SpecError, match="no direction"):
        nm.RrSpec(direction="download")
    with pytest.raises(nm.SpecError, match="does not end by bytes"):
        nm.RrSpec(timing=nm.Timing(total_bytes=10))
    with pytest.raises(nm.SpecError, match="request size"):
        nm.RrSpec(request_bytes=0)
    with pytest.raises(nm.SpecError, match="response size"):
        nm.RrSpec(response_bytes=2**20 + 1)
    with pytest.raises(nm.SpecError, match="request size is 1 B"):
        nm.RrSpec(transport="udp")
    with pytest.raises(nm.SpecError, match="option of TCP"):
        udp(options=nm.SocketOptions(congestion="cubic"))
    with pytest.raises(nm.SpecError, match="lost"):
        udp(lost_after_s=0)
    with pytest.raises(nm.SpecError, match="in flight"):
        nm.RrSpec(in_flight=10_001)


@pytest.mark.parametrize(
    ("limits", "spec"),
    [
        ({"max_duration_s": 2}, nm.RrSpec(timing=nm.Timing(duration_s=3))),
        ({"max_streams": 2}, nm.RrSpec(streams=3)),
        ({"max_bitrate_bps": 1000}, nm.RrSpec(target_tps=100)),
    ],
)
def test_a_servers_limits_hold(run_once: RunLoop, limits: Any, spec: nm.RrSpec) -> None:
    async def refused() -> None:
        async with nm.serve("127.0.0.1", 0, limits=nm.ServerLimits(**limits)) as server:
            with pytest.raises(nm.PeerRefusedError):
                await nm.measure(server.address, spec)

    run_once(refused())


def test_the_bitrate_limit_includes_both_directions(run_once: RunLoop) -> None:
    """The bitrate includes the responses, which are long here, while the requests are short."""

    async def refused() -> None:
        limits = nm.ServerLimits(max_bitrate_bps=10**6, bitrate_over_s=0.3)
        async with nm.serve("127.0.0.1", 0, limits=limits) as server:
            with pytest.raises(nm.PeerRefusedError) as caught:
                await nm.measure(server.address, nm.RrSpec(response_bytes=100_000, timing=LONG))
        assert caught.value.number == 27
        assert caught.value.result is not None
        assert caught.value.result.round_trips.transactions > 0

    run_once(refused())


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("how", ["stopped", "cancelled", "server gone"])
def test_a_run_that_is_cut_short_returns_what_it_measured(
    run: RunLoop, how: str, transport: str
) -> None:
    one = nm.RrSpec(streams=2, timing=LONG) if transport == "tcp" else udp(streams=2, timing=LONG)

    async def begun(live: nm.Run, server: nm.Server) -> None:
        async for interval in live:
            if interval.bytes:
                break
        if how == "stopped":
            live.stop()
            await live.wait()
        elif how == "cancelled":
            await live.abort()
        else:
            await server.close()
            await live.wait()

    async def cut() -> nm.Result:
        async with nm.serve("127.0.0.1", 0) as server, nm.connect(server.address) as client:
            live = client.run(one)
            with nullcontext() if how != "server gone" else pytest.raises(nm.PeerTerminatedError):
                async with live:
                    await begun(live, server)
            assert live.result is not None
            return live.result

    result = run(cut())
    assert result.complete == (how == "stopped")
    assert result.round_trips.transactions > 0
    assert result.round_trips.unanswered <= 2


@pytest.mark.interop
@pytest.mark.skipif(iperf3.available() is not None, reason=str(iperf3.available()))
def test_a_plain_iperf3_does_not_answer_round_trips(run_once: RunLoop) -> None:
    with iperf3.server() as server:

        async def refused() -> None:
            spec = nm.RrSpec(timing=nm.Timing(duration_s=1))
            with pytest.raises(nm.PeerRefusedError, match="does not answer round trips") as caught:
                await nm.measure("127.0.0.1", spec, port=server.port)
            assert "netmeasure" in (caught.value.hint or "")

        run_once(refused())
