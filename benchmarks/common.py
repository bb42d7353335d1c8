"""Provide what the benchmarks share: host facts, alternating pairs, medians, tables."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
from rich.console import Console
from rich.table import Table


class Sample(msgspec.Struct, frozen=True):
    """Hold one run of one tool; tools are compared by `rate`."""

    @property
    def rate(self) -> float:
        raise NotImplementedError


class Case(msgspec.Struct, frozen=True):
    """Describe one comparison: `ours` and `theirs` are measured alternately."""

    name: str
    ours: Callable[[], Sample]
    theirs: Callable[[], Sample]
    target: float | None = None


#: A column of the table: its title, its digits, and a function from a sample to the figure.
Column = tuple[str, int, Callable[[Any], float]]
Runs = dict[str, list[Sample]]


def rounds_option(text: str) -> int:
    """Return the number of rounds that an option names."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds: 1 or more")
    return int(text)


def host_facts() -> dict[str, str | int | float | None]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        None,
    )
    load, _, _ = psutil.getloadavg()
    return {
        "cpu": model,
        "cpus": psutil.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_1min": round(load, 2),
        "iperf3": tool_version("iperf3", "--version"),
    }


def tool_version(*argv: str) -> str | None:
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return (answer.stdout + answer.stderr).splitlines()[0].split(" (")[0]


def run_cases(cases: Sequence[Case], pairs: int, console: Console) -> dict[str, Runs]:
    """Measure each case `pairs` times, with the two tools alternately.

    The order is swapped every time (ABBA).
    """
    results: dict[str, Runs] = {}
    for case in cases:
        runs: Runs = {"netmeasure": [], "peer": []}
        results[case.name] = runs
        for number in range(pairs):
            order = [("netmeasure", case.ours), ("peer", case.theirs)]
            for who, measure in order if number % 2 == 0 else reversed(order):
                runs[who].append(measure())
            console.print(f"  {case.name}: pair {number + 1} of {pairs}", highlight=False)
    return results


def ratios(runs: Runs) -> list[float]:
    return [
        mine.rate / theirs.rate
        for mine, theirs in zip(runs["netmeasure"], runs["peer"], strict=True)
    ]


def spread(values: Sequence[float], digits: int = 2) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(cases: Sequence[Case], results: dict[str, Runs], columns: Sequence[Column]) -> Table:
    drawn = Table(title="medians (minimum to maximum)", title_justify="left")
    for name in ("case", "ratio by pair", "target"):
        drawn.add_column(name)
    for title, _, _ in columns:
        drawn.add_column(f"{title}, netmeasure")
        drawn.add_column("peer")
    for case in cases:
        runs = results[case.name]
        figures = [
            spread([figure(sample) for sample in runs[who]], digits)
            for _, digits, figure in columns
            for who in ("netmeasure", "peer")
        ]
        target = "" if case.target is None else f">= {case.target:g}"
        drawn.add_row(case.name, spread(ratios(runs)), target, *figures)
    return drawn


def parser(description: str | None) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--pairs", type=int, default=7, help="runs of each tool per case")
    options.add_argument("--time", type=float, default=3.0, help="seconds of each run")
    options.add_argument("--quick", action="store_true", help="one short pair: does it work?")
    options.add_argument("--json", metavar="FILE", help="every sample and the host facts")
    return options


def main(
    description: str | None,
    make_cases: Callable[[float], Sequence[Case]],
    columns: Sequence[Column],
) -> None:
    options = parser(description).parse_args()
    pairs, seconds = (1, 1.0) if options.quick else (options.pairs, options.time)
    console = Console(width=None if sys.stdout.isatty() else 200)
    facts = host_facts()
    console.print(facts, highlight=False)
    cases = make_cases(seconds)
    results = run_cases(cases, pairs, console)
    console.print(table(cases, results, columns), highlight=False)
    if options.json:
        document = {
            "host": facts,
            "seconds": seconds,
            "cases": {
                name: {
                    "ratio_median": statistics.median(ratios(runs)),
                    **{who: msgspec.to_builtins(samples) for who, samples in runs.items()},
                }
                for name, runs in results.items()
            },
        }
        Path(options.json).write_text(json.dumps(document, indent=2) + "\n")
