"""Choose the order of the runs of a campaign.

In each round every case has one run, in a new random order. The variants of a case follow each
other directly, so that a drift of the conditions affects all of them alike. Every second round has
the variants in the reverse order of the round before, so that a steady drift cancels out of their
ratios.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from netmeasure.campaign.plan import Case, Plan


def in_turns(plan: Plan, seed: int) -> Iterator[tuple[int, Case]]:
    """Yield (round, case) for each run of a plan; rounds count from 1."""
    chance = random.Random(seed)
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in plan.cases:
        groups.setdefault((case.test, case.target), []).append(case)
    order: dict[tuple[str, str], list[Case]] = {}
    for number in range(1, plan.runs + 1):
        keys = list(groups)
        chance.shuffle(keys)
        for key in keys:
            if number % 2:
                order[key] = chance.sample(groups[key], len(groups[key]))
            else:
                order[key] = order[key][::-1]
            for case in order[key]:
                yield number, case
