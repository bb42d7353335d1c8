"""Test the latency beside a bulk test: before it and under its load, by default between two
netmeasure ends."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import hello
from netmeasure.engine.control import ControlChannel
from netmeasure.peer import plans
from netmeasure.peer.client import connect, latency, test
from netmeasure.peer.server import probes, session
from netmeasure.peer.server.farewell import say_why
from netmeasure.peer.server.sessions import Sessions
from netmeasure.workloads import latency as workload
from support import iperf3
from support.optional import known
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
SHORT = nm.Timing(duration_s=0.3)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the probe wait longer, since answers that are late on a busy machine would otherwise
    count as lost."""
    monkeypatch.setattr(connect, "PROBE_HELLO_S", 10.0)
    monkeypatch.setattr(workload, "LEAST_PATIENCE_NS", workload.MOST_PATIENCE_NS)


async def measured(spec: nm.TcpSpec | nm.UdpSpec) -> tuple[nm.Result, nm.Result]:
    """Return both ends' results."""
    results: asyncio.Queue[nm.Result] = asyncio.Queue()
    async with nm.serve("127.0.0.1", 0, on_result=results.put_nowait) as server:
        return await nm.measure(server.address, spec), await results.get()


@pytest.mark.parametrize(
    "spec",
    [
        nm.TcpSpec(timing=SHORT),
        nm.TcpSpec(direction="both", timing=SHORT),
        nm.UdpSpec(direction="download", timing=SHORT, target_bps=10**7),
    ],
    ids=["tcp", "both", "udp"],
)
def test_latency_is_measured_by_default(run: RunLoop, spec: nm.TcpSpec | nm.UdpSpec) -> None:
    here, there = run(measured(spec))
    assert here.complete
    found = here.latency
    for part in (found.idle, found.loaded):
        assert part.sent >= part.count == sum(part.series.transactions) >= 1
        assert part.latency.sum_ns == sum(part.series.sum_ns)
        assert part.refused == 0
        assert part.min_ns <= part.max_ns
        for way in (part.upload_pdv, part.download_pdv):
            assert way.count == part.count
            assert 0 <= way.min_ns <= way.max_ns <= part.max_ns
    assert 0 < found.pdv_error_ns < 10**7
    assert found.idle.sent <= 105
    assert (found.rpm is None) == (found.loaded.count < 2)
    if found.rpm is not None:
        assert found.rpm >= 0.99 * 60e9 / found.loaded.mean_ns  # rpm excludes the longest
    assert (found.late_answers, found.invalid_answers) == (0, 0)
    assert nm.Result.from_json(here.to_json()) == here
    # the probe began before the streams, and set-up does not include it
    assert found.idle.series.origin_ns < 0 <= found.loaded.series.origin_ns
    assert {phase.connection for phase in here.setup} <= {
        "control",
        *(f"stream {stream.id}" for flow in here.flows for stream in flow.streams),
    }
    assert there.spec.latency
    assert there.latency is None


async def idle_buckets() -> tuple[int, int]:
    """Return how many probes were due before the load, and in how many buckets of 0.1 s."""
    spec = nm.TcpSpec(timing=nm.Timing(duration_s=10), target_bps=10**7)
    async with (
        nm.serve("127.0.0.1", 0) as server,
        nm.connect(server.address) as client,
        client.run(spec) as run,
    ):
        await until(lambda: run.transferring)
        run.stop()
        found = known(known((await run.wait()).latency).idle)
    assert found.sent == 105
    return found.sent + found.skipped, len(known(found.series).transactions)


