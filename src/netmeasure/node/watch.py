"""Watch a node over a period: read its counters twice, and compute the differences."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import NamedTuple, Self

from msgspec.structs import replace

from netmeasure.node import bpf
from netmeasure.node.counters import Snapshot, take_snapshot
from netmeasure.result.node import BpfUse, Counter, CpuUse, MemoryUse, NodeUse, ProcessUse

#: The number of processes that are named.
MOST_PROCESSES = 12
#: Places of the modes in the lines of /proc/stat.
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)


class _Look(NamedTuple):
    snapshot: Snapshot
    programs: dict[int, bpf.Program] | None
    why_not: str | None


class NodeWatch:
    """Watch this node while a block runs::

        async with nm.NodeWatch() as watch:
            ...
        print(watch.use.busy_cpus, [one.name for one in watch.use.processes])

    The counters are read in a thread, before the block and after it.

    Attributes:
        use: The node's use during the block; None: the block has not ended yet.
    """

    def __init__(self, *, bpf: bool = False) -> None:
        """Prepare to watch.

        Args:
            bpf: Whether the kernel counts the run times of eBPF programs, if this process has the
                privilege. Counting costs a few ns for each run of a program.
        """
        self.use: NodeUse | None = None
        self._bpf = bpf
        self._counting: int | None = None
        self._before: _Look | None = None

    async def __aenter__(self) -> Self:
        self._before = await asyncio.to_thread(self._begin)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            after = await asyncio.to_thread(self._look)
        finally:
            if self._counting is not None:
                os.close(self._counting)
                self._counting = None
        if self._before is not None:
            self.use = _use(self._before, after)

    def _begin(self) -> _Look:
        if self._bpf:
            try:
                self._counting = bpf.count_run_times()
            except OSError as exc:
                return _Look(take_snapshot(), None, _why_not(exc))
        return self._look()

    def _look(self) -> _Look:
        if self._counting is None:
            return _Look(take_snapshot(), None, None)
        try:
            return _Look(take_snapshot(), bpf.read_programs(), None)
        except OSError as exc:
            return _Look(take_snapshot(), None, _why_not(exc))


def _why_not(error: OSError) -> str:
    return f"run times of eBPF programs can't be read: {error.strerror or error}"


def _use(before: _Look, after: _Look) -> NodeUse:
    use = used_between(before.snapshot, after.snapshot)
    why_not = before.why_not or after.why_not
    if before.programs is None or after.programs is None:
        unknown = (*use.unknown, why_not) if why_not else use.unknown
        return replace(use, unknown=unknown)
    return replace(use, bpf=_programs(before.programs, after.programs))


def used_between(before: Snapshot, after: Snapshot) -> NodeUse:
    """Return a node's use between two readings of its counters."""
    processes, others = _processes(before, after)
    return NodeUse(
        duration_ns=after.at_ns - before.at_ns,
        cpus=tuple(
            _cpu(cpu, before.cpus[cpu], modes)
            for cpu, modes in sorted(after.cpus.items())
            if cpu in before.cpus
        ),
        processes=processes,
        other_processes_ns=others,
        memory=tuple(
            MemoryUse(name=name, bytes=now, change_bytes=now - before.memory[name])
            for name, now in after.memory.items()
            if name in before.memory
        ),
        counters=tuple(
            Counter(source=source, name=name, grown=grown)
            for (source, name), now in sorted(after.counters.items())
            # a new counter starts at 0; one that has decreased belongs to a new device or process
            if (grown := now - before.counters.get((source, name), 0)) > 0
        ),
        unknown=tuple(dict.fromkeys((*before.unknown, *after.unknown))),
    )


def _cpu(cpu: int, before: Sequence[int], after: Sequence[int]) -> CpuUse:
    grown = [max(now - then, 0) for then, now in zip(before, after, strict=False)]
    return CpuUse(
        cpu=cpu,
        user_ns=grown[_USER] + grown[_NICE],
        system_ns=grown[_SYSTEM],
        irq_ns=grown[_IRQ],
        softirq_ns=grown[_SOFTIRQ],
        steal_ns=grown[_STEAL],
        idle_ns=grown[_IDLE] + grown[_IOWAIT],
    )


def _processes(before: Snapshot, after: Snapshot) -> tuple[tuple[ProcessUse, ...], int]:
    """Return the processes that used the most CPU time, and the CPU time of all others together."""
    found = []
    for pid, now in after.processes.items():
        then = before.processes.get(pid)
        if then is not None and then.began != now.began:
            then = None  # another process had this number before
        system = now.system_ns - (0 if then is None else then.system_ns)
        user = now.user_ns - (0 if then is None else then.user_ns)
        if system + user > 0:
            found.append(
                ProcessUse(
                    pid=pid,
                    name=now.name,
                    cpu_ns=user + system,
                    system_ns=system,
                    rss_bytes=now.rss_bytes,
                    rss_change_bytes=None if then is None else now.rss_bytes - then.rss_bytes,
                    own=pid == os.getpid(),
                )
            )
    found.sort(key=lambda one: (-one.cpu_ns, one.pid))
    others = sum(one.cpu_ns for one in found[MOST_PROCESSES:])
    return tuple(found[:MOST_PROCESSES]), others


def _programs(before: dict[int, bpf.Program], after: dict[int, bpf.Program]) -> tuple[BpfUse, ...]:
    found = []
    for number, now in after.items():
        then = before.get(number)
        runs = now.runs - (0 if then is None else then.runs)
        if runs > 0:
            run_ns = now.run_ns - (0 if then is None else then.run_ns)
            found.append(BpfUse(id=number, name=now.name, kind=now.kind, runs=runs, run_ns=run_ns))
    return tuple(sorted(found, key=lambda one: -one.run_ns))
