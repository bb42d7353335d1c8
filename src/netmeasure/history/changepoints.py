"""Find where a series of figures, one of each run, changed its level.

ruptures finds the best place to split the series in two (kernel change point detection with the
linear kernel: Arlot, Celisse and Harchaoui, JMLR 20 (2019) 162), or in three, for a level that came
back. A split counts where a t test between its two sides is beyond its limit (the change point
model of Hawkins, Qiu and Kang, Journal of Quality Technology 35 (2003) 355: neither level nor
scatter need be known before). Then each part is split in the same way, until no split counts.

Where each run is followed by a look, a change that is a few runs old needs less proof than an older
place, which had its chance when it was new. Nearly all false alarms that are allowed are spent
there, most of them after the fifth run, for that finds most changes within five
(benchmarks/bench_history.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netmeasure.analysis.samples import t_quantile
from netmeasure.errors import SpecError

Floats = npt.NDArray[np.float64]

#: Fewer runs tell too little about their own scatter.
MIN_RUNS = 10
#: Fewer runs are no level.
MIN_SEGMENT = 3
#: The probability of the t test to call a place that was not chosen a change: one that no look
#: before could judge, by the runs since if these are few, and one that was judged before. The best
#: of all places is called one more often: in a series without any change that is looked at after
#: each run, once in more than 200 runs (benchmarks/bench_history.py).
LEVEL, SEEN_LEVEL = 0.0008, 0.0001
RECENT_LEVELS = {3: 0.00035, 4: 0.001, 5: 0.0034, 6: 0.0024, 7: 0.0014, 8: 0.0007}
#: A change that was told goes on to be told while its place alone would count at this level.
TOLD_LEVEL = 0.025
#: A run that is further off its neighbours than so many standard deviations counts as so far off.
MOST_OFF = 4.0
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
    """Hold a change that was told before.

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
        values: A figure of each run, in order. Positive ones are compared by their ratios.
        least: A scatter that is always assumed, as a share of positive values, else in their own
            unit, so that the last digits of figures that hardly scatter are no change.
        told: Changes that were told before, which need less proof to stay.
        looked: How many of the runs were there at the last look.

    Raises:
        SpecError: ruptures is not installed.
    """
    if len(values) < MIN_RUNS:
        return []
    positive = min(values) > 0
    series = np.asarray(values, dtype=np.float64)
    if positive:
        series = np.log(series)
    # around 0 and within +-1: the search works on squares, which must stay within a float's range
    centred = series - series.mean()
    size = float(np.max(np.abs(centred)))
    if size == 0:
        return []
    centred, least = centred / size, least / size
    found = sorted(_splits(_without_outliers(centred, least), least, told, looked))
    ends = [0, *found, len(values)]
    levels = [float(np.mean(series[a:b])) for a, b in itertools.pairwise(ends)]
    if positive:
        levels = [math.exp(level) for level in levels]
    return [
        Shift(place, before, after)
        for place, before, after in zip(found, levels, levels[1:], strict=False)
    ]


def _splits(
    series: Floats,
    least: float,
    told: Sequence[Told],
    looked: int,
    start: int = 0,
    *,
    newest: bool = True,
) -> Iterator[int]:
    """Give the places of all splits that count.

    Args:
        series: A part of the whole series.
        least: A scatter that is always assumed.
        told: Changes that were told before.
        looked: How many of the runs were there at the last look.
        start: The place of the part in the whole.
        newest: Whether the part has the last runs.
    """
    count = len(series)
    if count < MIN_RUNS:
        return
    seen = looked - start - MIN_SEGMENT
    ends = [0, *_best_splits(series, 1), count]
    if not _counts(series, ends, least, seen):
        # where the level came back, no single place is a change
        ends = [0, *_best_splits(series, 2), count]
    if _counts(series, ends, least, seen):
        for first, end in itertools.pairwise(ends):
            if first > 0:
                yield start + first
            part, last = series[first:end], newest and end == count
            yield from _splits(part, least, told, looked, start + first, newest=last)
        return
    recent = RECENT_LEVELS if newest else {}
    judged = [(count - runs, level) for runs, level in recent.items() if count - runs >= runs]
    found = [(abs(_apart(series, place, least, level)), place) for place, level in judged]
    for one in told:
        place = one.place - start
        if MIN_SEGMENT <= place <= count - MIN_SEGMENT:
            apart = _apart(series, place, least, TOLD_LEVEL)
            found.append((apart if one.up else -apart, place))
    clear, place = max(found, default=(0.0, 0))
    if clear > 1:
        yield start + place


def _apart(series: Floats, place: int, least: float, level: float) -> float:
    """Return how much higher the level from a place on is than before, in the t test's limit."""
    a, b = series[:place], series[place:]
    freedom = len(series) - 2
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    scatter = max(math.sqrt(squares / freedom), least)
    higher = float(b.mean() - a.mean())
    limit = t_quantile(1 - level, freedom) * scatter * math.sqrt(1 / len(a) + 1 / len(b))
    return higher / limit if limit > 0 else math.copysign(math.inf, higher) if higher else 0.0


def _counts(series: Floats, ends: Sequence[int], least: float, seen: int) -> bool:
    """Return whether each part's level is another one than that of the part before it; `seen` is
    the last place that was judged before."""
    return all(
        abs(_apart(series[first:end], place - first, least, SEEN_LEVEL if place <= seen else LEVEL))
        > 1
        for first, place, end in zip(ends, ends[1:], ends[2:], strict=False)
    )


def _best_splits(series: Floats, count: int) -> list[int]:
    """Return so many places between which the parts scatter least around their own means."""
    try:
        from ruptures import KernelCPD
    except ImportError:
        raise SpecError(
            "a history needs ruptures", hint="pip install 'netmeasure[history]'"
        ) from None
    search = KernelCPD(kernel="linear", min_size=MIN_SEGMENT, jump=1).fit(series.reshape(-1, 1))
    return [int(place) for place in search.predict(n_bkps=count)[:-1]]


def _without_outliers(series: Floats, least: float) -> Floats:
    """Return the series with each run no further off its neighbours' median than MOST_OFF."""
    reach = 2 * _NEIGHBOURS + 1
    padded = np.pad(series, _NEIGHBOURS, constant_values=np.nan)
    medians = np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, reach), axis=1)
    off = series - medians
    usual = max(_MAD * _FOLLOWS * float(np.median(np.abs(off))), least)
    limited: Floats = medians + np.clip(off, -MOST_OFF * usual, MOST_OFF * usual)
    return limited
