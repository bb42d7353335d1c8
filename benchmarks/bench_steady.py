"""Check the steady bitrate and its interval on transfers whose true rate is known.

    python -m benchmarks.bench_steady [--runs 400] [--quick] [--until 2] [--json FILE]
    python -m benchmarks.bench_steady --runs 100 --events [--cells 300] [--seed 7]
    python -m benchmarks.bench_steady --runs 20 --events --only kind=step span_s=4,8 --part 2/5
    python -m benchmarks.bench_steady --docs docs/reference/steady-grades.md

The bias is the mean error of the rate; "plain" is the bias of all bytes over all the time. The
coverage is how often the 95 % interval contains the true rate, in all runs and in those with a
grade of A or B. For comparison, the table has the coverage of Student's t on independent batches
("naive") and of batch means doubled until von Neumann's ratio passes. Half-widths are medians. A
second table is about runs that end by themselves, see `benchmarks.stopping`. The seed is fixed, so
the figures are reproducible.

With --events, the table has how many outages and steps are found, kind by kind. All 5832 cells with
100 runs each take hours: --cells takes some of them by chance, --only those of a kind (see the
fields of `benchmarks.steady_events.Cell`), and --part every fifth, for example.

Then the same analysis is applied to recorded series of real transfers, whole and as if the test had
ended earlier. Their true rate is the one that the emulated line carries, or the receiver's kernel
counted: see benchmarks/bench_paths.py, which has made the recordings.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import stopping
from benchmarks.recordings import Judgement, Recording, load_all, table as recorded_table
from benchmarks.steady_cases import CASES, FAMILIES, HELD_OUT, PLATEAU_BPS, Case, Floats
from benchmarks.steady_events import EVENTS, Cell, Told, told
from netmeasure.analysis.batches import batches
from netmeasure.analysis.series import Curve, median
from netmeasure.analysis.steady import split
from netmeasure.result import Steady

SPANS_S = (2, 10, 60)
ENDS_S = (1, 5, 12)
SEED = 1997
#: The share of events to be found in each cell.
TOLD = 0.97
#: Student's t, 97.5 %, as a series for many degrees of freedom (Fisher and Cornish).
Z = 1.959964


class Outcome(NamedTuple):
    """Hold the outcome of all runs of one case; shares in percent."""

    name: str
    span_s: float
    lengths: float
    runs: int
    bias: float
    plain_bias: float
    coverage: float
    half_width: float
    naive_coverage: float
    doubled_coverage: float
    doubled_half_width: float
    graded: dict[str, float]
    graded_coverage: float | None
    covered: dict[str, float | None]
    verdicts: dict[str, float]


def outcome(case: Case, span_s: float, runs: int, seed: int = SEED) -> Outcome:
    generator = np.random.default_rng([seed, round(span_s), crc32(case.name.encode())])
    bucket_s = 0.001 if span_s <= 5 else 0.01
    times = (np.arange(round(span_s / bucket_s), dtype=np.float64) + 0.5) * bucket_s
    rates, truth = case.make(generator, runs, times, float(span_s))
    counts = np.maximum(0, rates * (PLATEAU_BPS * bucket_s / 8)).round()
    # clipped values are part of the truth
    edges = np.arange(len(times) + 1, dtype=np.int64) * round(bucket_s * 1e9)
    curves = [Curve(edges, np.concatenate(([0.0], np.cumsum(row)))) for row in counts]
    found = [_steady(one, round(bucket_s * 1e9)) for one in curves]
    means = np.array([one.goodput_bps for one in found]) / PLATEAU_BPS
    halves = np.array([_half(one) for one in found]) / PLATEAU_BPS
    parts = [
        batches(one, s.start_ns, s.end_ns, s.batch_ns).rates / PLATEAU_BPS
        for one, s in zip(curves, found, strict=True)
    ]
    naive = np.array([student(len(p)) * p.std(ddof=1) / np.sqrt(len(p)) for p in parts])
    doubled = np.array([doubling(part) for part in parts])
    errors = means - truth
    good = np.array([one.grade in ("A", "B") for one in found])
    plain = counts.sum(axis=1) * 8 / span_s / PLATEAU_BPS - truth
    return Outcome(
        name=case.name,
        span_s=span_s,
        lengths=case.lengths,
        runs=runs,
        bias=_percent(errors / truth),
        plain_bias=_percent(plain / truth),
        coverage=_percent(np.abs(errors) <= halves),
        half_width=100 * median(halves),
        naive_coverage=_percent(np.abs(errors) <= naive),
        doubled_coverage=_percent(np.abs(errors) <= doubled),
        doubled_half_width=100 * median(doubled),
        graded={g: _percent(np.array([s.grade == g for s in found])) for g in "ABC"},
        graded_coverage=_percent(np.abs(errors[good]) <= halves[good]) if good.any() else None,
        covered={
            grade: _covered(errors, halves, np.array([one.grade == grade for one in found]))
            for grade in "ABC"
        },
        verdicts={
            verdict: _percent(np.array([s.verdict == verdict for s in found]))
            for verdict in ("steady", "shifted", "not_steady")
        },
    )


def _covered(errors: Floats, halves: Floats, chosen: np.ndarray) -> float | None:
    return _percent(np.abs(errors[chosen]) <= halves[chosen]) if chosen.any() else None


def _steady(transfer: Curve, bucket_ns: int) -> Steady:
    end_ns = int(transfer.at_ns[-1])
    parts = split(transfer, 0, end_ns, bucket_ns=bucket_ns, rtt_ns=1_000_000)
    assert parts is not None
    return parts.steady


def _half(steady: Steady) -> float:
    assert steady.confidence_interval is not None
    return steady.confidence_interval[1] - steady.goodput_bps


def _percent(values: Floats | np.ndarray) -> float:
    return 100 * float(values.mean())


def student(count: int) -> float:
    free = count - 1
    return Z + (Z**3 + Z) / 4 / free + (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96 / free**2


def doubling(rates: Floats) -> float:
    """Return half the width of the interval by batch means.

    Pairs of batches are merged until neighbours no longer resemble each other (von Neumann's ratio,
    one-sided 5 %) or ten batches are left. The remaining correlation then widens the interval (as
    in Skart: Tafazzoli, Steiger and Wilson, 2011).
    """
    while len(rates) >= 20 and _resembling(rates) > 1.645:
        rates = rates[len(rates) % 2 :].reshape(-1, 2).mean(axis=1)
    centred = rates - rates.mean()
    power = float((centred**2).sum())
    first = float((centred[1:] * centred[:-1]).sum()) / power if power else 0.0
    first = min(0.9, max(0.0, first))
    half = student(len(rates)) * float(rates.std(ddof=1)) / np.sqrt(len(rates))
    return float(half * np.sqrt((1 + first) / (1 - first)))


def _resembling(rates: Floats) -> float:
    n = len(rates)
    power = float(((rates - rates.mean()) ** 2).sum())
    ratio = float((np.diff(rates) ** 2).sum()) / power if power else 2.0
    return (2 - ratio) / 2 * float(np.sqrt((n * n - 1) / (n - 2)))


def table(outcomes: Sequence[Outcome]) -> Table:
    drawn = Table(title="shares in %", title_justify="left", box=None)
    for name in ("case", "s", "T/tau", "bias", "plain", "coverage", "+-", "A or B", "A/B/C"):
        drawn.add_column(name, justify="left" if name == "case" else "right", no_wrap=True)
    for name in ("naive", "doubling", "+-", "steady/shifted/not"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for one in outcomes:
        drawn.add_row(
            one.name,
            f"{one.span_s:g}",
            f"{one.lengths:g}",
            f"{one.bias:+.2f}",
            f"{one.plain_bias:+.2f}",
            f"{one.coverage:.1f}",
            f"{one.half_width:.2f}",
            "/".join("-" if s is None else f"{s:.0f}" for s in one.covered.values()),
            "/".join(f"{share:.0f}" for share in one.graded.values()),
            f"{one.naive_coverage:.1f}",
            f"{one.doubled_coverage:.1f}",
            f"{one.doubled_half_width:.2f}",
            "/".join(f"{share:.1f}" for share in one.verdicts.values()),
        )
    return drawn


def recorded() -> list[tuple[Recording, Judgement]]:
    """Yield every recording as it would have been judged after each of these times, and whole."""
    return [
        (one, one.judge(seconds))
        for one in load_all().values()
        for seconds in (*(end for end in ENDS_S if end < one.path.seconds), None)
    ]


def covered_of(one: Outcome, grade: str) -> str:
    """Return how many runs got the grade, and how often their interval contained the true rate."""
    share, covered = one.graded[grade], one.covered[grade]
    count = round(one.runs * share / 100)
    return f"{count}: {covered:.0f} %" if covered is not None else "-"


def grades_page(outcomes: Sequence[Outcome], held_out: Sequence[str]) -> str:
    """Return the page of the documentation that says how reliable the grades are."""
    lines = [
        "# What the grades of the steady state are worth",
        "",
        "Written by `python -m benchmarks.bench_steady --docs FILE`; do not edit.",
        "",
        "Every row is a family of synthetic runs whose true rate is known. Columns A, B and C: how",
        "many runs got the grade, and in how many of those the 95 % interval held the truth.",
        "Families with a star were not used to tune the method. `bias` is the mean error of the",
        "rate, in percent. No grade can know what a run did not show: the truth of rare outages",
        "and of dips is that of an endless run.",
        "",
        "| family | s | runs | A | B | C | bias | steady / shifted / not steady, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        name = f"{one.name} *" if one.name in held_out else one.name
        grades = " | ".join(covered_of(one, grade) for grade in "ABC")
        verdicts = " / ".join(f"{share:.0f}" for share in one.verdicts.values())
        row = f"| {name} | {one.span_s:g} | {one.runs} | {grades} | {one.bias:+.2f} | {verdicts} |"
        lines.append(row)
    return "\n".join(lines) + "\n"


def events_table(found: Sequence[Told]) -> Table:
    """Return a row for each kind of event, with all its cells."""
    drawn = Table(title="events found, of all runs", title_justify="left", box=None)
    drawn.add_column("event", no_wrap=True)
    for name in ("cells", "runs", "found %", "worst cell %", "misleading"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for kind, size in dict.fromkeys((one.cell.kind, one.cell.size) for one in found):
        rows = [one for one in found if (one.cell.kind, one.cell.size) == (kind, size)]
        runs, told = sum(one.runs for one in rows), sum(one.told for one in rows)
        drawn.add_row(
            f"{kind} {'of' if kind == 'outage' else 'to'} {size:g}",
            *(str(len(rows)), str(runs), f"{100 * told / runs:.2f}"),
            f"{100 * min(one.told / one.runs for one in rows):.1f}",
            str(sum(one.misleading for one in rows)),
        )
    return drawn


def weak_table(weak: Sequence[Told]) -> Table:
    """Return a row for each cell in which too few events are found."""
    drawn = Table(title="cells with too few", title_justify="left", box=None)
    for name in ("event", "runs", "found %", "misleading"):
        drawn.add_column(name, justify="left" if name == "event" else "right", no_wrap=True)
    for one in weak:
        share = f"{100 * one.told / one.runs:.1f}"
        drawn.add_row(one.cell.name, str(one.runs), share, str(one.misleading))
    return drawn


def part_of(text: str) -> tuple[int, int]:
    """Return the numbers of "I/N"."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: write I/N, such as 1/4")
    return int(number), int(count)


