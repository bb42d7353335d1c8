"""Check results against objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from netmeasure.analysis.samples import Estimate, mean
from netmeasure.comparison.runs import directions, figures
from netmeasure.objectives.metrics import METRICS, shown_value
from netmeasure.objectives.objective import Objective
from netmeasure.result import FlowDirection, Result

Outcome = Literal["met", "missed", "unknown"]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the outcome of one objective for some results.

    Attributes:
        objective: The objective.
        direction: The direction that was checked; None: the whole run.
        outcome: "met", "missed", or "unknown": the runs do not suffice to decide; `reason` says
            why.
        value: The figure, in the metric's unit; None: no run has it.
        runs: How many runs have the figure.
        reason: Why the outcome is unknown; None: it is known.
    """

    objective: Objective
    direction: FlowDirection | None
    outcome: Outcome
    value: float | None
    runs: int
    reason: str | None = None

    @property
    def name(self) -> str:
        """Return the objective's text, with the direction if there is one."""
        return (
            f"{self.objective.text} ({self.direction})" if self.direction else self.objective.text
        )

    @property
    def words(self) -> str:
        """Return the judgement as one line of text."""
        found = "" if self.value is None else f": {shown_value(self.value, self.objective.unit)}"
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.outcome} {self.name}{found}{reason}"


def judge(objectives: Sequence[Objective], results: Sequence[Result]) -> tuple[Judgement, ...]:
    """Return the judgement of each objective for the runs of one test, in each direction for
    objectives that have directions.

    An objective is unknown if a run is incomplete or lacks the figure, unless the other runs miss
    the objective anyway. It is also unknown if the bound is within the confidence interval of a
    mean bitrate.
    """
    ways = directions(results)
    found: list[Judgement] = []
    for objective in objectives:
        of_run = METRICS[objective.metric].of_run
        if of_run is not None:
            values = [of_run(result) for result in results]
            found.append(_judge(objective, None, values, None, ()))
            continue
        if not ways:
            found.append(_judge(objective, None, [None] * len(results), None, ()))
        found.extend(_of_flow(objective, way, results) for way in ways)
    return tuple(found)


def _of_flow(objective: Objective, way: FlowDirection, results: Sequence[Result]) -> Judgement:
    read = METRICS[objective.metric].of_flow
    assert read is not None
    runs = [figures(result, way) for result in results]
    values = [read(run) if run.complete else None for run in runs]
    interval = None
    if objective.metric == "steady" and objective.statistic == "mean":
        known = [value for value in values if value is not None]
        interval = mean(known)
        if len(known) == 1 and len(results) == 1:
            interval = _of_one(results[0], way)
    why = METRICS[objective.metric].why_unknown
    causes = [
        cause
        for run, value in zip(runs, values, strict=True)
        if value is None and run.complete and why is not None and (cause := why(run)) is not None
    ]
    return _judge(objective, way, values, interval, causes)


def _of_one(result: Result, way: FlowDirection) -> Estimate | None:
    """Return the steady bitrate of one run with the confidence interval of that run."""
    flow = result.upload if way == "upload" else result.download
    if flow is None or flow.steady is None:
        return None
    return Estimate(flow.steady.goodput_bps, *(flow.steady.confidence_interval or ()))


def _judge(
    objective: Objective,
    way: FlowDirection | None,
    values: Sequence[float | None],
    interval: Estimate | None,
    causes: Sequence[str],
) -> Judgement:
    """Return the judgement of an objective from its figure in each run.

    Args:
        objective: The objective.
        way: The direction; None: the whole run.
        values: The figure of each run; None: the run lacks it.
        interval: The confidence interval of the mean; None: there is none.
        causes: Why complete runs lack the figure, as far as known.
    """
    known = [value for value in values if value is not None]
    value = objective.value(known) if known else None
    outcome: Outcome = "unknown"
    reason = None
    if value is None:
        reason = _lacking(len(values), len(values), causes)
    elif interval is not None and interval.half is not None and interval.holds(objective.bound):
        reason = (
            f"+-{shown_value(interval.half, objective.unit)}: the bound lies within this margin"
        )
    elif not objective.holds(value):
        outcome = "missed"
    elif len(known) < len(values):
        reason = _lacking(len(values) - len(known), len(values), causes)
    else:
        outcome = "met"
    return Judgement(
        objective=objective,
        direction=way,
        outcome=outcome,
        value=value,
        runs=len(known),
        reason=reason,
    )


def _lacking(missing: int, runs: int, causes: Sequence[str]) -> str:
    """Return why `missing` of some runs lack a figure."""
    found = ", ".join(dict.fromkeys(causes))
    if runs == 1:
        return found or "not measured"
    who = "no run has" if missing == runs else f"{missing} of {runs} runs have not"
    return f"{who} measured it: {found}" if found else f"{who} measured it"
