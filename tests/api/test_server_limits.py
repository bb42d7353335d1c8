"""Test a server's limits: bitrates, durations, one client only, idle times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support import iperf3

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
MBIT = 1_000_000


async def refused(spec: nm.TcpSpec | nm.UdpSpec, **limits: Any) -> nm.PeerRefusedError:
    async with nm.serve("127.0.0.1", 0, limits=nm.ServerLimits(**limits)) as server:
        with pytest.raises(nm.PeerRefusedError) as caught:
            await nm.measure(server.address, spec)
        return caught.value


async def granted(spec: nm.TcpSpec | nm.UdpSpec, **limits: Any) -> nm.Result:
    async with nm.serve("127.0.0.1", 0, limits=nm.ServerLimits(**limits)) as server:
        return await nm.measure(server.address, spec)


def test_a_requested_bitrate_above_the_limit_is_refused(run: RunLoop) -> None:
    timing = nm.Timing(duration_s=0.2)
    both = nm.UdpSpec(direction="both", streams=2, target_bps=3 * MBIT, timing=timing)
    error = run(refused(both, max_bitrate_bps=12 * MBIT - 1))
    assert error.number == 27
    assert "above the server's limit" in str(error)
    assert run(granted(both, max_bitrate_bps=12 * MBIT)).complete


def test_a_pacing_rate_counts_as_well(run_once: RunLoop) -> None:
    options = nm.SocketOptions(pacing_bps=30 * MBIT)
    spec = nm.TcpSpec(options=options, timing=nm.Timing(duration_s=0.2))
    assert run_once(refused(spec, max_bitrate_bps=20 * MBIT)).number == 27


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_measured_bitrate_above_the_limit_is_refused(run_once: RunLoop, direction: Any) -> None:
    """The client requests no bitrate, but exceeds the limit. The figures until then are kept."""
    spec = nm.TcpSpec(direction=direction, timing=nm.Timing(duration_s=20))
    error = run_once(refused(spec, max_bitrate_bps=10 * MBIT, bitrate_over_s=0.3))
    assert error.number == 27
    assert error.result is not None
    assert not error.result.complete
    assert (error.result.client.streams[0].bytes or 0) > 0
    assert (error.result.client.duration_ns or 0) < 5e9


def test_a_bitrate_below_the_limit_is_allowed(run_once: RunLoop) -> None:
    spec = nm.UdpSpec(target_bps=2 * MBIT, timing=nm.Timing(duration_s=1))
    # a server that has no CPU for a moment counts what came meanwhile in a later span
    assert run_once(granted(spec, max_bitrate_bps=4 * MBIT, bitrate_over_s=0.5)).complete


@pytest.mark.parametrize(
    "timing",
    [
        nm.Timing(duration_s=3),
        nm.Timing(duration_s=1, omit_s=2),
        nm.Timing(total_bytes=10),
        nm.Timing(endless=True),
    ],
)
def test_a_duration_above_the_limit_is_refused(run_once: RunLoop, timing: nm.Timing) -> None:
    assert run_once(refused(nm.TcpSpec(timing=timing), max_duration_s=2)).number == 37


def test_a_duration_within_the_limit(run_once: RunLoop) -> None:
    spec = nm.TcpSpec(timing=nm.Timing(duration_s=0.2))
    assert run_once(granted(spec, max_duration_s=1)).complete


def test_more_streams_than_the_limit_are_refused_with_a_remedy(run: RunLoop) -> None:
    spec = nm.TcpSpec(streams=3, timing=nm.Timing(duration_s=0.2))
    error = run(refused(spec, max_streams=2))
    assert "number of streams" in str(error)
    assert "--max-streams" in (error.hint or "")
    assert run(granted(spec, max_streams=3)).complete


@pytest.mark.parametrize("good", [True, False])
def test_one_off(run: RunLoop, good: bool) -> None:
    async def main() -> tuple[str, list[bool]]:
        results: list[nm.Result] = []
        limits = nm.ServerLimits(max_duration_s=1)
        serving = nm.serve("127.0.0.1", 0, one_off=True, limits=limits, on_result=results.append)
        async with serving as server:
            over = asyncio.create_task(server.over())
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.close()  # a probe is no client
            await writer.wait_closed()
            assert not over.done()
            timing = nm.Timing(duration_s=0.2 if good else 5)
            try:
                await nm.measure(server.address, nm.TcpSpec(timing=timing))
            except nm.PeerRefusedError:
                assert not good
            reason = await asyncio.wait_for(over, 30)
            with pytest.raises(nm.BusyError):
                await nm.measure(server.address, nm.TcpSpec(timing=timing))
            return reason, [result.complete for result in results]

    assert run(main()) == ("served", [True] if good else [])


def test_a_server_ends_after_its_idle_time(run: RunLoop) -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with nm.serve("127.0.0.1", 0, idle_s=0.5) as server:
            over = asyncio.create_task(server.over())
            await nm.measure(server.address, nm.TcpSpec(timing=nm.Timing(duration_s=0.7)))
            assert not over.done()  # a test is no idle time, however long it takes
            since = loop.time()
            assert await asyncio.wait_for(over, 30) == "idle"
            return loop.time() - since

    assert run(main()) > 0.3


@pytest.mark.interop
@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        (["-b", "20M"], {"max_bitrate_bps": 10 * MBIT}),
        (["-t", "2"], {"max_bitrate_bps": 10 * MBIT, "bitrate_over_s": 0.3}),
        (["-t", "5"], {"max_duration_s": 3}),
    ],
)
def test_iperf3_gets_the_reason(
    run_once: RunLoop, arguments: list[str], limits: dict[str, Any]
) -> None:
    async def main() -> str:
        async with nm.serve("127.0.0.1", 0, limits=nm.ServerLimits(**limits)) as server:
            report = await asyncio.to_thread(
                iperf3.client, "127.0.0.1", server.port, *arguments, check=False
            )
            return str(report["error"])

    said = run_once(main())
    if "max_duration_s" in limits:
        assert "int_errno=37" in said  # iperf3 3.12 has no text for it
    else:
        assert "total required bandwidth is larger than server limit" in said
