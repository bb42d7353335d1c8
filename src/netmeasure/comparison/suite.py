"""Join the runs of a campaign into one table: tests by variants, each with its ratio to the first.

A variant is one of the things that a campaign compares, such as a CNI plug-in. The first variant is
the reference for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from netmeasure.analysis.samples import Estimate
from netmeasure.comparison.comparison import Component, FlowComparison, Verdict, compare
from netmeasure.comparison.doubts import node_doubts
from netmeasure.comparison.runs import RunsSummary, directions, summarise
from netmeasure.errors import ResultFormatError
from netmeasure.result import SCHEMA_VERSION, FlowDirection, Result
from netmeasure.result.encoding import encoded
from netmeasure.result.node import Counter, NodeUse
from netmeasure.result.resources import HostUse
from netmeasure.spec import DEFAULT_MARGIN, Spec

#: The number of processes that are named for each test of a variant.
_PROCESSES = 5


class NodeCost(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the resources of the client's node that all its processes used during some runs.

    Attributes:
        busy_cpus: The mean number of busy CPUs, from before each run to after it; None: the runs
            were too short to tell.
        softirq_cpus: The mean number of CPUs that were busy with soft interrupts; None: the runs
            were too short to tell.
        processes: The processes that used most CPU time, by name, and how many CPUs each used.
        counters: The counters of drops and errors that grew, over all runs together.
    """

    busy_cpus: float | None
    softirq_cpus: float | None
    processes: tuple[tuple[str, float], ...] = ()
    counters: tuple[Counter, ...] = ()


