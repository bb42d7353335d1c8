"""Test runs that end early: cancelled, aborted, timed out, left by an exception, or with a server
that closes.

The census of conftest.py counts threads and descriptors after each of these tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import sockets
from netmeasure.engine.control import ControlChannel
from netmeasure.peer.client.data_phase import ClientData
from netmeasure.peer.client.test import PeerTest
from netmeasure.protocol import Message, Side, State
from netmeasure.workloads.base import Workload
from support.optional import known
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

DIRECTIONS = ("upload", "download", "both")
LONG = nm.Timing(duration_s=60, interval_s=0.02)
#: States in which the client waits for a message of the server.
WAITS = (
    State.IDENTIFIED,
    State.OFFERED,
    State.CREATING,
    State.STARTING,
    State.RUNNING,
    State.ENDING,
    State.ANSWERING,
    State.ANSWERED,
)


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[nm.Server, asyncio.Queue[nm.Result]]]:
    """A server on a free port, and the queue of its results."""
    results: asyncio.Queue[nm.Result] = asyncio.Queue()
    async with nm.serve("127.0.0.1", 0, on_result=results.put_nowait) as server:
        yield server, results


class Gate:
    """Let the first caller of `stay` wait for ever, and report that it has arrived."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def stay(self) -> None:
        if not self.reached.is_set():
            self.reached.set()
            await asyncio.Event().wait()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[nm.Run]:
    """Return the list of the runs that measure() makes."""
    made: list[nm.Run] = []
    run = nm.Client.run

    def remembered(self: nm.Client, spec: nm.TcpSpec | None = None, **more: Any) -> nm.Run:
        made.append(run(self, spec, **more))
        return made[-1]

    monkeypatch.setattr(nm.Client, "run", remembered)
    return made


async def all_well(server: nm.Server) -> None:
    """Check that nothing of earlier tests is left, and that the next test is complete."""
    await until(lambda: server.active_tests == 0)
    assert traffic_threads() == []
    result = await nm.measure(server.address, nm.TcpSpec(timing=nm.Timing(total_bytes=1000)))
    assert result.complete


def traffic_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("netmeasure-")]


def assert_cut_short(result: nm.Result | None, code: str) -> None:
    assert result is not None
    assert not result.complete
    assert result.error is not None
    assert result.error.code == code
    assert nm.Result.from_json(result.to_json()) == result


def assert_measured(result: nm.Result | None) -> None:
    """Check that the result has what was transferred before the end."""
    assert result is not None
    assert len(result.flows) == (2 if result.spec.direction == "both" else 1)
    for flow in result.flows:
        known = flow.receiver.bytes or flow.sender.acked_bytes
        assert known
        assert flow.series is not None
        assert flow.series.total_bytes == known


async def cancelled_at(gate: Gate, direction: str = "both", streams: int = 2) -> nm.Result | None:
    """Cancel measure() when it has reached the gate; return the server's result, if it has one."""
    spec = nm.TcpSpec(
        direction=direction,  # type: ignore[arg-type]
        streams=streams,
        timing=nm.Timing(total_bytes=100_000),
    )
    async with served() as (server, results):
        measuring = asyncio.create_task(nm.measure(server.address, spec))
        await gate.reached.wait()
        measuring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await measuring
        await until(lambda: server.active_tests == 0)
        theirs = None if results.empty() else results.get_nowait()
        await all_well(server)
        return theirs


# ---- measure() cancelled in every phase -------------------------------------------------------


@pytest.mark.parametrize("phase", WAITS, ids=lambda phase: phase.name)
def test_cancelled_while_it_waits_for_the_server(
    run: RunLoop, runs: list[nm.Run], monkeypatch: pytest.MonkeyPatch, phase: State
) -> None:
    gate = Gate()
    receive = ControlChannel.receive

    async def stuck(self: ControlChannel, *, deadline_s: float | None) -> Message:
        if self.connection.side is Side.CLIENT and self.connection.state is phase:
            await gate.stay()
        return await receive(self, deadline_s=deadline_s)

    monkeypatch.setattr(ControlChannel, "receive", stuck)
    theirs = run(cancelled_at(gate))
    assert_cut_short(runs[0].result, "cancelled")
    if phase is State.IDENTIFIED:
        assert theirs is None
    else:
        assert_cut_short(theirs, "peer_terminated")
    if phase in (State.ENDING, State.ANSWERING, State.ANSWERED):
        assert_measured(runs[0].result)


