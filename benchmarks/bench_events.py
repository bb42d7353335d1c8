"""Show whether a result reports an outage, or a change of the rate, in the middle of a transfer.

    python -m benchmarks.bench_events [--quick | --all] [--json FILE] [--at-a-time N]

The transfers are downloads of 8 s by reno, cubic and bbr over round trips of 10, 40 and 100 ms. At
30, 45 or 60 % of the time, the relay cuts the line for 1 s, or changes its rate from 40 to 20
Mbit/s or back. The truth is the schedule, and the losses that the relay counted meanwhile. A result
reports an event if the event is a stall, makes the verdict `shifted` or `not_steady`, or comes at
least one batch after the start of the steady state, and so is a part of the mean. Needs root.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.common import host_facts
from benchmarks.events import Case, Outcome, available, cases, measure_all

QUICK = [
    Case("cubic", 40, "outage", 0.45),
    Case("bbr", 40, "outage", 0.45),
    Case("bbr", 40, "down", 0.30),
    Case("reno", 10, "up", 0.45),
]


def table(outcomes: list[Outcome]) -> Table:
    shown = Table(*("congestion", "round trip", "event", "at", "verdict", "grade", "ramp"))
    for name in ("steady Mbit/s", "told as", "lost packets", "told"):
        shown.add_column(name)
    for found in outcomes:
        case, steady = found.case, found.steady
        shown.add_row(
            *(case.congestion, f"{case.rtt_ms} ms", case.event),
            f"{found.begin_ns / 1e9:.2f} s",
            *(steady.verdict, steady.grade or "-", f"{found.ramp_ns / 1e9:.2f} s"),
            *(f"{steady.goodput_bps / 1e6:.1f}", found.told_as or "-"),
            str(found.counts.lost_packets + found.counts.queue_dropped_packets),
            "yes" if found.told_as else "GRADED A" if found.misleads else "no",
        )
    return shown


def summary(outcomes: list[Outcome]) -> str:
    """Return a table for the docs: how each event was reported, by congestion control."""
    names = sorted({found.case.congestion for found in outcomes}, reverse=True)
    lines = ["| event | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for event in ("outage", "down", "up"):
        cells = []
        for name in names:
            ways = Counter(
                found.told_as or "not told"
                for found in outcomes
                if (found.case.event, found.case.congestion) == (event, name)
            )
            cells.append(", ".join(f"{way} {count}" for way, count in ways.most_common()) or "-")
        lines.append(f"| {event} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def document(outcomes: list[Outcome]) -> dict[str, Any]:
    rows = [
        {**msgspec.to_builtins(found._asdict()), "told_as": found.told_as} for found in outcomes
    ]
    return {"host": host_facts(), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench_events", description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="four transfers")
    size.add_argument("--all", action="store_true", help="all 81 combinations, not 36 of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure")
    parser.add_argument("--at-a-time", type=int, default=3, metavar="N", help="transfers at once")
    args = parser.parse_args()
    if (reason := available()) is not None:
        sys.exit(reason)
    chosen = QUICK if args.quick else cases(args.all)
    outcomes = list(measure_all(chosen, args.at_a_time))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table(outcomes))
    console.print(summary(outcomes), highlight=False)
    told = sum(bool(found.told_as) for found in outcomes)
    misleading = sum(found.misleads for found in outcomes)
    console.print(f"{told} of {len(outcomes)} told; {misleading} not told and graded A")
    for found in outcomes:
        if not found.told_as:
            shape = " ".join(f"{rate:.0f}" for rate in found.shape_mbps)
            console.print(f"not told: {found.case}, Mbit/s in quarters of a second: {shape}")
    if args.json is not None:
        args.json.write_text(json.dumps(document(outcomes), indent=1) + "\n")


if __name__ == "__main__":
    main()
