"""Make synthetic runs with an outage or a step, and check whether the analysis reports it.

Every cell is one kind of event at one place: runs of 4 to 60 s, an outage of 0.2 to 2 s or a step
to 0.3 to 2 times, at 10 to 80 % of the run, a recovery of 0 to 2 s, and a scatter of 1 to 15 % that
stays or changes with the event. An event is found if the verdict is not `steady`, if a stall is
reported in it, or if the steady state began before it, so that it is part of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np

from benchmarks.steady_cases import PLATEAU_BPS, Floats, Generator, correlated
from netmeasure.analysis.series import Curve
from netmeasure.analysis.steady import Split, split

Kind = Literal["outage", "step"]
#: The scatter after the event: unchanged, or times this factor.
SCATTER_CHANGES = (1.0, 0.3, 3.0)
MAX_SCATTER = 0.15


class Cell(NamedTuple):
    """Hold one kind of event.

    `size` is the outage's length in seconds or the step's factor, `at` its place as a share of the
    run, `change` the factor of the scatter from the event on. The scatter is that of a bucket of 10
    ms, and correlated over `tau_s`.
    """

    kind: Kind
    size: float
    at: float
    span_s: float
    recovery_s: float
    scatter: float
    change: float
    rtt_s: float = 0.02
    tau_s: float = 0.0

    @property
    def name(self) -> str:
        words = f"{self.kind} {self.size:g} at {100 * self.at:g} % of {self.span_s:g} s"
        words += f", recovery {self.recovery_s:g} s, scatter {100 * self.scatter:g} %"
        words += f" x {self.change:g}, rtt {1000 * self.rtt_s:g} ms, tau {self.tau_s:g} s"
        return words


class Told(NamedTuple):
    """Count the runs of a cell whose event was found, and the runs with the grade A among the
    others."""

    cell: Cell
    runs: int
    told: int
    misleading: int


def cells(
    spans: tuple[float, ...],
    outages: tuple[float, ...],
    steps: tuple[float, ...],
    places: tuple[float, ...],
    recoveries: tuple[float, ...],
    scatters: tuple[float, ...],
    changes: tuple[float, ...] = SCATTER_CHANGES,
    rtts: tuple[float, ...] = (0.02,),
    taus: tuple[float, ...] = (0.0,),
) -> Iterator[Cell]:
    kinds: list[tuple[Kind, float]] = [("outage", size) for size in outages]
    kinds += [("step", size) for size in steps]
    rest = product(kinds, places, spans, recoveries, scatters, changes, rtts, taus)
    for (kind, size), at, span, recovery, scatter, change, rtt, tau in rest:
        yield Cell(kind, size, at, span, recovery, scatter, change, rtt, tau)


def series(cell: Cell, generator: Generator, runs: int) -> tuple[Floats, float]:
    """Return rates as shares of the plateau, a row for each run, and the width of a bucket in
    seconds."""
    bucket_s = 0.001 if cell.span_s <= 5 else 0.01
    times = (np.arange(round(cell.span_s / bucket_s)) + 0.5) * bucket_s
    begin = cell.at * cell.span_s
    scatter = cell.scatter * np.sqrt(0.01 / bucket_s) if not cell.tau_s else cell.scatter
    noise = scatter * correlated(generator, runs, len(times), cell.tau_s / bucket_s)
    after = min(MAX_SCATTER, cell.scatter * cell.change) / cell.scatter
    noise = noise * np.where(times < begin, 1.0, after)
    rounds = np.minimum(times // cell.rtt_s, 40)
    start = np.minimum(1, 10 * 1448 * 8 / cell.rtt_s / PLATEAU_BPS * 2**rounds)
    if cell.kind == "outage":
        end = begin + cell.size
        back = np.clip((times - end) / cell.recovery_s, 0, 1) if cell.recovery_s else 1.0
        shape = np.where(times < begin, 1.0, np.where(times < end, 0.0, back))
    else:
        moved = np.clip((times - begin) / cell.recovery_s, 0, 1) if cell.recovery_s else 1.0
        shape = np.where(times < begin, 1.0, 1 + (cell.size - 1) * moved)
    return start * shape * (1 + noise), bucket_s


def curve_of(rates: Floats, bucket_s: float, plateau_bps: float = PLATEAU_BPS) -> Curve:
    counts = np.maximum(0, rates * (plateau_bps * bucket_s / 8)).round()
    edges = np.arange(len(rates) + 1, dtype=np.int64) * round(bucket_s * 1e9)
    return Curve(edges, np.concatenate(([0.0], np.cumsum(counts))))


def analysed(rates: Floats, bucket_s: float, rtt_s: float) -> Split:
    transfer = curve_of(rates, bucket_s)
    found = split(
        transfer,
        0,
        int(transfer.at_ns[-1]),
        bucket_ns=round(bucket_s * 1e9),
        rtt_ns=round(rtt_s * 1e9),
    )
    assert found is not None
    return found


def is_told(cell: Cell, found: Split) -> bool:
    begin_ns = cell.at * cell.span_s * 1e9
    end_ns = begin_ns + (cell.size * 1e9 if cell.kind == "outage" else 0)
    if found.steady.verdict != "steady":
        return True
    if any(s.start_ns < end_ns and s.end_ns > begin_ns for s in found.steady.stalls):
        return True
    return found.steady.start_ns <= begin_ns + found.steady.batch_ns


def told(cell: Cell, runs: int, seed: int) -> Told:
    generator = np.random.default_rng([seed, crc32(repr(cell).encode())])
    rates, bucket_s = series(cell, generator, runs)
    splits = [analysed(row, bucket_s, cell.rtt_s) for row in rates]
    said = [is_told(cell, found) for found in splits]
    misleading = sum(
        not one and found.steady.grade == "A" for one, found in zip(said, splits, strict=True)
    )
    return Told(cell, runs, sum(said), misleading)


#: The cells of `python -m benchmarks.bench_steady --events`.
EVENTS = list(
    cells(
        (4, 8, 20, 60),
        (0.2, 0.5, 1.0, 2.0),
        (0.3, 0.5, 0.8, 1.25, 2.0),
        (0.1, 0.2, 0.3, 0.45, 0.6, 0.8),
        (0, 1, 2),
        (0.01, 0.05, 0.15),
    )
)
