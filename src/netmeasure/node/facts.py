"""Read what kind of node this is: CPU, governor, interfaces, settings, control group, pod."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from netmeasure.engine import ethtool
from netmeasure.engine.cgroups import Cgroup
from netmeasure.node.qdiscs import Qdisc, read_qdiscs
from netmeasure.result.node import NodeFacts, NodeInterface

#: Settings of the kernel that change what networks carry (sysctl(8)).
_SYSCTLS = (
    "net.core.default_qdisc",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.core.netdev_max_backlog",
    "net.core.netdev_budget",
    "net.core.netdev_budget_usecs",
    "net.core.somaxconn",
    "net.core.busy_poll",
    "net.core.bpf_jit_enable",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_mem",
    "net.ipv4.udp_mem",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_window_scaling",
    "net.ipv4.tcp_ecn",
    "net.ipv4.tcp_mtu_probing",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_syn_linear_timeouts",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.ip_forward",
    "net.ipv4.ip_local_port_range",
    "net.netfilter.nf_conntrack_max",
    "kernel.sched_autogroup_enabled",
)
#: Where the downward API is expected to put what it knows.
_POD, _NAMESPACE, _NODE = "NETMEASURE_POD", "NETMEASURE_POD_NAMESPACE", "NETMEASURE_NODE"
_LABELS, _LABELS_FILE = "NETMEASURE_LABELS", "/etc/podinfo/labels"
_SYSTEM = Path("/sys/devices/system/cpu")


def node_facts(environment: Mapping[str, str] | None = None) -> NodeFacts:
    """Return what is known of this node, its network as the calling thread's namespace has it.

    `environment` is where the pod's names are; None: this process's own. It reads files: within
    asyncio call it by `asyncio.to_thread`.
    """
    given = os.environ if environment is None else environment
    group = Cgroup()
    return NodeFacts(
        hostname=socket.gethostname(),
        kernel=platform.release(),
        cpu_model=_cpu_model(),
        cpu_count=os.cpu_count(),
        governors=_governors(),
        memory_bytes=_memory(),
        sysctls=_sysctls(),
        interfaces=_interfaces(),
        cgroup=_cgroup(),
        cgroup_memory_limit_bytes=group.read().memory_limit_bytes,
        cgroup_cpus=group.cpus(),
        allowed_cpus=len(os.sched_getaffinity(0)),
        pod=given.get(_POD) or None,
        pod_namespace=given.get(_NAMESPACE) or None,
        node=given.get(_NODE) or None,
        labels=_labels(Path(given.get(_LABELS) or _LABELS_FILE)),
    )


def _cpu_model() -> str | None:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model"):
            return value.strip() or None
    return None


def _governors() -> tuple[str, ...]:
    files = sorted(_SYSTEM.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    return tuple(dict.fromkeys(name for file in files if (name := _text(file).strip())))


def _memory() -> int | None:
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _sysctls() -> dict[str, str]:
    found = {}
    for name in _SYSCTLS:
        value = _text(Path("/proc/sys", *name.split("."))).split()
        if value:
            found[name] = " ".join(value)
    return found


def _interfaces() -> tuple[NodeInterface, ...]:
    queues: dict[str, list[Qdisc]] = {}
    with suppress(OSError):
        for one in sorted(read_qdiscs(), key=lambda one: not one.root):
            queues.setdefault(one.interface, []).append(one)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return tuple(
            _interface(sock, name, queues.get(name, [])) for _, name in socket.if_nameindex()
        )


def _interface(sock: socket.socket, name: str, queues: list[Qdisc]) -> NodeInterface:
    driver = ethtool.driver(sock, name)
    return NodeInterface(
        name=name,
        driver=None if driver is None else driver[0],
        driver_version=None if driver is None else driver[1],
        speed_bps=ethtool.speed_bps(sock, name),
        mtu_bytes=ethtool.mtu_bytes(sock, name),
        qdiscs=tuple(one.name for one in queues),
        offloads=ethtool.offloads(sock, name),
    )


def _cgroup() -> str | None:
    """Return the control group's path: of version 2, or else of the CPU controller's."""
    lines = [line.split(":", 2) for line in _text(Path("/proc/self/cgroup")).splitlines()]
    known = {names: path for _, names, path in (line for line in lines if len(line) == 3)}
    for names, path in known.items():
        if "cpu" in names.split(","):
            return path
    return known.get("")


def _labels(path: Path) -> dict[str, str]:
    """Return the pod's labels: lines NAME="VALUE" of the downward API."""
    found = {}
    for line in _text(path).splitlines():
        name, equals, value = line.partition("=")
        if name and equals:
            found[name.strip()] = value.strip().strip('"')
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
