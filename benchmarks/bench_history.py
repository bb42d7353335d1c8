"""Measure how reliably `netmeasure history check` finds changes, and count its false alarms.

    python -m benchmarks.bench_history [--histories 1000] [--seed 16] [--json FILE]

A synthetic history is a series of runs whose figure scatters around one level. In some histories,
it moves to another level for good. As on a host that measures every night, each run is followed by
a check of the last 40 runs.

- False alarms: the number of runs without any change for each change that is reported.
- Found within N runs: a history of 30 runs, then the change. This is how often the change was
  reported, at its place or at most 5 runs from it, after at most N more runs. Reports before the
  change do not count.
- Placed within 5 runs: a history of 40 runs that changes in the middle, checked once at its end.
  This is how often a change is reported at that place or at most 5 runs from it.

The rows below show the theoretical limits for the first case. Any method has N chances of a false
alarm in N runs, so without a change it reports something in them with a probability of at most N /
200. Of all tests with that probability of an error, none finds more changes than that of Neyman and
Pearson (Philosophical Transactions A 231 (1933) 289), which looks once, after N runs. It is shown
in two forms:

- the test knows the level, the scatter and the size of the change, but not its direction;
- the test knows nothing: the t test, which is the best one that does not depend on level, scatter
  and direction (Lehmann and Romano, Testing Statistical Hypotheses, section 5.3).

No test can reach this limit for several N at once. So there is one more row, for a test that looks
after each run: the cumulative sum (Page, Biometrika 41 (1954) 100), the fastest one for a change of
known size (Moustakides, Annals of Statistics 14 (1986) 1379). It knows level, scatter and size.
Histories in which it has an alarm before the change are left out.

The constants in `history/changepoints.py` were chosen with other seeds than the one used here.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.stats import nct, norm, t

from netmeasure.history import DEFAULT_LAST
from netmeasure.history.changepoints import MIN_RUNS, shifts
from netmeasure.history.history import SAME_PLACE

Floats = npt.NDArray[np.float64]

SEED = 16
#: The number of runs for each false alarm in the theoretical limits.
ONE_IN = 200
#: The level before a change, in bit/s.
LEVEL = 1e9
BEFORE, AFTER = 30, 10
WITHIN = (3, 5, 7, 10)
QUIET_RUNS = 150


class Case(NamedTuple):
    """Hold the size of a change, and how runs scatter."""

    name: str
    change: float
    scatter: float
    shape: str = "normal"

    def runs(self, generator: np.random.Generator, count: int, changed_at: int | None) -> Floats:
        if self.shape == "uniform":  # within +- the scatter
            off = generator.uniform(-1, 1, count)
        elif self.shape == "outliers":  # one run in twenty is far from the others
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
    """Hold the outcome of one case; shares from 0 to 1."""

    name: str
    quiet_runs: int
    false_alarms: int
    within: dict[int, float]
    placed: float


def measured(case: Case, histories: int, seed: int) -> Found:
    generator = np.random.default_rng([seed, CASES.index(case)])
    runs, alarms = quiet(case, generator, histories)
    delays = []
    placed = 0
    for _ in range(histories):
        delays.append(delay(case.runs(generator, BEFORE + AFTER, BEFORE)))
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
    """Return how many checks of histories without a change there were, and what they reported."""
    runs = alarms = 0
    for _ in range(histories):
        values = case.runs(generator, QUIET_RUNS, None)
        told: list[int] = []
        for end in range(MIN_RUNS, QUIET_RUNS + 1):
            runs += 1
            for place in told_at(values, end):
                if all(abs(place - other) > SAME_PLACE for other in told):
                    told.append(place)
                    alarms += 1
    return runs, alarms


def told_at(values: Floats, end: int) -> list[int]:
    """Return what a check after so many runs reports, if every run was followed by a check."""
    start = max(0, end - DEFAULT_LAST)
    found = shifts(values[start:end].tolist(), looked=0 if end == MIN_RUNS else end - 1 - start)
    return [start + shift.place for shift in found]


def delay(values: Floats) -> int:
    """Return after how many runs a change at BEFORE is reported; a number above all runs means
    never."""
    told = told_at(values, BEFORE)
    for end in range(BEFORE + 1, len(values) + 1):
        for place in told_at(values, end):
            is_new = all(abs(place - other) > SAME_PLACE for other in told)
            if is_new and abs(place - BEFORE) <= SAME_PLACE:
                return end - BEFORE
    return AFTER + 1


# ---- the most that can be had --------------------------------------------------------------------


def limit_told_all(case: Case, runs: int) -> float:
    """Return how often a test that knows all but the direction finds a change in so many runs."""
    far = norm.isf(runs / ONE_IN / 2)
    size = abs(case.change) / case.scatter * math.sqrt(runs)
    return float(norm.sf(far - size) + norm.cdf(-far - size))


def limit_told_nothing(case: Case, runs: int) -> float:
    """Return the same for a test that estimates the level and the scatter from the history
    alone."""
    before = min(BEFORE, DEFAULT_LAST - runs)
    freedom = before + runs - 2
    far = t.isf(runs / ONE_IN / 2, freedom)
    size = abs(case.change) / case.scatter / math.sqrt(1 / before + 1 / runs)
    return float(nct.sf(far, freedom, size) + nct.cdf(-far, freedom, size))


def alarm_at(offs: Floats, drift: float, limit: float) -> npt.NDArray[np.int64]:
    """Return for each row the run at which its two-sided cumulative sum exceeds the limit.

    The number of runs stands for a row whose sum never does.
    """
    above, below = np.zeros(len(offs)), np.zeros(len(offs))
    first = np.full(len(offs), offs.shape[1], dtype=np.int64)
    for run in range(offs.shape[1]):
        above = np.maximum(0, above + offs[:, run] - drift)
        below = np.maximum(0, below - offs[:, run] - drift)
        first[(np.maximum(above, below) > limit) & (first > run)] = run
    return first


def cumulative_sum(case: Case, seed: int) -> dict[int, float]:
    """Return how often the cumulative sum with one false alarm in ONE_IN runs finds the change."""
    generator = np.random.default_rng([seed, 1954])
    size = abs(case.change) / case.scatter
    quiet_offs = generator.standard_normal((2000, 10 * ONE_IN))
    low, high = 0.1, 10.0
    for _ in range(12):
        middle = (low + high) / 2
        often = float(np.mean(alarm_at(quiet_offs, size / 2, middle))) < ONE_IN
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
    first = CASES[0]
    limits = {
        "limit, told all but the direction": {n: limit_told_all(first, n) for n in WITHIN},
        "limit, told nothing": {n: limit_told_nothing(first, n) for n in WITHIN},
        "cumulative sum, told level, scatter and size": cumulative_sum(first, chosen.seed),
    }
    for name, within in limits.items():
        shares = [f"{100 * share:.1f} %" for share in within.values()]
        table.add_row(f"the first one: {name}", f"{ONE_IN}", *shares, "")
    console = Console(width=140)
    console.print(table)
    normal = [found for case, found in zip(CASES, all_found, strict=True) if case.shape == "normal"]
    for name, some in (("all cases", all_found), ("all cases of normal scatter", normal)):
        alarms = max(1, sum(one.false_alarms for one in some))
        pooled = sum(one.quiet_runs for one in some) / alarms
        console.print(f"runs per false alarm of {name}: {pooled:.0f}")
    if chosen.json:
        document = {"cases": [found._asdict() for found in all_found], "limits": limits}
        chosen.json.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
