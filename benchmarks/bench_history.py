"""What `netmeasure history check` finds, and what it calls a change without one.

    python -m benchmarks.bench_history [--histories 1000] [--seed 16] [--json FILE]

A synthetic history is a row of runs whose figure scatters around one level, and in some of them
moves to another level for good. As on a host that measures every night, each run is followed by a
check of the last 40 runs.

- False alarms: runs without any change for each change that is told.
- Found within N runs: a history of 30 runs, then the change. How often it was told after at most N
  more runs. Histories with a false alarm before the change are left out.
- Placed within 5 runs: a history of 40 runs that changes in the middle, checked once at its end.
  How often a change is told at that place or at most 5 runs from it.

Beside it, the most that can be had: the cumulative sum test (Page, Biometrika 41 (1954) 100), which
is the fastest of all for one change of known size (Moustakides, Annals of Statistics 14 (1986)
1379), told the level and the scatter, and with one false alarm in 200 runs.

The constants in `history/changepoints.py` were chosen on other seeds than the one used here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from netmeasure.history import DEFAULT_LAST
from netmeasure.history.changepoints import MIN_RUNS, shifts
from netmeasure.history.history import SAME_PLACE

Floats = npt.NDArray[np.float64]

SEED = 16
#: The level before a change, in bit/s.
LEVEL = 1e9
BEFORE, AFTER = 30, 10
WITHIN = (3, 5, 7, 10)
QUIET_RUNS = 150


class Case(NamedTuple):
    """A size of a change, and how runs scatter."""

    name: str
    change: float
    scatter: float
    shape: str = "normal"

    def runs(self, generator: np.random.Generator, count: int, changed_at: int | None) -> Floats:
        if self.shape == "uniform":  # within +- the scatter
            off = generator.uniform(-1, 1, count)
        elif self.shape == "outliers":  # one run in twenty is far off
            off = generator.standard_normal(count)
            off -= 6 * np.abs(off) * (generator.random(count) < 0.05)
        else:
            off = generator.standard_normal(count)
        values = LEVEL * (1 + self.scatter * off)
        if changed_at is not None:
            values[changed_at:] *= 1 + self.change
        return np.maximum(values, LEVEL / 100)


CASES = (
    Case("5 % at a scatter of 3 % (standard deviation)", -0.05, 0.03),
    Case("5 % at a scatter within +-3 % (uniform)", -0.05, 0.03, "uniform"),
    Case("5 % at a scatter of 2 %", -0.05, 0.02),
    Case("5 % at a scatter of 1 %", -0.05, 0.01),
    Case("10 % at a scatter of 3 %", -0.10, 0.03),
    Case("10 % at 3 %, one run in 20 far off", -0.10, 0.03, "outliers"),
)


class Found(NamedTuple):
    """What came of one case; shares from 0 to 1."""

    name: str
    quiet_runs: int
    false_alarms: int
    within: dict[int, float]
    placed: float


def measured(case: Case, histories: int, seed: int) -> Found:
    generator = np.random.default_rng([seed, CASES.index(case)])
    runs, alarms = quiet(case, generator, max(1, histories // 5))
    delays = []
    placed = 0
    for _ in range(histories):
        values = case.runs(generator, BEFORE + AFTER, BEFORE)
        if not shifts(values[:BEFORE].tolist()):
            delays.append(delay(values))
        values = case.runs(generator, DEFAULT_LAST, DEFAULT_LAST // 2)
        places = [shift.place for shift in shifts(values.tolist())]
        placed += any(abs(place - DEFAULT_LAST // 2) <= SAME_PLACE for place in places)
    return Found(
        name=case.name,
        quiet_runs=runs,
        false_alarms=alarms,
        within={n: float(np.mean(np.array(delays) <= n)) for n in WITHIN},
        placed=placed / histories,
    )


def quiet(case: Case, generator: np.random.Generator, histories: int) -> tuple[int, int]:
    """Return how many checks of histories without a change there were, and what they told."""
    runs = alarms = 0
    for _ in range(histories):
        values = case.runs(generator, QUIET_RUNS, None)
        told: list[int] = []
        for end in range(MIN_RUNS, QUIET_RUNS + 1):
            runs += 1
            start = max(0, end - DEFAULT_LAST)
            for shift in shifts(values[start:end].tolist()):
                place = start + shift.place
                if all(abs(place - other) > SAME_PLACE for other in told):
                    told.append(place)
                    alarms += 1
    return runs, alarms


def delay(values: Floats) -> int:
    """Return after how many runs a change at BEFORE is told; more than there are: never."""
    for end in range(BEFORE + 1, len(values) + 1):
        if shifts(values[max(0, end - DEFAULT_LAST) : end].tolist()):
            return end - BEFORE
    return AFTER + 1


# ---- the most that can be had --------------------------------------------------------------------


def alarm_at(offs: Floats, drift: float, limit: float) -> npt.NDArray[np.int64]:
    """Return the run at which the two-sided cumulative sum of each row is above the limit; the
    number of runs where it never is."""
    above, below = np.zeros(len(offs)), np.zeros(len(offs))
    first = np.full(len(offs), offs.shape[1], dtype=np.int64)
    for run in range(offs.shape[1]):
        above = np.maximum(0, above + offs[:, run] - drift)
        below = np.maximum(0, below - offs[:, run] - drift)
        first[(np.maximum(above, below) > limit) & (first > run)] = run
    return first


def best_possible(case: Case, seed: int, one_in: int = 200) -> dict[int, float]:
    """Return how often the best test with one false alarm in so many runs finds the change."""
    generator = np.random.default_rng([seed, 1954])
    size = abs(case.change) / case.scatter
    quiet_offs = generator.standard_normal((2000, 10 * one_in))
    low, high = 0.1, 10.0
    for _ in range(12):
        middle = (low + high) / 2
        often = float(np.mean(alarm_at(quiet_offs, size / 2, middle))) < one_in
        low, high = (middle, high) if often else (low, middle)
    offs = generator.standard_normal((20_000, BEFORE + AFTER))
    offs[:, BEFORE:] += size
    first = alarm_at(offs, size / 2, high)
    late = first[first >= BEFORE]
    return {n: float(np.mean(late < BEFORE + n)) for n in WITHIN}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    table = Table(box=None)
    for name in ("change", "runs per false alarm", *(f"in {n}" for n in WITHIN), "placed"):
        table.add_column(name)
    all_found = []
    for case in CASES:
        found = measured(case, chosen.histories, chosen.seed)
        all_found.append(found)
        shares = [f"{100 * share:.1f} %" for share in (*found.within.values(), found.placed)]
        often = f"{found.quiet_runs / max(1, found.false_alarms):.0f}"
        table.add_row(case.name, often, *shares)
    best = best_possible(CASES[0], chosen.seed)
    shares = [f"{100 * share:.1f} %" for share in best.values()]
    table.add_row("the first one, by the best test there can be", "200", *shares, "")
    Console(width=140).print(table)
    if chosen.json:
        document = {"cases": [found._asdict() for found in all_found], "best": best}
        chosen.json.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
