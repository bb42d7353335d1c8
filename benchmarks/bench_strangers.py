"""Attack a server in every known way at once while a test runs, and print what its clients notice.

    python -m benchmarks.bench_strangers [--rounds N] [--time S] [--rate BIT/S] [--json FILE]

On loopback, from other addresses than the clients': 1000 idle connections, 200 that send a cookie
and no parameters, 1000 that send a byte every half second, and 300 000 datagrams per second of
random bytes and hellos of no test. Connections that the server closes are opened again after a
second (`crowd`). Meanwhile tests of 100 Mbit/s run one after the other, a small test of a new
address begins every half second, and so does a probe. Everything is measured without the attackers
first. The program prints a table with what is wanted, and ends with 1 if a line of it says no.

The attackers are on the same machine, while those of the Internet do not use the CPUs of the
server. The connections' program therefore has a lower priority. The flood has not, and takes a CPU:
the last line says how many datagrams per second it reached.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

import netmeasure as nm
from benchmarks.common import host_facts
from benchmarks.served import MIB, Served, serving
from netmeasure.result import Phase

IDLE, HALF, TRICKLE, FLOOD_PER_S, SOURCES = 1000, 200, 1000, 300_000, 16
EVERY_S, SAMPLE_S = 0.5, 0.1
NICE = 10
#: What is wanted. The rate of a paced test may differ by this share between two runs.
NOISE, SOON_S, LINES_PER_S, GROWN_BYTES, KEPT_BYTES = 0.005, 1.0, 1.0, 256 * MIB, 20 * MIB
#: The time that the server gets to return its memory after the last connection.
CALM_S = 10.0
SOURCE = Path(__file__).with_name("flood.c")


class Seen(msgspec.Struct, kw_only=True):
    """Hold what the clients have measured in one phase."""

    rates_bps: list[float] = []
    steady_bps: list[float] = []
    incomplete: int = 0
    loaded_p99_ms: list[float] = []
    client_s: list[float] = []
    client_errors: list[str] = []
    #: the set-up of the slowest new client, by phase; a connect says how many SYNs were repeated
    slowest: list[str] = []
    #: connections that this host's kernel dropped, since a server's queue was full
    overflows: int = 0
    probe_s: list[float] = []
    probe_errors: int = 0
    log_lines: int = 0
    took_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    grown_bytes: int = 0


class Line(msgspec.Struct, frozen=True):
    """Hold a line of the table; `good` is None if nothing is wanted."""

    name: str
    calm: str
    attacked: str
    wanted: str = ""
    good: bool | None = None


class Attack(msgspec.Struct, kw_only=True):
    """Hold what the attackers have done."""

    datagrams_per_s: float = 0.0
    connections: dict[str, int] = {}


async def tested(address: str, time_s: int, rate: str, seen: Seen) -> None:
    """Run one test as a program, as its user does."""
    words = ("client", address, "-b", rate, "-t", str(time_s), "--json")
    process = await create_subprocess_exec(
        sys.executable, "-m", "netmeasure", *words, stdout=PIPE, stderr=DEVNULL
    )
    said, _ = await process.communicate()
    if process.returncode:
        seen.incomplete += 1
        return
    result = nm.Result.from_json(said)
    seen.rates_bps.append((result.flow.receiver.bytes or 0) * 8 / time_s)
    if result.flow.steady is not None:
        seen.steady_bps.append(result.flow.steady.goodput_bps)
    if result.latency is not None and result.latency.loaded is not None:
        p99_ns = result.latency.loaded.p99_ns
        seen.loaded_p99_ms.append((p99_ns or 0) / 1e6)


def in_words(phase: Phase) -> str:
    again = f" ({phase.syn_retransmits} SYNs repeated)" if phase.syn_retransmits else ""
    return f"{phase.name} {phase.duration_ns / 1e6:.0f} ms{again}"


def overflows() -> int:
    """Return how many connections this host's kernel has dropped, since a server's queue was full
    (ListenOverflows of /proc/net/netstat)."""
    lines = Path("/proc/net/netstat").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))["ListenOverflows"])


async def new_clients(address: str, seen: Seen) -> None:
    """Run a small test of a new address again and again."""
    for number in itertools.count(1):
        options = nm.SocketOptions(bind_address=f"127.9.{number // 250}.{1 + number % 250}")
        spec = nm.TcpSpec(timing=nm.Timing(total_bytes=1000), options=options, latency=False)
        since = time.monotonic()
        try:
            result = await nm.measure(address, spec)
            seen.client_s.append(time.monotonic() - since)
            if seen.client_s[-1] == max(seen.client_s):
                seen.slowest = [in_words(phase) for phase in result.setup]
        except nm.MeasureError as exc:
            seen.client_errors.append(str(exc))
        await asyncio.sleep(EVERY_S)


async def probes(address: str, seen: Seen) -> None:
    """Run `netmeasure probe` again and again. The time is the one that it prints, without the start
    of the program, for which it competes with the attackers' programs."""
    while True:
        process = await create_subprocess_exec(
            sys.executable, "-m", "netmeasure", "probe", address, stdout=PIPE, stderr=DEVNULL
        )
        try:
            said, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            seen.probe_errors += 1
        else:
            seen.probe_s.append(float(said.rpartition(b"(")[2].split()[0]) / 1000)
        await asyncio.sleep(EVERY_S)


