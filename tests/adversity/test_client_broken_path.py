"""A real server behind a proxy that breaks, blocks or closes connections."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from support.proxy import Connection, Proxy
from support.scripted_server import (
    BOTH_WAYS,
    DIRECTIONS,
    PATIENT,
    assert_measured,
    failure,
    flowing,
    spec,
)
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


@contextlib.contextmanager
def proxied(server: nm.Server) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        yield proxy


async def failure_through(
    order: Callable[[Connection], None],
    connection: int,
    wanted: nm.TcpSpec,
    *,
    stall_s: float = 60,
) -> tuple[nm.MeasureError, list[nm.Result]]:
    """Measure through a proxy that gets its order during the data phase; return the reports of both
    ends."""
    results: list[nm.Result] = []
    limits = nm.ServerLimits(stall_s=stall_s, drain_s=0.2)
    server = nm.serve("127.0.0.1", 0, limits=limits, on_result=results.append)
    async with server:
        with proxied(server) as proxy:

            async def meanwhile(running: nm.Run) -> None:
                await flowing(running)
                order(proxy.connection(connection))

            target = "{}:{}".format(*proxy.address)
            error = await failure(target, wanted, meanwhile)
            await until(lambda: not server.active_tests)
    return error, results


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_data_connection_that_is_reset(run_once: RunLoop, direction: str, streams: int) -> None:
    through = failure_through(
        Connection.reset, 1, spec(direction, streams=streams, deadlines=PATIENT)
    )
    error, results = run_once(through)
    # the end that noticed the reset first reports it to the other end
    assert type(error) in (nm.StreamError, nm.PeerRefusedError)
    assert_measured(error)
    assert [result.complete for result in results] == [False]


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_a_data_connection_that_is_closed_before_its_time(run: RunLoop, direction: str) -> None:
    error, results = run(failure_through(Connection.close, 1, spec(direction, deadlines=PATIENT)))
    assert type(error) in (nm.StreamError, nm.PeerRefusedError)
    assert_measured(error)
    assert [result.complete for result in results] == [False]


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_a_data_connection_that_ends_early_and_swallows_the_rest(
    run_once: RunLoop, direction: str
) -> None:
    def half_close(connection: Connection) -> None:
        connection.half_close("up" if direction == "upload" else "down")

    # long enough for an end that is early, even if the order comes late on a busy machine
    error, results = run_once(failure_through(half_close, 1, spec(direction, 3, deadlines=PATIENT)))
    assert type(error) in (nm.StreamError, nm.PeerRefusedError)
    assert_measured(error)
    assert [result.complete for result in results] == [False]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_data_that_are_stuck(run_once: RunLoop, direction: str) -> None:
    wanted = spec(direction, deadlines={**PATIENT, "stall_s": 0.3})

    def stall(connection: Connection) -> None:
        for index in (1, 2):
            connection._proxy.connection(index).stall("both")

    error, results = run_once(failure_through(stall, 1, wanted))
    assert type(error) is nm.PeerTimeoutError
    assert "no data moved for 0.3 s" in str(error)
    assert_measured(error)
    assert [result.error.code for result in results] == ["peer_terminated"]


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_a_control_connection_that_is_stuck(run_once: RunLoop, direction: str) -> None:
    wanted = spec(direction, 0.3, deadlines=PATIENT)
    error, _ = run_once(failure_through(lambda c: c.stall("both"), 0, wanted, stall_s=0.5))
    assert type(error) is nm.PeerTimeoutError
    assert "ending (EXCHANGE_RESULTS expected)" in str(error)
    assert_measured(error)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_control_connection_that_is_reset(run_once: RunLoop, direction: str) -> None:
    error, results = run_once(
        failure_through(Connection.reset, 0, spec(direction, deadlines=PATIENT))
    )
    assert type(error) is nm.PeerClosedError
    assert "vanished in the middle" in str(error)
    assert_measured(error)
    assert [result.error.code for result in results] == ["peer_closed"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_server_that_is_killed(run_once: RunLoop, direction: str) -> None:
    argv = [sys.executable, "-m", "netmeasure", "server", "--port", "0", "--bind", "127.0.0.1"]

    async def main(process: subprocess.Popen[str]) -> nm.MeasureError:
        assert process.stdout is not None
        listening = re.search(r"listening on (127\.0\.0\.1:\d+)", process.stdout.readline())
        assert listening

        async def meanwhile(running: nm.Run) -> None:
            await flowing(running)
            process.send_signal(signal.SIGKILL)

        return await failure(listening[1], spec(direction, streams=2, deadlines=PATIENT), meanwhile)

    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            error = run_once(main(process))
        finally:
            process.kill()
    assert type(error) is nm.PeerClosedError
    assert error.result.peer_extended
    assert error.result.server.host.program == "netmeasure"
    assert_measured(error)
