"""Compare the latencies of HTTP requests with the known delays of a server.

The server runs on loopback in this process. It waits before each response between 1 and 500 ms, and
once in 500 responses for 1 s; or it sends nothing for 200 ms every 5 s. Clients run in processes of
their own. A server on a busy host is late itself, so the program prints the percentiles of the
delays that were drawn, those by the server's own clock, those of netmeasure, and the difference
between the last two. A stall takes 4 % of the time: at a set rate, p99 must show it.

    python -m benchmarks.known_delays [--time S]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
import time
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import Callable, Sequence

from netmeasure.result import Result
from netmeasure.result.round_trips import RoundTrips

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LONG_S, LONG_SHARE = 1.0, 0.002
STALL_S, STALL_EVERY_S = 0.2, 5.0
PERCENTILES = (50.0, 99.0, 99.9)


class Server:
    """Answer each request after a delay, and note the intended and the actual delay."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self._delay = delay
        self.drawn: list[float] = []
        self.seen: list[float] = []

    def protocol(self) -> asyncio.Protocol:
        return _Connection(self)

    def request(self, transport: asyncio.Transport) -> None:
        began, delay = time.monotonic(), self._delay()
        self.drawn.append(delay)

        def answer() -> None:
            if not transport.is_closing():
                transport.write(RESPONSE)
                self.seen.append(time.monotonic() - began)

        asyncio.get_running_loop().call_later(delay, answer)


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n") and self._transport is not None:  # else it only connected
            self._server.request(self._transport)


def drawn() -> Callable[[], float]:
    chance = random.Random(1)
    return lambda: LONG_S if chance.random() < LONG_SHARE else chance.uniform(0.001, 0.5)


def stalling() -> float:
    """Return for how long the server still sends nothing."""
    return max(0.0, STALL_S - time.monotonic() % STALL_EVERY_S)


async def asked(delay: Callable[[], float], seconds: int, *words: str) -> tuple[Server, RoundTrips]:
    server = Server(delay)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(server.protocol, "127.0.0.1", 0, backlog=1000)
    async with listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        argv = ("-m", "netmeasure", "client", url, "--requests", "-t", str(seconds), "--json")
        client = await create_subprocess_exec(sys.executable, *argv, *words, stdout=PIPE)
        out, _ = await client.communicate()
    trips = Result.from_json(out).round_trips
    assert trips is not None
    return server, trips


def percentile(times: Sequence[float], percent: float) -> float:
    return sorted(times)[max(0, math.ceil(len(times) * percent / 100) - 1)]


async def measured(seconds: int) -> None:
    cases: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("closed loop", ("-P", "400", "--threads", "12")),
        ("500 requests/s", ("-P", "600", "--request-rate", "500")),
    )
    for name, words in cases:
        server, trips = await asked(drawn(), seconds, *words)
        print(f"{name}: {trips.transactions} requests, {trips.sent_late} sent late")
        for percent in PERCENTILES:
            own_ns = trips.latency.percentile_ns(percent)
            assert own_ns is not None
            seen = percentile(server.seen, percent)
            print(
                f"  p{percent:g}: drawn {1000 * percentile(server.drawn, percent):.1f} ms, at the"
                f" server {1000 * seen:.1f} ms, here {own_ns / 1e6:.1f} ms"
                f" ({100 * (own_ns / 1e9 / seen - 1):+.2f} %)"
            )
    cases = (
        ("closed loop", ("-P", "4")),
        ("500 requests/s", ("-P", "4", "--request-rate", "500")),
    )
    for name, words in cases:
        _, trips = await asked(stalling, 10, *words)
        known = [trips.latency.percentile_ns(percent) or 0 for percent in PERCENTILES]
        shown = ", ".join(
            f"p{percent:g} {ns / 1e6:.1f} ms"
            for percent, ns in zip(PERCENTILES, known, strict=True)
        )
        print(f"a stall of 200 ms every 5 s, {name}: {shown}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--time", type=int, default=10, metavar="S")
    asyncio.run(measured(parser.parse_args().time))
