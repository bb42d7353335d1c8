"""Find where a series of figures, one for each run, changed its level.

ruptures finds the best place to split the series in two (kernel change point detection with the
linear kernel: Arlot, Celisse and Harchaoui, JMLR 20 (2019) 162), or in three, for a level that
returned. A split counts where a t test between its two sides is beyond its limit (the change point
model of Hawkins, Qiu and Kang, Journal of Quality Technology 35 (2003) 355: neither level nor
scatter need be known before). Then each part is split in the same way, until no split counts.

If the series is checked after each run, a change that is a few runs old needs less evidence than an
older one, which earlier checks have already tested. Nearly all of the permitted false alarms are
spent on recent places, most of them on those five runs old: this finds most changes within five
runs (benchmarks/bench_history.py).

Outliers are moved nearer before the test (winsorised: Tukey, Annals of Mathematical Statistics 33
(1962) 1). The limits depend on all runs of a part alike, whatever their order. So runs without any
change are in random order before and after, and the share of false alarms hardly depends on how
they scatter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netmeasure.analysis.samples import t_quantile
from netmeasure.errors import SpecError

Floats = npt.NDArray[np.float64]

#: The least number of runs whose scatter can be estimated.
MIN_RUNS = 10
#: The least number of runs of a level.
MIN_SEGMENT = 3
#: The probability that the t test takes an arbitrary place for a change: for a place that no
#: earlier check has tested, the second for each run since the last check, but at most the first;
#: for a place that was tested before; and by the number of runs since the place. The best of all
#: places is taken for a change more often: in a series without any change that is checked after
#: each run, once in more than 200 runs, whether the runs scatter normally, with a long tail, or
#: with one run in 20 far off (benchmarks/bench_history.py).
LEVEL, NEW_LEVEL, SEEN_LEVEL = 0.0008, 0.0002, 0.00001
RECENT_LEVELS = {3: 6e-4, 4: 8e-4, 5: 56e-4, 6: 15e-4, 7: 1e-3, 8: 5e-4, 9: 2e-4, 10: 2e-4}
RECENT_LEVELS |= dict.fromkeys((12, 14, 17, 20), 1e-4)
#: A reported change remains reported while the t test at its place alone is significant at this
#: level.
TOLD_LEVEL = 0.025
#: Before the test, a run further than this many standard deviations from the median is moved to
#: this distance, at which two such runs of the newest five are mostly no change.
MOST_OFF = 2.75
#: Before the search for the best place, the same is done with the median of the run's neighbours,
#: which keeps the levels apart.
_MOST_OFF_NEIGHBOURS = 3.0
_NEIGHBOURS = 2  # on each side, of the running median
#: The standard deviation of a normal distribution over the median of its absolute deviations, and
#: what these lose because the median of five neighbours follows each value a little.
_MAD, _FOLLOWS = 1.4826, 1.2


class Shift(NamedTuple):
    """Hold one change of level.

    Attributes:
        place: The number of the first run of the new level.
        before: The mean level of the runs before it, back to the change before.
        after: The mean level of the runs from it on, up to the next change.
    """

    place: int
    before: float
    after: float


class Told(NamedTuple):
    """Hold a change that was reported before.

    Attributes:
        place: The number of the first run of its new level.
        up: Whether the level rose.
    """

    place: int
    up: bool


def shifts(
    values: Sequence[float], least: float = 0.0, told: Sequence[Told] = (), looked: int = 0
) -> list[Shift]:
    """Return the changes of level in a series, the oldest first.

    Args:
        values: The figure of each run, in order. Positive figures are compared by their ratios.
        least: The least scatter to assume, as a share of positive values, otherwise in the unit of
            the values, so that a change in the last digits of figures with hardly any scatter is
            not reported.
        told: Changes that were reported before, which need less evidence to remain.
        looked: How many of the runs existed at the last check.

    Raises:
        SpecError: ruptures is not installed.
    """
    if len(values) < MIN_RUNS:
        return []
    positive = min(values) > 0
    series = np.asarray(values, dtype=np.float64)
    if positive:
        series = np.log(series)
    # centred and scaled to +-1, so that the squares in the search stay within a float's range
    centred = series - series.mean()
    size = float(np.max(np.abs(centred)))
    if size == 0:
        return []
    centred, least = centred / size, least / size
    level = min(LEVEL, NEW_LEVEL * max(1, len(values) - looked))
    smooth = _near_neighbours(centred, least)
    search = _Search(least, told, looked, level)
    found = sorted(_splits(centred, smooth, search))
    ends = [0, *found, len(values)]
    levels = [float(np.mean(series[a:b])) for a, b in itertools.pairwise(ends)]
    if positive:
        levels = [math.exp(level) for level in levels]
    return [
        Shift(place, before, after)
        for place, before, after in zip(found, levels, levels[1:], strict=False)
    ]


class _Search(NamedTuple):
    """Hold what applies to all parts of a series.

    least     the least scatter to assume
    told      changes that were reported before
    looked    how many of the runs existed at the last check
    level     the t test's level for a place that no earlier check has tested
    """

    least: float
    told: Sequence[Told]
    looked: int
    level: float


def _splits(
    series: Floats, smooth: Floats, search: _Search, start: int = 0, *, newest: bool = True
) -> Iterator[int]:
    """Yield the places of all significant splits.

    Args:
        series: A part of the whole series.
        smooth: The same part, with each run near its neighbours.
        search: What applies to all parts.
        start: The place of the part in the whole.
        newest: Whether the part has the last runs.
    """
    least = search.least
    count = len(series)
    if count < MIN_RUNS:
        return
    tested = _winsorised(series, least)
    seen = search.looked - start - MIN_SEGMENT
    ends = [0, *_best_splits(smooth, 1), count]
    if not _counts(tested, ends, least, seen, search.level):
        # if the level returned, no single split is significant
        ends = [0, *_best_splits(smooth, 2), count]
    if not _counts(tested, ends, least, seen, search.level):
        recent = RECENT_LEVELS if newest else {}
        judged = [(count - runs, own) for runs, own in recent.items() if count - runs >= runs]
        found = [(abs(_apart(tested, place, least, own)), place) for place, own in judged]
        clear, place = max(found, default=(0.0, 0))
        known = max(_remaining(tested, start, least, search.told), default=(0.0, 0))
        if clear > max(known[0], 1):
            yield start + place
            return
        if known[0] <= 1:
            return
        ends = [0, known[1], count]
    for first, end in itertools.pairwise(ends):
        if first > 0:
            yield start + first
        part, last = slice(first, end), newest and end == count
        yield from _splits(series[part], smooth[part], search, start + first, newest=last)


def _remaining(
    series: Floats, start: int, least: float, told: Sequence[Told]
) -> Iterator[tuple[float, int]]:
    """Yield for each change that was reported before how clear it is, and its place in a part of
    the series that begins at `start`."""
    for one in told:
        place = one.place - start
        if MIN_SEGMENT <= place <= len(series) - MIN_SEGMENT:
            apart = _apart(series, place, least, TOLD_LEVEL)
            yield (apart if one.up else -apart), place


def _apart(series: Floats, place: int, least: float, level: float) -> float:
    """Return how much higher the level from a place on is than the level before, in units of the t
    test's limit."""
    a, b = series[:place], series[place:]
    freedom = len(series) - 2
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    scatter = max(math.sqrt(squares / freedom), least)
    higher = float(b.mean() - a.mean())
    limit = _t_limit(level, freedom) * scatter * math.sqrt(1 / len(a) + 1 / len(b))
    return higher / limit if limit > 0 else math.copysign(math.inf, higher) if higher else 0.0