async def memory(server: Served, seen: Seen) -> None:
    while True:
        seen.peak_bytes = max(seen.peak_bytes, server.rss_bytes)
        await asyncio.sleep(SAMPLE_S)


async def phase(server: Served, rounds: int, time_s: int, rate: str) -> Seen:
    """Run the tests with everything that goes on beside them."""
    seen = Seen()
    since, lines, cpu_s = time.monotonic(), server.log_lines, server.cpu_s
    dropped = overflows()
    beside = [
        asyncio.create_task(work)
        for work in (
            new_clients(server.address, seen),
            probes(server.address, seen),
            memory(server, seen),
        )
    ]
    for _ in range(rounds):
        await tested(server.address, time_s, rate, seen)
    for task in beside:
        task.cancel()
    await asyncio.wait(beside)
    seen.took_s = time.monotonic() - since
    seen.log_lines = server.log_lines - lines
    seen.cpu_s = server.cpu_s - cpu_s
    seen.overflows = overflows() - dropped
    return seen


@contextmanager
def attacked(server: Served, flood: Path, told: Attack) -> Iterator[None]:
    """Attack the server within the block."""
    nice = ["nice", "-n", str(NICE)]
    words = ["--idle", str(IDLE), "--half", str(HALF), "--trickle", str(TRICKLE)]
    crowd = subprocess.Popen(
        [*nice, sys.executable, "-m", "benchmarks.crowd", str(server.port), *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    flooding = subprocess.Popen(
        [str(flood), str(server.port), str(FLOOD_PER_S), str(SOURCES)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert crowd.stdout is not None
        if crowd.stdout.readline() != "ready\n":
            raise SystemExit("the crowd has ended early")
        yield
    finally:
        flooding.terminate()
        crowd.terminate()
        sent, _ = flooding.communicate()
        opened, _ = crowd.communicate()
    count, took_s = map(float, sent.split())
    told.datagrams_per_s = count / took_s
    told.connections = json.loads(opened.splitlines()[-1])


def spread(values: list[float], digits: int = 2, scale: float = 1.0) -> str:
    if not values:
        return "none"
    scaled = [value * scale for value in values]
    middle, low, high = statistics.median(scaled), min(scaled), max(scaled)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def apart(one: list[float], other: list[float]) -> float:
    """Return the difference of two medians as a share of the first."""
    return abs(statistics.median(other) / statistics.median(one) - 1) if one and other else 1.0


def lines(calm: Seen, under: Seen, kept: int) -> list[Line]:
    """Return the table."""
    logged = [seen.log_lines / seen.took_s for seen in (calm, under)]
    return [
        Line(
            "test, received, Mbit/s",
            spread(calm.rates_bps, 3, 1e-6),
            spread(under.rates_bps, 3, 1e-6),
            f"within {100 * NOISE:g} %",
            apart(calm.rates_bps, under.rates_bps) <= NOISE,
        ),
        Line(
            "test, steady, Mbit/s",
            spread(calm.steady_bps, 3, 1e-6),
            spread(under.steady_bps, 3, 1e-6),
            f"within {100 * NOISE:g} %",
            apart(calm.steady_bps, under.steady_bps) <= NOISE,
        ),
        Line(
            "tests that failed",
            str(calm.incomplete),
            str(under.incomplete),
            "0",
            under.incomplete == 0,
        ),
        Line(
            "latency under load, p99, ms", spread(calm.loaded_p99_ms), spread(under.loaded_p99_ms)
        ),
        Line(
            f"new clients, s ({len(calm.client_s)}, {len(under.client_s)})",
            spread(calm.client_s, 3),
            spread(under.client_s, 3),
            f"at most {SOON_S:g}",
            max(under.client_s, default=SOON_S + 1) <= SOON_S,
        ),
        Line(
            "new clients that failed",
            str(len(calm.client_errors)),
            str(len(under.client_errors)),
            "0",
            not under.client_errors,
        ),
        Line(
            f"probe, s ({len(calm.probe_s)}, {len(under.probe_s)})",
            spread(calm.probe_s, 3),
            spread(under.probe_s, 3),
            f"at most {SOON_S:g}",
            max(under.probe_s, default=SOON_S + 1) <= SOON_S,
        ),
        Line(
            "probes that failed",
            str(calm.probe_errors),
            str(under.probe_errors),
            "0",
            under.probe_errors == 0,
        ),
        Line(
            "lines of log per s",
            f"{logged[0]:.2f}",
            f"{logged[1]:.2f}",
            f"at most {LINES_PER_S:g}",
            under.log_lines <= LINES_PER_S * under.took_s + 1,
        ),
        Line(
            "server's memory, MiB more at most",
            f"{calm.grown_bytes / MIB:.1f}",
            f"{under.grown_bytes / MIB:.1f}",
            f"at most {GROWN_BYTES // MIB}",
            under.grown_bytes <= GROWN_BYTES,
        ),
        Line(
            "server's memory, MiB more afterwards",
            "",
            f"{kept / MIB:.1f}",
            f"at most {KEPT_BYTES // MIB}",
            kept <= KEPT_BYTES,
        ),
        Line(
            "server's CPU time per s",
            f"{calm.cpu_s / calm.took_s:.2f}",
            f"{under.cpu_s / under.took_s:.2f}",
        ),
    ]


def main() -> int:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="tests, calm and attacked")
    parser.add_argument("--time", type=int, default=8, help="seconds of each test")
    parser.add_argument("--rate", default="100M", help="bit/s of each test")
    parser.add_argument("--json", metavar="FILE", help="every figure and the host facts")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    facts, told = host_facts(), Attack()
    console.print(facts, highlight=False)
    wanted = options.rounds, options.time, options.rate
    with tempfile.TemporaryDirectory() as folder, serving() as server:
        flood = Path(folder, "flood")
        subprocess.run(["cc", "-O2", "-o", str(flood), str(SOURCE)], check=True)
        asyncio.run(tested(server.address, 1, options.rate, Seen()))  # it loads its modules
        first_bytes = server.rss_bytes
        calm = asyncio.run(phase(server, *wanted))
        before_bytes = server.rss_bytes
        with attacked(server, flood, told):
            under = asyncio.run(phase(server, *wanted))
        time.sleep(CALM_S)
        after_bytes = server.rss_bytes
    calm.grown_bytes = calm.peak_bytes - first_bytes
    under.grown_bytes = under.peak_bytes - before_bytes
    rows = lines(calm, under, after_bytes - before_bytes)
    table = Table(title="median (minimum to maximum)", title_justify="left")
    for head in ("figure", "calm", "attacked", "wanted", "kept"):
        table.add_column(head)
    for row in rows:
        kept = "" if row.good is None else "yes" if row.good else "no"
        table.add_row(row.name, row.calm, row.attacked, row.wanted, kept)
    console.print(table, highlight=False)
    console.print(
        f"datagrams sent: {told.datagrams_per_s:.0f} per s; connections opened: {told.connections}",
        highlight=False,
    )
    console.print(
        f"connections dropped by the kernel at a full queue: {calm.overflows}, {under.overflows};"
        f" slowest new client: {', '.join(under.slowest)}",
        highlight=False,
    )
    for error in sorted({*calm.client_errors, *under.client_errors}):
        console.print(f"  a new client: {error}", highlight=False)
    if options.json:
        document: dict[str, Any] = {
            "host": facts,
            "calm": calm,
            "attacked": under,
            "attack": told,
            "before_bytes": before_bytes,
            "after_bytes": after_bytes,
        }
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(document)))
    return 0 if all(row.good is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
