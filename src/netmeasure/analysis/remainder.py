"""Estimate how much of a gradual approach may still be in the mean of the steady stretch.

MSER, and the cuts beyond it, stop where the rest of an approach disappears in the noise. Such a
rest is about as large as the mean's standard error and always has the same sign, so an interval for
the noise alone contains the true rate too rarely. Exponential fits estimate the size of the rest: a
fit to the whole series from its rise on, which gives the best time constant; a fit from the first
batch at the plateau's height on, for a rate that falls to the plateau; and a fit to the steady
stretch alone. The interval is widened by the largest estimate.
"""

from __future__ import annotations

import numpy as np

from netmeasure.analysis.approach import approach
from netmeasure.analysis.departures import noise_of
from netmeasure.analysis.series import Floats

#: A fit counts if it explains this many variances of the noise: for a fit to the series with its
#: ramp, and for one to the steady stretch alone, which has less evidence.
SIGNIFICANT = 6.0
SIGNIFICANT_ALONE = 4.0
#: The shares of the plateau's rate at which fits begin.
HEIGHTS = (0.5, 0.97)
MIN_BATCHES = 16


def remainder(rates: Floats, cut: int) -> float:
    """Return an upper bound on how much an approach that began before `cut` changes the mean after
    `cut`.

    The unit is that of the rates. It is 0 if no approach is seen.
    """
    steady = rates[cut:]
    if len(steady) < MIN_BATCHES:
        return 0.0
    alone = approach(steady)
    level, correlation = float(steady.mean()), noise_of(steady)[1]
    # with its outliers: without, those at its beginning would look like an approach
    noise = alone.squares / len(steady) * correlation
    found = [0.0]
    if alone.gain > SIGNIFICANT_ALONE * noise:
        found.append(alone.remainder(0, len(steady)))
    for height in HEIGHTS:
        since = min(cut, int(np.argmax(rates >= height * level)))
        # the slowest approach that fits nearly as well; the cut does not depend on it
        whole = approach(rates[since:], noise)
        if whole.gain > SIGNIFICANT * noise:
            found.append(whole.remainder(cut - since, len(rates) - since))
    return max(found)
