"""What a run used of both hosts, in words."""

from __future__ import annotations

from rich.table import Table

from netmeasure.result import Result, SideReport, Totals
from netmeasure.result.resources import HostUse, Resources
from netmeasure.units import duration, size


def cpu_row(role: str, end: str, totals: Totals, span_ns: int | None) -> tuple[str, str, str]:
    """The traffic threads of one side of a flow."""
    spent = (totals.cpu_user_ns or 0) + (totals.cpu_system_ns or 0)
    share = f"{100 * spent / span_ns:.0f} %" if span_ns else "unknown"
    words = f"of one CPU, {end}'s threads{_cost(totals.threads_s_per_gb)}"
    return f"{role}'s CPU", share, words


def host_table(result: Result) -> Table:
    """What the data phase cost each end's host; the end's name on its first line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, side in (("client", result.client), ("server", result.server)):
        used = side.resources.whole if side.resources is not None else None
        if used is not None and side.resources is not None:
            words = [_use(used), _own(side.resources), _costs(side)]
            for i, text in enumerate(filter(None, words)):
                table.add_row("" if i else name, text)
    return table


def _use(used: HostUse) -> str:
    words = [
        f"process {100 * used.share('process_cpu_ns'):.0f} % of one CPU",
        f"host {100 * used.share('host_cpu_ns'):.0f} % of {100 * used.cpus} %"
        f" (softirq {100 * used.share('host_softirq_ns'):.0f},"
        f" steal {100 * used.share('host_steal_ns'):.0f})",
        f"memory {size(used.rss_bytes)}",
    ]
    if used.cgroup_throttled_ns:
        words.append(f"throttled for {duration(used.cgroup_throttled_ns)} by its CPU quota")
    return ", ".join(words)


def _own(resources: Resources) -> str:
    """The run's own share of the host."""
    if resources.own is None or resources.baseline is None:
        return ""
    rest = f"host {100 * resources.baseline.share('host_cpu_ns'):.0f} % at rest before"
    own = resources.own
    if resources.own_is_lost:
        return f"{rest}: the run's own share is lost in what else went on"
    softirq = max(0.0, own.softirq_ratio)
    return f"{rest}, the run's own share {100 * own.busy_ratio:.0f} % (softirq {100 * softirq:.0f})"


def _costs(side: SideReport) -> str:
    costs = {
        "process": side.process_s_per_gb,
        "host": side.host_s_per_gb,
        "the run's own share": side.own_host_s_per_gb,
    }
    words = [f"{name} {cost:.3g}" for name, cost in costs.items() if cost is not None and cost > 0]
    return f"CPU-s per GB: {', '.join(words)}" if words else ""


def _cost(s_per_gb: float | None) -> str:
    return "" if s_per_gb is None else f", {s_per_gb:.3g} CPU-s per GB"
