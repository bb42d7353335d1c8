"""Measure how reliably `netmeasure history check` finds changes, and count its false alarms.

    python -m benchmarks.bench_history [--histories 1000] [--seed 16] [--json FILE] [--page FILE]

`--page` replaces the table in a page of the documentation, docs/how-to/keep-a-history.md.

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

No test can reach this limit for several N at once, since its false alarms are spread over all
runs. So there are more rows, of tests that look after each run and have one false alarm in 200
runs of normal scatter:

- the cumulative sum (Page, Biometrika 41 (1954) 100), the fastest one for a change of known size
  (Moustakides, Annals of Statistics 14 (1986) 1379). It knows level, scatter and size;
- the self-starting cumulative sum (Hawkins, The Statistician 36 (1987) 299), which knows the size,
  and takes level and scatter from the runs before each run;
- the t test of the newest five runs against the runs before them, which knows nothing. All its
  false alarms are spent on changes of exactly five runs, none on others, and outliers are not
  considered. `history check` can't find many more within five runs.

Histories in which they have an alarm before the change are left out.

The constants in `history/changepoints.py` were chosen with other seeds than the one used here.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Sequence
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
        elif self.shape == "student":  # long tails on both sides; it has the standard deviation 1
            off = generator.standard_t(3, count) / math.sqrt(3)
        elif self.shape in (
            "runs far above",
            "runs far below",
        ):  # lognormal, mean 0 and deviation 1
            off = np.exp(generator.standard_normal(count)) - math.exp(0.5)
            off /= math.sqrt((math.e - 1) * math.e) * (1 if self.shape == "runs far above" else -1)
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
    Case("5 % at 3 %, Student's t with 3 degrees of freedom", -0.05, 0.03, "student"),
    Case("5 % at 3 %, lognormal, some runs far above", -0.05, 0.03, "runs far above"),
    Case("5 % at 3 %, lognormal, some runs far below", -0.05, 0.03, "runs far below"),
    Case("a rise of 5 % at 3 %", 0.05, 0.03),
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


def cumulative_sums(offs: Floats, drift: float) -> Floats:
    """Return for each row, after each run, the larger one of its two one-sided cumulative sums."""
    above, below = np.zeros(len(offs)), np.zeros(len(offs))
    sums = np.empty_like(offs)
    for run in range(offs.shape[1]):
        above = np.maximum(0, above + offs[:, run] - drift)
        below = np.maximum(0, below - offs[:, run] - drift)
        sums[:, run] = np.maximum(above, below)
    return sums


def self_started(offs: Floats) -> Floats:
    """Return how far each run is from those before it in the window, in units of a normal
    distribution; 0 for the first MIN_RUNS runs."""
    scores = np.zeros_like(offs)
    for run in range(MIN_RUNS, offs.shape[1]):
        before = offs[:, max(0, run + 1 - DEFAULT_LAST) : run]
        count = before.shape[1]
        scatter = before.std(axis=1, ddof=1) * math.sqrt(1 + 1 / count)
        scores[:, run] = norm.ppf(t.cdf((offs[:, run] - before.mean(axis=1)) / scatter, count - 1))
    return np.clip(scores, -8, 8)


def newest_five(offs: Floats) -> Floats:
    """Return after each run how surely the newest five differ from the runs before them, as the
    negative logarithm of the t test's probability; 0 for the first MIN_RUNS runs."""
    surely = np.zeros_like(offs)
    for end in range(MIN_RUNS + 1, offs.shape[1] + 1):
        before, after = offs[:, max(0, end - DEFAULT_LAST) : end - 5], offs[:, end - 5 : end]
        count, freedom = before.shape[1], before.shape[1] + 3
        squares = count * before.var(axis=1) + 5 * after.var(axis=1)
        scatter = np.sqrt(squares / freedom * (1 / count + 1 / 5))
        apart = np.abs(after.mean(axis=1) - before.mean(axis=1)) / scatter
        surely[:, end - 1] = -t.logsf(apart, freedom)
    return surely


