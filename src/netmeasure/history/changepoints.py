"""Find where a series of figures, one of each run, changed its level.

ruptures finds the best place to split the series in two (kernel change point detection with the
linear kernel: Arlot, Celisse and Harchaoui, JMLR 20 (2019) 162). The split counts where a t test
between its two sides is beyond its limit (the change point model of Hawkins, Qiu and Kang, Journal
of Quality Technology 35 (2003) 355: neither level nor scatter need be known before). Then each side
is split in the same way, until no split counts.
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
#: The probability of the t test to call a place that was not chosen a change. The best place of a
#: series is called one more often: in a series without a change that is looked at after each run,
#: once in more than 200 runs (benchmarks/bench_history.py).
LEVEL = 0.0008
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


def shifts(values: Sequence[float], least: float = 0.0) -> list[Shift]:
    """Return the changes of level in a series, the oldest first.

    Args:
        values: A figure of each run, in order. Positive ones are compared by their ratios.
        least: A scatter that is always assumed, as a share of positive values, else in their own
            unit, so that the last digits of figures that hardly scatter are no change.

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
    found = sorted(_splits(_without_outliers(centred, least), least))
    ends = [0, *found, len(values)]
    levels = [float(np.mean(series[a:b])) for a, b in itertools.pairwise(ends)]
    if positive:
        levels = [math.exp(level) for level in levels]
    return [
        Shift(place, before, after)
        for place, before, after in zip(found, levels, levels[1:], strict=False)
    ]


def _splits(series: Floats, least: float, start: int = 0) -> Iterator[int]:
    """Give the places of all splits that count; `start` is the series' own place."""
    if len(series) < MIN_RUNS:
        return
    place = _best_split(series)
    a, b = series[:place], series[place:]
    freedom = len(series) - 2
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    scatter = max(math.sqrt(squares / freedom), least)
    apart = abs(float(b.mean() - a.mean()))
    limit = t_quantile(1 - LEVEL, freedom) * scatter * math.sqrt(1 / len(a) + 1 / len(b))
    if apart <= limit:
        return
    yield start + place
    yield from _splits(a, least, start)
    yield from _splits(b, least, start + place)


def _best_split(series: Floats) -> int:
    """Return where the two sides scatter least around their own means."""
    try:
        from ruptures import KernelCPD
    except ImportError:
        raise SpecError(
            "a history needs ruptures", hint="pip install 'netmeasure[history]'"
        ) from None
    search = KernelCPD(kernel="linear", min_size=MIN_SEGMENT, jump=1).fit(series.reshape(-1, 1))
    return int(search.predict(n_bkps=1)[0])


def _without_outliers(series: Floats, least: float) -> Floats:
    """Return the series with each run no further off its neighbours' median than MOST_OFF."""
    reach = 2 * _NEIGHBOURS + 1
    padded = np.pad(series, _NEIGHBOURS, constant_values=np.nan)
    medians = np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, reach), axis=1)
    off = series - medians
    usual = max(_MAD * _FOLLOWS * float(np.median(np.abs(off))), least)
    limited: Floats = medians + np.clip(off, -MOST_OFF * usual, MOST_OFF * usual)
    return limited
