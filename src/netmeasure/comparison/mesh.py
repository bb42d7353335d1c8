"""Join the runs of a mesh into figures of every pair of nodes, and find the odd pairs.

The model of a figure is a factor of its client times a factor of its server, estimated by medians
(Tukey's median polish). A slow node therefore makes none of its pairs odd. A pair is odd if its
figure is far from the model, compared with the scatter of all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from netmeasure.comparison.runs import RunFigures, directions, figures
from netmeasure.result import SCHEMA_VERSION, Result
from netmeasure.result.encoding import encoded

#: A figure is odd if it is this many times the usual scatter from the model, and the factor
#: matters.
_SCATTERS = 6.0
_POLISHES = 4
#: The standard deviation of a normal distribution over its median absolute deviation.
_MAD = 1.4826
#: Fewer lost or retransmitted packets may be chance, even if they are a large share of a short
#: test.
_FEWEST_PACKETS = 10
_COUNTED = {"retransmits_per_gb": "retransmits", "loss_ratio": "lost_packets"}
#: The scatter of fewer pairs can't be estimated.
_FEWEST = 6
#: A deviation below this share of the added constant is a rounding error.
_ROUNDED = 1e-9


class Metric(NamedTuple):
    """Describe how a figure is judged: the constant added to it first, whether higher or lower is
    worse, and the least factor that matters."""

    add: float
    higher_is_worse: bool
    factor: float


METRICS: Mapping[str, Metric] = {
    "steady_bps": Metric(0.0, higher_is_worse=False, factor=1.3),
    "transactions_per_s": Metric(0.0, higher_is_worse=False, factor=1.3),
    "set_up_ns": Metric(5e7, higher_is_worse=True, factor=2.0),
    "retransmits_per_gb": Metric(100.0, higher_is_worse=True, factor=3.0),
    "loss_ratio": Metric(0.001, higher_is_worse=True, factor=3.0),
    "latency_p50_ns": Metric(1e4, higher_is_worse=True, factor=1.5),
}


class MeshRun(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one test from one node to another.

    Attributes:
        round: The number of its round, from 1.
        client: The node that began the test.
        server: The node that served the test.
        begun_ns: When the test began, since the campaign's start, by the clock of the campaign's
            host.
        ended_ns: When the test ended.
        result: The test's result; None: the test failed before it measured anything.
        error: Why the test failed or is incomplete; None: it is complete.
    """

    round: int
    client: str
    server: str
    begun_ns: int
    ended_ns: int
    result: Result | None = None
    error: str | None = None


