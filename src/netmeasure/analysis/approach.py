"""Fit two shapes to the beginning of a series: a gradual approach, and a level followed by another
one.

A gradual approach is exponential: plateau + distance * exp(-t / time constant). A level lasts for
some batches, then changes to another level, at once or along a straight line. The shape with the
smaller residual sum of squares distinguishes a ramp from a step. Both fits are linear regressions
on a grid of shapes, so no iteration can fail to converge.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from netmeasure.analysis.series import CACHED_LENGTHS, Floats

#: The time constants to try: from one batch to two thirds of the series.
TIME_CONSTANTS = 24
#: How many ends of a first level to try, and the lengths of a transition, in batches.
LEVEL_ENDS = 12
TRANSITIONS = (1, 4, 10, 20, 40, 80)
#: How many steps of the grid the slowest approach that fits nearly as well may be away.
MAX_STEPS = 3


class Approach(NamedTuple):
    """Hold the exponential approach that fits best. Times are in batches.

    `squares` is its residual sum of squares, `gain` by how much that of a constant is larger, and
    `slowest` the longest time constant that fits nearly as well.
    """

    distance: float
    squares: float
    gain: float
    slowest: float

    def remainder(self, cut: int, n: int) -> float:
        """Return an upper bound on how much the approach changes the mean of the batches from
        `cut`."""
        tau = self.slowest
        return abs(self.distance) * tau * float(np.exp(-cut / tau) - np.exp(-n / tau)) / (n - cut)


def approach(rates: Floats, tolerance: float = 0.0) -> Approach:
    """Return the exponential approach that fits best. An approach fits nearly as well if its
    residual sum of squares is larger by at most `tolerance`."""
    taus, weights, norms = _approaches(len(rates))
    centred = rates - rates.mean()
    distances = weights @ centred
    power = float((centred**2).sum())
    squares = power - distances**2 * norms
    best = int(np.argmin(squares))
    slowest = int(np.flatnonzero(squares <= squares[best] + tolerance)[-1])
    return Approach(
        distance=float(distances[best]),
        squares=float(squares[best]),
        gain=power - float(squares[best]),
        slowest=float(taus[min(slowest, best + MAX_STEPS)]),
    )


@lru_cache(maxsize=CACHED_LENGTHS)
def _approaches(n: int) -> tuple[Floats, Floats, Floats]:
    """Return the time constants, and for each the row that gives the distance, and its norm."""
    taus = np.geomspace(1.0, max(2.0, n / 1.5), TIME_CONSTANTS)
    shapes = np.exp(-(np.arange(n) + 0.5) / taus[:, None])
    shapes -= shapes.mean(axis=1)[:, None]
    norms = np.maximum((shapes**2).sum(axis=1), 1e-30)
    return taus, shapes / norms[:, None], norms


class FirstLevel(NamedTuple):
    """Hold a first level of `length` batches, and the residual sum of squares of the fit."""

    length: int
    squares: float


def first_level(rates: Floats, shortest: int, longest: int) -> FirstLevel:
    """Return the first level of `shortest` to `longest` batches that fits best. If the series is
    too short for a first level, the level is the whole series."""
    n = len(rates)
    centred = rates - rates.mean()
    power = float((centred**2).sum())
    longest = min(longest, n - 2)
    if longest < shortest:
        return FirstLevel(n, power)
    lengths, shapes = _levels(n, shortest, longest)
    explained = (shapes @ centred) ** 2
    best = int(np.argmax(explained))
    return FirstLevel(int(lengths[best]), power - float(explained[best]))


@lru_cache(maxsize=CACHED_LENGTHS)
def _levels(n: int, shortest: int, longest: int) -> tuple[Floats, Floats]:
    """Return the lengths of the first level, and for each a row of norm 1."""
    # Not unique(), which loads the masked arrays of numpy (20 ms of CPU) just after a test.
    ends = np.linspace(shortest, longest, LEVEL_ENDS).astype(int)
    ends = ends[np.diff(ends, prepend=-1) > 0]
    lengths, transitions = (grid.ravel() for grid in np.meshgrid(ends, TRANSITIONS))
    at = np.arange(n) + 0.5
    shapes = np.clip((at - lengths[:, None]) / transitions[:, None], 0, 1)
    shapes -= shapes.mean(axis=1)[:, None]
    norms = np.sqrt((shapes**2).sum(axis=1))
    return lengths, np.asarray(shapes / np.maximum(norms, 1e-9)[:, None])
