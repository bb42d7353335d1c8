"""Use a server for long, with tests of every kind, kills and faults, and print what it keeps.

    python -m benchmarks.bench_soak [--minutes M] [--json FILE]

In each round this program runs tests of every kind on a server on loopback at the same time, kills
a client in the middle of a test, and opens connections that send nonsense, too much, or nothing.
After each round, when the server is idle, it notes resident memory, descriptors and threads of the
server and of this program, which runs the clients.

The C library keeps freed memory for later use, in pieces that more rounds fill better or worse, so
resident memory creeps without a leak. The server returns it to the kernel a second after a crowd
has gone, which no round waits for. Some 60 times in a run, this program therefore waits for longer,
returns its own free memory, and notes what is still resident: the memory in use.

It ends with 1 if a test was not complete, if descriptors or threads have become more, or if the
median memory in use of the last third is more than 4 MiB above that of the second third.
`tests/adversity/test_soak.py` runs some of these rounds and counts objects.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import struct
import sys
import time
from asyncio.subprocess import DEVNULL, create_subprocess_exec
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

import netmeasure as nm
from benchmarks.common import host_facts
from benchmarks.served import MIB, Served, serving
from netmeasure.engine import memory
from netmeasure.peer.server.connections import CALM_S
from netmeasure.spec import PeerSpec

MOST_MORE_BYTES = 4 * MIB
RATE_BPS = 20_000_000
RUNS_S, KILL_AFTER_S, IDLE_S = 0.5, 1.5, 30.0
#: How long the test of a client would take that is killed in the middle.
KILLED_S = 60
ROWS = 15
#: How often, and for how long, the program waits until freed memory has been returned.
CALMS, CALM_FOR_S = 60, CALM_S + 1.0
_SHORT = nm.Timing(duration_s=RUNS_S)


def specs() -> list[PeerSpec]:
    """Return a test of every kind."""
    return [
        nm.TcpSpec(direction="upload", target_bps=RATE_BPS, timing=_SHORT),
        nm.TcpSpec(direction="download", streams=3, target_bps=RATE_BPS, timing=_SHORT),
        nm.TcpSpec(direction="both", target_bps=RATE_BPS, timing=_SHORT),
        nm.UdpSpec(direction="upload", target_bps=RATE_BPS, timing=_SHORT),
        nm.UdpSpec(direction="both", streams=2, target_bps=RATE_BPS, timing=_SHORT),
        nm.RrSpec(target_tps=200, timing=_SHORT),
        nm.RrSpec(
            transport="udp", request_bytes=16, response_bytes=16, target_tps=200, timing=_SHORT
        ),
        nm.RrSpec(keep_connections=False, target_tps=100, timing=_SHORT),
    ]


class Kept(msgspec.Struct, frozen=True):
    """Hold what both processes keep after a round."""

    at_s: float
    tests: int
    server_bytes: int
    server_descriptors: int
    server_threads: int
    own_bytes: int
    own_descriptors: int
    own_threads: int


class Use:
    """Use a server in every way at once, round after round."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.tests = 0
        self.faults = 0
        self.errors: list[str] = []

    async def round(self) -> None:
        works = [self._test(spec) for spec in specs()]
        await asyncio.gather(*works, self._kill(), *(self._fault(send) for send in FAULTS))

    async def _test(self, spec: PeerSpec) -> None:
        try:
            result = await nm.measure(self.host, spec, port=self.port)
            self.tests += 1
            if not result.complete:
                self.errors.append("a test is not complete")
        except nm.NetmeasureError as exc:
            self.errors.append(f"{type(exc).__name__}: {exc}")

    async def _kill(self) -> None:
        """Kill a client in the middle of its test."""
        words = ("client", f"{self.host}:{self.port}", "-t", str(KILLED_S), "-b", "10M")
        process = await create_subprocess_exec(
            sys.executable, "-m", "netmeasure", *words, stdout=DEVNULL, stderr=DEVNULL
        )
        await asyncio.sleep(KILL_AFTER_S)
        process.kill()
        await process.wait()
        self.faults += 1

    async def _fault(self, send: Callable[[socket.socket], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, (self.host, self.port))
            try:
                await send(sock)
            except OSError:
                pass  # the server has closed it meanwhile
        self.faults += 1


class Soak(Use):
    """Run the rounds, and collect what is kept after each."""

    def __init__(self, server: Served) -> None:
        super().__init__("127.0.0.1", server.port)
        self._server = server
        self._since_s = time.monotonic()
        self.kept: list[Kept] = []
        self.in_use: list[Kept] = []

    async def round(self) -> None:
        await super().round()
        await self._until_idle()
        self.kept.append(self._sample())

    async def calm(self) -> None:
        """Wait until both ends have returned the memory that they do not use."""
        await asyncio.sleep(CALM_FOR_S)
        memory.release()
        self.in_use.append(self._sample())

    async def _until_idle(self) -> None:
        """Wait until the server has no more descriptors than before the first round."""
        most = self.kept[0].server_descriptors if self.kept else 0
        give_up = time.monotonic() + (IDLE_S if self.kept else 2.0)
        while self._server.descriptors > most and time.monotonic() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def _sample(self) -> Kept:
        own = psutil.Process()
        return Kept(
            at_s=time.monotonic() - self._since_s,
            tests=self.tests,
            server_bytes=self._server.rss_bytes,
            server_descriptors=self._server.descriptors,
            server_threads=self._server.threads,
            own_bytes=own.memory_info().rss,
            own_descriptors=own.num_fds(),
            own_threads=own.num_threads(),
        )


def _cookie() -> bytes:
    return os.urandom(18).hex().encode() + b"\0"


async def _silent(_: socket.socket) -> None:
    await asyncio.sleep(RUNS_S)


async def _nonsense(sock: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, os.urandom(1000))


async def _half_open(sock: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, _cookie())
    await asyncio.sleep(RUNS_S)


async def _oversize(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _cookie())
    await loop.sock_recv(sock, 1)
    await loop.sock_sendall(sock, struct.pack(">I", 2**24 - 1) + bytes(100_000))


async def _wrong_parameters(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _cookie())
    await loop.sock_recv(sock, 1)
    text = b'{"tcp":true,"parallel":' + b"[" * 20_000
    await loop.sock_sendall(sock, struct.pack(">I", len(text)) + text)
    await loop.sock_recv(sock, 10)


async def _reset(sock: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, _cookie())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


FAULTS = (_silent, _nonsense, _half_open, _oversize, _wrong_parameters, _reset)


class Verdict(msgspec.Struct, frozen=True):
    """Hold the course of a figure; `flat` is None if nothing is wanted."""

    name: str
    course: str
    flat: bool | None


def thirds(kept: list[Kept], field: str) -> tuple[float, float]:
    """Return the medians of a figure in the second and in the last third."""
    third = max(1, len(kept) // 3)
    parts = kept[third : 2 * third] or kept, kept[-third:]
    before, after = (statistics.median(getattr(one, field) for one in part) for part in parts)
    return before, after


def verdicts(soak: Soak) -> list[Verdict]:
    """Return for each figure its course, and whether it is flat."""
    found = []
    for end in ("server", "own"):
        for kind, kept in (("resident", soak.kept), ("in use", soak.in_use)):
            before, after = thirds(kept, f"{end}_bytes")
            flat = after - before <= MOST_MORE_BYTES if kind == "in use" else None
            course = f"{before / MIB:.1f} to {after / MIB:.1f} MiB"
            found.append(Verdict(f"{end} memory, {kind}", course, flat))
        for name in ("descriptors", "threads"):
            before, after = thirds(soak.kept, f"{end}_{name}")
            found.append(Verdict(f"{end} {name}", f"{before:g} to {after:g}", after <= before))
    return found


async def soaked(server: Served, minutes: float, console: Console) -> Soak:
    soak = Soak(server)
    end_s, told_s, calm_s = time.monotonic() + 60 * minutes, 0.0, 0.0
    while time.monotonic() < end_s:
        await soak.round()
        last = soak.kept[-1]
        if last.at_s < calm_s:
            continue
        calm_s += 60 * minutes / CALMS
        await soak.calm()
        if last.at_s >= told_s:
            told_s += 60 * minutes / ROWS
            used = soak.in_use[-1]
            console.print(
                f"{last.at_s:6.0f} s: {last.tests} tests, {soak.faults} faults, server"
                f" {last.server_bytes / MIB:.1f} MiB ({used.server_bytes / MIB:.1f} in use),"
                f" {last.server_descriptors} descriptors, {last.server_threads} threads; clients"
                f" {last.own_bytes / MIB:.1f} MiB ({used.own_bytes / MIB:.1f} in use),"
                f" {last.own_descriptors} descriptors, {last.own_threads} threads",
                highlight=False,
            )
    return soak


def main() -> int:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", metavar="FILE", help="what was kept after each round")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    facts = host_facts()
    console.print(facts, highlight=False)
    with serving("--max-tests-per-address", "64") as server:
        soak = asyncio.run(soaked(server, options.minutes, console))
    table = Table(title="second third to last third of the rounds", title_justify="left")
    for head in ("figure", "course", "flat"):
        table.add_column(head)
    rows = verdicts(soak)
    for row in rows:
        table.add_row(row.name, row.course, {None: "", True: "yes", False: "no"}[row.flat])
    console.print(table, highlight=False)
    console.print(
        f"{soak.tests} tests and {soak.faults} faults in {len(soak.kept)} rounds,"
        f" {len(soak.errors)} tests failed",
        highlight=False,
    )
    for error in sorted(set(soak.errors))[:5]:
        console.print(f"  {error}", highlight=False)
    if options.json:
        kept, in_use = msgspec.to_builtins(soak.kept), msgspec.to_builtins(soak.in_use)
        document = {"host": facts, "kept": kept, "in_use": in_use, "errors": soak.errors}
        Path(options.json).write_text(json.dumps(document, indent=1))
    return 0 if not soak.errors and all(row.flat is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
