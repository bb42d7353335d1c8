"""Compare the steady rate of real transfers with the known capacity of their paths.

    python -m benchmarks.bench_paths [--quick] [--record DIR] [--json FILE] [--at-a-time N]

Each transfer has a path of its own: two namespaces joined by a relay with a delay, a rate and a
queue (in bandwidth-delay products). Needs root. There are two kinds of truth. If the path is full,
the truth is the payload rate that the line carries. A path is full if the kernel of the receiver
counted that each tenth of the rest of the time carried 99 % of that rate. Otherwise, the truth is
what that kernel counted from the steady state's start to the end. A queue that runs empty, losses,
and the phases in which bbr probes the round-trip time every 10 s (0.2 s of almost no data) are part
of the mean, not an error. "in the same time" compares with the kernel's count of exactly the steady
state. A run that ends while its rate still grows must not be called steady.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path as FilePath
from typing import Any

import msgspec
from rich.console import Console

from benchmarks.common import host_facts
from benchmarks.paths import available, measure_all
from benchmarks.recordings import Judgement, Path, Recording, faults, save, table

SECONDS = 25.0
RTTS_MS = (2, 20, 50, 150)

FULL = [
    path
    for rtt in RTTS_MS
    for path in (
        Path(rtt_ms=rtt, congestion="reno", seconds=SECONDS, direction="download"),
        Path(rtt_ms=rtt, congestion="cubic", seconds=SECONDS, direction="upload"),
        Path(rtt_ms=rtt, congestion="bbr", seconds=SECONDS, direction="download"),
    )
]
#: The queues of these paths run empty after a loss, or there are too many losses to fill them.
NOT_FULL = [
    Path(rtt_ms=50, congestion="reno", seconds=SECONDS, queue=0.25),
    Path(rtt_ms=150, congestion="cubic", seconds=SECONDS, queue=0.25, direction="upload"),
    Path(rtt_ms=2, congestion="cubic", seconds=SECONDS, loss=0.001),
    Path(rtt_ms=20, congestion="reno", seconds=SECONDS, loss=0.002, direction="upload"),
    Path(rtt_ms=50, congestion="bbr", seconds=SECONDS, loss=0.005),
]
STILL_GAINING = [
    *(
        Path(rtt_ms=150, congestion=name, seconds=1, rate_bps=100e6, claims=False)
        for name in ("reno", "cubic", "bbr")
    ),
    Path(rtt_ms=50, congestion="cubic", seconds=0.5, rate_bps=100e6, claims=False),
    # these left the slow start early, and grow by one segment per round trip
    Path(rtt_ms=150, congestion="reno", seconds=8, rate_bps=50e6, queue=0.2, claims=False),
    Path(rtt_ms=150, congestion="reno", seconds=12, rate_bps=100e6, queue=0.05, claims=False),
]
QUICK = [
    Path(rtt_ms=2, congestion="cubic", seconds=4),
    Path(rtt_ms=20, congestion="reno", seconds=4, direction="upload"),
    Path(rtt_ms=50, congestion="bbr", seconds=5),
    Path(rtt_ms=150, congestion="cubic", seconds=10),
    *STILL_GAINING[:3],
    STILL_GAINING[4],
]


def document(rows: list[tuple[Recording, Judgement]]) -> dict[str, Any]:
    return {
        "host": host_facts(),
        "rows": [
            {
                "path": msgspec.to_builtins(recording.path),
                "line_bps": recording.path.payload_bps,
                "full": found.full,
                "truth_bps": found.truth_bps,
                "kernel_bps": found.kernel_bps,
                "held": found.holds,
                "steady": msgspec.to_builtins(found.steady),
            }
            for recording, found in rows
        ],
    }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="a few short ones")
    options.add_argument("--record", metavar="DIR", type=FilePath, help="keep the series as JSON")
    options.add_argument("--json", metavar="FILE", type=FilePath, help="every figure")
    options.add_argument("--at-a-time", metavar="N", type=int, default=4, help="side by side (4)")
    chosen = options.parse_args()
    if reason := available():
        raise SystemExit(f"can't run: {reason}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(host_facts(), highlight=False)
    paths = QUICK if chosen.quick else [*FULL, *NOT_FULL, *STILL_GAINING]
    rows = []
    for recording in measure_all(paths, chosen.at_a_time):
        rows.append((recording, recording.judge()))
        if chosen.record:
            save(recording, chosen.record)
    console.print(table(rows), highlight=False)
    if chosen.json:
        chosen.json.write_text(json.dumps(document(rows), indent=2) + "\n")
    if wrong := [fault for row in rows for fault in faults(*row)]:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
