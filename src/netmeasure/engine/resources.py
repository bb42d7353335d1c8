"""Sample the resources that a run uses: figures of the process and the host, before and during the
run."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, NamedTuple

from msgspec.structs import replace

from netmeasure.clock import SECOND_NS, now_ns
from netmeasure.engine.cgroups import Cgroup
from netmeasure.engine.tasks import beside
from netmeasure.result.resources import HostUse, Resources, own_shares

#: The most samples of a run. At this number every second sample is dropped, and the period is
#: doubled.
MAX_SAMPLES = 256
EVERY_S = 0.25
#: How old a periodic sample may be that another run of this process has taken. Reading the figures
#: takes half a millisecond, which many runs at once would take from the event loop.
SHARED_NS = 50_000_000
#: The same for the first and the last sample of a run: the kernel's figures are not more exact
#: (USER_HZ, time(7)).
SHARED_EDGE_NS = 10_000_000
#: The period between the samples of an idle server, which keeps the last two.
IDLE_EVERY_S = 10.0
IDLE_SAMPLES = 2
#: The first columns of /proc/stat, in units of USER_HZ (proc(5)).
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_TICK_NS = SECOND_NS // os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


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


class _Sampler:
    #: the last sample of this process, and its pid: a fork has figures of its own
    _last: ClassVar[tuple[int, _Sample] | None] = None

    def __init__(self) -> None:
        self._cgroup = Cgroup()

    def take(self) -> _Sample | None:
        """Return the present figures; None: this host has no /proc, or no descriptor is free to
        read it."""
        try:
            sample = self._read()
        except (OSError, ValueError):
            return None
        _Sampler._last = os.getpid(), sample
        return sample

    def recent(self, after_ns: int, shared_ns: int) -> _Sample | None:
        """Return figures of another run, if they are at most `shared_ns` old and were taken after a
        moment; otherwise the present ones."""
        if _Sampler._last is not None:
            pid, last = _Sampler._last
            if pid == os.getpid() and last.at_ns > max(after_ns, now_ns() - shared_ns):
                return last
        return self.take()

    def _read(self) -> _Sample:
        host, (memory_bytes, throttled_ns) = _host_ns(), self._cgroup.spent()
        with open("/proc/self/statm", "rb", buffering=0) as file:
            pages = int(file.read(256).split()[1])
        mine = os.times()
        return _Sample(
            at_ns=now_ns(),
            process_user_ns=_ns(mine.user),
            process_system_ns=_ns(mine.system),
            host_user_ns=host["user"] + host["nice"],
            host_system_ns=host["system"] + host["irq"],
            host_softirq_ns=host["softirq"],
            host_steal_ns=host["steal"],
            host_idle_ns=host["idle"] + host["iowait"],
            rss_bytes=pages * _PAGE_BYTES,
            cgroup_memory_bytes=memory_bytes,
            cgroup_throttled_ns=throttled_ns,
        )

    def resources(self, samples: Sequence[_Sample], origin_ns: int) -> Resources:
        """Return the samples in columns, with times counted from `origin_ns`."""
        columns = dict(zip(_Sample._fields, zip(*samples, strict=True), strict=True))
        columns["at_ns"] = tuple(at - origin_ns for at in columns["at_ns"])
        for name in ("cgroup_memory_bytes", "cgroup_throttled_ns"):
            if None in columns[name]:
                del columns[name]
        known = Resources(**columns, cpus=os.cpu_count() or 1)  # type: ignore[arg-type]
        return replace(known, cgroup_memory_limit_bytes=self._cgroup.memory_limit_bytes())


async def observe_host(duration_s: float) -> HostUse | None:
    """Return the figures of this process and its host over a period; None: they can't be read."""
    sampler = _Sampler()
    before = sampler.take()
    await asyncio.sleep(duration_s)
    after = sampler.take()
    return None if before is None or after is None else sampler.resources((before, after), 0).whole


class ResourceLog:
    """Sample while `running`; `collected` returns the samples. Each log belongs to one run, but
    figures of the process include everything that it does meanwhile, such as other runs."""

    def __init__(self, baseline: HostUse | None = None) -> None:
        self._sampler = _Sampler()
        self._samples: list[_Sample] = []
        self._every_s = EVERY_S
        self._baseline = baseline

    async def rest(self, duration_s: float) -> None:
        """Sample the use of the host before the test begins, as the baseline."""
        self._baseline = await observe_host(duration_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sample now, periodically, and at the end of the block."""
        self._take(SHARED_EDGE_NS)
        try:
            async with beside(self._keep_on()):
                yield
        finally:
            self._take(SHARED_EDGE_NS)

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            self._take(SHARED_NS)
            if len(self._samples) >= MAX_SAMPLES:
                self._samples = self._samples[::2]
                self._every_s *= 2

    def _take(self, shared_ns: int) -> None:
        after_ns = self._samples[-1].at_ns if self._samples else 0
        sample = self._sampler.recent(after_ns, shared_ns)
        if sample is not None:
            self._samples.append(sample)

    def collected(self, origin_ns: int) -> Resources | None:
        """Return the samples in columns, with times counted from `origin_ns`; None: there are
        none."""
        if not self._samples:
            return None
        found = self._sampler.resources(self._samples, origin_ns)
        return replace(found, baseline=self._baseline, own=own_shares(found.whole, self._baseline))


class IdleMonitor:
    """Sample the use of a server's host between tests: when the last test has ended, and rarely
    afterwards, so that an idle server seldom wakes its host."""

    def __init__(self) -> None:
        self._sampler = _Sampler()
        self._samples: deque[_Sample] = deque(maxlen=IDLE_SAMPLES)

    async def keep(self) -> None:
        """Sample until cancelled."""
        while True:
            self._take()
            await asyncio.sleep(IDLE_EVERY_S)

    def restart(self) -> None:
        """Restart the baseline now: the host was not idle until now, so that earlier samples are no
        baseline for the next test."""
        self._samples.clear()
        self._take()

    def _take(self) -> None:
        sample = self._sampler.take()
        if sample is not None:
            self._samples.append(sample)

    def baseline(self) -> HostUse | None:
        """Return the use of the host before now, for at most two periods of IDLE_EVERY_S; None: it
        was not idle for long enough (`Resources.whole`)."""
        now = self._sampler.take()
        if not self._samples or now is None:
            return None
        return self._sampler.resources((*self._samples, now), 0).whole


def _host_ns() -> dict[str, int]:
    """Return the CPU time of the host by mode, since it was started. Raise OSError or ValueError if
    the kernel does not report it."""
    with open("/proc/stat", "rb", buffering=0) as file:
        name, *ticks = file.read(4096).split(b"\n", 1)[0].split()
    if name != b"cpu" or len(ticks) < len(_MODES):
        raise ValueError("/proc/stat has no CPU times")
    return dict(zip(_MODES, (int(one) * _TICK_NS for one in ticks), strict=False))


def _ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)