def first_above(heights: Floats, limit: float) -> npt.NDArray[np.int64]:
    """Return for each row the first run after which it is above the limit; the number of runs
    stands for a row that never is."""
    above = heights > limit
    first: npt.NDArray[np.int64] = np.where(
        above.any(axis=1), above.argmax(axis=1), heights.shape[1]
    )
    return first


def sequential(look: Callable[[Floats], Floats], size: float, seed: int) -> dict[int, float]:
    """Return how often a test with one false alarm in ONE_IN runs finds a change.

    Args:
        look: Returns for each history, after each run, a number that is above a limit in an alarm.
        size: The change in standard deviations.
        seed: The seed of the histories.
    """
    generator = np.random.default_rng([seed, 1954])
    heights = look(generator.standard_normal((2000, 10 * ONE_IN)))
    low, high = 0.0, 20.0
    for _ in range(15):
        middle = (low + high) / 2
        often = float(np.mean(first_above(heights, middle))) < ONE_IN
        low, high = (middle, high) if often else (low, middle)
    offs = generator.standard_normal((20_000, BEFORE + AFTER))
    offs[:, BEFORE:] += size
    first = first_above(look(offs), high)
    late = first[first >= BEFORE]
    return {n: float(np.mean(late < BEFORE + n)) for n in WITHIN}


def limits(case: Case, seed: int) -> dict[str, dict[int, float]]:
    """Return how often each theoretical test finds the change of a case."""
    size = abs(case.change) / case.scatter
    return {
        "limit, if all but the direction is known": {n: limit_told_all(case, n) for n in WITHIN},
        "limit, if nothing is known": {n: limit_told_nothing(case, n) for n in WITHIN},
        "cumulative sum that knows level, scatter and size": sequential(
            lambda offs: cumulative_sums(offs, size / 2), size, seed
        ),
        "self-starting cumulative sum that knows the size": sequential(
            lambda offs: cumulative_sums(self_started(offs), size / 2), size, seed
        ),
        "t test of the newest five after each run, if nothing is known": sequential(
            newest_five, size, seed
        ),
    }


# ---- the table -----------------------------------------------------------------------------------

HEADER = (
    *("change, scatter between runs", "runs per false alarm"),
    *("reported within 3 runs", *(f"{n} runs" for n in WITHIN[1:])),
    f"placed within {SAME_PLACE} runs of where it is",
)


def shares(found: Iterable[float]) -> list[str]:
    return [f"{100 * share:.1f} %" for share in found]


def with_table(page: str, rows: Sequence[Sequence[str]]) -> str:
    """Return a page with these rows in place of those of its table that has this header."""
    lines = page.splitlines()
    head = f"| {' | '.join(HEADER)} |"
    first = lines.index(head) + 2
    last = next(n for n in range(first, len(lines)) if not lines[n].startswith("|"))
    return "\n".join(
        [*lines[:first], *(f"| {' | '.join(row)} |" for row in rows), *lines[last:], ""]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="replace the table in this page")
    chosen = parser.parse_args()
    all_found = [measured(case, chosen.histories, chosen.seed) for case in CASES]
    rows = []
    for found in all_found:
        often = f"{found.quiet_runs / max(1, found.false_alarms):.0f}"
        rows.append([found.name, often, *shares([*found.within.values(), found.placed])])
    most = limits(CASES[0], chosen.seed)
    for name, within in most.items():
        rows.append([f"the first row: {name}", f"{ONE_IN}", *shares(within.values()), ""])
    table = Table(box=None)
    for name in HEADER:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    console = Console(width=160)
    console.print(table)
    normal = [found for case, found in zip(CASES, all_found, strict=True) if case.shape == "normal"]
    for name, some in (("all cases", all_found), ("all cases of normal scatter", normal)):
        alarms = max(1, sum(one.false_alarms for one in some))
        pooled = sum(one.quiet_runs for one in some) / alarms
        console.print(f"runs per false alarm of {name}: {pooled:.0f}")
    if chosen.json:
        document = {"cases": [found._asdict() for found in all_found], "limits": most}
        chosen.json.write_text(json.dumps(document, indent=2))
    if chosen.page:
        chosen.page.write_text(with_table(chosen.page.read_text(), rows))


if __name__ == "__main__":
    main()
