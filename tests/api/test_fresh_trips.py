"""Test round trips that open a connection each, between two netmeasure ends."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import netmeasure as nm
from netmeasure.peer.server.fresh import FreshListener
from netmeasure.protocol import FreshPort
from support import iperf3
from support.ports import free_port, nobody
from support.program import server

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
LONG = nm.Timing(duration_s=60, interval_s=0.02)


def fresh(**more: Any) -> nm.RrSpec:
    return nm.RrSpec(keep_connections=False, **more)


async def measured(spec: nm.RrSpec, **options: Any) -> tuple[nm.Result, nm.Result]:
    """Return both ends' results."""
    results: asyncio.Queue[nm.Result] = asyncio.Queue()
    async with nm.serve("127.0.0.1", 0, on_result=results.put_nowait, **options) as server:
        return await nm.measure(server.address, spec), await results.get()


@pytest.mark.parametrize("request_bytes", [1, 100])
def test_both_ends_count_every_transaction(run: RunLoop, request_bytes: int) -> None:
    """Requests of 100 bytes begin with the token of the test, for which 1 byte is too short."""
    timing = nm.Timing(total_blocks=999)
    here, there = run(
        measured(fresh(streams=3, request_bytes=request_bytes, response_bytes=20, timing=timing))
    )
    trips, made = here.round_trips, here.round_trips.connections
    assert here.complete
    assert (trips.transactions, trips.begun, trips.unanswered) == (999, 999, 0)
    assert (made.connected, made.connecting.count, made.answering.count) == (999, 999, 999)
    assert (made.errors.total, made.error_ratio, made.syn_retransmits) == (0, 0.0, 0)
    assert made.connect_error is None
    # a round trip begins before its connection is opened
    assert made.connecting.sum_ns + made.answering.sum_ns <= trips.latency.sum_ns
    assert sum(trips.series.transactions) == 999
    assert here.flow.receiver.bytes == here.flow.sender.acked_bytes == 999 * request_bytes
    assert here.flow.limits is None
    assert len(here.client.streams) == len(here.server.streams) == 1
    assert nm.Result.from_json(here.to_json()) == here
    # the server knows what the client requested, but has no latencies
    assert (there.spec.keep_connections, there.spec.streams) == (False, 3)
    assert there.complete
    assert there.round_trips is None
    assert there.flow.receiver.bytes == 999 * request_bytes


def test_messages_that_need_many_packets(run: RunLoop) -> None:
    spec = fresh(
        streams=2,
        request_bytes=2**20,
        response_bytes=2**20,
        timing=nm.Timing(total_blocks=6),
    )
    here, there = run(measured(spec))
    assert here.round_trips.transactions == 6
    assert here.round_trips.connections.errors.total == 0
    assert there.flow.receiver.bytes == 6 * 2**20


def test_a_set_rate_for_a_time(run: RunLoop) -> None:
    spec = fresh(streams=2, target_tps=100, timing=nm.Timing(duration_s=0.4, omit_s=0.1))
    here, there = run(measured(spec))
    trips = here.round_trips
    assert trips.begun + trips.skipped == 100
    assert trips.begun == trips.connections.connected == sum(trips.series.transactions)
    assert 0 < trips.transactions < trips.begun
    assert (there.spec.target_tps, there.spec.streams) == (100, 2)


def test_no_connection_of_the_client_is_left_in_time_wait(run_once: RunLoop) -> None:
    """The server closes first: else each transaction would take a local port for a minute."""
    port, timing = free_port(), nm.Timing(total_blocks=2000)
    here, _ = run_once(measured(fresh(streams=4, timing=timing), fresh_port=port))
    assert here.round_trips.transactions == 2000
    # the first connection, which tries the port, and those that were open at the end
    assert _time_waits(to=port) <= 5


def _time_waits(to: int) -> int:
    """Return the number of connections in TIME-WAIT whose remote port is `to` (proc_net_tcp(5))."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[3] == "06" and row[2].endswith(f":{to:04X}") for row in rows)


def test_strangers_neither_count_nor_hold_places(run: RunLoop) -> None:
    """They come from another address, say nothing, or begin with something else than the token."""

    async def visited(port: int) -> tuple[nm.Result, nm.Result, list[nm.ServerEvent], int]:
        results: asyncio.Queue[nm.Result] = asyncio.Queue()
        events: list[nm.ServerEvent] = []
        spec = fresh(request_bytes=64, target_tps=100, timing=nm.Timing(total_blocks=150))
        spec = replace(spec, timing=replace(spec.timing, interval_s=0.02))
        server = nm.serve(
            "127.0.0.1",
            0,
            on_result=results.put_nowait,
            on_event=events.append,
            fresh_port=port,
        )
        silent: list[socket.socket] = []
        async with server, nm.connect(server.address) as client, client.run(spec) as live:
            async for _ in live:
                break
            with socket.socket() as elsewhere, socket.socket() as here:
                elsewhere.bind(("127.0.0.2", 0))
                for sock in (elsewhere, here):
                    sock.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
                    await asyncio.get_running_loop().sock_sendall(sock, bytes(64))
                    assert await _end_of(sock) == b""
            silent += [_silent(port) for _ in range(100)]
            result = await live.wait()
            there = await results.get()
        for sock in silent:
            sock.close()
        return result, there, events, server.statistics.refused["stranger"]

    here, there, events, strangers = run(visited(free_port()))
    assert here.round_trips.transactions == 150
    assert here.round_trips.connections.errors.total == 0
    assert there.flow.receiver.bytes == 150 * 64
    # the server has counted them, and told so at least once
    assert strangers == 2
    assert {event.reason for event in events} == {"stranger"}
    assert all("of others to its test's port" in event.message for event in events)
    assert all(event.test for event in events)


def _silent(port: int) -> socket.socket:
    """Return a socket that connects to a port, and sends nothing."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock


