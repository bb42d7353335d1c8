"""Make histories: recorded runs of one night after another, whose figures scatter and change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from msgspec.structs import replace

from netmeasure.result import Result
from support.recorded import recorded

FIRST = datetime(2026, 1, 1)


def import_linear_algebra() -> None:
    """Import the analysis of changes before a test: the import starts threads, and keeps them."""
    import ruptures  # noqa: F401


def night(number: int) -> str:
    """Return when the run of a night started; nights are counted from 0."""
    return (FIRST + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def rates(*levels: tuple[int, float], scatter: float = 0.01, seed: int = 1) -> list[float]:
    """Return so many runs at each level in bit/s, with a scatter of the same shape every time."""
    generator = np.random.default_rng(seed)
    return [
        level * (1 + scatter * float(off))
        for runs, level in levels
        for off in generator.standard_normal(runs)
    ]


def nights(bps: Sequence[float], *, first: int = 0, set_up_ns: int = 1_000_000) -> list[Result]:
    """Return a run of each night at these rates; the runs differ only in the rate."""
    return [
        # the CPU time grows with the bytes, so that the CPU time per byte stays the same
        replace(
            recorded(one, set_up_ns=set_up_ns, cpu_ns=round(one / 10)), started_at=night(first + n)
        )
        for n, one in enumerate(bps)
    ]
