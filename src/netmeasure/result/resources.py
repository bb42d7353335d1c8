"""Define the resources that a test used on its hosts: CPU time of threads, processes and hosts, and
memory.

Counters are stored as they were read, with their times (integer ns, CLOCK_MONOTONIC of their host);
shares and costs are computed from them. Unknown is None, never 0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from netmeasure.result.brief import Brief

#: The kernel counts CPU time of processes and hosts in steps of 10 ms (USER_HZ, proc(5)): shares of
#: a shorter span are noise.
MIN_SPAN_NS = 200_000_000
#: If the host used less than this share of what the process alone used, the run's own part can't be
#: separated from other load of the host.
LOST = 0.9
#: The counters of processes and hosts in a `Resources`.
COUNTERS = (
    "process_user_ns",
    "process_system_ns",
    "host_user_ns",
    "host_system_ns",
    "host_softirq_ns",
    "host_steal_ns",
    "host_idle_ns",
)


class ThreadCpu(Brief, frozen=True, kw_only=True):
    """Hold the CPU time of a stream's thread, in columns of equal length. Of the streams that share
    a thread, the first one has it.

    The thread itself reads item i of every column at `at_ns[i]`, about every 100 ms and at its end.
    The times are cumulative since the thread's start.

    Attributes:
        at_ns: Moments from this side's origin.
        cpu_ns: Time on a CPU (CLOCK_THREAD_CPUTIME_ID, clock_gettime(2)).
        wait_ns: Time ready to run while other threads, or its group's quota, kept it from a CPU
            (/proc/thread-self/schedstat, Linux); None: this kernel does not say.
    """

    at_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    wait_ns: tuple[int, ...] | None = None


class HostUse(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the resources that a process and its host used over a period.

    Host figures cover all CPUs, in a container those of the whole host (proc(5), /proc/stat).

    Attributes:
        duration_ns: The length of the stretch.
        cpus: The host's logical CPUs.
        process_user_ns: User time of the process.
        process_system_ns: System time of the process.
        host_user_ns: User time of all processes.
        host_system_ns: System time of all processes.
        host_softirq_ns: Time in soft interrupts, where the kernel handles received packets.
        host_steal_ns: Time that the hypervisor gave to other guests.
        host_idle_ns: Idle time.
        rss_bytes: The most resident memory of the process.
        cgroup_memory_bytes: The most memory of the control group; None: there is none.
        cgroup_throttled_ns: Time that the control group's CPU quota kept it from running; None:
            there is no group.
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
        """Return the CPU time of the process."""
        return self.process_user_ns + self.process_system_ns

    @property
    def host_cpu_ns(self) -> int:
        """Return the CPU time of the whole host, without steal time."""
        return self.host_user_ns + self.host_system_ns + self.host_softirq_ns

    def share(self, counter: str) -> float:
        """Return a counter, such as "host_softirq_ns", as a share of one CPU: 1.0 is one CPU."""
        spent: int = getattr(self, counter)
        return spent / self.duration_ns


class HostShares(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the CPU time of a host by mode, over the time: 1.0 is one CPU.

    As the difference of two stretches a share may be negative.

    Attributes:
        user_ratio: User time.
        system_ratio: System time.
        softirq_ratio: Time in soft interrupts.
        steal_ratio: Time that the hypervisor gave to other guests.
    """

    user_ratio: float
    system_ratio: float
    softirq_ratio: float
    steal_ratio: float

    @property
    def busy_ratio(self) -> float:
        """Return the sum of all modes except steal time."""
        return self.user_ratio + self.system_ratio + self.softirq_ratio


class Resources(Brief, frozen=True, kw_only=True):
    """Hold the resources that a run used on one end's host, in columns of equal length.

    Item i of every column was read at `at_ns[i]`, about every 250 ms; the first and the last at the
    beginning and the end of the data phase. Times are cumulative and exact to 10 ms (/proc/stat,
    /proc/self/stat, proc(5)): only differences are meaningful.

    Attributes:
        at_ns: Moments from this side's origin.
        cpus: The host's logical CPUs.
        process_user_ns: User time of the whole process, whatever else it does.
        process_system_ns: System time of the whole process.
        host_user_ns: User time on all CPUs; in a container those of the whole host.
        host_system_ns: System time on all CPUs.
        host_softirq_ns: Time in soft interrupts on all CPUs.
        host_steal_ns: Time that the hypervisor gave to other guests.
        host_idle_ns: Idle time of all CPUs.
        rss_bytes: Resident memory of the process.
        cgroup_memory_bytes: Memory of the control group (the container); None: there is none.
        cgroup_memory_limit_bytes: The group's memory limit; None: there is none.
        cgroup_throttled_ns: Time that the group's CPU quota kept it from running; None: no group.
        baseline: What the host used just before the test (`Timing.baseline_s`); None: not measured.
        own: The host under load less the baseline: the run's own share; None: not known.
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
        """Return how much these cumulative columns grew from the first to the last sample."""
        return sum(getattr(self, name)[-1] - getattr(self, name)[0] for name in columns)

    @property
    def process_cpu_ns(self) -> int:
        """Return the CPU time of the process."""
        return self.spent_ns("process_user_ns", "process_system_ns")

    @property
    def host_cpu_ns(self) -> int:
        """Return the CPU time of the whole host, without steal time."""
        return self.spent_ns("host_user_ns", "host_system_ns", "host_softirq_ns")

    def over(self, start_ns: int, end_ns: int) -> HostUse | None:
        """Return the use within a stretch, which is given on the clock of `at_ns`.

        Counters are assumed to grow evenly between two samples. None: the samples cover less than
        MIN_SPAN_NS of the stretch.
        """
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
        """Return whether `own` is too small to be the run's own share.

        This is so if the process alone used more, or if `own` has more soft interrupt time than
        total time: other processes used the CPU before the run, and less during it.
        """
        used = self.whole
        if self.own is None or used is None:
            return False
        least = max(LOST * used.share("process_cpu_ns"), self.own.softirq_ratio)
        return self.own.busy_ratio <= least

    @property
    def whole(self) -> HostUse | None:
        """Return the use of the whole data phase; None: it is too short for the kernel's clock."""
        return self.over(self.at_ns[0], self.at_ns[-1])


def own_shares(load: HostUse | None, idle: HostUse | None) -> HostShares | None:
    """Return a host's shares under load less its shares at rest; None: one of the two is
    unknown."""
    if load is None or idle is None:
        return None
    return HostShares(
        **{
            f"{mode}_ratio": load.share(f"host_{mode}_ns") - idle.share(f"host_{mode}_ns")
            for mode in ("user", "system", "softirq", "steal")
        }
    )


def value_at(at_ns: Sequence[int], column: Sequence[int], moment_ns: int) -> float:
    """Return a column's value at a moment, interpolated linearly between two samples.

    Before the first and after the last sample it is the value of that sample.
    """
    after = bisect_right(at_ns, moment_ns)
    if after == 0 or after == len(at_ns):
        return column[after - 1 if after else 0]
    start, end = at_ns[after - 1], at_ns[after]
    share = (moment_ns - start) / (end - start)
    return column[after - 1] + share * (column[after] - column[after - 1])
