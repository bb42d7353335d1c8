"""Provoke every limit: the right one must be named, with the figures that show it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import netmeasure as nm
from netmeasure.analysis.bottleneck_rules import CPU_BOUND, ON_TARGET
from netmeasure.measurement.flows import Measured, build_flows
from netmeasure.measurement.roles import directions
from netmeasure.report.text import print_report
from netmeasure.result import Limits
from support import relay
from support.elsewhere import loop_on
from support.netns import NamespacePair, Network
from support.optional import known
from support.relay import Relay

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]

pytestmark = [pytest.mark.network, pytest.mark.rates]
needs_relay = pytest.mark.skipif(relay.available() is not None, reason=str(relay.available()))

TIME_S = 1.5
SMALL = "4096 65536 65536"


@pytest.fixture(scope="module")
def far() -> Iterator[Relay]:
    """Provide a path with a round trip of 20 ms and no rate limit."""
    with Relay(delay_ms=10) as line:
        yield line


def measured(
    network: NamespacePair,
    during: Callable[[], None] | None = None,
    congestion: str = "cubic",
    time_s: float = TIME_S,
    **more: Any,
) -> nm.Result:
    more.setdefault("options", nm.SocketOptions(congestion=congestion))
    spec = nm.TcpSpec(timing=nm.Timing(duration_s=time_s, interval_s=0.5), **more)

    async def main(address: str, port: int) -> nm.Result:
        left = [during] if during is not None else []
        async with nm.connect(address, port=port) as client, client.run(spec) as run:
            async for interval in run:
                if left and interval.end_ns >= time_s / 2 * 1e9:
                    await asyncio.to_thread(left.pop())
        assert run.result is not None
        return run.result

    with loop_on(network, "server") as there, loop_on(network, "client") as here:
        server = there(nm.serve(None, 0).__aenter__())
        try:
            result: nm.Result = here(main(network.server.address, server.port))
        finally:
            there(server.close())
    assert result.complete
    return result


def report_text(result: nm.Result) -> str:
    """Return the report for a terminal of 200 columns."""
    console = Console(width=200, file=io.StringIO())
    print_report(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def limits(result: nm.Result) -> Limits:
    found = result.flow.limits
    assert found is not None
    return found


@contextlib.contextmanager
def setting(network: NamespacePair, side: str, name: str, value: str) -> Iterator[None]:
    """Change a setting of one host's kernel, and restore it afterwards."""
    path = Path("/proc/sys", *name.split("."))
    with network.enter(side):
        before = path.read_text()
    network.sysctl(side, name, value)
    try:
        yield
    finally:
        network.sysctl(side, name, before)


@needs_relay
def test_a_small_receive_window(far: Relay) -> None:
    with setting(far, "server", "net.ipv4.tcp_rmem", SMALL):
        result = measured(far)
    found = limits(result)
    assert found.limited_by == "receive_window"
    assert found.rwnd_used_ratio == pytest.approx(1, abs=0.2)
    # the measured rate needs about the window that the receiver offered
    window = known(known(known(result.flow.streams[0].sender).tcp_info).snd_wnd_bytes)[-1]
    assert found.window_needed_bytes == pytest.approx(window, rel=0.35)


@needs_relay
@pytest.mark.parametrize("congestion", ["cubic", "bbr"])
def test_a_small_send_buffer(far: Relay, congestion: str) -> None:
    """The kernel's own accounting shows this limit under bbr, but not always under cubic."""
    with setting(far, "client", "net.ipv4.tcp_wmem", SMALL):
        found = limits(measured(far, congestion=congestion))
    assert found.limited_by == "send_buffer"
    assert found.unsent_ratio is not None
    assert found.unsent_ratio < 0.5


@needs_relay
def test_a_target(far: Relay) -> None:
    found = limits(measured(far, target_bps=30_000_000))
    assert found.limited_by == "pacing"
    assert found.target_ratio is not None
    assert found.target_ratio >= ON_TARGET


@needs_relay
@pytest.mark.parametrize("congestion", ["cubic", "bbr"])
def test_a_pacing_rate(far: Relay, congestion: str) -> None:
    """The kernel paces because the user asked for it; no link is the limit."""
    options = nm.SocketOptions(congestion=congestion, pacing_bps=20_000_000)
    found = limits(measured(far, options=options))
    assert found.limited_by == "pacing"
    assert found.target_is == "pacing_rate"
    assert found.target_ratio is not None
    assert found.target_ratio >= ON_TARGET


