"""Simulate runs that end by themselves (`Timing.until`), on series with a known true rate.

The series last 60 s. Their times are in seconds, not shares of the length, since the rule decides
how long a run takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
from rich.table import Table

from benchmarks.steady_cases import (
    PLATEAU_BPS,
    Floats,
    Generator,
    Made,
    burst,
    correlated,
    heavy,
    many_stalls,
    paced,
    sawtooth,
    slow_ramp,
    slow_start,
)
from netmeasure.analysis.sequential import enough, look_times_s, stated
from netmeasure.analysis.series import Curve
from netmeasure.analysis.steady import split
from netmeasure.result import Steady

CAP_S = 60
BUCKET_S = 0.01
TARGET = 0.02
TIMES: Floats = (np.arange(round(CAP_S / BUCKET_S), dtype=np.float64) + 0.5) * BUCKET_S


class Stopping(NamedTuple):
    """Hold one case: `make(generator, runs)` returns (rates as shares of the plateau, the true
    rate)."""

    name: str
    make: Callable[[Generator, int], Made]


class Ended(NamedTuple):
    """Hold the outcome of all runs of one case; shares in percent.

    `held` is the coverage of the interval that is stated, `bare` that of the interval that was
    found, and `full` that of the interval of all 60 s.
    """

    name: str
    target: float
    runs: int
    held: float
    bare: float
    full: float
    median_s: float
    late_s: float
    capped: float
    margin: float


def noise(generator: Generator, runs: int, tau_s: float, deviation: float) -> Floats:
    return deviation * correlated(generator, runs, len(TIMES), tau_s / BUCKET_S)


def plateau(tau_s: float, deviation: float) -> Stopping:
    def make(generator: Generator, runs: int) -> Made:
        return 1 + noise(generator, runs, tau_s, deviation), 1.0

    return Stopping(f"tau {tau_s:g} s, {100 * deviation:g} %", make)


def ramped(name: str, shape: Callable[[Floats, float], Floats]) -> Stopping:
    def make(generator: Generator, runs: int) -> Made:
        return shape(TIMES, float(CAP_S)) * (1 + noise(generator, runs, 0.05, 0.1)), 1.0

    return Stopping(name, make)


def two_scales(fast: tuple[float, float], slow: tuple[float, float]) -> Stopping:
    def make(generator: Generator, runs: int) -> Made:
        return 1 + noise(generator, runs, *fast) + noise(generator, runs, *slow), 1.0

    return Stopping(f"tau {fast[0]:g} and {slow[0]:g} s", make)


def teeth(period_s: float) -> Stopping:
    case = sawtooth(round(CAP_S / period_s))
    return Stopping(
        f"sawtooth of {period_s:g} s", lambda generator, runs: case.make(generator, runs, TIMES, 60)
    )


def always(name: str, make: Callable[[Generator, int, Floats, float], Made]) -> Stopping:
    return Stopping(name, lambda generator, runs: make(generator, runs, TIMES, float(CAP_S)))


def hiccups(every_s: float) -> Stopping:
    """Return a smooth rate with occasional gaps of 30 ms, which are shorter than a stall."""

    def make(generator: Generator, runs: int) -> Made:
        rates, _ = smooth(generator, runs)
        share, width = BUCKET_S / every_s, 3
        begins = generator.random((runs, len(TIMES) + width)) < share
        silent = np.zeros_like(rates, dtype=bool)
        for i in range(width):
            silent |= begins[:, i : i + len(TIMES)]
        return np.where(silent, 0, rates), (1 - share) ** width

    return Stopping(f"30 ms hiccups, every {every_s:g} s", make)


def smooth(generator: Generator, runs: int) -> Made:
    """Return the rate of a shaped link: 1 % of noise."""
    return slow_start(TIMES, 60) * (1 + noise(generator, runs, 0.01, 0.01)), 1.0


CASES = [
    Stopping("smooth", smooth),
    ramped("slow start", slow_start),
    ramped("slow ramp", slow_ramp),
    ramped("policer's burst", burst),
    plateau(0.0, 0.25),
    plateau(0.02, 0.25),
    plateau(0.05, 0.1),
    plateau(0.05, 0.25),
    plateau(0.1, 0.1),
    plateau(0.2, 0.1),
    plateau(0.5, 0.03),
    plateau(0.5, 0.1),
    plateau(1.0, 0.03),
    two_scales((0.02, 0.15), (0.3, 0.05)),
    two_scales((0.01, 0.2), (1.0, 0.03)),
    teeth(0.3),
    teeth(1),
    teeth(2),
    teeth(5),
    always("stalls of 50 ms", many_stalls),
    *(hiccups(every_s) for every_s in (30, 10, 3, 1)),
    always("heavy tails", heavy),
    always("paced", paced),
]


def ended(case: Stopping, runs: int, seed: int, target: float = TARGET) -> Ended:
    generator = np.random.default_rng([seed, crc32(case.name.encode())])
    rates, truth = case.make(generator, runs)
    counts = np.maximum(0, rates * (PLATEAU_BPS * BUCKET_S / 8)).round()
    edges = np.arange(len(TIMES) + 1, dtype=np.int64) * round(BUCKET_S * 1e9)
    assert isinstance(truth, float)  # these cases have one truth for all runs
    truth_bps = truth * PLATEAU_BPS
    held, bare, full, margins, times = [], [], [], [], []
    for row in counts:
        transfer = Curve(edges, np.concatenate(([0.0], np.cumsum(row))))
        found, time_s = stopped(transfer, target)
        last = found if time_s == CAP_S else analysed(transfer, CAP_S)
        claimed = found if time_s == CAP_S else stated(found, target)
        held.append(covers(claimed, truth_bps))
        bare.append(covers(found, truth_bps))
        full.append(covers(last, truth_bps))
        margins.append(claimed.margin or np.inf)
        times.append(time_s)
    return Ended(
        name=case.name,
        target=target,
        runs=runs,
        held=100 * float(np.mean(held)),
        bare=100 * float(np.mean(bare)),
        full=100 * float(np.mean(full)),
        median_s=float(np.median(times)),
        late_s=float(np.quantile(times, 0.9)),
        capped=100 * float(np.mean(np.array(times) == CAP_S)),
        margin=100 * float(np.median(margins)),
    )


def stopped(transfer: Curve, target: float) -> tuple[Steady, float]:
    """Return what the run knew at its end, and when it ended, as `autostop.AutoStopper` decides
    it."""
    looks: list[Steady] = []
    for time_s in look_times_s(CAP_S):
        looks.append(analysed(transfer, time_s))
        if enough(looks, target):
            return looks[-1], time_s
    return analysed(transfer, CAP_S), CAP_S


def analysed(transfer: Curve, time_s: float) -> Steady:
    bucket_ns = round(BUCKET_S * 1e9)
    end_ns = round(time_s * 1e9)
    parts = split(transfer, 0, end_ns, bucket_ns=bucket_ns, rtt_ns=1_000_000, so_far=time_s < CAP_S)
    assert parts is not None
    return parts.steady


def covers(found: Steady, truth_bps: float) -> bool:
    assert found.confidence_interval is not None
    return found.confidence_interval[0] <= truth_bps <= found.confidence_interval[1]


def table(outcomes: Sequence[Ended]) -> Table:
    title = f"until +-{100 * outcomes[0].target:g} %, at most {CAP_S} s; shares in %"
    drawn = Table(title=title, title_justify="left", box=None)
    for name in ("case", "coverage", "as found", "of 60 s", "+-", "median s", "90 % s", "cap"):
        drawn.add_column(name, justify="left" if name == "case" else "right", no_wrap=True)
    for one in outcomes:
        shares = (f"{share:.1f}" for share in (one.held, one.bare, one.full))
        times = (f"{time_s:.1f}" for time_s in (one.median_s, one.late_s))
        drawn.add_row(one.name, *shares, f"{one.margin:.2f}", *times, f"{one.capped:.0f}")
    return drawn
