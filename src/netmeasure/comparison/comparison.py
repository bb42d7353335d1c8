"""Compare two sets of runs of the same test: the ratio of their bitrates, and which figures of a
run changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from netmeasure.analysis.samples import LEVEL, Estimate, difference, mean, ratio, runs_needed
from netmeasure.comparison.differences import Difference, differences
from netmeasure.comparison.runs import RunsSummary, directions, summarise
from netmeasure.errors import ResultFormatError, SpecError
from netmeasure.result import SCHEMA_VERSION, FlowDirection, Result
from netmeasure.result.encoding import encoded
from netmeasure.spec import DEFAULT_MARGIN, Spec

#: The least number of runs of each side whose scatter is known well enough for a verdict.
MIN_RUNS = 3

Verdict = Literal["less", "more", "equal", "unclear", "too_few"]


class Part(NamedTuple):
    """Say how a figure of a run is compared.

    Attributes:
        name: The field of `RunFigures`.
        relative: Whether the change is the ratio B / A or the difference B - A.
        least: The least change that matters, as a share of the figure.
        floor: The least difference that matters, in the figure's own unit.
    """

    name: str
    relative: bool
    least: float
    floor: float = 0.0


PARTS = (
    Part("set_up_ns", relative=False, least=0.1, floor=100_000),
    Part("from_first_attempt_bps", relative=True, least=DEFAULT_MARGIN),
    Part("ramp_ns", relative=False, least=0.1, floor=10_000_000),
    Part("ramp_lost_bytes", relative=False, least=0.1, floor=100_000),
    Part("sender_cpu_s_per_gb", relative=True, least=0.05),
    Part("receiver_cpu_s_per_gb", relative=True, least=0.05),
    Part("retransmits_per_gb", relative=False, least=0.1, floor=1),
    Part("loss_ratio", relative=False, least=0.1, floor=0.0001),
    Part("transactions_per_s", relative=True, least=DEFAULT_MARGIN),
    Part("latency_p50_ns", relative=True, least=0.05),
    Part("latency_p99_ns", relative=True, least=0.1),
    Part("idle_p50_ns", relative=False, least=0.1, floor=100_000),
    Part("loaded_p50_ns", relative=False, least=0.1, floor=500_000),
    Part("loaded_p99_ns", relative=False, least=0.2, floor=1_000_000),
    Part("connect_p50_ns", relative=True, least=0.1),
    Part("error_ratio", relative=False, least=0.1, floor=0.0001),
)


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one figure of the runs of both sides, and its change from A to B.

    Attributes:
        name: The field of `RunFigures`, such as "set_up_ns".
        relative: True: `change` is B / A. False: it is B - A, in the figure's unit.
        a: The mean over the runs of A that count and have the figure; None: no run of A has it.
        b: The mean over the runs of B that count and have the figure; None: no run of B has it.
        change: The change with its confidence interval. The level is above 95 %, so that all
            components' intervals contain the true changes with 95 % probability (Bonferroni's
            correction).
        moved: Whether the interval excludes "no change" and the change is large enough to matter;
            None: too few runs to tell.
    """

    name: str
    relative: bool
    a: Estimate | None = None
    b: Estimate | None = None
    change: Estimate | None = None
    moved: bool | None = None


class FlowComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the comparison of the runs of both sides in one direction.

    Attributes:
        direction: "upload" or "download", seen from the client.
        a: The runs of A.
        b: The runs of B.
        ratio: The steady bitrates, B / A: a ratio of geometric means with its 95 % confidence
            interval (Welch's t on the logarithms, Biometrika 34 (1947) 28); None: no run has one.
        verdict: "less" or "more": B carries less or more than A. "equal": the interval lies within
            the margin around 1, even if it excludes 1. "unclear": the interval holds 1 and values
            beyond the margin. "too_few": fewer than 3 runs of a side count.
        runs_needed: Runs of each side that would give an interval of half the margin, if they
            scatter as these do; None: the number can't be estimated, or is more than 1000.
        components: The other figures of the runs.
        differences: Facts that are not the same in all runs.
    """

    direction: FlowDirection
    a: RunsSummary
    b: RunsSummary
    ratio: Estimate | None
    verdict: Verdict
    runs_needed: int | None
    components: tuple[Component, ...]
    differences: tuple[Difference, ...]

    def component(self, name: str) -> Component | None:
        """Return the component of a figure such as "set_up_ns"; None: neither side has the
        figure."""
        return next((one for one in self.components if one.name == name), None)

    def is_below(self, limit: float) -> bool | None:
        """Return whether B's bitrate is surely below `limit` times A's bitrate.

        True: the best estimate of the ratio is below `limit`, and the confidence interval is wholly
        below 1 (or below `limit`, if `limit` is above 1). False: the estimate is not below `limit`.
        None: the interval is too wide to tell, or there is no ratio.
        """
        return ratio_is_below(self.ratio, self.verdict, limit)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the comparison of two sets of runs, B with A.

    Attributes:
        schema_version: The version of the document's format.
        name_a: What A is called.
        name_b: What B is called.
        spec_a: The specification of A's first run.
        spec_b: The specification of B's first run.
        margin: Bitrates that differ by no more than this share count as equal.
        in_turns: Whether A and B were measured in turns. False: B was measured after A, so that a
            change of the path in between is a part of the difference. None: not known.
        flows: The comparisons, one for each direction that both sides have.
    """

    schema_version: int = SCHEMA_VERSION
    name_a: str
    name_b: str
    spec_a: Spec
    spec_b: Spec
    margin: float
    in_turns: bool | None
    flows: tuple[FlowComparison, ...]

    @property
    def flow(self) -> FlowComparison:
        """Return the comparison of the only direction, or of the upload of two-way tests."""
        return self.flows[0]

    @property
    def ratio(self) -> Estimate | None:
        """Return the ratio of `flow`."""
        return self.flow.ratio

    @property
    def verdict(self) -> Verdict:
        """Return the verdict of `flow`."""
        return self.flow.verdict

    def is_below(self, limit: float) -> bool | None:
        """Return whether B's bitrate is surely below the limit in any direction
        (`FlowComparison.is_below`).

        None: no direction is surely below, but at least one is undecided.
        """
        found = [flow.is_below(limit) for flow in self.flows]
        return True if True in found else None if None in found else False

    def to_json(self, *, indent: int | None = 2) -> bytes:
        """Return the comparison as UTF-8 JSON, on one line if `indent` is None."""
        return encoded(self, indent=indent)


def ratio_is_below(ratio: Estimate | None, verdict: Verdict | None, limit: float) -> bool | None:
    """Return whether a ratio is surely below a limit; see `FlowComparison.is_below`."""
    if verdict == "too_few" or ratio is None:
        return None
    if ratio.value >= limit:
        return False
    high = ratio.value if ratio.high is None else ratio.high
    return True if high < max(limit, 1.0) else None


def compare(
    a: Iterable[Result],
    b: Iterable[Result],
    *,
    name_a: str = "A",
    name_b: str = "B",
    margin: float = DEFAULT_MARGIN,
) -> Comparison:
    """Compare B with A. Incomplete runs are listed in the comparison, but no figure includes them.

    Args:
        a: The runs of A, such as a `ResultSet` or a list of results.
        b: The runs of B.
        name_a: What to call A.
        name_b: What to call B.
        margin: Bitrates that differ by no more than this share count as equal.

    Raises:
        SpecError: The margin is not between 0 and 1.
        ResultFormatError: A side has no measured run, or the two have no direction in common.
    """
    if not 0 < margin < 1:
        raise SpecError(f"margin is {margin:g}: it must be between 0 and 1", hint="0.02 is 2 %")
    a, b = tuple(a), tuple(b)
    of_a, of_b = directions(a), directions(b)
    for name, found in ((name_a, of_a), (name_b, of_b)):
        if not found:
            raise ResultFormatError(f"{name}: no run in which anything was measured")
    common = [way for way in of_a if way in of_b]
    if not common:
        words = [
            f"{name} has only the {ways[0]}" for name, ways in ((name_a, of_a), (name_b, of_b))
        ]
        raise ResultFormatError(f"nothing can be compared: {', '.join(words)}")
    return Comparison(
        name_a=name_a,
        name_b=name_b,
        spec_a=a[0].spec,
        spec_b=b[0].spec,
        margin=margin,
        in_turns=_in_turns(a, b),
        flows=tuple(_compare(a, b, way, margin) for way in common),
    )


def _compare(
    a: Sequence[Result], b: Sequence[Result], direction: FlowDirection, margin: float
) -> FlowComparison:
    of_a, of_b = summarise(a, direction), summarise(b, direction)
    rates = of_a.values("steady_bps"), of_b.values("steady_bps")
    found = ratio(*rates)
    return FlowComparison(
        direction=direction,
        a=of_a,
        b=of_b,
        ratio=found,
        verdict=_verdict(found, min(len(rates[0]), len(rates[1])), margin),
        runs_needed=runs_needed(*rates, margin / 2),
        components=_components(of_a, of_b),
        differences=differences(a, b, direction),
    )


def _verdict(found: Estimate | None, runs: int, margin: float) -> Verdict:
    if runs < MIN_RUNS:
        return "too_few"
    if found is None or found.low is None or found.high is None:
        # some or all runs of one side transferred no data
        return "less" if found is not None and found.value == 0 else "unclear"
    if found.low >= 1 - margin and found.high <= 1 + margin:
        return "equal"
    if found.holds(1.0):
        return "unclear"
    return "less" if found.high < 1 else "more"


def _components(a: RunsSummary, b: RunsSummary) -> tuple[Component, ...]:
    known = [part for part in PARTS if a.values(part.name) or b.values(part.name)]
    level = 1 - (1 - LEVEL) / max(1, len(known))
    return tuple(
        _component(part, a.values(part.name), b.values(part.name), level) for part in known
    )


def _component(part: Part, a: Sequence[float], b: Sequence[float], level: float) -> Component:
    change = (ratio if part.relative else difference)(a, b, level)
    moved = None
    if change is not None and change.low is not None and min(len(a), len(b)) >= MIN_RUNS:
        nothing = 1.0 if part.relative else 0.0
        least = part.least
        if not part.relative:
            least = max(part.floor, part.least * sum(a) / len(a))
        moved = not change.holds(nothing) and abs(change.value - nothing) >= least
    return Component(
        name=part.name, relative=part.relative, a=mean(a), b=mean(b), change=change, moved=moved
    )


def _in_turns(a: Sequence[Result], b: Sequence[Result]) -> bool | None:
    if min(len(a), len(b)) < 2:
        return None
    # all texts have one format and one time zone, so they sort by time
    starts_a, starts_b = ([result.started_at for result in side] for side in (a, b))
    return not (max(starts_a) < min(starts_b) or max(starts_b) < min(starts_a))
