"""Test a virtual address with two servers behind it, which get the connections in turn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support import iperf3

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


@contextlib.asynccontextmanager
async def in_turn(*ports: int) -> AsyncIterator[str]:
    """Provide an address whose connections go to these ports in turn."""
    targets = itertools.cycle(ports)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", next(targets))
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def failed(address: str, direction: Any, streams: int = 1) -> None:
    spec = nm.TcpSpec(direction=direction, streams=streams, timing=nm.Timing(duration_s=60))
    with pytest.raises(nm.ConnectError) as caught:
        async with asyncio.timeout(10):  # undetected, it would take 15 s and name a wrong reason
            await nm.measure(address, spec)
    assert "is the address of several servers" in str(caught.value)
    assert "affinity" in str(caught.value.hint)
    assert caught.value.phase == "connect"


@pytest.mark.parametrize("direction", ["upload", "download", "both"])
def test_two_netmeasure_servers(run: RunLoop, direction: Any) -> None:
    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as one, nm.serve("127.0.0.1", 0) as two:
            async with in_turn(one.port, two.port) as address:
                await failed(address, direction, streams=3)
            async with in_turn(one.port) as address:
                spec = nm.TcpSpec(direction=direction, timing=nm.Timing(total_bytes=10_000))
                assert (await nm.measure(address, spec)).complete

    run(main())


@pytest.mark.interop
def test_two_iperf3_servers(run_once: RunLoop) -> None:
    async def main(one: int, two: int) -> None:
        async with in_turn(one, two) as address:
            await failed(address, "upload")

    with iperf3.server() as one, iperf3.server() as two:
        run_once(main(one.port, two.port))
