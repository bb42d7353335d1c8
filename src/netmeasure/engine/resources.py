"""What a run costs its host: samples of process and host figures while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import psutil

from netmeasure.clock import SECOND_NS, now_ns
from netmeasure.engine.cgroups import Cgroup
from netmeasure.result import Resources

#: Samples of a run; beyond, every second one is dropped and half as many are taken.
MAX_SAMPLES = 256
EVERY_S = 0.25
_MODES = ("user", "nice", "system", "irq", "softirq", "steal")


class _Sample(NamedTuple):
    at_ns: int
    process_user_ns: int
    process_system_ns: int
    host_user_ns: int
    host_system_ns: int
    host_softirq_ns: int
    host_steal_ns: int
    host_idle_ns: int
    rss_bytes: int
    cgroup_memory_bytes: int | None
    cgroup_throttled_ns: int | None


class ResourceLog:
    """Samples while `running`; `collected` tells them. One of it belongs to one run: figures of the
    process are of everything that it does meanwhile, other runs included."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._cgroup = Cgroup()
        self._samples: list[_Sample] = []
        self._every_s = EVERY_S

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sample now, every so often, and at the end of the block."""
        self._take()
        task = asyncio.create_task(self._keep_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._take()

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            self._take()
            if len(self._samples) >= MAX_SAMPLES:
                self._samples = self._samples[::2]
                self._every_s *= 2

    def _take(self) -> None:
        host, usage = psutil.cpu_times(), self._cgroup.read()
        with self._process.oneshot():
            mine, memory = self._process.cpu_times(), self._process.memory_info()
        known = {mode: getattr(host, mode, 0.0) for mode in (*_MODES, "idle", "iowait")}
        self._samples.append(
            _Sample(
                at_ns=now_ns(),
                process_user_ns=_ns(mine.user),
                process_system_ns=_ns(mine.system),
                host_user_ns=_ns(known["user"] + known["nice"]),
                host_system_ns=_ns(known["system"] + known["irq"]),
                host_softirq_ns=_ns(known["softirq"]),
                host_steal_ns=_ns(known["steal"]),
                host_idle_ns=_ns(known["idle"] + known["iowait"]),
                rss_bytes=memory.rss,
                cgroup_memory_bytes=usage.memory_bytes,
                cgroup_throttled_ns=usage.throttled_ns,
            )
        )

    def collected(self, origin_ns: int) -> Resources | None:
        """In columns, moments counted from `origin_ns`; None when nothing was sampled."""
        if not self._samples:
            return None
        columns = dict(zip(_Sample._fields, zip(*self._samples, strict=True), strict=True))
        columns["at_ns"] = tuple(at - origin_ns for at in columns["at_ns"])
        for name in ("cgroup_memory_bytes", "cgroup_throttled_ns"):
            if None in columns[name]:
                del columns[name]
        return Resources(
            **columns,
            cpus=psutil.cpu_count() or 1,
            cgroup_memory_limit_bytes=self._cgroup.read().memory_limit_bytes,
        )


def _ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)
