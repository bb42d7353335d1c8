"""Measure what a server at rest costs its host: wake-ups and memory.

    python -m benchmarks.bench_idle [--time S] [--json FILE]

The server listens on loopback, and is watched for a while at rest: before its first test, after a
test of one stream, and after a test of 128 streams; and so is the drop-in's server, with tests by
the real iperf3 if it is installed. A wake-up is a voluntary context switch of one of the server's
threads.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.common import host_facts
from benchmarks.served import MIB, Served, serving, serving_as_iperf3

MOST_WAKE_UPS_PER_S, MOST_BYTES = 0.1, 35 * MIB
TIME_S = 30.0
TESTS = {
    "before the first test": None,
    "after a test of 1 stream": ("-P", "1", "-t", "1"),
    "after a test of 128 streams": ("-P", "128", "-t", "1"),
}


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a server at rest has cost over a time."""

    time_s: float
    wake_ups: int
    cpu_s: float
    rss_bytes: int
    #: without the pages of files, such as the code of libraries, which the kernel can take back
    own_bytes: int

    @property
    def wake_ups_are_few(self) -> bool:
        """Return whether the wake-ups are within the limit, to one more, since the time begins
        anywhere between two of them."""
        return self.wake_ups <= MOST_WAKE_UPS_PER_S * self.time_s + 1


def rest(server: Served, settle_s: float, time_s: float) -> Rest:
    """Watch a server that has nothing to do."""
    time.sleep(settle_s)
    wake_ups, cpu_s = server.wake_ups, server.cpu_s
    time.sleep(time_s)
    return Rest(
        time_s=time_s,
        wake_ups=server.wake_ups - wake_ups,
        cpu_s=server.cpu_s - cpu_s,
        rss_bytes=server.rss_bytes,
        own_bytes=server.own_bytes,
    )


def test(server: Served, words: tuple[str, ...], *, by_iperf3: bool) -> None:
    """Run a client."""
    argv = [sys.executable, "-m", "netmeasure", "client", server.address, *words]
    if by_iperf3:
        argv = ["iperf3", "-c", "127.0.0.1", "-p", str(server.port), *words]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--time", type=float, default=TIME_S, help="seconds of each rest")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds before each rest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure and the host facts")
    options = parser.parse_args()
    facts = host_facts()
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(facts, highlight=False)
    columns = ("seconds", "wake-ups", "CPU s", "memory, MiB", "own, MiB", "good")
    table = Table("server", "at rest", *columns)
    found: dict[str, Rest] = {}
    servers = {"netmeasure server": serving, "netmeasure iperf3 -s": serving_as_iperf3}
    for program, run in servers.items():
        with run() as server:
            for name, words in TESTS.items():
                if words is not None:
                    by_iperf3 = run is serving_as_iperf3 and shutil.which("iperf3") is not None
                    test(server, words, by_iperf3=by_iperf3)
                one = found[f"{program} {name}"] = rest(server, options.settle, options.time)
                table.add_row(
                    program,
                    name,
                    f"{one.time_s:g}",
                    str(one.wake_ups),
                    f"{one.cpu_s:.2f}",
                    f"{one.rss_bytes / MIB:.1f}",
                    f"{one.own_bytes / MIB:.1f}",
                    "yes" if is_good(one) else "no",
                )
    console.print(table, highlight=False)
    if options.json:
        document = {"host": facts, "rests": msgspec.to_builtins(found)}
        options.json.write_text(json.dumps(document, indent=1))
    return 0 if all(map(is_good, found.values())) else 1


def is_good(one: Rest) -> bool:
    """Return whether a rest is within the limits."""
    return one.wake_ups_are_few and one.rss_bytes <= MOST_BYTES


if __name__ == "__main__":
    sys.exit(main())
