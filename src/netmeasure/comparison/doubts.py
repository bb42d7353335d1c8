"""Find the figures of a run that are in doubt because a host was busy or limited the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from netmeasure.result import Flow, Result, SideReport
from netmeasure.result.node import NodeUse
from netmeasure.result.resources import HostUse

About = Literal["rate", "set_up", "latency", "cpu"]
#: If the threads of an end were paused for more than this share of the time, the rate is in doubt.
_PAUSED = 0.02
_STOLEN = 0.05
_THROTTLED = 0.02
#: If other processes used this many CPUs before the run, the CPU cost of the run is in doubt.
_BUSY_BEFORE = 0.5
#: If this share of a host's CPUs is busy, its processes wait for one another.
_FULL = 0.95
#: The share of set-up that the delays of this host took, and the least time that matters.
_HOST_SHARE, _HOST_NS = 0.1, 10_000_000
#: The share of requests that this host sent late.
_LATE = 0.01


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a reason to doubt a figure of a run.

    Attributes:
        about: The figure in doubt: "rate", "set_up", "latency" or "cpu".
        why: The reason, as a clause.
    """

    about: About
    why: str


def doubts(result: Result, flow: Flow | None) -> tuple[Doubt, ...]:
    """Return the doubts about the figures of a run in one direction."""
    found = [*_of_run(result)]
    if flow is not None:
        found += _of_flow(flow)
    return tuple(dict.fromkeys(found))


def node_doubts(use: NodeUse) -> tuple[Doubt, ...]:
    """Return the doubts about a run that other processes of this host give rise to."""
    busy = use.busy_cpus
    if busy is None:
        return ()
    others = [one for one in use.processes if not one.own]
    spent = (sum(one.cpu_ns for one in others) + use.other_processes_ns) / use.duration_ns
    if spent < _BUSY_BEFORE:
        return ()
    why = f"other processes used this host's CPUs meanwhile, {others[0].name} most of all"
    about: list[About] = ["cpu"]
    if busy > _FULL * len(use.cpus):
        about += ["rate", "latency"]
    return tuple(Doubt(about=one, why=why) for one in about)


def _of_flow(flow: Flow) -> Iterator[Doubt]:
    limits = flow.limits
    if limits is None:
        return
    for end in ("sender", "receiver"):
        if limits.limited_by == f"{end}_cpu":
            yield Doubt(about="rate", why=f"the {end}'s CPU was the limit, not the network")
        paused = getattr(limits, f"{end}_paused_ratio")
        if paused is not None and paused > _PAUSED:
            yield Doubt(about="rate", why=f"the {end}'s host kept its threads from running")


def _of_run(result: Result) -> Iterator[Doubt]:
    others = (result.server.concurrent_tests or 1) - 1  # the number includes the run itself
    if others > 0:
        tests = "another test" if others == 1 else f"{others} other tests"
        why = f"{tests} ran on the server"
        yield Doubt(about="rate", why=why)
        yield Doubt(about="latency", why=why)
        yield Doubt(about="cpu", why=why)
    host, whole = result.set_up_host_ns, result.set_up_ns
    if host is not None and whole and host > max(_HOST_NS, _HOST_SHARE * whole):
        yield Doubt(about="set_up", why="this host's own delays are part of it")
    trips = result.round_trips
    if trips is not None and trips.begun and trips.sent_late > _LATE * trips.begun:
        yield Doubt(about="latency", why="this host sent requests later than they were due")
    for end, side in (("client", result.client), ("server", result.server)):
        yield from _of_host(end, side)


def _of_host(end: str, side: SideReport) -> Iterator[Doubt]:
    if side.resources is None:
        return
    used, before = side.resources.whole, side.resources.baseline
    if used is not None:
        if _cpus(used, used.host_steal_ns) > _STOLEN * used.cpus:
            yield Doubt(about="rate", why=f"the {end}'s hypervisor kept CPUs from it")
        throttled = used.cgroup_throttled_ns
        if throttled is not None and _cpus(used, throttled) > _THROTTLED:
            yield Doubt(about="rate", why=f"the {end}'s CPU quota throttled it")
    if before is not None:
        busy = _cpus(before, max(before.host_cpu_ns - before.process_cpu_ns, 0))
        if busy > _BUSY_BEFORE:
            yield Doubt(about="cpu", why=f"the {end}'s host was busy with other work before")


def _cpus(use: HostUse, spent_ns: int) -> float:
    return spent_ns / use.duration_ns
