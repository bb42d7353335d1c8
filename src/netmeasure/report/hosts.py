"""Show the resources that a test used on both hosts."""

from __future__ import annotations

from rich.table import Table

from netmeasure.report.rates import MAX_RATIO
from netmeasure.report.tables import Row, add_column, add_row, plain_table
from netmeasure.result import Result, SideReport, Totals
from netmeasure.result.resources import HostUse, Resources
from netmeasure.spec import RequestSpec, RrSpec
from netmeasure.units import duration, size


def cpu_row(role: str, end: str, totals: Totals, span_ns: int | None, threads: int) -> list[Row]:
    """Return a row on the traffic threads of one side of a flow; empty: nothing is known.

    Args:
        role: "sender" or "receiver".
        end: "client" or "server".
        totals: The sums over that side's streams.
        span_ns: How long its threads transferred data; None: unknown.
        threads: The number of its threads.
    """
    if totals.cpu_user_ns is None or totals.cpu_system_ns is None or not span_ns or span_ns <= 0:
        return []
    share = (totals.cpu_user_ns + totals.cpu_system_ns) / span_ns
    # a thread has at most one CPU, so a larger share was not spent within the span
    shown = f"{100 * share:.0f} %" if share <= MAX_RATIO * max(1, threads) else "unknown"
    words = f"of one CPU, {end}'s threads{_cost_words(totals.threads_s_per_gb)}"
    return [(f"{role}'s CPU", shown, words)]


def host_table(result: Result) -> Table:
    """Return a table of the resources that the data phase used on each end's host, with up to three
    lines for each end."""
    table = plain_table(header=False)
    add_column(table)
    add_column(table, wraps=True)
    for name, side in (("client", result.client), ("server", result.server)):
        used = side.resources.whole if side.resources is not None else None
        if used is not None and side.resources is not None:
            costs = "" if isinstance(result.spec, RrSpec | RequestSpec) else _costs_words(side)
            words = [_use_words(used), _own_words(side.resources), costs]
            for i, text in enumerate(filter(None, words)):
                add_row(table, "" if i else name, text)
    return table


def _use_words(used: HostUse) -> str:
    """Return CPU shares of the process and of the host, and memory."""
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


def _own_words(resources: Resources) -> str:
    """Return the run's own share of the host; "" without a baseline."""
    if resources.own is None or resources.baseline is None:
        return ""
    rest = f"host {100 * resources.baseline.share('host_cpu_ns'):.0f} % at rest before"
    own = resources.own
    if resources.own_is_lost:
        return f"{rest}: the test's share can't be separated from other load"
    softirq = max(0.0, own.softirq_ratio)
    return f"{rest}, the run's own share {100 * own.busy_ratio:.0f} % (softirq {100 * softirq:.0f})"


def _costs_words(side: SideReport) -> str:
    """Return CPU seconds per 10^9 bytes of payload; "" if they are not known."""
    costs = {
        "process": side.process_s_per_gb,
        "host": side.host_s_per_gb,
        "the run's own share": side.own_host_s_per_gb,
    }
    words = [f"{name} {cost:.3g}" for name, cost in costs.items() if cost is not None and cost > 0]
    return f"CPU-s per GB: {', '.join(words)}" if words else ""


def _cost_words(s_per_gb: float | None) -> str:
    return "" if s_per_gb is None else f", {s_per_gb:.3g} CPU-s per GB"
