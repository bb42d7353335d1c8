"""Measure the time from a program's start to its first payload byte.

Our server and the servers of the other tools run on loopback. Each client is started anew, in turn
with its counterpart: `netmeasure client` and the iperf3 drop-in with iperf3, a URL with curl. The
start is the moment before the process is created. A TCP test measures the latency of the idle path
before its first byte, for a tenth of its time at most, so it runs with `--no-latency`, too. The
first payload byte counts when the peer's program has it: the clients connect to a relay in this
process, which waits until a connection has carried more bytes than any set-up. The median is
judged; the load average says how reliable it is.

    python -m benchmarks.bench_start [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

import netmeasure as nm
from benchmarks.common import host_facts
from benchmarks.processes import free_port, running

ROUNDS = 15
#: No set-up sends this much on one connection, and every test sends it at once.
PAYLOAD_BYTES = 64 * 1024
PATIENCE_S = 20.0


class Relay:
    """Pass connections on to a server, and note when one has carried PAYLOAD_BYTES."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.first_ns: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection in both directions, to its end."""
        there = await asyncio.open_connection("127.0.0.1", self._port)
        with suppress(OSError):
            await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried = 0
        try:
            while data := await reader.read(PAYLOAD_BYTES):
                carried += len(data)
                if carried >= PAYLOAD_BYTES and not self.first_ns.done():
                    self.first_ns.set_result(time.monotonic_ns())
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def relayed(port: int) -> AsyncIterator[tuple[Relay, int]]:
    """Yield a relay to a server's port, and the relay's own port."""
    relay = Relay(port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    try:
        yield relay, server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def started(words: Sequence[str], port: int) -> float:
    """Run a client against a server's port; return its seconds to the first payload byte."""
    async with relayed(port) as (relay, shown):
        argv = [word.replace("PORT", str(shown)) for word in words]
        begun = time.monotonic_ns()
        process = await asyncio.create_subprocess_exec(*argv, stdout=DEVNULL, stderr=DEVNULL)
        try:
            first_ns = await asyncio.wait_for(relay.first_ns, PATIENCE_S)
        except TimeoutError:
            raise SystemExit(f"no payload came of: {' '.join(argv)}") from None
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return (first_ns - begun) / 1e9


async def against_own(words: Sequence[str], port: int) -> float:
    """Run a client against our server's port. iperf3 gets a new server of its own.

    An iperf3 server that has lost its client is busy for some time.
    """
    if words[0] != "iperf3":
        return await started(words, port)
    port = free_port()
    with running(("iperf3", "-s", "-p", str(port)), port):
        return await started(words, port)


async def measured(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each client, by case."""
    ours, drop_in = (shutil.which(name, path=Path(sys.executable).parent) for name in PROGRAMS)
    if ours is None or drop_in is None:
        raise SystemExit("netmeasure is not installed beside this interpreter")
    times = ("-t", "2")
    found: dict[str, dict[str, list[float]]] = {}
    async with nm.serve("127.0.0.1", 0) as server, nm.serve_http("127.0.0.1", 0) as web:
        url = "http://127.0.0.1:PORT/1G"
        tcp = (ours, "client", "127.0.0.1:PORT")
        theirs = ("iperf3", "-c", "127.0.0.1", "-p", "PORT", *times)
        cases = {
            "TCP": ((*tcp, *times), server.port, theirs),
            "TCP, --no-latency": ((*tcp, *times, "--no-latency"), server.port, theirs),
            "drop-in": ((drop_in, *theirs[1:]), server.port, theirs),
            "URL": ((ours, "client", url, *times), web.port, ("curl", "-so/dev/null", url)),
        }
        for name, (our_words, port, their_words) in cases.items():
            runs: dict[str, list[float]] = {"netmeasure": [], their_words[0]: []}
            found[name] = runs
            for number in range(rounds + 1):
                pair = [("netmeasure", our_words), (their_words[0], their_words)]
                for who, words in pair if number % 2 == 0 else reversed(pair):
                    took = await against_own(words, port)
                    if number:  # the first run of each fills the page cache
                        runs[who].append(took)
    return found


PROGRAMS = ("netmeasure", "netmeasure-iperf3")


def main() -> None:
    """Print the medians, and write what was measured."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.bench_start")
    options.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    found = asyncio.run(measured(chosen.rounds))
    table = Table(
        "case", "program", "median s", "least", "most", title="start to first payload byte"
    )
    for name, runs in found.items():
        for who, seconds in runs.items():
            figures = (statistics.median(seconds), min(seconds), max(seconds))
            table.add_row(name, who, *(f"{figure:.3f}" for figure in figures))
    facts = host_facts()
    Console().print(table, f"load average {facts['load_average_1min']}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"host": facts, "seconds": found}, indent=1))


if __name__ == "__main__":
    main()
