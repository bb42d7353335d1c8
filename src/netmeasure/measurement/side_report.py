"""Make the side report: the figures of a test that this end measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from netmeasure.engine.hosts import measuring_host
from netmeasure.engine.resources import ResourceLog
from netmeasure.result import (
    SideReport,
    StreamReport,
)


class Reporting(Protocol):
    """Provide the streams of a report, see `workloads.base.Workload`. All threads must have
    ended."""

    @property
    def origin_ns(self) -> int | None: ...
    def report(self) -> tuple[StreamReport, ...]: ...


def _duration_ns(streams: Sequence[StreamReport]) -> int | None:
    """Return how long the data phase lasted: from this end's start, or from the first byte if the
    peer sent it earlier, to the last byte. None: no byte was counted."""
    last = max((s.last_ns for s in streams if s.last_ns is not None), default=None)
    if last is None:
        return None
    return last - min((0, *(s.first_ns for s in streams if s.first_ns is not None)))


def own_report(
    workload: Reporting | None,
    resources: ResourceLog,
    concurrent_tests: int | None = None,
    concurrent_tests_mean: float | None = None,
) -> SideReport:
    """Return this end's report of its streams and its host. It has no streams if the test failed
    before it opened them."""
    streams = workload.report() if workload is not None else ()
    origin_ns = workload.origin_ns if workload is not None else None
    spent = [s for s in streams if s.cpu_user_ns is not None]
    return SideReport(
        host=measuring_host(streams),
        streams=streams,
        duration_ns=_duration_ns(streams),
        cpu_user_ns=sum(s.cpu_user_ns or 0 for s in spent) if spent else None,
        cpu_system_ns=sum(s.cpu_system_ns or 0 for s in spent) if spent else None,
        concurrent_tests=concurrent_tests,
        concurrent_tests_mean=concurrent_tests_mean,
        resources=None if origin_ns is None else resources.collected(origin_ns),
    )
