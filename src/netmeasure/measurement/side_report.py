"""Make the side report: what this end saw of a test."""

from __future__ import annotations

from typing import Protocol

from netmeasure.engine.hosts import this_host
from netmeasure.engine.resources import ResourceLog
from netmeasure.result import (
    SideReport,
    StreamReport,
)


class Reporting(Protocol):
    """Provide the streams of a report, see `workloads.base.Workload`. All threads have ended."""

    @property
    def origin_ns(self) -> int | None: ...
    def report(self) -> tuple[StreamReport, ...]: ...


def own_report(
    workload: Reporting | None, resources: ResourceLog, concurrent_tests: int | None = None
) -> SideReport:
    """Return what this end saw of its streams and its host. There are no streams if the test failed
    before it opened them."""
    streams = workload.report() if workload is not None else ()
    origin_ns = workload.origin_ns if workload is not None else None
    spent = [s for s in streams if s.cpu_user_ns is not None]
    return SideReport(
        host=this_host(streams),
        streams=streams,
        duration_ns=max((s.last_ns for s in streams if s.last_ns is not None), default=None),
        cpu_user_ns=sum(s.cpu_user_ns or 0 for s in spent) if spent else None,
        cpu_system_ns=sum(s.cpu_system_ns or 0 for s in spent) if spent else None,
        concurrent_tests=concurrent_tests,
        resources=None if origin_ns is None else resources.collected(origin_ns),
    )
