"""Decide in which order the runs of a campaign are made.

In each round every case has its turn once, the cases in a new random order. The variants of a case
follow each other at once, so that what drifts falls on all of them alike; every second round has
them in the reverse order of the round before, so that a steady drift falls out of their ratios.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from netmeasure.campaign.plan import Case, Plan


def in_turns(plan: Plan, seed: int) -> Iterator[tuple[int, Case]]:
    """Give each run of a plan: the number of its round, from 1, and its case."""
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
