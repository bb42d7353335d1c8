"""What comparisons need of each run, and what several runs of the same test say together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from netmeasure.analysis.samples import Estimate, mean
from netmeasure.result import Flow, FlowDirection, Loss, Result, Spread, Stretch, Totals

GB = 10**9
#: What lies beyond this, in any unit, comes from no measurement.
MAX_FIGURE = 1e21

Number = TypeVar("Number", int, float)


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One run in one direction. None: not known.

    complete             False: it broke off, or was aborted; then it counts for nothing
    verdict, margin      of the steady state; half its interval as a share of the rate
    ceiling_share        of what the link can carry at most, where the test was told its rate
    from_first_attempt_bps  the average since the first connect attempt: other tools' figure
    ramp_ns, ramp_lost_bytes  before the steady state; how much more that time carries when steady
    *_cpu_s_per_gb       CPU time of that end's traffic threads for each 10^9 bytes delivered
    retransmits_per_gb   segments
    loss_ratio           datagrams lost of those sent
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

    @property
    def counts(self) -> bool:
        """Whether its rate is one of those that count."""
        return self.complete and self.steady_bps is not None


class RunsSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of the same test in one direction.

    steady_bps   the mean of the runs that count, and its interval from the scatter between runs
    set_up       the distribution of set-up, over all runs that got that far
    """

    direction: FlowDirection
    runs: tuple[RunFigures, ...]
    steady_bps: Estimate | None = None
    set_up: Spread | None = None

    @property
    def counted(self) -> int:
        """How many of them count."""
        return sum(run.counts for run in self.runs)

    def values(self, name: str) -> list[float]:
        """A figure of each run that counts and has it."""
        found = (getattr(run, name) for run in self.runs if run.counts)
        return [float(value) for value in found if value is not None]


def directions(results: Iterable[Result]) -> list[FlowDirection]:
    """The directions in which anything was measured, in the order of their first appearance."""
    return list(dict.fromkeys(flow.direction for result in results for flow in result.flows))


def summarise(results: Iterable[Result], direction: FlowDirection) -> RunsSummary:
    """What these runs say together of one direction; one that broke off is among them."""
    runs = tuple(figures(result, direction) for result in results)
    summary = RunsSummary(
        direction=direction,
        runs=runs,
        set_up=Spread.of([run.set_up_ns for run in runs if run.set_up_ns is not None]),
    )
    return msgspec.structs.replace(summary, steady_bps=mean(summary.values("steady_bps")))


def figures(result: Result, direction: FlowDirection) -> RunFigures:
    """What comparisons need of one run."""
    error = None if result.error is None else result.error.message
    flow = next((flow for flow in result.flows if flow.direction == direction), None)
    if flow is None:
        return RunFigures(complete=False, error=error or f"no {direction} was measured")
    steady, ramp, averages = flow.steady, flow.ramp, flow.averages
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
    """A saved document may hold any number; what can't have been measured is not known."""
    return value if value is not None and 0 <= value <= MAX_FIGURE else None
