"""Run one test between the real iperf3 and netmeasure, or between two of ours, and return what both
ends have of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import netmeasure as nm
from support import iperf3

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
SHORT = nm.Timing(duration_s=0.3)


class Ended(nm.Observer):
    """A server's view of its tests, one after the other."""

    def __init__(self, results: asyncio.Queue[nm.Result], openings: list[nm.Opening]) -> None:
        self._results = results
        self._openings = openings

    def on_opening(self, opening: nm.Opening) -> None:
        self._openings.append(opening)

    def on_ended(self, result: nm.Result) -> None:
        self._results.put_nowait(result)

    def output(self, result: nm.Result) -> str | dict[str, Any] | None:
        return f"said by the server of {result.spec.streams} streams\n"


@contextlib.asynccontextmanager
async def served(
    host: str = "127.0.0.1", **options: Any
) -> AsyncIterator[tuple[nm.Server, asyncio.Queue[nm.Result], list[nm.Opening]]]:
    results: asyncio.Queue[nm.Result] = asyncio.Queue()
    openings: list[nm.Opening] = []
    async with nm.serve(host, 0, observe=lambda: Ended(results, openings), **options) as server:
        yield server, results, openings


async def from_iperf3(
    *arguments: str, host: str = "127.0.0.1", check: bool = True, **options: Any
) -> tuple[dict[str, Any], nm.Result, nm.Opening]:
    """The real client against our server: its JSON, our result, and what our server opened."""
    async with served(host, **options) as (server, results, openings):
        report = await asyncio.to_thread(
            iperf3.client, host, server.port, "-t", "1", *arguments, check=check
        )
        return report, await results.get(), openings[0]


async def ours(
    spec: nm.TcpSpec | nm.UdpSpec, host: str = "127.0.0.1", **options: Any
) -> tuple[nm.Result, nm.Result, nm.Opening]:
    """Two of ours: the results of both, and what the server opened."""
    async with served(host, **options) as (server, results, openings):
        mine = await nm.measure(server.address, spec)
        return mine, await results.get(), openings[0]


class Sockets(nm.Observer):
    """An option of every socket of this process, while data are about to flow."""

    def __init__(self, level: int, *options: int) -> None:
        self.level = level
        self.options = options
        self.seen: list[tuple[int, ...]] = []

    def on_opening(self, opening: nm.Opening) -> None:
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    with socket.socket(fileno=os.dup(int(name))) as sock:
                        values = [sock.getsockopt(self.level, o) for o in self.options]
                        self.seen.append(tuple(values))


async def sockets_during(spec: Any, looks: Sockets, **options: Any) -> list[tuple[int, ...]]:
    async with nm.serve("127.0.0.1", 0, **options) as server:
        await nm.measure(server.address, spec, observer=looks)
    return looks.seen
