"""compare(): two sets of runs of the same test, their ratio, and which part of a run moved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from netmeasure.analysis.samples import LEVEL, Estimate, difference, mean, ratio, runs_needed
from netmeasure.comparison.differences import Difference, differences
from netmeasure.comparison.runs import RunsSummary, directions, summarise
from netmeasure.errors import ResultFormatError, SpecError
from netmeasure.result import SCHEMA_VERSION, FlowDirection, Result
from netmeasure.spec import DEFAULT_MARGIN, Spec

#: Fewer runs of a side say nothing of how much they scatter.
MIN_RUNS = 3

Verdict = Literal["less", "more", "equal", "unclear", "too_few"]


class Part(NamedTuple):
    """What may move. As a ratio, or as a difference; a change below `least` of the figure itself,
    and below `floor` in its own unit, is no matter."""

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
)


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of `RunFigures` on both sides.

    a, b       means over the runs that count and have it
    relative   True: `change` is B / A; False: it is B - A, in the figure's unit
    change     its interval is wider than 95 %, so that those of all components together hold as
               often as that (Bonferroni)
    moved      the interval excludes that nothing changed, and the change is large enough to
               matter; None: too few runs to tell
    """

    name: str
    relative: bool
    a: Estimate | None = None
    b: Estimate | None = None
    change: Estimate | None = None
    moved: bool | None = None


class FlowComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of both sides in one direction.

    ratio        of the steady bitrates, B / A: geometric means, 95 % by Welch's t on logarithms
    verdict      less, more: B than A. equal: the interval lies within the margin around 1, also
                 where it excludes 1. unclear: it holds 1, and values beyond the margin. too_few
    runs_needed  of each side for an interval of half the margin, if runs scatter as these; None:
                 can't be told, or is out of reach
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
        """By the name of its figure; None where neither side has it."""
        return next((one for one in self.components if one.name == name), None)

    def is_below(self, limit: float) -> bool | None:
        """Whether B carries less than `limit` times what A does, by the best estimate, and that it
        carries less at all (or less than `limit`, where that is above 1) is beyond doubt. None: the
        estimate is below, but not beyond doubt, or there is none."""
        if self.verdict == "too_few" or self.ratio is None:
            return None
        if self.ratio.value >= limit:
            return False
        high = self.ratio.value if self.ratio.high is None else self.ratio.high
        return True if high < max(limit, 1.0) else None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What came of comparing B with A, one for each direction that both have.

    spec_a, spec_b  of the first run of each
    in_turns   False: one side was measured after the other, so what changed meanwhile on the way
               is part of the difference; None: not known
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
        """The only direction; of tests in both, the upload."""
        return self.flows[0]

    @property
    def ratio(self) -> Estimate | None:
        return self.flow.ratio

    @property
    def verdict(self) -> Verdict:
        return self.flow.verdict

    def is_below(self, limit: float) -> bool | None:
        """Whether any direction is; None where none surely is, but one may be."""
        found = [flow.is_below(limit) for flow in self.flows]
        return True if True in found else None if None in found else False

    def to_json(self, *, indent: int = 2) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=indent)


def compare(
    a: Iterable[Result],
    b: Iterable[Result],
    *,
    name_a: str = "A",
    name_b: str = "B",
    margin: float = DEFAULT_MARGIN,
) -> Comparison:
    """Compare B with A: sets of results, or lists. Runs that broke off are shown and do not count.

    `margin`: bitrates that differ by no more are the same. Raises ResultFormatError where the two
    have nothing in common, and SpecError.
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
        # a side carried nothing in some of its runs, or in all of them
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
    # of one format and one time zone, so the order of the texts is that of the moments
    starts_a, starts_b = ([result.started_at for result in side] for side in (a, b))
    return not (max(starts_a) < min(starts_b) or max(starts_b) < min(starts_a))
