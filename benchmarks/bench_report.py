"""How long does it take to write a run's report, and how large is the page?

A run over loopback, several streams in both directions, is saved. Then `netmeasure report` makes
the page from it, each time in a process of its own, as a user starts it. The time is that from the
start of the process to its end, with all that it imports.

    python -m benchmarks.bench_report [--rounds N] [--streams N] [--time S]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import netmeasure as nm
from benchmarks.common import host_facts, rounds_option

WANTED_S, WANTED_BYTES = 3.0, 1_500_000


def main() -> None:
    """Measure and print one line for each form of the report."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.bench_report")
    options.add_argument("--rounds", type=rounds_option, default=5)
    options.add_argument("--streams", type=int, default=8)
    options.add_argument("--time", type=float, default=10.0, metavar="S")
    chosen = options.parse_args()
    facts = host_facts()
    print(f"{facts['cpu']}, {facts['cpus']} CPUs, load average {facts['load_average_1min']}")
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "run.json")
        words = ["-P", str(chosen.streams), "-d", "both", "-t", str(chosen.time)]
        run = [sys.executable, "-m", "netmeasure", "loopback", *words, "--json"]
        saved.write_bytes(subprocess.run(run, capture_output=True, check=True).stdout)
        nm.Result.from_json(saved.read_bytes())
        for form in ("html", "md", "svg", "png"):
            page = Path(folder, f"report.{form}")
            words = ["report", str(saved), "-o", str(page)]
            walls, cpus = [], []
            for _ in range(chosen.rounds):
                before, begun = _spent_s(), time.monotonic()
                subprocess.run([sys.executable, "-m", "netmeasure", *words], check=True)
                walls.append(time.monotonic() - begun)
                cpus.append(_spent_s() - before)
            wall, cpu = statistics.median(walls), statistics.median(cpus)
            spread = f"({min(walls):.2f} to {max(walls):.2f})"
            size = page.stat().st_size
            print(f"{form}: {wall:.2f} s {spread}, CPU {cpu:.2f} s, {size / 1e3:.0f} kB")
            if form == "html":
                kept = max(walls) <= WANTED_S and size <= WANTED_BYTES
                print(f"wanted: {WANTED_S:g} s, {WANTED_BYTES / 1e3:.0f} kB: {_verdict(kept)}")


def _spent_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _verdict(kept: bool) -> str:
    return "met in every round" if kept else "missed"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("ended by the user") from None
