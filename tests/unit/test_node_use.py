"""Test what a node spent between two readings: new and ended processes, counters, doubts."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from netmeasure.cli import main
from netmeasure.cli.exits import Exit
from netmeasure.comparison.doubts import node_doubts
from netmeasure.engine.cgroups import Cgroup
from netmeasure.node.counters import ProcessNow, Snapshot
from netmeasure.node.facts import node_facts
from netmeasure.node.watch import MOST_PROCESSES, used_between
from netmeasure.report.node import render
from netmeasure.result.node import CpuUse, NodeFacts, NodeUse, ProcessUse

SECOND = 10**9


def look(at_s: int, processes: dict[int, ProcessNow], grown: int = 0) -> Snapshot:
    busy = at_s * SECOND
    return Snapshot(
        at_ns=at_s * SECOND,
        cpus={0: (busy // 2, 0, busy // 4, busy // 8, 0, 0, busy // 8, 0)},
        processes=processes,
        memory={"MemFree": 10**9 - grown},
        counters={("snmp", "TcpExtListenDrops"): 5 + grown, ("snmp", "TcpInErrs"): 9 - grown},
        unknown=(),
    )


def process(name: str, used_s: float, began: int = 1) -> ProcessNow:
    half = round(used_s * SECOND / 2)
    return ProcessNow(name, began, half, half, 1000)


def test_what_grew_is_named() -> None:
    before = look(0, {1: process("kubelet", 3), 2: process("gone", 1), 3: process("old", 9)})
    after = look(
        2, {1: process("kubelet", 4), 3: process("new", 0.5, began=2), 4: process("idle", 0)}, 3
    )
    use = used_between(before, after)
    assert use.duration_ns == 2 * SECOND
    assert [(one.name, one.cpu_ns) for one in use.processes] == [
        ("kubelet", SECOND),
        ("new", SECOND // 2),
    ]
    assert use.processes[1].rss_change_bytes is None
    assert [(one.name, one.grown) for one in use.counters] == [("TcpExtListenDrops", 3)]
    assert use.memory[0].change_bytes == -3
    cpu = use.cpus[0]
    assert (cpu.user_ns, cpu.system_ns, cpu.softirq_ns) == (SECOND, SECOND // 2, SECOND // 4)
    assert (use.busy_cpus, use.softirq_cpus) == (0.875, 0.125)


def test_the_many_small_ones_are_summed_up() -> None:
    many = {number: process(str(number), 0.1) for number in range(MOST_PROCESSES + 5)}
    use = used_between(look(0, {}), look(1, many))
    assert len(use.processes) == MOST_PROCESSES
    assert use.other_processes_ns == 5 * SECOND // 10


def doubted(other_s: float, busy_s: float, own: bool = False) -> set[str]:
    cpu = CpuUse(
        cpu=0,
        user_ns=round(busy_s * SECOND),
        system_ns=0,
        irq_ns=0,
        softirq_ns=0,
        steal_ns=0,
        idle_ns=0,
    )
    one = ProcessUse(
        pid=1, name="kubelet", cpu_ns=round(other_s * SECOND), system_ns=0, rss_bytes=1, own=own
    )
    use = NodeUse(duration_ns=SECOND, cpus=(cpu,), processes=(one,))
    found = node_doubts(use)
    assert all("kubelet most of all" in doubt.why for doubt in found)
    return {doubt.about for doubt in found}


def test_other_programs_on_the_node_are_a_reason_for_doubt() -> None:
    assert doubted(0.1, 1) == set()
    assert doubted(0.9, 1, own=True) == set()
    assert doubted(0.6, 0.8) == {"cpu"}
    assert doubted(0.6, 1) == {"cpu", "rate", "latency"}


def test_labels_of_the_downward_api(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text('app="bench"\ncni="1.3.1"\n\nbroken\n')
    facts = node_facts({"NETMEASURE_LABELS": str(file), "NETMEASURE_POD": ""})
    assert facts.labels == {"app": "bench", "cni": "1.3.1"}
    assert facts.pod is None
    assert facts.kernel


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_quota_in_cpus(files: dict[str, str], cpus: float | None, tmp_path: Path) -> None:
    version_2 = "cpu.max" in files
    listing = tmp_path / "cgroup"
    listing.write_text("0::/pod\n" if version_2 else "3:cpu:/pod\n")
    folder = tmp_path / ("pod" if version_2 else "cpu/pod")
    folder.mkdir(parents=True)
    for name, text in {**files, "cpu.stat": ""}.items():
        (folder / name).write_text(text)
    assert Cgroup(listing, tmp_path).cpus() == cpus


def test_the_command_shows_facts_and_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "-t", "0.6"]) == Exit.OK
    out = capsys.readouterr().out
    assert "CPUs busy" in out
    assert "Processes that used most" in out
    assert "Drops and errors" in out
    assert main(["node", "-t", "0", "--json"]) == Exit.OK
    assert '"use": null' in capsys.readouterr().out


def test_a_moment_is_too_short_to_tell_how_busy_cpus_were() -> None:
    """The kernel's ticks of 10 ms may add up to more CPUs than there are."""
    before = look(0, {1: process("kubelet", 3)})
    use = used_between(before, look(2, {1: process("kubelet", 4)}, 3)._replace(at_ns=10**7))
    assert (use.busy_cpus, use.softirq_cpus) == (None, None)
    assert node_doubts(use) == ()
    console = Console(width=80, record=True, file=StringIO())
    console.print(render(NodeFacts(hostname="lab1", kernel="6.1"), use))
    shown = console.export_text()
    assert "10.0 ms are too short to tell how busy the CPUs were" in shown
    assert "kubelet" not in shown
    assert "TcpExtListenDrops 3" in shown
