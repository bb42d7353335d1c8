"""Read settings of this host that affect its network performance: CPU, governor, sysctls."""

from __future__ import annotations

from functools import cache
from pathlib import Path

#: Settings of the kernel that affect network performance (sysctl(8)).
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
_SYSTEM = Path("/sys/devices/system/cpu")


@cache  # the value never changes, and reading it takes milliseconds on a host with many CPUs
def cpu_model() -> str | None:
    """Return the processor's name; None: unknown."""
    for line in text_of(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model"):
            return value.strip() or None
    return None


def governors() -> tuple[str, ...]:
    """Return the frequency governors of all CPUs, each once; empty: the host shows none."""
    files = sorted(_SYSTEM.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    return tuple(dict.fromkeys(name for file in files if (name := text_of(file).strip())))


def sysctls() -> dict[str, str]:
    """Return the kernel's settings (sysctl(8)) of this network namespace."""
    found = {}
    for name in _SYSCTLS:
        value = text_of(Path("/proc/sys", *name.split("."))).split()
        if value:
            found[name] = " ".join(value)
    return found


def text_of(path: Path) -> str:
    """Return the content of a file; "": it can't be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
