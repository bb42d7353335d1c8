"""End a run as soon as its steady bitrate is known well enough, by repeated analyses (looks)."""

from __future__ import annotations

import asyncio
from typing import Protocol

from netmeasure import analysis
from netmeasure.clock import nanoseconds, now_ns, seconds
from netmeasure.engine import hosts, loading
from netmeasure.engine.threads import in_thread
from netmeasure.measurement.flows import steady_so_far
from netmeasure.measurement.roles import client_role
from netmeasure.result import AutoStop, Ending, FlowDirection, Look, Role, Steady, StreamReport
from netmeasure.spec import RequestSpec, RrSpec, Spec
from netmeasure.units import duration

#: How often to check whether the first byte has arrived.
POLL_S = 0.02
#: How late bytes may be added to the series, beyond the bucket that is being filled.
SETTLE_NS = 10_000_000
#: A run that ends more than this before its time limit did not end because of the limit.
EARLY_END_NS = 500_000_000


class Analysable(Protocol):
    """Provide the data of a look, see `workloads.base.Workload`."""

    @property
    def first_ns(self) -> int | None: ...
    @property
    def bucket_ns(self) -> int: ...
    def ids(self, role: Role, /) -> tuple[int, ...]: ...
    def so_far(self) -> tuple[StreamReport, ...]: ...


async def load_analysis(workload: Analysable, spec: Spec) -> None:
    """Import the modules that a result needs, after the first byte, when set-up is over. Call this
    only where native threads transfer the data, so that no transfer waits for this process's
    interpreter. The import takes CPU time: in a test of round trips, it would be in their
    latencies, so such a test calls `begin_analysis` when they are over."""
    if not isinstance(spec, RrSpec):
        await first_byte(workload)
        begin_analysis()


def begin_analysis() -> None:
    """Start to import the modules that a result needs."""
    loading.begin_wanted(*analysis.MODULES, *hosts.MODULES)


def begin_looks(spec: Spec) -> None:
    """Start to import what looks at the test need, if it has looks (`until`) and measures
    latencies. Call this when the test is created: every run waits for the end of all imports before
    its set-up."""
    if isinstance(spec, RrSpec | RequestSpec) and spec.timing.until is not None:
        loading.begin(*analysis.MODULES)


async def load_host_facts(workload: Analysable, spec: Spec) -> None:
    """Import the modules that this end's report needs, as `load_analysis` does. What analyses it is
    imported where it is first used, and takes no CPU time from the threads that receive."""
    if not isinstance(spec, RrSpec):
        await first_byte(workload)
        loading.begin_wanted(*hosts.MODULES)


async def first_byte(workload: Analysable) -> int:
    """Wait for the first byte, and return its time."""
    while (first_ns := workload.first_ns) is None:  # noqa: ASYNC110  (a native thread sets it)
        await asyncio.sleep(POLL_S)
    return first_ns


class AutoStopper:
    """Analyse one run while it goes on, and end it when its confidence interval is narrow enough.

    A look analyses the counts of this end up to its moment, as the result would if the run had
    ended there: received bytes, or acknowledged bytes where this end sends.
    """

    def __init__(self, workload: Analysable, spec: Spec) -> None:
        self._workload = workload
        self._spec = spec
        self._history: dict[FlowDirection, list[Steady | None]] = {}
        self._looks: list[Look] = []
        self._enough_ns: int | None = None
        self._over_ns: int | None = None

    async def narrow_enough(self) -> None:
        """Return when the confidence interval is narrow enough in every direction; wait for ever if
        the specification has no `until`. Cancel it when the data phase is over."""
        target, limit_s = self._spec.timing.until, self._spec.limit_s
        try:
            if target is not None and limit_s is not None:
                await in_thread(analysis.load)  # now, not at its first use on the event loop
                for time_s in analysis.sequential.look_times_s(limit_s):
                    await self._reach(time_s)
                    if self._look(nanoseconds(time_s), target):
                        self._enough_ns = nanoseconds(time_s)
                        return
            await asyncio.Event().wait()
        finally:
            self._over_ns = now_ns()

    def outcome(self, *, stopped: bool) -> AutoStop | None:
        """Return how the run ended; None: the specification has no `until`. Call after the run;
        `stopped` means that the user or an error ended it."""
        target, limit_s = self._spec.timing.until, self._spec.limit_s
        if target is None or limit_s is None:
            return None
        cap_ns = nanoseconds(limit_s)
        reason: Ending = "narrow"
        if self._enough_ns is None:
            # each end counts from its own first byte, so the limit is met within a margin
            over = self._measured_ns() >= cap_ns - min(cap_ns // 20, EARLY_END_NS)
            reason = "stopped" if stopped else "cap" if over else "ended"
        return AutoStop(
            target=target,
            reason=reason,
            cap_ns=cap_ns,
            counted_ns=self._enough_ns,
            looks=tuple(self._looks),
        )

    def _measured_ns(self) -> int:
        """Return how long the data phase was, without the omitted time."""
        first = self._workload.first_ns
        if first is None or self._over_ns is None:
            return 0
        return self._over_ns - first - nanoseconds(self._spec.timing.omit_s)

    async def _reach(self, time_s: float) -> None:
        """Wait until this much time has been measured and its bytes are in the series."""
        span_ns = nanoseconds(self._spec.timing.omit_s + time_s)
        settle_ns = 2 * self._workload.bucket_ns + SETTLE_NS
        left_ns = await first_byte(self._workload) + span_ns + settle_ns - now_ns()
        await asyncio.sleep(max(0.0, seconds(left_ns)))

    def _look(self, at_ns: int, target: float) -> bool:
        """Analyse every direction; return whether all are known to `target`."""
        reports = self._workload.so_far()
        directions: tuple[FlowDirection, ...] = ("upload", "download")
        narrow = []
        for direction in directions:
            role = client_role(direction)
            if not self._workload.ids(role):
                continue
            counted = [report for report in reports if report.role == role]
            found = steady_so_far(self._spec, counted, at_ns)
            history = self._history.setdefault(direction, [])
            history.append(found)
            narrow.append(analysis.sequential.enough(history, target))
            self._looks.append(
                Look(
                    direction=direction,
                    at_ns=at_ns,
                    verdict=found.verdict if found else None,
                    goodput_bps=found.goodput_bps if found else None,
                    margin=found.margin if found else None,
                    grade=found.grade if found else None,
                )
            )
        return bool(narrow) and all(narrow)


def ending_notes(auto_stop: AutoStop | None) -> tuple[str, ...]:
    """Return a sentence that explains the length of the run, if there is one."""
    if auto_stop is None or auto_stop.reason == "stopped":
        return ()
    margin = f"+-{100 * auto_stop.target:g} %"
    cap = duration(auto_stop.cap_ns)
    if auto_stop.reason == "narrow":
        return (
            f"ended by itself after {duration(auto_stop.counted_ns)} of at most {cap}, which saved"
            f" {duration(auto_stop.saved_ns)}: the steady bitrate was known to {margin}",
        )
    if auto_stop.reason == "cap":
        why = f"no two checks in a row found the steady bitrate known to {margin}"
        if len({look.at_ns for look in auto_stop.looks}) < analysis.sequential.IN_A_ROW:
            why = "that is too short for the checks that could have ended it"
        return (f"ran for all of {cap}: {why}",)
    return (f"all data had arrived before the steady bitrate was known to {margin}",)