def field(text: str) -> tuple[str, list[str]]:
    """Return the name and the values of "FIELD=VALUE,VALUE"."""
    name, _, values = text.partition("=")
    if name not in Cell._fields:
        raise argparse.ArgumentTypeError(f"{name!r} is no field of an event")
    return name, values.split(",")


def chosen_cells(
    only: Sequence[tuple[str, list[str]]], part: tuple[int, int], most: int | None, seed: int
) -> list[Cell]:
    """Return the cells whose fields have one of the values of each field in `only`, of these every
    Nth of `part` (I, N), and of this part at most so many, by chance. Raise SystemExit if there are
    none."""
    cells = [
        cell for cell in EVENTS if all(str(getattr(cell, name)) in values for name, values in only)
    ]
    number, count = part
    cells = cells[number - 1 :: count]
    if not cells:
        raise SystemExit("no event has these values")
    return cells if most is None else random.Random(seed).sample(cells, min(most, len(cells)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=400, help="series of each case and length")
    options.add_argument("--quick", action="store_true", help="50 of each, up to 10 s")
    options.add_argument(
        "--until", type=float, default=2, metavar="%", help="of runs that end themselves (2)"
    )
    options.add_argument("--json", metavar="FILE", help="every figure")
    options.add_argument("--docs", metavar="FILE", help="only write the page on grades")
    options.add_argument("--events", action="store_true", help="only the outages and steps")
    options.add_argument("--cells", type=int, metavar="N", help="so many of them, by chance")
    options.add_argument(
        "--only",
        nargs="+",
        type=field,
        default=[],
        metavar="FIELD=VALUES",
        help=f"the events of a kind; fields: {', '.join(Cell._fields)}",
    )
    options.add_argument(
        "--part", type=part_of, default=(1, 1), metavar="I/N", help="every Nth of them"
    )
    options.add_argument("--seed", type=int, default=SEED, help="of the events' noise and choice")
    chosen = options.parse_args()
    if chosen.docs:
        families = [*CASES, *FAMILIES, *HELD_OUT]
        page = [outcome(case, span, chosen.runs) for case in families for span in SPANS_S[1:]]
        text = grades_page(page, [case.name for case in HELD_OUT])
        Path(chosen.docs).write_text(text)
        return
    if chosen.events:
        cells = chosen_cells(chosen.only, chosen.part, chosen.cells, chosen.seed)
        found = sorted(told(cell, chosen.runs, chosen.seed) for cell in cells)
        weak = [one for one in found if one.told < TOLD * one.runs or one.misleading]
        console = Console(width=160)
        console.print(events_table(found), highlight=False)
        if weak:
            console.print(weak_table(weak), highlight=False)
            raise SystemExit(f"{len(weak)} of {len(found)} cells are not found in 97 %")
        return
    runs, spans = (50, SPANS_S[:2]) if chosen.quick else (chosen.runs, SPANS_S)
    outcomes = [outcome(case, span, runs) for case in CASES for span in spans]
    console = Console(width=160)
    console.print(table(outcomes), highlight=False)
    endings = [stopping.ended(case, runs, SEED, chosen.until / 100) for case in stopping.CASES]
    console.print(stopping.table(endings), highlight=False)
    rows = recorded()
    console.print("\nrecorded real series", highlight=False)
    console.print(recorded_table(rows), highlight=False)
    if chosen.json:
        document = {"seed": SEED, "cases": [one._asdict() for one in outcomes]}
        document["until"] = [one._asdict() for one in endings]
        document["recorded"] = [
            {
                "path": one.path.name,
                "seconds": found.seconds,
                "verdict": found.steady.verdict,
                "grade": found.steady.grade,
                "steady_bps": found.steady.goodput_bps,
                "truth_bps": found.truth_bps,
                "held": found.holds,
            }
            for one, found in rows
        ]
        Path(chosen.json).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
