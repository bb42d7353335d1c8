"""Histories: recorded runs of one night after another, whose figures scatter and change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from msgspec.structs import replace

from netmeasure.result import Result
from support.recorded import recorded

FIRST = datetime(2026, 1, 1)


def import_linear_algebra() -> None:
    """Import what finds changes; before a test, for it starts threads then, and keeps them."""
    import ruptures  # noqa: F401


def night(number: int) -> str:
    """The start of the run of a night, from 0."""
    return (FIRST + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def rates(*levels: tuple[int, float], scatter: float = 0.01, seed: int = 1) -> list[float]:
    """So many runs at each level in bit/s, with a scatter that has the same shape every time."""
    generator = np.random.default_rng(seed)
    return [
        level * (1 + scatter * float(off))
        for runs, level in levels
        for off in generator.standard_normal(runs)
    ]


def nights(bps: Sequence[float], *, first: int = 0, set_up_ns: int = 1_000_000) -> list[Result]:
    """A run of each night at these rates; nothing but the rate differs."""
    return [
        # the CPU time follows the bytes, so that the CPU time per byte stays as it is
        replace(
            recorded(one, set_up_ns=set_up_ns, cpu_ns=round(one / 10)), started_at=night(first + n)
        )
        for n, one in enumerate(bps)
    ]
