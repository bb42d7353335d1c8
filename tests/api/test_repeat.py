"""repeat() and alternate(): complete runs, failed runs, and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Literal

import pytest
from msgspec.structs import replace

import netmeasure as nm
from netmeasure.repetition import turns
from support.ports import nobody
from support.proxy import Proxy

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
SPEC = nm.TcpSpec(timing=nm.Timing(duration_s=0.1))


def test_every_run_has_its_own_set_up(run: RunLoop) -> None:
    async def main() -> list[nm.Result]:
        async with nm.serve("127.0.0.1", 0) as server:
            return [one async for one in nm.repeat(server.address, SPEC, times=3)]

    results = run(main())
    assert [one.complete for one in results] == [True] * 3
    for one in results:
        assert [phase.name for phase in one.setup].count("connect") == 2
    ports = {one.flow.streams[0].sender.socket.local for one in results}
    assert len(ports) == 3
    summary = nm.summarise(results, "upload")
    # in 0.1 s, a run may get so little of a busy machine's CPUs that it has no bitrate, or no byte
    assert summary.counted == sum(one.flow.steady is not None for one in results)
    begun = sum(one.flow.averages.set_up_ns is not None for one in results)
    assert (summary.set_up.count if summary.set_up is not None else 0) == begun


def test_two_targets_take_turns(run: RunLoop) -> None:
    wide = nm.TcpSpec(timing=SPEC.timing, streams=2)

    async def main() -> list[tuple[Literal["a", "b"], nm.Result]]:
        async with nm.serve("127.0.0.1", 0) as one, nm.serve("127.0.0.1", 0) as two:
            runs = nm.alternate(one.address, two.address, SPEC, wide, pairs=2)
            found = [pair async for pair in runs]
            assert {r.target for s, r in found if s == "a"} == {one.address}
            assert {r.target for s, r in found if s == "b"} == {two.address}
            return found

    found = run(main())
    assert [side for side, _ in found] == ["a", "b", "b", "a"]
    assert [result.spec.streams for _, result in found] == [1, 2, 2, 1]


def test_turns() -> None:
    assert "".join(turns(5)) == "abbaabbaab"
    assert "".join(turns(1)) == "ab"


@pytest.mark.parametrize("times", [0, -1, 10**6])
def test_an_invalid_number_of_runs(times: int, run_once: RunLoop) -> None:
    async def main() -> None:
        with pytest.raises(nm.SpecError, match="runs: it must be 1 to"):
            await anext(nm.repeat("127.0.0.1", SPEC, times=times))
        with pytest.raises(nm.SpecError, match="runs: it must be 1 to"):
            await anext(nm.alternate("127.0.0.1", "127.0.0.1", SPEC, pairs=times))

    run_once(main())


def test_a_host_without_a_server_is_an_error_at_once(run_once: RunLoop) -> None:
    async def main(port: int) -> None:
        runs = nm.repeat("127.0.0.1", SPEC, times=3, port=port)
        with pytest.raises(nm.ConnectRefusedError) as caught:
            await anext(runs)
        assert caught.value.result is not None
        with pytest.raises(StopAsyncIteration):
            await anext(runs)

    with nobody() as port:
        run_once(main(port))


def test_a_broken_run_is_kept_and_the_next_one_begins(run_once: RunLoop) -> None:
    """The second run's data connection is reset in the middle; runs have two connections each."""

    async def main() -> list[nm.Result]:
        async with nm.serve("127.0.0.1", 0) as server:
            with Proxy(("127.0.0.1", server.port)) as proxy:
                proxy.connection(3).after(1_000_000, "up", "reset")
                target = "{}:{}".format(*proxy.address)
                wanted = replace(SPEC, latency=False)  # a probe would be another connection
                return [one async for one in nm.repeat(target, wanted, times=3)]

    first, second, third = run_once(main())
    assert (first.complete, second.complete, third.complete) == (True, False, True)
    assert second.flows
    assert nm.summarise([first, second, third], "upload").counted == 2


def test_the_second_failure_in_a_row_ends_the_repetition(run_once: RunLoop) -> None:
    async def main() -> list[nm.Result]:
        kept: list[nm.Result] = []
        server = await nm.serve("127.0.0.1", 0).__aenter__()
        address = server.address

        async def collect() -> None:
            async for one in nm.repeat(address, SPEC, times=50):
                kept.append(one)
                await server.close()

        with pytest.raises(nm.ConnectRefusedError):
            await collect()
        return kept

    kept = run_once(main())
    assert [bool(one.flows) for one in kept] == [True, False]


def test_cancelling_keeps_the_results_of_earlier_runs(run: RunLoop) -> None:
    async def main() -> list[nm.Result]:
        kept: list[nm.Result] = []
        second = asyncio.Event()

        async def collect(runs: AsyncIterator[nm.Result]) -> None:
            async for one in runs:
                kept.append(one)
                second.set()

        async with nm.serve("127.0.0.1", 0) as server:
            task = asyncio.create_task(collect(nm.repeat(server.address, SPEC, times=1000)))
            await second.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return kept

    assert [one.complete for one in run(main())] == [True]