@lru_cache(maxsize=1000)
def _t_limit(level: float, freedom: int) -> float:
    """Return the t that is exceeded in either direction with this probability."""
    return t_quantile(1 - level, freedom)


def _counts(series: Floats, ends: Sequence[int], least: float, seen: int, level: float) -> bool:
    """Return whether the level of each part differs from the level of the part before; `seen` is
    the last place that an earlier check has tested, and `level` is the test's for later ones."""
    return all(
        abs(_apart(series[first:end], place - first, least, SEEN_LEVEL if place <= seen else level))
        > 1
        for first, place, end in zip(ends, ends[1:], ends[2:], strict=False)
    )


def _best_splits(series: Floats, count: int) -> list[int]:
    """Return the places of `count` splits for which the parts scatter least around their means."""
    try:
        from ruptures import KernelCPD
    except ImportError:
        raise SpecError(
            "a history needs ruptures", hint="pip install 'netmeasure[history]'"
        ) from None
    search = KernelCPD(kernel="linear", min_size=MIN_SEGMENT, jump=1).fit(series.reshape(-1, 1))
    return [int(place) for place in search.predict(n_bkps=count)[:-1]]


def _winsorised(series: Floats, least: float) -> Floats:
    """Return the series with each run moved to within MOST_OFF of the median."""
    middle = float(np.median(series))
    usual = max(_MAD * float(np.median(np.abs(series - middle))), least)
    if usual == 0:  # most runs are equal, and no difference is too small
        return series
    limited: Floats = np.clip(series, middle - MOST_OFF * usual, middle + MOST_OFF * usual)
    return limited


def _near_neighbours(series: Floats, least: float) -> Floats:
    """Return the series with each run moved to within _MOST_OFF_NEIGHBOURS of its neighbours'
    median."""
    windows = np.lib.stride_tricks.sliding_window_view(series, 2 * _NEIGHBOURS + 1)
    # the first and the last five runs share their median: two outliers among the newest three would
    # be the median of a shorter window, but three runs of a new level are the most of five
    medians = np.pad(np.median(windows, axis=1), _NEIGHBOURS, mode="edge")
    off = series - medians
    usual = max(_MAD * _FOLLOWS * float(np.median(np.abs(off))), least)
    most = _MOST_OFF_NEIGHBOURS * usual
    limited: Floats = medians + np.clip(off, -most, most)
    return limited
