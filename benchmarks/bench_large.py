"""Measure what a test of many streams costs around its traffic: set-up, the end, documents, memory.

    python -m benchmarks.bench_large [--rounds N] [--old PYTHON] [--json FILE]

A server runs on loopback, and `netmeasure client` is started anew for each run: one stream for 3 s,
128 streams and 1024 streams for 4 s, as fast as possible. A run notes how long set-up took by its
result, the moment of its last byte by the counters of its native threads, the moment at which the
process was gone, the length of the document (`--json`), and the memory of both ends. `--old` names
the Python of another netmeasure, with which the runs of 128 streams alternate. The medians are
judged; the load average says how reliable they are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.common import host_facts, rounds_option
from benchmarks.served import MIB, Served, serving

ROUNDS = 3
OURS, OLD = "netmeasure", "the old one"
#: The limits: bytes of a document by number of streams, seconds from the last byte to the exit, the
#: share of the old one's set-up, and bytes of memory for each stream.
MOST_DOCUMENT = {1: 60_000, 128: 1_500_000}
MOST_END_S, MOST_SET_UP, MOST_STREAM_BYTES = 0.3, 0.25, MIB // 4
PATIENCE_S = 120
#: Runs the client, and prints when its last byte was counted (CLOCK_MONOTONIC).
_CLIENT = """
import sys
from netmeasure.workloads.base import Workload

close = Workload.close
def noted(workload):
    print(workload.last_ns, file=sys.stderr)
    close(workload)
Workload.close = noted

from netmeasure.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Case(msgspec.Struct, frozen=True):
    """Describe a kind of run."""

    streams: int
    time_s: int

    @property
    def name(self) -> str:
        return f"{self.streams} {'stream' if self.streams == 1 else 'streams'}, {self.time_s} s"


CASES = (Case(1, 3), Case(128, 4), Case(1024, 4))


class Large(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what one run has cost. `server_bytes` and `client_bytes` are the most memory of both
    ends, the server's without what it had before."""

    complete: bool
    set_up_s: float
    end_s: float
    document_bytes: int
    server_bytes: int
    client_bytes: int


def run(python: str, case: Case, server: Served) -> Large:
    """Run a client once."""
    before = server.forget_peak()
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder, "result.json")
        argv = [python, "-c", _CLIENT, "client", server.address, "-P", str(case.streams)]
        argv += ["-t", str(case.time_s), "--json", str(document)]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        _, _, usage = os.wait4(process.pid, 0)
        gone_ns = time.monotonic_ns()
        process.returncode = 0
        process.stderr.close()
        try:
            written = document.read_bytes()
            last_ns = int(said.splitlines()[-1])
        except (OSError, ValueError, IndexError):
            raise SystemExit(f"{case.name}: {said.strip()}") from None
    result = json.loads(written)
    return Large(
        complete=result["complete"],
        set_up_s=result["flows"][0]["averages"]["set_up_ns"] / 1e9,
        end_s=(gone_ns - last_ns) / 1e9,
        document_bytes=len(written),
        server_bytes=server.peak_bytes - before,
        client_bytes=usage.ru_maxrss * 1024,
    )


def measured(rounds: int, old: str | None) -> dict[str, dict[str, list[Large]]]:
    """Return the runs by case and program."""
    found: dict[str, dict[str, list[Large]]] = {}
    for case in CASES:
        programs = {OURS: sys.executable}
        if old is not None and case.streams == 128:
            programs[OLD] = old
        found[case.name] = {who: [] for who in programs}
        for _ in range(rounds):
            for who, python in programs.items():
                words = ("--max-streams", str(case.streams)) if case.streams > 128 else ()
                with serving(*words, python=python) as server:
                    run(python, Case(1, 1), server)  # loads what the server's first result needs
                    found[case.name][who].append(run(python, case, server))
    return found


def judged(found: dict[str, dict[str, list[Large]]]) -> list[tuple[str, str, str]]:
    """Return what is wanted, what was measured, and whether it is met."""
    rows: list[tuple[str, str, str]] = []

    def judge(what: str, figure: float, most: float, unit: str) -> None:
        is_met = "met" if figure <= most else "missed"
        rows.append((f"{what} at most {most:g} {unit}", f"{figure:.3g} {unit}", is_met))

    one = found[CASES[0].name][OURS]
    for case in CASES:
        runs = found[case.name][OURS]
        all_complete = all(each.complete for each in runs)
        rows.append((f"{case.name}: complete", str(all_complete), "met" if all_complete else "no"))
        if case.streams in MOST_DOCUMENT:
            size, most = median(runs, "document_bytes"), MOST_DOCUMENT[case.streams]
            judge(f"{case.name}: document", size / 1e3, most / 1e3, "kB")
        if case.streams == 128:
            judge(f"{case.name}: last byte to exit", median(runs, "end_s"), MOST_END_S, "s")
            if OLD in found[case.name]:
                old = median(found[case.name][OLD], "set_up_s")
                ratio = median(runs, "set_up_s") / old
                judge(f"{case.name}: set-up, of {old:.3g} s of the old one", ratio, MOST_SET_UP, "")
        if case.streams > 128:
            for end in ("server", "client"):
                more = median(runs, f"{end}_bytes") - median(one, f"{end}_bytes")
                each = more / (case.streams - 1)
                most = MOST_STREAM_BYTES
                judge(f"{case.name}: {end}, each stream", each / 1024, most / 1024, "KiB")
    return rows


def median(runs: list[Large], name: str) -> float:
    """Return the median of one figure."""
    return float(statistics.median(getattr(each, name) for each in runs))


def main() -> int:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=rounds_option, default=ROUNDS, metavar="N")
    parser.add_argument("--old", metavar="PYTHON", help="the Python of another netmeasure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every run and the host facts")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    facts = host_facts()
    console.print(facts, highlight=False)
    found = measured(options.rounds, options.old)
    table = Table(
        "case", "program", "set-up, s", "last byte to exit, s", "document, kB",
        "server, MiB", "client, MiB", title="medians",
    )  # fmt: skip
    for name, programs in found.items():
        for who, runs in programs.items():
            table.add_row(
                name,
                who,
                f"{median(runs, 'set_up_s'):.3f}",
                f"{median(runs, 'end_s'):.3f}",
                f"{median(runs, 'document_bytes') / 1e3:.0f}",
                f"{median(runs, 'server_bytes') / MIB:.1f}",
                f"{median(runs, 'client_bytes') / MIB:.1f}",
            )
    console.print(table, highlight=False)
    verdict = Table("wanted", "measured", "")
    rows = judged(found)
    for row in rows:
        verdict.add_row(*row)
    console.print(verdict, f"load average {host_facts()['load_average_1min']}", highlight=False)
    if options.json:
        document = {"host": facts, "runs": msgspec.to_builtins(found)}
        options.json.write_text(json.dumps(document, indent=1))
    return 0 if all(row[2] == "met" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