@needs_relay
@pytest.mark.parametrize("congestion", ["cubic", "reno", "bbr"])
def test_a_policer(congestion: str) -> None:
    """Packets above a rate are dropped and none is delayed: no queue may be reported."""
    with Relay(delay_ms=2, police_bps=50e6, burst_bytes=60_000) as line:
        result = measured(line, congestion=congestion, time_s=3)
    found = limits(result)
    assert found.limited_by == "policer"
    assert "queued" not in report_text(result)


@needs_relay
def test_losses_keep_the_congestion_window_small() -> None:
    with Relay(delay_ms=10, loss=0.005) as line:
        result = measured(line, time_s=3)
    found = limits(result)
    assert found.limited_by == "congestion_window"
    assert found.tcp_efficiency is not None
    assert found.tcp_efficiency < 1
    assert found.cwnd_used_ratio == pytest.approx(1, abs=0.2)


@needs_relay
def test_random_losses_on_a_full_link_are_no_policer() -> None:
    """BBR keeps the link full whatever is lost, so that its rate is flat."""
    with Relay(delay_ms=10, rate_bps=50e6, queue_bytes=125_000, loss=0.01) as line:
        found = limits(measured(line, congestion="bbr", time_s=4))
    assert found.tcp_efficiency is not None
    assert found.tcp_efficiency < 0.997
    assert found.limited_by == "link"


@needs_relay
@pytest.mark.parametrize("congestion", ["cubic", "bbr"])
def test_a_slow_link_far_away(congestion: str) -> None:
    with Relay(delay_ms=10, rate_bps=50e6, queue_bytes=500_000) as line:
        found = limits(measured(line, congestion=congestion))
    assert found.limited_by == "link"


def test_a_shaped_link_and_a_target_below_it() -> None:
    """First the target is the limit, then the link becomes slower than the target. Each interval
    shows its limit, even if the limits are computed again from the saved result."""
    with Network() as network:
        network.shape("100mbit", burst="32k", latency="30ms")

        def slower() -> None:
            network.shape("30mbit", burst="32k", latency="30ms")

        result = measured(network, during=slower, time_s=3, target_bps=60_000_000)
    flow = result.flow
    names = [interval.limits.limited_by for interval in flow.intervals if interval.limits]
    assert names[0] == "pacing"
    assert names[-1] == "link"
    assert sum(interval.bytes for interval in flow.intervals) == flow.receiver.bytes
    assert flow.intervals[0].start_ns == 0
    for before, after in zip(flow.intervals, flow.intervals[1:], strict=False):
        assert before.end_ns == after.start_ns
    # the figures of both ends' hosts and threads are in the same intervals
    for interval in flow.intervals:
        assert interval.limits is not None
        assert interval.limits.sender_cpu_ratio is not None
        assert interval.limits.receiver_cpu_ratio is not None
        assert interval.sender is not None
        assert interval.receiver is not None
    saved = nm.Result.from_json(result.to_json())
    spec = saved.spec
    assert isinstance(spec, nm.TcpSpec)
    ways = directions(spec.direction, spec.streams)
    again = build_flows(Measured(spec, ways, saved.client, saved.server))
    assert again[0].intervals == flow.intervals
    assert again[0].limits == flow.limits


# ---- CPUs ----------------------------------------------------------------------------------------

_BURN = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
end = time.monotonic() + 20
while time.monotonic() < end: pass
"""


@contextlib.contextmanager
def burning(cpu: int) -> Iterator[None]:
    """Run another program that keeps a CPU busy; it ends after 20 s in any case."""
    child = subprocess.Popen([sys.executable, "-c", _BURN, str(cpu)])
    try:
        yield
    finally:
        child.kill()
        child.wait()


async def _pin(cpu: int, niceness: int) -> None:
    """Pin the loop's thread, and so the threads that it starts, to a CPU."""
    os.sched_setaffinity(0, {cpu})
    os.setpriority(os.PRIO_PROCESS, 0, niceness)


