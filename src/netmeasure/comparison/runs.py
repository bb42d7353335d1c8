"""Extract what comparisons need of each run, and summarise several runs of the same test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from netmeasure.analysis.samples import Estimate, mean
from netmeasure.comparison.doubts import Doubt, doubts
from netmeasure.result import Flow, FlowDirection, Loss, Result, Spread, Stretch, Totals

GB = 10**9
#: No figure of a measurement is larger, in any of the units that results use.
MAX_FIGURE = 1e21

Number = TypeVar("Number", int, float)


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the figures of one run in one direction. None: not known.

    Attributes:
        complete: False: the run broke off or was stopped early, and does not count.
        error: Why the run is incomplete.
        verdict: The verdict on its steady state.
        margin: Half the confidence interval of its steady bitrate, as a share of it.
        steady_bps: Its steady bitrate in bit/s.
        ceiling_share: The steady bitrate over the link's payload ceiling, if the specification has
            the link's rate.
        from_first_attempt_bps: The average since the first connect attempt, in bit/s. Other tools
            print this figure.
        set_up_ns: The time of connection set-up.
        syn_retransmits: Retransmitted SYNs.
        ramp_ns: The time before the steady state.
        ramp_lost_bytes: The bytes that the steady bitrate would have carried during the ramp, less
            the bytes that it did carry.
        sender_cpu_s_per_gb: CPU seconds of the sending threads per 10^9 bytes delivered.
        receiver_cpu_s_per_gb: CPU seconds of the receiving threads per 10^9 bytes delivered.
        retransmits_per_gb: Retransmitted segments per 10^9 bytes delivered.
        loss_ratio: Lost datagrams over sent datagrams, 0 to 1.
        transactions_per_s: Of round trips: transactions per second in the steady state.
        latency_p50_ns: Of round trips: the median latency.
        latency_p99_ns: Of round trips: the latency that 99 % do not exceed.
        idle_p50_ns: Of bulk tests: the median latency before the load.
        loaded_p50_ns: Of bulk tests: the median latency under load.
        loaded_p99_ns: Of bulk tests: the latency under load that 99 % of the probes do not exceed.
        connect_p50_ns: Of requests by HTTP and round trips on fresh connections: the median time to
            open a connection.
        error_ratio: Of the same tests: errors over attempts, 0 to 1.
        doubts: The reasons to doubt some of these figures.
    """

    complete: bool
    error: str | None = None
    verdict: str | None = None
    margin: float | None = None
    steady_bps: float | None = None
    ceiling_share: float | None = None
    from_first_attempt_bps: float | None = None
    set_up_ns: int | None = None
    syn_retransmits: int | None = None
    ramp_ns: int | None = None
    ramp_lost_bytes: float | None = None
    sender_cpu_s_per_gb: float | None = None
    receiver_cpu_s_per_gb: float | None = None
    retransmits_per_gb: float | None = None
    loss_ratio: float | None = None
    transactions_per_s: float | None = None
    latency_p50_ns: int | None = None
    latency_p99_ns: int | None = None
    idle_p50_ns: int | None = None
    loaded_p50_ns: int | None = None
    loaded_p99_ns: int | None = None
    connect_p50_ns: int | None = None
    error_ratio: float | None = None
    doubts: tuple[Doubt, ...] = ()

    @property
    def counts(self) -> bool:
        """Return whether the run counts: it is complete and its steady bitrate is known."""
        return self.complete and self.steady_bps is not None


class RunsSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the summary of runs of the same test in one direction.

    Attributes:
        direction: "upload" or "download", seen from the client.
        runs: The figures of each run.
        steady_bps: The mean steady bitrate of the runs that count, in bit/s, with its 95 %
            confidence interval from the scatter between runs; None: no run counts.
        set_up: The distribution of set-up times, over all runs that completed set-up.
    """

    direction: FlowDirection
    runs: tuple[RunFigures, ...]
    steady_bps: Estimate | None = None
    set_up: Spread | None = None

    @property
    def counted(self) -> int:
        """Return how many runs count."""
        return sum(run.counts for run in self.runs)

    def values(self, name: str) -> list[float]:
        """Return a figure, such as "set_up_ns", of each run that counts and has it."""
        found = (getattr(run, name) for run in self.runs if run.counts)
        return [float(value) for value in found if value is not None]


def directions(results: Iterable[Result]) -> list[FlowDirection]:
    """Return the directions in which anything was measured, in order of first appearance."""
    return list(dict.fromkeys(flow.direction for result in results for flow in result.flows))


def summarise(results: Iterable[Result], direction: FlowDirection) -> RunsSummary:
    """Return the summary of some results in one direction; incomplete runs do not count."""
    runs = tuple(figures(result, direction) for result in results)
    summary = RunsSummary(
        direction=direction,
        runs=runs,
        set_up=Spread.of([run.set_up_ns for run in runs if run.set_up_ns is not None]),
    )
    return msgspec.structs.replace(summary, steady_bps=mean(summary.values("steady_bps")))


def figures(result: Result, direction: FlowDirection) -> RunFigures:
    """Return the figures of one result in one direction."""
    error = None if result.error is None else result.error.message
    flow = next((flow for flow in result.flows if flow.direction == direction), None)
    if flow is None:
        return RunFigures(complete=False, error=error or f"no {direction} was measured")
    steady, ramp, averages = flow.steady, flow.ramp, flow.averages
    trips = result.round_trips
    made = result.requests or (None if trips is None else trips.connections)
    idle = None if result.latency is None else result.latency.idle
    loaded = None if result.latency is None else result.latency.loaded
    rate = None if steady is None else _plausible(steady.goodput_bps)
    return RunFigures(
        complete=result.complete,
        error=error,
        verdict=None if steady is None else steady.verdict,
        margin=None if steady is None else steady.margin,
        steady_bps=rate,
        ceiling_share=_plausible(flow.ceiling_share),
        from_first_attempt_bps=_plausible(averages.from_first_attempt_bps),
        set_up_ns=_plausible(averages.set_up_ns),
        syn_retransmits=_plausible(result.syn_retransmits),
        ramp_ns=None if ramp is None else _plausible(ramp.duration_ns),
        ramp_lost_bytes=_lost(rate, ramp),
        sender_cpu_s_per_gb=_per_gb(_cpu_s(flow.sender), flow),
        receiver_cpu_s_per_gb=_per_gb(_cpu_s(flow.receiver), flow),
        retransmits_per_gb=_per_gb(flow.sender.retransmits, flow),
        loss_ratio=None if flow.loss is None else _loss_ratio(flow.loss),
        transactions_per_s=None if trips is None else _plausible(trips.steady_per_s),
        latency_p50_ns=None if trips is None else _plausible(trips.p50_ns),
        latency_p99_ns=None if trips is None else _plausible(trips.p99_ns),
        idle_p50_ns=None if idle is None else _plausible(idle.p50_ns),
        loaded_p50_ns=None if loaded is None else _plausible(loaded.p50_ns),
        loaded_p99_ns=None if loaded is None else _plausible(loaded.p99_ns),
        connect_p50_ns=None if made is None else _plausible(made.connect_p50_ns),
        error_ratio=None if made is None else _plausible(made.error_ratio),
        doubts=doubts(result, flow),
    )


def _lost(rate: float | None, ramp: Stretch | None) -> float | None:
    if rate is None or ramp is None:
        return None
    span, moved = _plausible(ramp.duration_ns), _plausible(ramp.bytes)
    return None if span is None or moved is None else max(rate / 8e9 * span - moved, 0.0)


def _cpu_s(totals: Totals) -> float | None:
    user, system = _plausible(totals.cpu_user_ns), _plausible(totals.cpu_system_ns)
    return None if user is None or system is None else (user + system) / 1e9


def _per_gb(amount: float | None, flow: Flow) -> float | None:
    amount, delivered = _plausible(amount), _plausible(flow.delivered_bytes)
    return None if amount is None or not delivered else amount / delivered * GB


def _loss_ratio(loss: Loss) -> float | None:
    lost, sent = _plausible(loss.lost_packets), _plausible(loss.sent_packets)
    return None if lost is None or not sent else lost / sent


def _plausible(value: Number | None) -> Number | None:
    """Return a number of a saved document, or None if it is out of any measurement's range."""
    return value if value is not None and 0 <= value <= MAX_FIGURE else None