class MeshPair(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the figures of one pair; None: not known.

    Attributes:
        client: The node that began the test.
        server: The node that served the test.
        round: The number of its round.
        begun_ns: When the test began, since the campaign's start.
        ended_ns: When the test ended.
        error: Why there are no figures, or why the run is incomplete.
        figures: The figures of the first direction; None: nothing was measured.
        retransmits: Segments retransmitted in this direction.
        lost_packets: Datagrams lost in this direction.
    """

    client: str
    server: str
    round: int
    begun_ns: int
    ended_ns: int
    error: str | None = None
    figures: RunFigures | None = None
    retransmits: int | None = None
    lost_packets: int | None = None


class OddPair(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one odd figure of a pair: the model of its client and its server does not explain it.

    Attributes:
        client: The node that began the test.
        server: The node that served the test.
        metric: The field of `RunFigures`.
        value: The figure.
        expected: The value of the model, from the client's and the server's tests with other nodes.
    """

    client: str
    server: str
    metric: str
    value: float
    expected: float


class MeshReport(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the outcome of a mesh.

    Attributes:
        schema_version: The version of the document's format.
        nodes: The nodes, in the order of the matrices.
        at_once: The most tests that a node had at a time.
        rounds: How many rounds there were.
        pairs: Every pair, in the order of the runs.
        odd: The pairs that are odd, the oddest first.
    """

    schema_version: int = SCHEMA_VERSION
    nodes: tuple[str, ...]
    at_once: int
    rounds: int
    pairs: tuple[MeshPair, ...]
    odd: tuple[OddPair, ...]

    @property
    def complete(self) -> bool:
        """Return whether every pair has a complete test."""
        return all(pair.error is None for pair in self.pairs)

    def matrix(self, metric: str) -> list[list[float | None]]:
        """Return a figure, such as "steady_bps", by client (rows) and server (columns)."""
        found = _values(self.pairs, metric)
        return [[found.get((a, b)) for b in self.nodes] for a in self.nodes]

    def to_json(self, *, indent: int | None = 2) -> bytes:
        """Return the outcome as UTF-8 JSON, on one line if `indent` is None."""
        return encoded(self, indent=indent)


def join_mesh(
    runs: Iterable[MeshRun], nodes: Sequence[str], *, at_once: int, rounds: int
) -> MeshReport:
    """Return the outcome of the runs of a mesh; if a pair has several runs, only the last one
    counts."""
    last = {(run.client, run.server): run for run in runs}
    pairs = tuple(_pair(run) for run in last.values())
    return MeshReport(
        nodes=tuple(nodes), at_once=at_once, rounds=rounds, pairs=pairs, odd=odd_pairs(pairs)
    )


def _pair(run: MeshRun) -> MeshPair:
    ways = directions([run.result]) if run.result is not None else []
    flow = run.result.flows[0] if run.result is not None and ways else None
    return MeshPair(
        client=run.client,
        server=run.server,
        round=run.round,
        begun_ns=run.begun_ns,
        ended_ns=run.ended_ns,
        error=run.error,
        figures=figures(run.result, ways[0]) if run.result is not None and ways else None,
        retransmits=None if flow is None else flow.sender.retransmits,
        lost_packets=None if flow is None or flow.loss is None else flow.loss.lost_packets,
    )


def odd_pairs(pairs: Sequence[MeshPair]) -> tuple[OddPair, ...]:
    """Return the odd pairs, whose figures the model of clients and servers does not explain."""
    found: list[tuple[float, OddPair]] = []
    trips = bool(_values(pairs, "transactions_per_s"))
    for name, metric in METRICS.items():
        if name == "steady_bps" and trips:
            continue  # the bytes of round trips say the same as their number
        known = _values(pairs, name)
        logs = {
            key: math.log(max(value, 0.0) + metric.add)
            for key, value in known.items()
            if value + metric.add > 0
        }
        if len(logs) < _FEWEST:
            continue
        rest = _polished(logs)
        by_count = _many(pairs, name)
        scatter = _MAD * median(abs(value) for value in rest.values())
        limit = max(_SCATTERS * scatter, math.log(metric.factor))
        for (client, server), off in rest.items():
            worse = off if metric.higher_is_worse else -off
            if worse > limit and by_count.get((client, server), True):
                value = known[client, server]
                expected = (value + metric.add) / math.exp(off) - metric.add
                expected = 0.0 if expected < metric.add * _ROUNDED else expected
                odd = OddPair(
                    client=client, server=server, metric=name, value=value, expected=expected
                )
                found.append((worse / limit, odd))
    return tuple(odd for _, odd in sorted(found, key=lambda one: -one[0]))


def _many(pairs: Sequence[MeshPair], metric: str) -> dict[tuple[str, str], bool]:
    """Return for each pair whether its count of packets is above chance; {}: the metric has no
    count."""
    field = _COUNTED.get(metric)
    if field is None:
        return {}
    return {
        (pair.client, pair.server): (getattr(pair, field) or 0) >= _FEWEST_PACKETS for pair in pairs
    }


def _values(pairs: Sequence[MeshPair], metric: str) -> dict[tuple[str, str], float]:
    return {
        (pair.client, pair.server): float(value)
        for pair in pairs
        if pair.figures is not None and pair.figures.complete
        if (value := getattr(pair.figures, metric)) is not None
    }


def _polished(logs: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Return the residuals of a median polish over clients and servers."""
    rest = dict(logs)
    ends: tuple[Callable[[tuple[str, str]], str], ...] = (lambda k: k[0], lambda k: k[1])
    for _ in range(_POLISHES):
        for end in ends:
            groups: dict[str, list[float]] = {}
            for key, value in rest.items():
                groups.setdefault(end(key), []).append(value)
            middle = {name: median(values) for name, values in groups.items()}
            rest = {key: value - middle[end(key)] for key, value in rest.items()}
    return rest