@pytest.mark.parametrize("loaded", ["sender", "receiver"])
def test_a_cpu_that_is_shared_with_others(loaded: str) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("there is one CPU only: either end would be slow")
    spec = nm.TcpSpec(
        timing=nm.Timing(duration_s=TIME_S), options=nm.SocketOptions(congestion="cubic")
    )
    slow, free = cpus[0], cpus[-1]
    with (
        Network() as network,
        loop_on(network, "server") as there,
        loop_on(network, "client") as here,
        burning(slow),
    ):
        # other programs on this machine must not slow the other end
        here(_pin(slow, 3) if loaded == "sender" else _pin(free, -15))
        there(_pin(slow, 3) if loaded == "receiver" else _pin(free, -15))
        server = there(nm.serve(None, 0).__aenter__())
        try:
            result = here(nm.measure(network.server.address, spec, port=server.port))
        finally:
            there(server.close())
    found = limits(result)
    assert found.limited_by == f"{loaded}_cpu"
    ran, waited = (getattr(found, f"{loaded}_{what}_ratio") for what in ("cpu", "wait"))
    if waited is None:
        pytest.skip("this kernel does not say how long a thread waits for a CPU")
    assert ran < CPU_BOUND
    assert waited > 0.2
    assert ran + waited > 0.5


# ---- an application that has nothing to send -----------------------------------------------------


def test_a_sender_that_is_often_stopped(run_once: RunOnce, tmp_path: Path) -> None:
    """The whole client is stopped for most of the time, as if its application were slow."""
    saved = tmp_path / "result.json"

    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "netmeasure", "client", server.address),
                *("-t", "2", "-i", "0.1", "-C", "cubic", "--json", str(saved)),
                stdout=subprocess.PIPE,
            )
            assert child.stdout is not None
            try:
                await child.stdout.readline()  # its first interval
                end = time.monotonic() + 1.8
                while time.monotonic() < end:
                    child.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(0.12)
                    child.send_signal(signal.SIGCONT)
                    await asyncio.sleep(0.03)
                await asyncio.wait_for(child.communicate(), 20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.communicate()
            assert child.returncode == 0

    run_once(main())
    found = limits(nm.Result.from_json(saved.read_bytes()))
    assert found.limited_by == "application"
    assert found.busy_ratio is not None
    assert found.busy_ratio < 0.8


@contextlib.contextmanager
def control_group() -> Iterator[Path]:
    """Provide a control group with a CPU quota, of version 1 or 2, for one process."""
    root = Path("/sys/fs/cgroup")
    first = root / "cpu" if (root / "cpu").is_dir() else root
    group = first / f"nm{os.getpid()}"
    try:
        group.mkdir()
    except OSError as exc:
        pytest.skip(f"no control group can be made here: {exc.strerror}")
    try:
        if not any((group / name).exists() for name in ("cpu.cfs_quota_us", "cpu.max")):
            pytest.skip("groups have no CPU quota here")
        yield group
    finally:
        group.rmdir()


def allow(group: Path, quota_us: int, period_us: int = 50_000) -> None:
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{quota_us} {period_us}")
    else:
        (group / "cpu.cfs_period_us").write_text(str(period_us))
        (group / "cpu.cfs_quota_us").write_text(str(quota_us))


_IN_GROUP = """
import os, runpy, sys
open(sys.argv[1], "w").write(str(os.getpid()))
sys.argv = ["netmeasure", *sys.argv[2:]]
runpy.run_module("netmeasure", run_name="__main__")
"""


def test_a_container_that_has_used_up_its_quota(run_once: RunOnce, tmp_path: Path) -> None:
    """The quota is set while the test runs, because a program with 4 % of a CPU takes long to
    start."""
    saved = tmp_path / "result.json"

    async def main(group: Path) -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _IN_GROUP, str(group / "cgroup.procs")),
                *("client", server.address, "-t", "2", "-i", "0.1", "-C", "cubic"),
                *("--json", str(saved)),
                stdout=subprocess.PIPE,
            )
            assert child.stdout is not None
            try:
                await child.stdout.readline()  # its first interval
                allow(group, quota_us=2000)
                await asyncio.sleep(1.8)
                allow(group, quota_us=50_000)
                await asyncio.wait_for(child.communicate(), 20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.communicate()
            assert child.returncode == 0

    with control_group() as group:
        run_once(main(group))
    result = nm.Result.from_json(saved.read_bytes())
    found = limits(result)
    assert found.limited_by == "sender_cpu"
    assert found.sender_cpu_ratio is not None
    assert found.sender_cpu_ratio < 0.5
    used = result.client.resources
    assert used is not None
    assert used.whole is not None
    assert used.whole.cgroup_throttled_ns is not None
    assert used.whole.cgroup_throttled_ns > 0.2e9
