"""Provide the server, specifications and results that tests of measure() against serve() share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import netmeasure as nm

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

BOTH_WAYS = ("upload", "download")
DIRECTIONS = ("upload", "download", "both")


@contextlib.asynccontextmanager
async def served(
    host: str | None = "127.0.0.1", **options: Any
) -> AsyncIterator[tuple[nm.Server, asyncio.Queue[nm.Result]]]:
    """Run a server on a free port; yield it with the queue of its results."""
    results: asyncio.Queue[nm.Result] = asyncio.Queue()
    async with nm.serve(host, 0, on_result=results.put_nowait, **options) as server:
        yield server, results


def spec(
    direction: str = "upload",
    streams: int = 1,
    *,
    duration_s: float | None = 0.2,
    timing: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **more: Any,
) -> nm.TcpSpec:
    when = timing if timing is not None else {"duration_s": duration_s}
    return nm.TcpSpec(
        direction=direction,  # type: ignore[arg-type]
        streams=streams,
        timing=nm.Timing(**when),
        options=nm.SocketOptions(**(options or {})),
        **more,
    )


async def measured(
    wanted: nm.TcpSpec | nm.UdpSpec, host: str = "127.0.0.1"
) -> tuple[nm.Result, nm.Result]:
    """Return the results of one successful test, of the client and of the server."""
    async with served(host) as (server, results):
        mine = await nm.measure(server.address, wanted)
        return mine, await results.get()


async def live(
    wanted: nm.TcpSpec | nm.UdpSpec, stop_after: int = 0
) -> tuple[list[nm.Interval], nm.Result]:
    """Run a test and collect its live intervals; stop it after so many of them, if a number is
    given."""
    seen: list[nm.Interval] = []
    async with (
        served() as (server, results),
        nm.connect(server.address) as client,
        client.run(wanted) as running,
    ):
        async for interval in running:
            seen.append(interval)
            if len(seen) == stop_after:
                running.stop()
        theirs = await results.get()
    assert theirs.complete
    assert running.result is not None
    return seen, running.result


def reports(result: nm.Result) -> Iterator[nm.StreamReport]:
    """Return the report of every stream by either end."""
    yield from result.client.streams
    yield from result.server.streams


def ways(direction: str) -> tuple[str, ...]:
    return BOTH_WAYS if direction == "both" else (direction,)
