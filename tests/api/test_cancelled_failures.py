"""Test that a cancellation takes effect even at the moment at which a run fails.

The run's own error must not replace the CancelledError: otherwise a program that repeats tests
would never end. Also, asyncio must not report the run's error as one that was never retrieved.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.exporter.config import Config, Module, Scheduled
from netmeasure.exporter.exporter import Exporter
from support import ports
from support.measured import RunLoop
from support.waiting import until

SHORT = nm.Timing(total_bytes=1000)


@pytest.fixture
def nobody() -> Iterator[str]:
    """Return an address that refuses connections."""
    with ports.nobody() as port:
        yield f"127.0.0.1:{port}"


async def of_many(runs: Any) -> None:
    async for _ in runs:
        pass


async def of_run(address: str) -> None:
    async with nm.connect(address) as client, client.run(nm.TcpSpec(timing=SHORT)) as run:
        await run.wait()


async def of_intervals(address: str) -> None:
    async with nm.connect(address) as client, client.run(nm.TcpSpec(timing=SHORT)) as run:
        await of_many(run)


async def of_events(address: str) -> None:
    async with nm.connect(address) as client, client.run(nm.TcpSpec(timing=SHORT)) as run:
        await of_many(run.events())


PROGRAMS: dict[str, Callable[[str], Coroutine[Any, Any, Any]]] = {
    "tcp": lambda address: nm.measure(address, nm.TcpSpec(timing=SHORT)),
    "udp": lambda address: nm.measure(address, nm.UdpSpec(timing=SHORT)),
    "round trips": lambda address: nm.measure(address, nm.RrSpec()),
    "http": lambda address: nm.measure(f"http://{address}/file"),
    "https": lambda address: nm.measure(f"https://{address}/file"),
    "ftp": lambda address: nm.measure(f"ftp://{address}/file"),
    "requests": lambda address: nm.measure(f"http://{address}/", nm.RequestSpec()),
    "run": of_run,
    "intervals": of_intervals,
    "events": of_events,
    "repeat": lambda address: of_many(nm.repeat(address, nm.TcpSpec(timing=SHORT))),
    "alternate": lambda address: of_many(nm.alternate(address, address)),
    "capacity": lambda address: nm.capacity(address),
}


#: Programs that return the results of several runs, or that read a run while it goes on.
MANY = ("intervals", "events", "repeat", "alternate", "capacity")


async def cancelled_as_a_run_fails(
    program: Coroutine[Any, Any, Any], failed: list[nm.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancel a program in the last step of its first run, and await the program."""
    task = asyncio.ensure_future(program)

    def end(self: nm.Run, result: nm.Result) -> None:
        failed.append(result)
        task.cancel()

    monkeypatch.setattr(nm.Run, "_tell_end", end)
    await task


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_cancellation_as_a_run_fails(
    name: str, nobody: str, run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[dict[str, Any]] = []
    failed: list[nm.Result] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        with pytest.raises(asyncio.CancelledError) as caught:
            await cancelled_as_a_run_fails(PROGRAMS[name](nobody), failed, monkeypatch)
        (result,) = failed
        assert result.error is not None
        if name not in MANY:
            assert nm.partial_result(caught.value) == result
        del caught
        gc.collect()  # asyncio reports an error that was never retrieved when its task is deleted
        await asyncio.sleep(0)

    run(main())
    assert reported == []


def test_an_exporter_is_left_as_its_test_fails(
    nobody: str, run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Module(name="quick", spec=nm.TcpSpec(timing=SHORT), timeout_s=20.0)
    target = Scheduled(target=nobody, module=module, every_s=0.01, jitter_s=0.0, path=None)
    exporter = Exporter(Config(modules={"quick": module}, scheduled=(target,)))

    async def main() -> None:
        ends = 0

        def end(self: nm.Run, result: nm.Result) -> None:
            nonlocal ends
            ends += 1
            for task in exporter._tasks:
                task.cancel()

        monkeypatch.setattr(nm.Run, "_tell_end", end)
        async with exporter:
            await until(lambda: not exporter.alive, 10)
        assert ends == 1

    run(main())
