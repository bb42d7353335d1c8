"""Show a node's facts and its use: CPUs by mode, processes, memory, drops and errors."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.result.node import Counter, CpuUse, NodeFacts, NodeUse
from netmeasure.units import bitrate, duration, size

#: The least change of a kind of memory that is shown.
_MEMORY_BYTES = 2**20
_MODES = ("user", "system", "irq", "softirq", "steal", "idle")


def render(facts: NodeFacts, use: NodeUse | None) -> RenderableType:
    """Return the whole report; without `use`, only the node's facts."""
    parts: list[RenderableType] = [
        Text(f"\n{facts.node or facts.hostname}", style="bold"),
        *(Padding(Text(line), (0, 0, 0, 2)) for line in _facts(facts)),
    ]
    if use is not None:
        parts += _used(use)
    return Group(*parts)


def counter_words(one: Counter) -> str:
    """Return a counter with its growth, such as "TcpExtListenDrops 3"."""
    where = "" if one.source == "snmp" else f"{one.source} "
    return f"{where}{one.name} {one.grown}"


def _facts(facts: NodeFacts) -> Iterator[str]:
    cpus = "CPUs unknown" if facts.cpu_count is None else f"{facts.cpu_count} CPUs"
    model = facts.cpu_model or "unknown model"
    yield f"{cpus} ({model}), {size(facts.memory_bytes)}, Linux {facts.kernel}"
    if facts.governors:
        yield f"CPU frequency governor {', '.join(facts.governors)}"
    for name, value in (("pod", facts.pod), ("of namespace", facts.pod_namespace)):
        if value is not None:
            yield f"{name} {value}"
    if facts.cgroup_cpus is not None:
        yield f"control group {facts.cgroup or '/'}: at most {facts.cgroup_cpus:g} CPUs"
    if facts.cgroup_memory_limit_bytes is not None:
        most = size(facts.cgroup_memory_limit_bytes)
        yield f"control group {facts.cgroup or '/'}: at most {most} of memory"
    for one in facts.interfaces:
        speed = "" if one.speed_bps is None else f", {bitrate(one.speed_bps)}"
        queues = f", {', '.join(one.qdiscs)}" if one.qdiscs else ""
        yield f"{one.name}: {one.driver or 'no driver'}, MTU {one.mtu_bytes}{speed}{queues}"


def _used(use: NodeUse) -> Iterator[RenderableType]:
    if use.busy_cpus is None:
        yield Text(f"\n{duration(use.duration_ns)} are too short to tell how busy the CPUs were")
    else:
        yield from _cpus(use)
    for heading, lines in _lists(use):
        yield Text(f"\n{heading}")
        for line in lines:
            yield Padding(Text(line), (0, 0, 0, 2))


def _cpus(use: NodeUse) -> Iterator[RenderableType]:
    yield Text(
        f"\nWithin {duration(use.duration_ns)}: {use.busy_cpus:.2f} CPUs busy,"
        f" {use.softirq_cpus:.2f} of them in soft interrupts"
    )
    table = plain_table()
    for name in ("CPU", *_MODES):
        add_column(table, name, right=True)
    for cpu in use.cpus:
        add_row(table, str(cpu.cpu), *(_share(cpu, mode, use.duration_ns) for mode in _MODES))
    yield Padding(table, (0, 0, 0, 2))
    if use.processes:
        yield Text("\nProcesses that used most CPU time (one CPU is 100 %)")
        table = plain_table()
        for name in ("CPU", "of it system", "memory"):
            add_column(table, name, right=True)
        add_column(table, "process", wraps=True)
        for one in use.processes:
            mine = ", this one" if one.own else ""
            add_row(
                table,
                _percent(one.cpu_ns, use.duration_ns),
                _percent(one.system_ns, use.duration_ns),
                size(one.rss_bytes),
                f"{one.name} ({one.pid}{mine})",
            )
        yield Padding(table, (0, 0, 0, 2))


def _lists(use: NodeUse) -> Iterator[tuple[str, list[str]]]:
    moved = [
        f"{one.name} {'-' if one.change_bytes < 0 else '+'}{size(abs(one.change_bytes))}"
        f" to {size(one.bytes)}"
        for one in use.memory
        if abs(one.change_bytes) >= _MEMORY_BYTES
    ]
    if moved:
        yield "Memory that changed", moved
    counters = [counter_words(one) for one in use.counters]
    yield "Drops and errors", counters or ["none of the counters grew"]
    if use.bpf is not None:
        programs = [
            f"{one.name or 'without a name'} ({one.id}): {one.runs} runs of"
            f" {duration(one.ns_per_run)}, {duration(one.run_ns)} in all"
            for one in use.bpf
        ]
        yield "eBPF programs", programs or ["none ran"]
    if use.unknown:
        yield "Unknown", list(use.unknown)


def _share(cpu: CpuUse, mode: str, duration_ns: int) -> str:
    spent: int = getattr(cpu, f"{mode}_ns")
    return _percent(spent, duration_ns)


def _percent(spent_ns: int, duration_ns: int) -> str:
    return f"{100 * spent_ns / duration_ns:.1f} %"
