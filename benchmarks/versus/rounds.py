"""Run the contenders of a case in turn, on a calm machine only."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import msgspec
import psutil

from benchmarks.versus.contenders import Case
from benchmarks.versus.measuring import Sample, measured
from benchmarks.versus.places import Place
from netmeasure.analysis.samples import Estimate, ratio

#: If other programs use more CPUs than this, a run is worthless.
FOREIGN_CPUS = 0.25
REPEATS = 3


class CaseRuns(msgspec.Struct, frozen=True):
    """Hold the samples of a case by contender, one for each round.

    `repeated` runs are not included. `troubled` says that a run was kept although other programs
    used the CPUs.
    """

    case: str
    samples: dict[str, list[Sample]]
    wanted: dict[str, float]
    repeated: int
    troubled: bool

    @property
    def ours(self) -> str:
        """Return the name of the contender that the others are compared with."""
        return next(iter(self.samples))

    def ratio_to(self, name: str) -> Estimate:
        """Return our rate divided by a contender's, with its interval."""
        theirs, ours = ([one.rate for one in self.samples[who]] for who in (name, self.ours))
        found = ratio(theirs, ours)
        assert found is not None
        return found


def wait_for_calm(load: float, patience_s: float, say: Callable[[str], None]) -> None:
    """Wait until the load average of a minute is below `load`; raise SystemExit if it stays
    higher."""
    deadline = time.monotonic() + patience_s
    while (now := psutil.getloadavg()[0]) >= load:
        if time.monotonic() > deadline:
            raise SystemExit(
                f"the load average is {now:.2f}: nothing is measured at {load:g} or more"
            )
        say(f"waiting: the load average is {now:.2f}")
        time.sleep(10)


def run_case(
    case: Case,
    place: Place,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    *,
    repeats: int = REPEATS,
) -> CaseRuns:
    """Run every contender once in each round, in a new random order.

    A run during which other programs used the CPUs is repeated at once, up to `repeats` times.
    """
    chance = random.Random(case.name)
    samples: dict[str, list[Sample]] = {one.name: [] for one in case.contenders}
    repeated, troubled = 0, False
    for number in range(rounds):
        order = list(case.contenders)
        chance.shuffle(order)
        for contender in order:
            for attempt in range(repeats + 1):
                sample = measured(contender, place, seconds, pinned=case.pinned)
                if sample.foreign_cpus <= FOREIGN_CPUS:
                    break
                busy = f"{sample.foreign_cpus:.2f} CPUs were busy with something else"
                say(f"{case.name}, {contender.name}: {busy}")
                repeated += attempt < repeats
            else:
                troubled = True
            samples[contender.name].append(sample)
        say(f"{case.name}: round {number + 1} of {rounds}")
    return CaseRuns(case.name, samples, case.wanted, repeated, troubled)
