"""Estimate how much of a gradual approach may still be in the mean of the steady stretch.

MSER, and what is cut off beyond it, end where the rest of an approach is no longer seen in the
noise. A rest of that size is about as large as the mean's standard error, and it always has the
same sign, so an interval for the noise alone holds the truth too rarely. Exponential fits tell how
large the rest is: to the whole series from its rise on, which knows the time constant best; from
where the plateau's height is first reached, for a rate that comes from above; and to the steady
stretch alone. The interval is widened by the largest of them.
"""

from __future__ import annotations

import numpy as np

from netmeasure.analysis.approach import approach
from netmeasure.analysis.departures import noise_of
from netmeasure.analysis.series import Floats

#: A fit counts if it explains this many variances of the noise: one to the series with its ramp,
#: and one to the steady stretch alone, which has less to go by.
SIGNIFICANT = 6.0
SIGNIFICANT_ALONE = 4.0
#: The shares of the plateau's rate from which on the series is fitted.
HEIGHTS = (0.5, 0.97)
MIN_BATCHES = 16


def remainder(rates: Floats, cut: int) -> float:
    """Return by how much, at most, an approach that began before `cut` changes the mean since then.

    The unit is that of the rates. It is 0 if no approach is seen.
    """
    steady = rates[cut:]
    if len(steady) < MIN_BATCHES:
        return 0.0
    alone = approach(steady)
    level, correlation = float(steady.mean()), noise_of(steady)[1]
    # with its outliers, or those at its beginning would pass for an approach
    noise = alone.squares / len(steady) * correlation
    found = [0.0]
    if alone.gain > SIGNIFICANT_ALONE * noise:
        found.append(alone.remainder(0, len(steady)))
    for height in HEIGHTS:
        since = min(cut, int(np.argmax(rates >= height * level)))
        # of all that fit nearly as well, the slowest: what is cut off does not depend on it
        whole = approach(rates[since:], noise)
        if whole.gain > SIGNIFICANT * noise:
            found.append(whole.remainder(cut - since, len(rates) - since))
    return max(found)
