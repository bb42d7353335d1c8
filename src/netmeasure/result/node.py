"""Define the facts of a node (a host of a cluster), and the resources that it used over a period.

All figures are of the whole node, for all its processes; `ProcessUse.own` marks this process.
Network counters are those of the network namespace that was watched. Unknown is None, never 0.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

#: CPU time is counted in steps of 10 ms at each end of a period: over less time than this, shares
#: are meaningless.
LEAST_SHARED_NS = 500_000_000


class CpuUse(msgspec.Struct, frozen=True, kw_only=True):
    """Hold how one CPU spent its time by mode (/proc/stat, proc(5)), in steps of 10 ms.

    Attributes:
        cpu: The CPU's number.
        user_ns: User time, nice time included.
        system_ns: System time.
        irq_ns: Time in interrupts.
        softirq_ns: Time in soft interrupts, where the kernel handles received packets.
        steal_ns: Time that the hypervisor gave to other guests.
        idle_ns: Idle time, that waiting for disks included.
    """

    derived: ClassVar[tuple[str, ...]] = ("busy_ns",)

    cpu: int
    user_ns: int
    system_ns: int
    irq_ns: int
    softirq_ns: int
    steal_ns: int
    idle_ns: int

    @property
    def busy_ns(self) -> int:
        """Return the time in all modes except idle time and steal time."""
        return self.user_ns + self.system_ns + self.irq_ns + self.softirq_ns


class ProcessUse(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what one process used; threads of the kernel, such as ksoftirqd/0, are processes, too.

    Attributes:
        pid: Its number in this PID namespace.
        name: Its name (/proc/PID/comm).
        cpu_ns: The CPU time of all its threads, user and system, in steps of 10 ms.
        system_ns: The system time within it.
        rss_bytes: Its resident memory at the end.
        rss_change_bytes: How much that had grown; negative: shrunk; None: it began meanwhile.
        own: Whether this is the measuring process.
    """

    pid: int
    name: str
    cpu_ns: int
    system_ns: int
    rss_bytes: int
    rss_change_bytes: int | None = None
    own: bool = False


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a kind of the node's memory (/proc/meminfo, proc(5)).

    Attributes:
        name: The kernel's name, such as "MemAvailable" or "Slab".
        bytes: How much there was at the end.
        change_bytes: How much more that was than at the beginning.
    """

    name: str
    bytes: int
    change_bytes: int


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a counter of drops, errors or repetitions that grew.

    Attributes:
        source: What counts: "snmp", "interface eth0", "ethtool eth0", "qdisc eth0 fq 8001:" or
            "softnet cpu 1".
        name: The counter's name in its source, such as "TcpExtListenDrops" (as nstat(8) writes it),
            "rx_dropped" or "drops".
        grown: By how much it grew.
    """

    source: str
    name: str
    grown: int


class BpfUse(msgspec.Struct, frozen=True, kw_only=True):
    """Hold how long one eBPF program ran (BPF_ENABLE_STATS, bpf(2)).

    Attributes:
        id: The program's number.
        name: Its name; "": it has none.
        kind: The kernel's number of its type (enum bpf_prog_type).
        runs: How often it ran.
        run_ns: How long in all.
    """

    derived: ClassVar[tuple[str, ...]] = ("ns_per_run",)

    id: int
    name: str
    kind: int
    runs: int
    run_ns: int

    @property
    def ns_per_run(self) -> float | None:
        """Return the mean time of a run; None: it did not run."""
        return self.run_ns / self.runs if self.runs else None


class NodeUse(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the resources that a node used over a period.

    Attributes:
        duration_ns: The length of the stretch.
        cpus: Every CPU by mode.
        processes: The processes that used most CPU time, the first one first.
        other_processes_ns: The CPU time of all other processes that existed at both ends.
        memory: The most important kinds of memory.
        counters: The counters of drops and errors that grew.
        bpf: The eBPF programs that ran; None: this process lacks the privilege, or the kernel does
            not count.
        unknown: What could not be read, as sentences.
    """

    derived: ClassVar[tuple[str, ...]] = ("busy_cpus", "softirq_cpus")

    duration_ns: int
    cpus: tuple[CpuUse, ...] = ()
    processes: tuple[ProcessUse, ...] = ()
    other_processes_ns: int = 0
    memory: tuple[MemoryUse, ...] = ()
    counters: tuple[Counter, ...] = ()
    bpf: tuple[BpfUse, ...] | None = None
    unknown: tuple[str, ...] = ()

    @property
    def busy_cpus(self) -> float | None:
        """Return the mean number of busy CPUs; None: the period is too short."""
        return self._shared(sum(cpu.busy_ns for cpu in self.cpus))

    @property
    def softirq_cpus(self) -> float | None:
        """Return the mean number of CPUs that handled soft interrupts; None: the period is too
        short."""
        return self._shared(sum(cpu.softirq_ns for cpu in self.cpus))

    def _shared(self, spent_ns: int) -> float | None:
        return spent_ns / self.duration_ns if self.duration_ns >= LEAST_SHARED_NS else None

    def grown(self, name: str, source: str | None = None) -> int:
        """Return by how much a counter grew, over all sources or in one; 0: it did not grow."""
        return sum(
            one.grown
            for one in self.counters
            if one.name == name and (source is None or one.source == source)
        )


class NodeInterface(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a network interface; None: the kernel does not report the value.

    Attributes:
        name: The kernel's name, such as "eth0".
        driver: Its driver, such as "virtio_net".
        driver_version: The driver's version.
        speed_bps: Its rate in bit/s.
        mtu_bytes: Its MTU.
        qdiscs: Its queueing disciplines, the root first, such as "fq 8001:".
        offloads: The offloads that are on, by ethtool(8)'s names.
    """

    name: str
    driver: str | None = None
    driver_version: str | None = None
    speed_bps: int | None = None
    mtu_bytes: int | None = None
    qdiscs: tuple[str, ...] = ()
    offloads: tuple[str, ...] | None = None


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the facts of a node; None: unknown.

    Attributes:
        hostname: Its own name.
        kernel: The kernel's release.
        cpu_model: The processor's name.
        cpu_count: Logical CPUs.
        governors: The frequency governors of the CPUs (cpufreq), each once.
        memory_bytes: The total memory.
        sysctls: Settings of the kernel that affect network performance, by name.
        interfaces: The network interfaces of this namespace.
        cgroup: The control group of this process.
        cgroup_memory_limit_bytes: The group's memory limit; None: there is none.
        cgroup_cpus: The CPUs that the group's quota is worth; None: there is no quota.
        allowed_cpus: How many CPUs this process may run on.
        pod: The pod's name, of the downward API (NETMEASURE_POD).
        pod_namespace: The pod's namespace (NETMEASURE_POD_NAMESPACE).
        node: The node's name in the cluster (NETMEASURE_NODE).
        labels: The pod's labels (a file of a downward API volume, NETMEASURE_LABELS).
    """

    hostname: str
    kernel: str
    cpu_model: str | None = None
    cpu_count: int | None = None
    governors: tuple[str, ...] = ()
    memory_bytes: int | None = None
    sysctls: dict[str, str] = {}
    interfaces: tuple[NodeInterface, ...] = ()
    cgroup: str | None = None
    cgroup_memory_limit_bytes: int | None = None
    cgroup_cpus: float | None = None
    allowed_cpus: int | None = None
    pod: str | None = None
    pod_namespace: str | None = None
    node: str | None = None
    labels: dict[str, str] = {}