async def _end_of(sock: socket.socket) -> bytes:
    """Return what a peer sends before it closes or resets the connection."""
    try:
        async with asyncio.timeout(20):
            return await asyncio.get_running_loop().sock_recv(sock, 64)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("how", ["stopped", "cancelled", "server gone"])
def test_a_run_that_is_cut_short_returns_what_it_measured(run: RunLoop, how: str) -> None:
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
            live = client.run(fresh(streams=3, timing=LONG))
            with nullcontext() if how != "server gone" else pytest.raises(nm.PeerTerminatedError):
                async with live:
                    await begun(live, server)
            assert live.result is not None
            return live.result

    result = run(cut())
    assert result.complete == (how == "stopped")
    trips = result.round_trips
    assert trips.transactions > 0
    assert trips.unanswered <= 3
    assert trips.begun == trips.transactions + trips.unanswered + trips.connections.errors.total


def test_a_server_that_dies_ends_the_test(run_once: RunLoop) -> None:
    """The process is killed: no message says so, and no connection can be made any more."""

    async def kill(live: nm.Run, process: subprocess.Popen[str]) -> None:
        async with live:
            async for interval in live:
                if interval.bytes:
                    process.kill()

    async def killed() -> nm.Result:
        with server() as (process, address):
            async with nm.connect(address) as client:
                live = client.run(fresh(streams=3, timing=LONG))
                with pytest.raises(nm.PeerClosedError):
                    await kill(live, process)
                assert live.result is not None
                return live.result

    result = run_once(killed())
    assert not result.complete
    assert result.round_trips.transactions > 0


def test_a_port_that_can_not_be_reached_is_named(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as behind a firewall: here the announced port is one at which nothing listens."""

    async def refused(port: int) -> None:
        named = property(lambda _: FreshPort(port=port, token="00" * 16))
        monkeypatch.setattr(FreshListener, "announced", named)
        async with nm.serve("127.0.0.1", 0) as server:
            with pytest.raises(nm.ConnectRefusedError) as caught:
                await nm.measure(server.address, fresh(timing=LONG))
        assert str(port) in str(caught.value)
        assert "firewalls" in (caught.value.hint or "")

    with nobody() as port:
        run_once(refused(port))


def test_a_token_that_is_not_the_servers_gets_no_answer(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = vars(FreshListener)["announced"].fget

    async def refused() -> nm.MeasureError:
        wrong = property(lambda listener: replace(usual(listener), token="00" * 16))
        monkeypatch.setattr(FreshListener, "announced", wrong)
        spec = fresh(request_bytes=16, timing=nm.Timing(total_blocks=20))
        async with nm.serve("127.0.0.1", 0) as server:
            with pytest.raises(nm.PeerClosedError) as caught:
                await nm.measure(server.address, spec)
        return caught.value

    error = run_once(refused())
    made = error.result.round_trips.connections
    assert (made.errors.reset, made.connected, made.answering.count) == (20, 20, 0)
    assert made.error_ratio == 1.0


def test_a_port_in_use_refuses_the_test(run_once: RunLoop) -> None:
    async def refused(port: int) -> None:
        async with nm.serve("127.0.0.1", 0, fresh_port=port) as server:
            with pytest.raises(nm.PeerRefusedError) as caught:
                await nm.measure(server.address, fresh(timing=LONG))
        assert caught.value.number == 1005
        assert "could not listen for this test's connections: Address already in use" in str(
            caught.value
        )
        assert "--crr-port" in (caught.value.hint or "")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        run_once(refused(taken.getsockname()[1]))


def test_a_servers_limits_hold(run_once: RunLoop) -> None:
    async def refused() -> None:
        limits = nm.ServerLimits(max_streams=2)
        async with nm.serve("127.0.0.1", 0, limits=limits) as server:
            with pytest.raises(nm.PeerRefusedError):
                await nm.measure(server.address, fresh(streams=3))

    run_once(refused())


def test_parameters_of_fresh_connections_are_checked() -> None:
    with pytest.raises(nm.SpecError, match="UDP has no connections"):
        fresh(transport="udp", request_bytes=16, response_bytes=16)
    with pytest.raises(nm.SpecError, match="one request in flight"):
        fresh(in_flight=2)
    with pytest.raises(nm.SpecError, match="bind port is not an option"):
        fresh(options=nm.SocketOptions(bind_port=4000))
    with pytest.raises(nm.SpecError, match="port for fresh connections"):
        nm.serve("127.0.0.1", 0, fresh_port=65536)


def test_a_server_that_does_not_know_them_is_refused(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as an older netmeasure, which announces round trips on connections that stay open."""
    monkeypatch.setattr("netmeasure.peer.server.session.FRESH_ROUND_TRIPS", "rr")

    async def refused() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            with pytest.raises(nm.PeerRefusedError, match="on fresh connections") as caught:
                await nm.measure(server.address, fresh(timing=LONG))
        assert "netmeasure" in (caught.value.hint or "")

    run_once(refused())


@pytest.mark.interop
@pytest.mark.skipif(iperf3.available() is not None, reason=str(iperf3.available()))
def test_a_plain_iperf3_does_not_know_them(run_once: RunLoop) -> None:
    with iperf3.server() as plain:

        async def refused() -> None:
            spec = fresh(timing=nm.Timing(duration_s=1))
            with pytest.raises(nm.PeerRefusedError, match="on fresh connections"):
                await nm.measure("127.0.0.1", spec, port=plain.port)

        run_once(refused())
