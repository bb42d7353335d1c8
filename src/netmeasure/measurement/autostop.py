"""End a run as soon as its steady bitrate is known well enough: the looks at a run."""

from __future__ import annotations

import asyncio
from typing import Protocol

from netmeasure import analysis
from netmeasure.clock import nanoseconds, now_ns, seconds
from netmeasure.engine import loading
from netmeasure.engine.threads import in_thread
from netmeasure.measurement.flows import steady_so_far
from netmeasure.measurement.roles import client_role
from netmeasure.result import AutoStop, Ending, FlowDirection, Look, Role, Steady, StreamReport
from netmeasure.spec import Spec
from netmeasure.units import duration

#: How often the workload is asked whether the first byte has come.
POLL_S = 0.02
#: What may still be on its way into the series when a look is due, beyond the bucket being filled.
SETTLE_NS = 10_000_000
#: A run that ends so long before its cap did not end because of it.
EARLY_END_NS = 500_000_000


class Analysable(Protocol):
    """Provide what looks analyse, see `workloads.base.Workload`."""

    @property
    def first_ns(self) -> int | None: ...
    @property
    def bucket_ns(self) -> int: ...
    def ids(self, role: Role, /) -> tuple[int, ...]: ...
    def so_far(self) -> tuple[StreamReport, ...]: ...


async def load_analysis(workload: Analysable) -> None:
    """Load what a result needs when the first byte has gone or come. Call it where native threads
    move the data: set-up is over then, and nothing waits for this process's interpreter."""
    await _first_byte(workload)
    loading.begin(*analysis.MODULES)


async def _first_byte(workload: Analysable) -> int:
    """Wait for the first byte, and return when it came."""
    while (first_ns := workload.first_ns) is None:  # noqa: ASYNC110  (a native thread sets it)
        await asyncio.sleep(POLL_S)
    return first_ns


class AutoStopper:
    """Analyse one run while it goes on, and end it when its confidence interval is narrow.

    A look analyses what this end has counted up to its moment, exactly as the result would be if
    the run had ended there: at bytes received, or acknowledged where this end sends.
    """

    def __init__(self, workload: Analysable, spec: Spec) -> None:
        self._workload = workload
        self._spec = spec
        self._history: dict[FlowDirection, list[Steady | None]] = {}
        self._looks: list[Look] = []
        self._enough_ns: int | None = None
        self._over_ns: int | None = None

    async def narrow_enough(self) -> None:
        """Return when the confidence interval is narrow enough in every direction; wait for ever
        where the specification does not say `until`. Cancel it when the data phase is over."""
        target, limit_s = self._spec.timing.until, self._spec.limit_s
        try:
            if target is not None and limit_s is not None:
                await in_thread(analysis.load)  # not by its first use, on the event loop
                for time_s in analysis.sequential.look_times_s(limit_s):
                    await self._reach(time_s)
                    if self._look(nanoseconds(time_s), target):
                        self._enough_ns = nanoseconds(time_s)
                        return
            await asyncio.Event().wait()
        finally:
            self._over_ns = now_ns()

    def outcome(self, *, stopped: bool) -> AutoStop | None:
        """Return how the run ended, None where the specification does not say `until`. Call when it
        is over; `stopped` means by the user, or by an error."""
        target, limit_s = self._spec.timing.until, self._spec.limit_s
        if target is None or limit_s is None:
            return None
        cap_ns = nanoseconds(limit_s)
        reason: Ending = "narrow"
        if self._enough_ns is None:
            # the two ends count from their own first byte, so the cap is met within a margin
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
        """Wait until so much time has been measured, and its bytes are in the series."""
        span_ns = nanoseconds(self._spec.timing.omit_s + time_s)
        settle_ns = 2 * self._workload.bucket_ns + SETTLE_NS
        left_ns = await _first_byte(self._workload) + span_ns + settle_ns - now_ns()
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
    """Return the sentence on why the run was as long as it was, if there is one."""
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
        why = f"no two looks in a row found the steady bitrate known to {margin}"
        if len({look.at_ns for look in auto_stop.looks}) < analysis.sequential.IN_A_ROW:
            why = "that leaves no time for the looks that could have ended it"
        return (f"ran for all of {cap}: {why}",)
    return (f"everything had come before the steady bitrate was known to {margin}",)
