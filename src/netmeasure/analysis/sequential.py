"""Decide when a test with `--until` may end, and which confidence interval it may state.

At increasing intervals, a look analyses all data counted so far. The test may end when IN_A_ROW
looks in a row find one level whose margin is within the target. This is the fixed-width rule of
Chow and Robbins (Ann. Math. Statistics 36 (1965) 457), as it is used for simulations (Glynn and
Whitt, Ann. Applied Probability 2 (1992) 180). The rule is exact only in the limit of small targets.
With larger ones, a test ends when its interval happens to be narrow, and such an interval contains
the true rate too rarely. Three measures correct this:

- Two looks in a row are needed. A single narrow interval is mostly an accident.
- Looks are far apart in time, so that the second one has enough new data.
- `stated` widens the interval to the target, as the fixed-width rule does. This also covers most of
  the events that are too rare to occur in a short test.

If a few events make up the scatter, the margin counts double. Such tests are not refused, because
that would favour tests in which, by chance, the event did not occur.

`python -m benchmarks.bench_steady` reports coverage and time used, series by series.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from netmeasure.analysis.confidence import SAMPLES_B
from netmeasure.result import Steady

#: The first look has 250 buckets of 10 ms. GROWTH is the time of each look over that of the last.
FIRST_LOOK_S = 2.5
GROWTH = 1.4
IN_A_ROW = 2
#: The factor on the margin of a grade C, whose scatter may come from a few events.
DOUBT = 2.0


def look_times_s(cap_s: float) -> Iterator[float]:
    """Yield the times of the looks before the cap, in seconds of measured time."""
    time_s = FIRST_LOOK_S
    while time_s < cap_s:
        yield time_s
        time_s *= GROWTH


def enough(looks: Sequence[Steady | None], target: float) -> bool:
    """Return whether the last looks at one direction know its rate to within `target`, a share of
    the rate.

    The oldest look comes first. None is a look that found no steady state.
    """
    last = looks[-IN_A_ROW:]
    return len(last) == IN_A_ROW and all(found and narrow(found, target) for found in last)


def narrow(found: Steady, target: float) -> bool:
    """Return whether this is one level, known to +- `target` from 30 independent samples or
    more."""
    if found.verdict != "steady" or found.margin is None:
        return False
    if found.autocorrelation_ns and found.duration_ns < SAMPLES_B * found.autocorrelation_ns:
        return False
    return found.margin * (DOUBT if found.grade == "C" else 1.0) <= target


def stated(found: Steady, target: float) -> Steady:
    """Return the steady state of a test that a look has ended, with the interval to be stated.

    The interval is at least as wide as the target. A grade C becomes B if twice its margin is still
    within the target.
    """
    if found.margin is None:
        return found
    rate, margin = found.goodput_bps, max(found.margin, target)
    return replace(
        found,
        confidence_interval=(max(0.0, rate * (1 - margin)), rate * (1 + margin)),
        grade="B" if found.grade == "C" and narrow(found, target) else found.grade,
    )