class SuiteRun(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one run of a campaign.

    Attributes:
        round: The number of its round, from 1.
        test: The test's name.
        target: The target's name.
        variant: The variant's name.
        result: The run's result; None: the run failed before it measured anything.
        error: Why the run failed or is incomplete; None: it is complete.
        node: The resources used on the client's node, from before the run to after it; None: not
            watched.
    """

    round: int
    test: str
    target: str
    variant: str
    result: Result | None = None
    error: str | None = None
    node: NodeUse | None = None

    @property
    def key(self) -> tuple[int, str, str, str]:
        """Return the key that identifies the run within its campaign."""
        return self.round, self.test, self.target, self.variant


class SuiteCell(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the runs of one test of one variant, and how they compare with the first variant's.

    Attributes:
        variant: The variant's name.
        runs: Its runs; None: nothing was measured.
        errors: Why runs measured nothing, each reason once.
        ratio: The variant's steady bitrate over the first variant's, as in `FlowComparison`; None:
            this is the first variant, or there is nothing to compare.
        verdict: As in `FlowComparison`; None: as `ratio`.
        runs_needed: As in `FlowComparison`.
        components: The other figures, and how they changed from the first variant.
        node: The resources that the client's node used during the runs; None: it was not watched.
    """

    variant: str
    runs: RunsSummary | None = None
    errors: tuple[str, ...] = ()
    ratio: Estimate | None = None
    verdict: Verdict | None = None
    runs_needed: int | None = None
    components: tuple[Component, ...] = ()
    node: NodeCost | None = None

    def component(self, name: str) -> Component | None:
        """Return the component of a figure such as "set_up_ns"; None: no run has the figure."""
        return next((one for one in self.components if one.name == name), None)


class SuiteRow(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one line of the table: a test on a target in one direction.

    Attributes:
        test: The test's name.
        target: The target's name; "": there is only one.
        direction: "upload" or "download", seen from the client.
        spec: The specification of the first run.
        cells: One for each variant, in the order of the plan.
    """

    test: str
    target: str
    direction: FlowDirection
    spec: Spec | None
    cells: tuple[SuiteCell, ...]


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the outcome of a campaign: one table, and how the campaign was run.

    Attributes:
        schema_version: The version of the document's format.
        title: What the campaign is about.
        variants: The variants' names, in the order of the plan.
        runs_planned: The runs that the plan asks for.
        runs_made: The runs that were made.
        seed: The seed of the order of the runs.
        margin: Bitrates that differ by no more than this share count as equal.
        started_at: When the first run began (UTC, RFC 3339); None: none did.
        last_started_at: When the last run began.
        baseline: The use of this host at rest, before the first run; None: not observed.
        rows: The table.
    """

    schema_version: int = SCHEMA_VERSION
    title: str = ""
    variants: tuple[str, ...]
    runs_planned: int
    runs_made: int
    seed: int
    margin: float
    started_at: str | None = None
    last_started_at: str | None = None
    baseline: HostUse | None = None
    rows: tuple[SuiteRow, ...]

    @property
    def complete(self) -> bool:
        """Return whether every planned run was made and is complete."""
        cells = [cell for row in self.rows for cell in row.cells]
        whole = all(
            cell.runs is not None and not cell.errors and all(r.complete for r in cell.runs.runs)
            for cell in cells
        )
        return self.runs_made == self.runs_planned and whole

    def to_json(self, *, indent: int | None = 2) -> bytes:
        """Return the outcome as UTF-8 JSON, on one line if `indent` is None."""
        return encoded(self, indent=indent)


def tabulate(
    runs: Iterable[SuiteRun],
    *,
    order: Sequence[tuple[str, str, str]],
    runs_planned: int,
    seed: int,
    title: str = "",
    margin: float = DEFAULT_MARGIN,
    baseline: HostUse | None = None,
) -> Suite:
    """Return the table of a campaign's runs.

    Args:
        runs: The runs, in any order.
        order: Test, target and variant of each case, in the order of the table.
        runs_planned: How many runs the whole plan has.
        seed: The seed of the order of the runs.
        title: What the campaign is about.
        margin: Bitrates that differ by no more than this share count as equal.
        baseline: What this host did before the first run.
    """
    found: dict[tuple[str, str, str], list[SuiteRun]] = {key: [] for key in order}
    for run in runs:
        found.setdefault((run.test, run.target, run.variant), []).append(run)
    variants = tuple(dict.fromkeys(key[2] for key in found))
    rows: list[SuiteRow] = []
    for test, target in dict.fromkeys(key[:2] for key in found):
        of_variants = [sorted(found.get((test, target, v), []), key=_round) for v in variants]
        rows += _rows(test, target, variants, of_variants, margin)
    starts = sorted(r.result.started_at for each in found.values() for r in each if r.result)
    return Suite(
        title=title,
        variants=variants,
        runs_planned=runs_planned,
        runs_made=sum(map(len, found.values())),
        seed=seed,
        margin=margin,
        started_at=starts[0] if starts else None,
        last_started_at=starts[-1] if starts else None,
        baseline=baseline,
        rows=tuple(rows),
    )


def by_case(runs: Iterable[SuiteRun]) -> list[tuple[str, list[Result]]]:
    """Return (name, results) for each test of each variant."""
    found: dict[str, list[Result]] = {}
    for run in runs:
        if run.result is not None:
            name = ", ".join(filter(None, (run.test, run.target, run.variant)))
            found.setdefault(name, []).append(run.result)
    return list(found.items())


def _round(run: SuiteRun) -> int:
    return run.round


def _rows(
    test: str,
    target: str,
    variants: Sequence[str],
    of_variants: Sequence[Sequence[SuiteRun]],
    margin: float,
) -> list[SuiteRow]:
    """Return the lines of a test on a target: one for each direction."""
    results = [[run.result for run in runs if run.result is not None] for runs in of_variants]
    every = [result for of_one in results for result in of_one]
    spec = every[0].spec if every else None
    return [
        SuiteRow(
            test=test,
            target=target,
            direction=way,
            spec=spec,
            cells=tuple(
                _cell(name, runs, mine, results[0] if number else (), way, margin)
                for number, (name, runs, mine) in enumerate(
                    zip(variants, of_variants, results, strict=True)
                )
            ),
        )
        for way in directions(every) or ["upload"]
    ]


def _cell(
    variant: str,
    runs: Sequence[SuiteRun],
    mine: Sequence[Result],
    first: Sequence[Result],
    way: FlowDirection,
    margin: float,
) -> SuiteCell:
    errors = [run.error for run in runs if run.error and not (run.result and run.result.flows)]
    cell = SuiteCell(
        variant=variant,
        runs=_summary(runs, mine, way) if any(result.flows for result in mine) else None,
        node=_node_cost([run.node for run in runs if run.node is not None]),
        errors=tuple(dict.fromkeys(errors)),
    )
    against = _against(first, mine, way, margin)
    if against is None:
        return cell
    return msgspec.structs.replace(
        cell,
        ratio=against.ratio,
        verdict=against.verdict,
        runs_needed=against.runs_needed,
        components=against.components,
    )


def _against(
    first: Sequence[Result], mine: Sequence[Result], way: FlowDirection, margin: float
) -> FlowComparison | None:
    try:
        found = compare(first, mine, margin=margin)
    except ResultFormatError:  # a side has no measured run, or the directions differ
        return None
    return next((flow for flow in found.flows if flow.direction == way), None)


def _summary(runs: Sequence[SuiteRun], mine: Sequence[Result], way: FlowDirection) -> RunsSummary:
    """Return the summary of runs, with the doubts that the use of their node gives rise to."""
    nodes = [run.node for run in runs if run.result is not None]
    found = summarise(mine, way)
    doubted = [
        one if node is None else msgspec.structs.replace(one, doubts=one.doubts + node_doubts(node))
        for one, node in zip(found.runs, nodes, strict=True)
    ]
    return msgspec.structs.replace(found, runs=tuple(doubted))


def _node_cost(nodes: Sequence[NodeUse]) -> NodeCost | None:
    if not nodes:
        return None
    told = [node for node in nodes if node.busy_cpus is not None]
    span = sum(node.duration_ns for node in told)
    used: dict[str, int] = {}
    for node in told:
        for process in node.processes:
            used[process.name] = used.get(process.name, 0) + process.cpu_ns
    grown: dict[tuple[str, str], int] = {}
    for node in nodes:
        for one in node.counters:
            key = one.source, one.name
            grown[key] = grown.get(key, 0) + one.grown
    most = sorted(used.items(), key=lambda item: -item[1])[:_PROCESSES]
    return NodeCost(
        busy_cpus=sum(c.busy_ns for node in told for c in node.cpus) / span if told else None,
        softirq_cpus=sum(c.softirq_ns for node in told for c in node.cpus) / span if told else None,
        processes=tuple((name, spent / span) for name, spent in most),
        counters=tuple(
            Counter(source=source, name=name, grown=count)
            for (source, name), count in sorted(grown.items())
        ),
    )