def test_probes_of_a_near_path_delay_its_test_less(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """105 probes take 0.26 s, or 0.04 s, by their fixed times. Those that this host could not send
    in time take longer."""
    due, buckets = run_once(idle_buckets())
    assert buckets <= 2 + due // 250
    monkeypatch.setattr(latency, "NEAR_US", 0)
    _, buckets = run_once(idle_buckets())
    assert buckets >= 3


def test_the_latency_probe_can_be_left_out(run_once: RunLoop) -> None:
    here, there = run_once(measured(nm.TcpSpec(timing=SHORT, latency=False)))
    assert here.latency is None
    assert not any("latency" in note for note in here.notes)
    assert not there.spec.latency


def test_an_older_server_is_named(run_once: RunLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LATENCY", "other")
    here, _ = run_once(measured(nm.TcpSpec(timing=SHORT)))
    assert here.complete
    assert here.latency is None
    assert "the latency under load is unknown: the server is an older netmeasure" in here.notes


def test_without_stamps_the_directions_are_unknown(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server before this option ignores that the client asks for it."""

    def unstamped(sock: socket.socket, *, stamped: bool) -> workload.Reflection:
        assert stamped
        return workload.Reflection(sock, stamped=False)

    monkeypatch.setattr(session, "STAMPS", "other")
    monkeypatch.setattr(probes, "Reflection", unstamped)
    here, _ = run_once(measured(nm.TcpSpec(timing=SHORT)))
    found = here.latency
    assert found.loaded.count >= 1
    assert (found.late_answers, found.invalid_answers) == (0, 0)
    assert found.pdv_error_ns is None
    for part in (found.idle, found.loaded):
        assert (part.upload_pdv, part.download_pdv, part.upload_pdv_p50_ns) == (None, None, None)


def test_a_server_that_runs_many_tests_is_not_probed(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "MOST_TESTS", 0)
    here, _ = run_once(measured(nm.TcpSpec(timing=SHORT)))
    assert here.complete
    assert here.latency is None
    words = "the latency under load is unknown: 1 tests ran on the server when this one began"
    assert words in here.notes


def test_where_udp_is_blocked_the_probe_uses_tcp(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_s = 1.0
    monkeypatch.setattr(connect, "PROBE_HELLO_S", waited_s)
    monkeypatch.setattr(Sessions, "expected", lambda *_: None)
    here, _ = run(measured(nm.TcpSpec(timing=SHORT)))
    assert here.complete
    found = here.latency
    assert found.transport == "tcp"
    assert found.idle.count >= 1
    assert found.loaded.count >= 1
    assert not any("latency" in note for note in here.notes)
    assert here.set_up_ns < waited_s * 1e9  # set-up does not include that wait


def test_a_note_says_that_the_server_does_not_accept_the_probe(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session.Session, "awaits_probe", lambda *_: False)
    monkeypatch.setattr(connect, "PROBE_HELLO_S", 0.2)
    here, _ = run_once(measured(nm.TcpSpec(timing=SHORT)))
    assert here.complete
    assert here.latency is None
    assert any(note.endswith("has ended the probe") for note in here.notes)


def test_a_probe_whose_answer_by_udp_is_late_uses_tcp(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has accepted the probe by UDP, but its client no longer waits for the answer."""

    async def unheard(*arguments: Any, **more: Any) -> None:
        await hello.greet(*arguments, **more)
        raise nm.PeerTimeoutError("no answer in time")

    monkeypatch.setattr(connect, "greet", unheard)
    here, there = run_once(measured(nm.TcpSpec(timing=SHORT)))
    assert here.complete
    assert there.complete
    assert here.latency.transport == "tcp"
    assert here.latency.idle.count >= 1


@pytest.mark.interop
@pytest.mark.skipif(iperf3.available() is not None, reason=str(iperf3.available()))
def test_a_plain_server_is_named(run_once: RunLoop) -> None:
    with iperf3.server() as server:
        result = run_once(nm.measure("127.0.0.1", nm.TcpSpec(timing=SHORT), port=server.port))
    assert result.latency is None
    assert "the latency under load is unknown: the server is a plain iperf3" in result.notes


def test_a_run_that_is_cut_short_keeps_what_was_measured(run: RunLoop) -> None:
    async def cut() -> nm.Result:
        spec = nm.TcpSpec(timing=nm.Timing(duration_s=60, interval_s=0.05))
        async with (
            nm.serve("127.0.0.1", 0) as server,
            nm.connect(server.address) as client,
            client.run(spec) as live,
        ):
            moved = 0  # intervals with bytes: on a busy machine a thread may begin late
            async for interval in live:
                moved += interval.bytes > 0
                if moved == 8:
                    break
            await live.abort()
        assert live.result is not None
        return live.result

    result = run(cut())
    assert not result.complete
    assert result.latency.idle.count >= 1
    assert result.latency.loaded.sent >= 1


def test_a_server_takes_no_probe_of_a_test_that_ends(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise no code would end the probe's thread."""
    begun, awaited = asyncio.Event(), []
    servers: list[nm.Server] = []

    async def never(_: latency.LatencyWatch) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def tell(control: ControlChannel, error: BaseException, *, opened: bool) -> None:
        (leaving,) = servers[0]._sessions
        awaited.append(leaving.awaits_probe(socket.SOCK_DGRAM))
        await say_why(control, error, opened=opened)

    monkeypatch.setattr(latency.LatencyWatch, "idle", never)
    monkeypatch.setattr("netmeasure.peer.server.session.say_why", tell)

    async def ended() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            servers.append(server)
            measuring = asyncio.create_task(nm.measure(server.address, nm.TcpSpec(timing=SHORT)))
            await begun.wait()
        measuring.cancel()
        with suppress(asyncio.CancelledError):
            await measuring

    run_once(ended())
    assert awaited == [False]


def test_without_a_probe_delays_of_this_host_are_part_of_set_up(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop is blocked where a probe would measure the path before the load."""
    blocked_s = 0.2
    build = plans.build_workload

    def build_and_block(*plan: Any) -> Any:
        asyncio.get_running_loop().call_soon(time.sleep, blocked_s)
        return build(*plan)

    monkeypatch.setattr(test, "build_workload", build_and_block)

    async def measured() -> nm.Result:
        async with nm.serve("127.0.0.1", 0) as server:
            spec = nm.TcpSpec(timing=nm.Timing(total_bytes=1), latency=False)
            return await nm.measure(server.address, spec, port=server.port)

    assert known(run(measured()).set_up_ns) > blocked_s * 1e9
