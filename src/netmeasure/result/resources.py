"""What a test used of its hosts: CPU time of threads, processes and hosts, and memory.

Stored are counters as they were read and moments (integer ns, CLOCK_MONOTONIC of the host that they
are of); shares and costs are computed from them. Unknown is None, never 0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

#: The kernel counts CPU time of processes and hosts in steps of 10 ms (USER_HZ, proc(5)): shares of
#: a shorter span are noise.
MIN_SPAN_NS = 200_000_000
#: A run that has less than this of what its own process used is not told from its host's company.
LOST = 0.9
#: The counters of processes and hosts in a `Resources`, and those that may be unknown.
COUNTERS = (
    "process_user_ns",
    "process_system_ns",
    "host_user_ns",
    "host_system_ns",
    "host_softirq_ns",
    "host_steal_ns",
    "host_idle_ns",
)


class ThreadCpu(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream's own thread has used of a CPU, in columns: item i of every list was read by
    the thread itself at `at_ns[i]`, about every 100 ms and at its end; cumulative since its start.

    cpu_ns   on a CPU (CLOCK_THREAD_CPUTIME_ID)
    wait_ns  ready to run, but kept from a CPU by other threads or by its group's quota (Linux,
             /proc/thread-self/schedstat); None: this kernel does not say
    """

    at_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    wait_ns: tuple[int, ...] | None = None


class HostUse(msgspec.Struct, frozen=True, kw_only=True):
    """What a process and its host used over a stretch of `duration_ns`. Host figures are of all its
    `cpus`, in a container still the host's.

    host_steal_ns        taken by the hypervisor for others
    rss_bytes, cgroup_memory_bytes  the most that was seen
    cgroup_throttled_ns  kept from running by the control group's CPU quota
    """

    duration_ns: int
    cpus: int
    process_user_ns: int
    process_system_ns: int
    host_user_ns: int
    host_system_ns: int
    host_softirq_ns: int
    host_steal_ns: int
    host_idle_ns: int
    rss_bytes: int
    cgroup_memory_bytes: int | None = None
    cgroup_throttled_ns: int | None = None

    @property
    def process_cpu_ns(self) -> int:
        return self.process_user_ns + self.process_system_ns

    @property
    def host_cpu_ns(self) -> int:
        """Spent by the host on anything; what the hypervisor took is not."""
        return self.host_user_ns + self.host_system_ns + self.host_softirq_ns

    def share(self, counter: str) -> float:
        """A counter as a share of one CPU."""
        spent: int = getattr(self, counter)
        return spent / self.duration_ns


class HostShares(msgspec.Struct, frozen=True, kw_only=True):
    """CPU time of a host by mode, over the time: 1.0 is one CPU. A difference may be negative."""

    user_ratio: float
    system_ratio: float
    softirq_ratio: float
    steal_ratio: float

    @property
    def busy_ratio(self) -> float:
        """Without what the hypervisor took."""
        return self.user_ratio + self.system_ratio + self.softirq_ratio


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What the run cost one end's host, in columns: item i of every list was read at `at_ns[i]`,
    about every 250 ms, first and last at the beginning and the end of the data phase. Times are
    cumulative, to 10 ms (/proc/stat, /proc/self/stat); differences mean something.

    process_*            of the whole process, whatever else it does
    host_*               all CPUs of the host by mode; in a container still the host's
    host_steal_ns        taken by the hypervisor for others
    rss_bytes            resident memory of the process
    cgroup_*             of the control group (the container); None where there is none
    cgroup_throttled_ns  kept from running by the group's CPU quota
    baseline             the same host just before the test; None: nobody looked
    own                  the host under load less the baseline: the run's own share
    """

    at_ns: tuple[int, ...]
    cpus: int
    process_user_ns: tuple[int, ...]
    process_system_ns: tuple[int, ...]
    host_user_ns: tuple[int, ...]
    host_system_ns: tuple[int, ...]
    host_softirq_ns: tuple[int, ...]
    host_steal_ns: tuple[int, ...]
    host_idle_ns: tuple[int, ...]
    rss_bytes: tuple[int, ...]
    cgroup_memory_bytes: tuple[int, ...] | None = None
    cgroup_memory_limit_bytes: int | None = None
    cgroup_throttled_ns: tuple[int, ...] | None = None
    baseline: HostUse | None = None
    own: HostShares | None = None

    def spent_ns(self, *columns: str) -> int:
        """How much these cumulative columns grew, first to last sample."""
        return sum(getattr(self, name)[-1] - getattr(self, name)[0] for name in columns)

    @property
    def process_cpu_ns(self) -> int:
        return self.spent_ns("process_user_ns", "process_system_ns")

    @property
    def host_cpu_ns(self) -> int:
        """Spent by the host on anything; what the hypervisor took is not."""
        return self.spent_ns("host_user_ns", "host_system_ns", "host_softirq_ns")

    def over(self, start_ns: int, end_ns: int) -> HostUse | None:
        """What was used within a stretch, on the clock of `at_ns`; counters are taken to grow
        evenly between two samples. None where samples cover less than MIN_SPAN_NS of it."""
        start_ns, end_ns = max(start_ns, self.at_ns[0]), min(end_ns, self.at_ns[-1])
        if end_ns - start_ns < MIN_SPAN_NS:
            return None
        seen = [i for i, at in enumerate(self.at_ns) if start_ns <= at <= end_ns]
        near = seen or [bisect_right(self.at_ns, start_ns) - 1]

        def grown(column: tuple[int, ...]) -> int:
            return round(
                value_at(self.at_ns, column, end_ns) - value_at(self.at_ns, column, start_ns)
            )

        memory, throttled = self.cgroup_memory_bytes, self.cgroup_throttled_ns
        return HostUse(
            duration_ns=end_ns - start_ns,
            cpus=self.cpus,
            **{name: grown(getattr(self, name)) for name in COUNTERS},
            rss_bytes=max(self.rss_bytes[i] for i in near),
            cgroup_memory_bytes=max(memory[i] for i in near) if memory else None,
            cgroup_throttled_ns=grown(throttled) if throttled else None,
        )

    @property
    def own_is_lost(self) -> bool:
        """Whether `own` is less than what the process alone used, or than its part in softirq, and
        so is none: others had the CPU before, and gave way."""
        used = self.whole
        if self.own is None or used is None:
            return False
        least = max(LOST * used.share("process_cpu_ns"), self.own.softirq_ratio)
        return self.own.busy_ratio <= least

    @property
    def whole(self) -> HostUse | None:
        """All of the data phase; None where it is too short for the kernel's clock."""
        return self.over(self.at_ns[0], self.at_ns[-1])


def own_shares(load: HostUse | None, idle: HostUse | None) -> HostShares | None:
    """Under load less idle, by mode; None where one of the two is not known."""
    if load is None or idle is None:
        return None
    return HostShares(
        **{
            f"{mode}_ratio": load.share(f"host_{mode}_ns") - idle.share(f"host_{mode}_ns")
            for mode in ("user", "system", "softirq", "steal")
        }
    )


def value_at(at_ns: Sequence[int], column: Sequence[int], moment_ns: int) -> float:
    """A column's value at a moment, between two samples on a straight line; before the first and
    after the last one, theirs."""
    after = bisect_right(at_ns, moment_ns)
    if after == 0 or after == len(at_ns):
        return column[after - 1 if after else 0]
    start, end = at_ns[after - 1], at_ns[after]
    share = (moment_ns - start) / (end - start)
    return column[after - 1] + share * (column[after] - column[after - 1])