@pytest.mark.parametrize("step", ["resolve", "connect_first"])
def test_cancelled_before_there_is_a_connection(
    run: RunLoop, runs: list[nm.Run], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    gate = Gate()
    do = getattr(sockets, step)

    async def stuck(*args: Any) -> Any:
        await gate.stay()
        return await do(*args)

    monkeypatch.setattr(sockets, step, stuck)
    assert run(cancelled_at(gate)) is None
    assert_cut_short(runs[0].result, "cancelled")
    assert known(runs[0].result).flows == ()


@pytest.mark.parametrize("stream", [0, 3])
def test_cancelled_while_a_stream_is_opened(
    run: RunLoop, runs: list[nm.Run], monkeypatch: pytest.MonkeyPatch, stream: int
) -> None:
    gate = Gate()
    connect = sockets.connect_one
    opened: list[int | None] = []

    async def stuck(*args: Any, port_offset: int | None = None) -> sockets.Connected:
        if port_offset == stream:
            await until(lambda: len(opened) >= 4)  # the control connection and three streams
            await gate.stay()
        made = await connect(*args, port_offset=port_offset)
        opened.append(port_offset)
        return made

    monkeypatch.setattr(sockets, "connect_one", stuck)
    theirs = run(cancelled_at(gate))
    assert_cut_short(runs[0].result, "cancelled")
    assert_cut_short(theirs, "peer_terminated")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_cancelled_while_data_flow(
    run: RunLoop, runs: list[nm.Run], monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    async def main() -> nm.Result:
        async with served() as (server, results):
            spec = nm.TcpSpec(direction=direction, streams=2, timing=LONG)  # type: ignore[arg-type]
            measuring = asyncio.create_task(nm.measure(server.address, spec))
            await until(lambda: runs and runs[0].transferring)
            await flowing(runs[0])
            measuring.cancel()
            with pytest.raises(asyncio.CancelledError):
                await measuring
            assert_cut_short(runs[0].result, "cancelled")
            assert_measured(runs[0].result)
            theirs = await results.get()
            await all_well(server)
            return theirs

    theirs = run(main())
    assert_cut_short(theirs, "peer_terminated")
    assert_measured(theirs)


async def flowing(running: nm.Run) -> None:
    """Wait until bytes have been transferred in each direction of a run."""
    wanted = (
        {"upload", "download"} if running.spec.direction == "both" else {running.spec.direction}
    )
    async for interval in running:
        if interval.bytes:
            wanted.discard(interval.direction)
        if not wanted:
            return


def test_cancelled_while_the_last_data_are_received(
    run: RunLoop, runs: list[nm.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    drain = ClientData._drain_receivers

    async def stuck(self: ClientData) -> None:
        await gate.stay()
        await drain(self)

    monkeypatch.setattr(ClientData, "_drain_receivers", stuck)
    theirs = run(cancelled_at(gate))
    assert_cut_short(runs[0].result, "cancelled")
    assert_cut_short(theirs, "peer_terminated")
    assert_measured(runs[0].result)


def test_cancelled_twice(run: RunLoop, runs: list[nm.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    leaving, go_on = asyncio.Event(), asyncio.Event()
    leave = PeerTest.leave

    async def slow(self: PeerTest) -> None:
        leaving.set()
        await go_on.wait()
        await leave(self)

    async def main() -> None:
        async with served() as (server, results):
            measuring = asyncio.create_task(nm.measure(server.address, nm.TcpSpec(timing=LONG)))
            await until(lambda: runs and runs[0].transferring)
            await flowing(runs[0])
            monkeypatch.setattr(PeerTest, "leave", slow)
            measuring.cancel()
            await leaving.wait()
            for _ in range(3):
                measuring.cancel()
                await asyncio.sleep(0)
            assert not measuring.done()  # the threads have not been joined yet
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await measuring
            assert_cut_short(runs[0].result, "cancelled")
            assert_measured(runs[0].result)
            assert_cut_short(await results.get(), "peer_terminated")
            await all_well(server)

    run(main())


def test_cancelled_before_its_first_step(run: RunLoop) -> None:
    async def main() -> None:
        async with served() as (server, results):
            measuring = asyncio.create_task(nm.measure(server.address))
            measuring.cancel()
            with pytest.raises(asyncio.CancelledError):
                await measuring
            await all_well(server)
            await until(lambda: results.qsize())  # a server's result is put together in a thread
            assert results.qsize() == 1

    run(main())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_time_limit_around_measure(run: RunLoop, runs: list[nm.Run], direction: str) -> None:
    async def expire(limit: asyncio.Timeout) -> None:
        await until(lambda: runs and runs[0].transferring)
        await flowing(runs[0])
        limit.reschedule(asyncio.get_running_loop().time())

    async def limited(server: nm.Server, spec: nm.TcpSpec) -> None:
        async with asyncio.timeout(None) as limit:
            expiring = asyncio.create_task(expire(limit))
            try:
                await nm.measure(server.address, spec)
            finally:
                await expiring

    async def main() -> None:
        async with served() as (server, results):
            spec = nm.TcpSpec(direction=direction, timing=LONG)  # type: ignore[arg-type]
            with pytest.raises(TimeoutError) as caught:
                await limited(server, spec)
            assert not isinstance(caught.value, nm.MeasureError)
            assert nm.partial_result(caught.value) is runs[0].result
            assert_cut_short(runs[0].result, "cancelled")
            assert_measured(runs[0].result)
            assert_cut_short(await results.get(), "peer_terminated")
            await all_well(server)

    run(main())


# ---- a run that is left early or aborted ------------------------------------------------------


async def leave_by_an_exception(running: nm.Run) -> None:
    async with running:
        await flowing(running)
        raise ZeroDivisionError


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_leaving_a_run_by_an_exception_aborts_it(run: RunLoop, direction: str) -> None:
    async def main() -> None:
        async with served() as (server, results), nm.connect(server.address) as client:
            running = client.run(nm.TcpSpec(direction=direction, timing=LONG))  # type: ignore[arg-type]
            with pytest.raises(ZeroDivisionError):
                await leave_by_an_exception(running)
            assert_cut_short(running.result, "cancelled")
            assert_measured(running.result)
            assert_cut_short(await results.get(), "peer_terminated")
            await all_well(server)

    run(main())


def test_leaving_a_client_aborts_its_runs(run: RunLoop) -> None:
    async def main() -> None:
        async with served() as (server, results):
            client = nm.connect(server.address)
            runs = [client.run(nm.TcpSpec(direction=way, timing=LONG)) for way in DIRECTIONS]  # type: ignore[arg-type]

            async def use(running: nm.Run) -> None:
                async with running:
                    await running.wait()

            async with client:
                users = [asyncio.create_task(use(running)) for running in runs]
                await until(lambda: all(running.transferring for running in runs))
                await asyncio.gather(*map(flowing, runs))
            for running in runs:
                assert_cut_short(running.result, "cancelled")
                assert_measured(running.result)
            for outcome in await asyncio.gather(*users, return_exceptions=True):
                assert isinstance(outcome, nm.MeasureError | asyncio.CancelledError)
            for _ in runs:
                assert_cut_short(await results.get(), "peer_terminated")
            await all_well(server)

    run(main())


def test_leaving_the_intervals_early_waits_for_the_end(run: RunLoop) -> None:
    async def main() -> None:
        timing = nm.Timing(duration_s=0.2, interval_s=0.02)
        async with served() as (server, _), nm.connect(server.address) as client:
            async with client.run(nm.TcpSpec(timing=timing)) as running:
                async for _ in running:
                    break
                assert running.result is None
            assert running.result is not None
            assert running.result.complete

    run(main())


def test_an_aborted_run_can_be_left_as_usual(run: RunLoop) -> None:
    async def main() -> None:
        async with served() as (server, results), nm.connect(server.address) as client:
            async with client.run(nm.TcpSpec(timing=LONG)) as running:
                await flowing(running)
                await running.abort()
                assert_cut_short(running.result, "cancelled")
                assert_measured(running.result)
            # this task was not cancelled, so it goes on
            assert_cut_short(await results.get(), "peer_terminated")
            await all_well(server)

    run(main())


def test_the_intervals_of_a_run_that_is_aborted_at_once_end(run: RunLoop) -> None:
    async def main() -> list[nm.Interval]:
        seen: list[nm.Interval] = []
        async with served() as (server, _), nm.connect(server.address) as client:
            running = client.run(nm.TcpSpec(timing=LONG))
            with contextlib.suppress(asyncio.CancelledError, nm.MeasureError):
                async with running:
                    await running.abort()
                    async with asyncio.timeout(30):
                        seen.extend([interval async for interval in running])
            await all_well(server)
        return seen

    assert run(main()) == []


def test_a_run_must_be_started(run_once: RunLoop) -> None:
    async def main() -> None:
        running = nm.connect("127.0.0.1").run()
        with pytest.raises(nm.MeasureError, match="started") as caught:
            await running.wait()
        assert caught.value.hint
        await running.abort()
        running.stop()
        assert not running.transferring

    run_once(main())


def test_one_cancelled_run_does_not_disturb_another(run: RunLoop) -> None:
    async def main() -> nm.Result:
        async with (
            served() as (server, _),
            nm.connect(server.address) as client,
            client.run(nm.TcpSpec(direction="both", timing=LONG)) as good,
        ):
            await flowing(good)
            bad = client.run(nm.TcpSpec(direction="both", streams=2, timing=LONG))
            with pytest.raises(ZeroDivisionError):
                await leave_by_an_exception(bad)
            assert good.transferring
            good.stop()
            return await good.wait()

    result = run(main())
    assert result.complete
    for flow in result.flows:
        assert flow.receiver.bytes == flow.sender.bytes > 0


# ---- a server that is closed ------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_server_closed_in_the_middle_of_a_test(run: RunLoop, direction: str) -> None:
    results: list[nm.Result] = []
    server = nm.serve("127.0.0.1", 0, on_result=results.append)

    async def closed_under(running: nm.Run) -> None:
        async with running:
            await flowing(running)
            await server.close()

    async def main() -> tuple[nm.Run, nm.MeasureError]:
        async with server:
            spec = nm.TcpSpec(direction=direction, streams=2, timing=LONG)  # type: ignore[arg-type]
            running = nm.connect(server.address).run(spec)
            with pytest.raises(nm.MeasureError) as caught:
                await closed_under(running)
            assert server.active_tests == 0
        return running, caught.value

    running, error = run(main())
    assert type(error) is nm.PeerTerminatedError
    assert error.result is running.result
    assert_cut_short(running.result, "peer_terminated")
    assert_measured(running.result)
    assert len(results) == 1
    assert_cut_short(results[0], "cancelled")
    assert_measured(results[0])


def test_a_server_closed_while_results_are_exchanged(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    receive = ControlChannel.receive

    async def stuck(self: ControlChannel, *, deadline_s: float | None) -> Message:
        # the server waits for the client's results, and the client for those of the server
        if self.connection.side is Side.SERVER and self.connection.state is State.EXCHANGING:
            await gate.stay()
        return await receive(self, deadline_s=deadline_s)

    async def main() -> tuple[nm.MeasureError, list[nm.Result]]:
        results: list[nm.Result] = []
        async with nm.serve("127.0.0.1", 0, on_result=results.append) as server:
            spec = nm.TcpSpec(direction="both", timing=nm.Timing(total_bytes=100_000))
            measuring = asyncio.create_task(nm.measure(server.address, spec))
            await gate.reached.wait()
        with pytest.raises(nm.MeasureError) as caught:
            await measuring
        return caught.value, results

    monkeypatch.setattr(ControlChannel, "receive", stuck)
    error, results = run(main())
    assert type(error) is nm.PeerTerminatedError
    assert_cut_short(error.result, "peer_terminated")
    assert_measured(error.result)
    assert_cut_short(results[0], "cancelled")
    assert_measured(results[0])


async def closed_by_the_server(sock: socket.socket) -> bool:
    """Return whether the server ends the connection in time, by FIN or RST, and sends no data."""
    sock.setblocking(False)
    try:
        async with asyncio.timeout(20):
            return await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_a_closing_server_also_closes_connections_without_a_test(run: RunLoop) -> None:
    async def main() -> None:
        refusals: list[str] = []
        with contextlib.ExitStack() as stack:
            async with nm.serve("127.0.0.1", 0, on_refusal=refusals.append) as server:
                where = ("127.0.0.1", server.port)
                mute, half = (
                    stack.enter_context(socket.create_connection(where)) for _ in range(2)
                )
                half.sendall(b"half a cookie")
                await until(lambda: server._sessions.accepted == 2)
            assert await closed_by_the_server(mute)
            assert await closed_by_the_server(half)
        assert refusals == []

    run(main())


def test_a_connection_that_comes_as_the_server_closes_is_closed(run: RunLoop) -> None:
    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                for _ in range(10_000):
                    if server._sessions.accepted:
                        break
                    await asyncio.sleep(0)
                await server.close()  # one turn of the loop after the connection was accepted
                assert await closed_by_the_server(sock)

    run(main())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_cancelled_while_the_result_is_made(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch, direction: Any
) -> None:
    """The data sockets of a run that is over are closed as well."""
    made: list[socket.socket] = []
    add, result = Workload.add, PeerTest.result
    begun, go_on = asyncio.Event(), threading.Event()

    def kept(self: Workload, number: int, role: Any, sock: socket.socket, *more: Any) -> None:
        made.append(sock)
        add(self, number, role, sock, *more)

    async def main() -> nm.Result | None:
        loop = asyncio.get_running_loop()

        def held(self: PeerTest, error: Any) -> nm.Result:
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(20)
            return result(self, error)

        async with served() as (server, _):
            monkeypatch.setattr(Workload, "add", kept)
            monkeypatch.setattr(PeerTest, "result", held)
            spec = nm.TcpSpec(timing=nm.Timing(total_bytes=1000), direction=direction)
            task = asyncio.ensure_future(nm.measure(server.address, spec))
            await begun.wait()
            task.cancel()
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            await until(lambda: server.active_tests == 0)
            return nm.partial_result(caught.value)

    found = run_once(main())
    assert found is not None
    assert found.complete  # the test had ended before the cancellation came
    assert len(made) == (4 if direction == "both" else 2)
    assert all(sock.fileno() == -1 for sock in made)
