"""Test the idle baseline: it is measured before the test at both ends, and no other figure includes
it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.result import Result

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
REST_S = 0.5


def spec(**more: Any) -> nm.TcpSpec:
    return nm.TcpSpec(timing=nm.Timing(duration_s=0.5, baseline_s=REST_S, **more))


def test_both_ends_measure_the_baseline_of_their_host(run_once: RunOnce) -> None:
    async def main() -> tuple[Result, float]:
        async with nm.serve("127.0.0.1", 0) as server:
            start = time.monotonic()
            return await nm.measure(server.address, spec()), time.monotonic() - start

    result, took_s = run_once(main())
    assert took_s >= REST_S + 0.5
    for side in (result.client, result.server):
        assert side.resources.baseline.duration_ns >= 0.2e9
        assert side.resources.own is not None
        assert (side.own_host_s_per_gb is None) == side.resources.own_is_lost
    assert result.client.resources.baseline.duration_ns >= REST_S * 1e9
    # times count from the start of the test after the baseline, not from the user's call
    assert result.setup[0].start_ns < 0.1e9
    assert result.set_up_ns < REST_S * 1e9


def test_a_server_that_has_just_been_measured_is_not_idle(run_once: RunOnce) -> None:
    async def main() -> tuple[Result, float]:
        async with nm.serve("127.0.0.1", 0) as server:
            await asyncio.sleep(0.3)
            again = nm.TcpSpec(timing=nm.Timing(total_bytes=1))
            first = await nm.measure(server.address, again)
            assert first.server.resources is not None
            assert first.server.resources.baseline is not None
            since = time.monotonic()
            return await nm.measure(server.address, again), time.monotonic() - since

    result, took_s = run_once(main())
    before = result.server.resources.baseline
    # on a machine that stalls, the server may have been idle between the tests; the baseline must
    # not include the first test
    assert before is None or before.duration_ns < took_s * 1e9
    assert result.client.resources.baseline is None  # the specification asks for none


def test_a_stop_does_not_wait_for_the_end_of_the_baseline(run_once: RunOnce) -> None:
    async def main() -> Result | None:
        async with nm.serve("127.0.0.1", 0) as server, nm.connect(server.address) as client:
            timing = nm.Timing(duration_s=5, baseline_s=30)
            async with client.run(nm.TcpSpec(timing=timing)) as run:
                run.stop()
            return run.result

    result = run_once(main())
    assert result.complete
    assert result.client.resources.baseline is None


@pytest.mark.parametrize("wrong", [-1.0, 0.1, 601.0, float("nan")])
def test_an_invalid_duration_of_the_baseline_is_refused(wrong: float) -> None:
    with pytest.raises(nm.SpecError, match="baseline"):
        nm.Timing(baseline_s=wrong)


_BURN = """
import time
end = time.monotonic() + 20
while time.monotonic() < end: pass
"""


@pytest.mark.rates
def test_the_cpu_time_of_other_processes_is_not_the_runs_own(run_once: RunOnce) -> None:
    """Another process burns one CPU, before the test and during it; the test itself needs very
    little."""
    timing = nm.Timing(duration_s=1.5, baseline_s=1.0)

    async def main() -> Result:
        async with nm.serve("127.0.0.1", 0) as server:
            test = nm.TcpSpec(target_bps=10_000_000, timing=timing)
            return await nm.measure(server.address, test)

    with subprocess.Popen([sys.executable, "-c", _BURN]) as other:
        try:
            result = run_once(main())
        finally:
            other.kill()
    resources = result.client.resources
    assert resources.whole.share("host_cpu_ns") > 0.8
    assert resources.baseline.share("host_cpu_ns") > 0.8
    assert abs(resources.own.busy_ratio) < 0.3
    assert resources.own.busy_ratio == pytest.approx(
        (resources.whole.host_cpu_ns / resources.whole.duration_ns)
        - (resources.baseline.host_cpu_ns / resources.baseline.duration_ns)
    )
