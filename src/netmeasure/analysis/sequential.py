"""Decide when a running test may end, and which interval it may claim then.

Looks at growing times, each by the whole analysis of what has come so far. The run may end when
IN_A_ROW looks in a row find one level, known well enough, to within the target. This is the
fixed-width rule of Chow and Robbins (Ann. Math. Statistics 36 (1965) 457), as it is used for
simulations (Glynn and Whitt, Ann. Applied Probability 2 (1992) 180). It is valid in the limit of
small targets only. Before that, a run ends when its interval happens to look narrow, and
that interval holds the truth too rarely. Three things amend that:

- two looks in a row, since a narrow look is mostly an accident where the one before it was not;
- looks far apart in time, so that the second one has news to tell;
- `stated`: what a run that ended itself claims is the target, as the fixed-width rule does, and not
  the narrower interval that it happened to find. This also makes up for most of what is too rare to
  have been seen in so short a run.

Where a few events make up the scatter, the margin counts double: to pass over such runs altogether
would be to prefer the ones in which the event did not happen.

`python -m benchmarks.bench_steady` has coverage and time used, series by series.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from netmeasure.analysis.confidence import SAMPLES_B
from netmeasure.result import Steady

#: The first look: 250 buckets of 10 ms. Each look comes so much later than the one before it.
FIRST_LOOK_S = 2.5
GROWTH = 1.4
IN_A_ROW = 2
#: What the margin of a grade C counts for, where it stands for a few events.
DOUBT = 2.0


def look_times_s(cap_s: float) -> Iterator[float]:
    """Yield when to look, in seconds of measured time, all before the cap."""
    time_s = FIRST_LOOK_S
    while time_s < cap_s:
        yield time_s
        time_s *= GROWTH


def enough(looks: Sequence[Steady | None], target: float) -> bool:
    """Return whether the looks at one direction so far, the oldest first, say that it is known to
    +- `target` (a share of the rate). None is a look that found nothing yet."""
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
    """Return the steady state of a run that a look has ended, with the interval that may be
    claimed: not less than the target, and no doubts about it where it is far enough from what was
    found."""
    if found.margin is None:
        return found
    rate, margin = found.goodput_bps, max(found.margin, target)
    return replace(
        found,
        confidence_interval=(max(0.0, rate * (1 - margin)), rate * (1 + margin)),
        grade="B" if found.grade == "C" and narrow(found, target) else found.grade,
    )
