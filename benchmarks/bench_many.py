"""Run 500 paced tests at once, and print whether all are complete, and what they cost.

    python -m benchmarks.bench_many [--tests N] [--rate BIT/S] [--time S] [--kind KIND]
    python -m benchmarks.bench_many --tests 64 --rate 0

One server serves them on loopback, and one program runs all clients: TCP up, TCP down, and UDP, one
kind after the other, at 1 Mbit/s each (0: as fast as possible). A test of each kind runs before, so
that both ends have loaded their modules. For each kind the program prints how many tests are
complete, how many have equal totals at both ends (UDP: with the lost datagrams), by how much they
overlapped, the memory per test at both ends, and how long it took from the first connect until the
last test had begun, and until all had ended. It ends with 1 if a test is not complete, its totals
differ, or it takes more than 0.5 MiB of the server (at a rate), or if the tests overlap by less
than 80 %: the mean number of tests that the server ran during a test, by its results, as a share of
all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

import netmeasure as nm
from benchmarks.common import host_facts
from benchmarks.served import MIB, Served, serving
from netmeasure.observe import Observer, Opening
from netmeasure.spec import PeerSpec

MOST_BYTES, LEAST_OVERLAP = MIB // 2, 0.8
SAMPLE_S = 0.05
KINDS = ("TCP up", "TCP down", "UDP up")


class Many(msgspec.Struct, kw_only=True):
    """Hold the outcome of many tests of one kind."""

    kind: str
    tests: int
    #: None: as fast as possible, so that receivers have large buffers
    most_bytes: int | None
    complete: int = 0
    equal: int = 0
    begun_s: list[float] = []
    took_s: float = 0.0
    set_up_ms: dict[str, list[float]] = {}
    server_bytes: int = 0
    client_bytes: int = 0
    errors: list[str] = []
    lost_packets: int = 0
    #: of each test: the mean number of tests at once, by the server
    at_once: list[float] = []

    @property
    def server_each(self) -> float:
        return self.server_bytes / self.tests

    @property
    def overlap(self) -> float:
        """Return the share of all tests that ran at the same time as a test, on average."""
        return statistics.fmean(self.at_once) / self.tests if self.at_once else 0.0

    @property
    def good(self) -> bool:
        if self.most_bytes is not None and self.server_each > self.most_bytes:
            return False
        if self.overlap < LEAST_OVERLAP:
            return False
        return self.complete == self.equal == self.tests


class Begun(Observer):
    """Note when a test begins to transfer data."""

    def __init__(self, times_s: list[float], since_s: float) -> None:
        self._times_s = times_s
        self._since_s = since_s

    def on_opening(self, opening: Opening) -> None:
        self._times_s.append(time.monotonic() - self._since_s)


def spec(kind: str, rate_bps: int, time_s: float) -> PeerSpec:
    timing = nm.Timing(duration_s=time_s)
    deadlines = nm.Deadlines(handshake_s=60)
    target_bps = rate_bps or None
    if kind == "UDP up":
        return nm.UdpSpec(target_bps=target_bps, timing=timing, deadlines=deadlines, latency=False)
    return nm.TcpSpec(
        direction="upload" if kind == "TCP up" else "download",
        target_bps=target_bps,
        timing=timing,
        deadlines=deadlines,
        latency=False,
    )


def is_equal(result: nm.Result) -> bool:
    """Return whether both ends have counted the same."""
    flow = result.flow
    if flow.loss is not None:
        loss = flow.loss
        return loss.sent_packets == (loss.received_packets or 0) + (loss.lost_packets or 0)
    return flow.sender.bytes == flow.receiver.bytes


async def sampled(server: Served, many: Many, before: tuple[int, int]) -> None:
    """Keep the most memory of both ends."""
    own = psutil.Process()
    while True:
        many.server_bytes = max(many.server_bytes, server.rss_bytes - before[0])
        many.client_bytes = max(many.client_bytes, own.memory_info().rss - before[1])
        await asyncio.sleep(SAMPLE_S)


async def run_many(server: Served, kind: str, options: argparse.Namespace) -> Many:
    """Run the tests of one kind at once."""
    wanted = spec(kind, options.rate, options.time)
    await nm.measure(server.address, spec(kind, options.rate, 0.2))
    most_bytes = MOST_BYTES if options.rate else None
    many = Many(kind=kind, tests=options.tests, most_bytes=most_bytes)
    before = server.rss_bytes, psutil.Process().memory_info().rss
    sampling = asyncio.create_task(sampled(server, many, before))
    since_s = time.monotonic()
    found = await asyncio.gather(
        *(
            nm.measure(server.address, wanted, observer=Begun(many.begun_s, since_s))
            for _ in range(options.tests)
        ),
        return_exceptions=True,
    )
    many.took_s = time.monotonic() - since_s
    sampling.cancel()
    await asyncio.wait([sampling])
    for one in found:
        if isinstance(one, BaseException):
            many.errors.append(f"{type(one).__name__}: {one}")
            continue
        many.complete += one.complete
        many.equal += is_equal(one)
        many.at_once.append(one.server.concurrent_tests_mean or 0.0)
        if one.flow.loss is not None:
            many.lost_packets += one.flow.loss.lost_packets or 0
        for part in one.setup:
            many.set_up_ms.setdefault(part.name, []).append(part.duration_ns / 1e6)
    return many


def main() -> int:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tests", type=int, default=500, help="tests at once")
    parser.add_argument("--rate", type=int, default=1_000_000, help="bit/s of each test")
    parser.add_argument("--time", type=float, default=10.0, help="seconds of each test")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind")
    parser.add_argument("--json", metavar="FILE", help="every figure and the host facts")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    console = Console(width=None if sys.stdout.isatty() else 160)
    facts = host_facts()
    console.print(facts, highlight=False)
    places = str(options.tests + 1)
    done: list[Many] = []
    with serving("--max-tests", places, "--max-tests-per-address", places) as server:
        done += [asyncio.run(run_many(server, kind, options)) for kind in options.kind or KINDS]
    table = Table(title=f"{options.tests} tests at once", title_justify="left")
    for head in (
        "kind",
        "complete",
        "equal totals",
        "lost datagrams",
        "overlap, %",
        "all begun, s",
        "all ended, s",
        "server, KiB per test",
        "client, KiB per test",
        "good",
    ):
        table.add_column(head)
    for many in done:
        table.add_row(
            many.kind,
            str(many.complete),
            str(many.equal),
            str(many.lost_packets),
            f"{100 * many.overlap:.0f}",
            f"{max(many.begun_s, default=0):.2f}",
            f"{many.took_s:.2f}",
            f"{many.server_each / 1024:.0f}",
            f"{many.client_bytes / many.tests / 1024:.0f}",
            "yes" if many.good else "no",
        )
    console.print(table, highlight=False)
    for many in done:
        for name, times_ms in many.set_up_ms.items():
            console.print(
                f"  {many.kind}, {name}: median {statistics.median(times_ms):.0f} ms,"
                f" longest {max(times_ms):.0f} ms",
                highlight=False,
            )
        for error in sorted(set(many.errors))[:5]:
            console.print(f"  {many.kind}: {error}", highlight=False)
    if options.json:
        document = {"host": facts, "kinds": msgspec.to_builtins(done)}
        Path(options.json).write_text(json.dumps(document, indent=1))
    return 0 if all(many.good for many in done) else 1


if __name__ == "__main__":
    sys.exit(main())
