"""Test the comparison with other tools: what it reads from the kernel, and how it reports it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.versus import measuring, rounds
from benchmarks.versus.cases import cases
from benchmarks.versus.contenders import Case, Contender, plain
from benchmarks.versus.measuring import Sample, cpu_ns, measured, others_s
from benchmarks.versus.page import page
from benchmarks.versus.places import Place, place
from benchmarks.versus.rounds import CaseRuns, run_case, wait_for_calm

from support.netns import Network

BUSY = """
import sys, threading, time
def work():
    while time.thread_time() < 0.1:
        pass
thread = threading.Thread(target=work)
work()
thread.start()
while thread.is_alive():
    pass
print(time.process_time_ns(), flush=True)
sys.stdin.read()
"""


def sample(rate: float, **more: float) -> Sample:
    usual = {"sender_cpu_s": 0.5, "receiver_cpu_s": 1.0, "foreign_cpus": 0.0}
    return Sample(window_s=1.0, interface_bytes=round(rate), **usual | more)


def test_cpu_time_of_a_tree_of_processes() -> None:
    """The time equals the process's own, which the kernel takes from the same clock."""
    argv = ("sh", "-c", f"{sys.executable} -c '{BUSY}'; true")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        own_ns = int(shell.stdout.readline())
        found_ns = cpu_ns([shell.pid])
        shell.stdin.close()
    # the thread has ended: its time is missing, for windows are within the life of all threads
    assert 100_000_000 <= found_ns <= own_ns + 50_000_000
    assert cpu_ns([shell.pid]) == 0


@pytest.fixture
def alone() -> Iterator[Place]:
    """Return a loopback interface that carries nothing of other tests."""
    with Network() as pair, pair.enter("client"), place("loopback") as here:
        yield here


@pytest.mark.network
@pytest.mark.rates  # without a CPU for the time of the window, an end's thread has used none
def test_a_run_is_counted_by_the_kernel(alone: Place) -> None:
    found = measured(plain("65536 65536 copy"), alone, 0.2, pinned=False)
    assert 0.2 <= found.window_s < 20
    assert found.interface_bytes > 0
    assert found.sender_cpu_s > 0
    assert found.receiver_cpu_s > 0


@pytest.mark.network
@pytest.mark.parametrize(
    ("argv", "words"),
    [(("false",), "nothing flows"), (("no such program",), "No such file")],
)
def test_a_contender_that_does_not_work_is_named(
    argv: tuple[str, ...], words: str, alone: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "PATIENCE_S", 0.05)
    with pytest.raises((SystemExit, OSError), match=words):
        measured(Contender(name="it", client=argv), alone, 0.1, pinned=False)


def test_runs_beside_other_work_are_repeated_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = {"ours": iter([1.0, 0.0, 1.0, 1.0]), "calm": iter([0.0, 0.0])}

    def once(contender: Contender, *_: object, **__: object) -> Sample:
        return sample(5.0, foreign_cpus=next(busy[contender.name]))

    monkeypatch.setattr(rounds, "measured", once)
    said: list[str] = []
    case = Case("a case", (Contender("ours", ("x",)), Contender("calm", ("x",))))
    with place("loopback") as here:
        found = run_case(case, here, 2, 0.1, said.append, repeats=1)
    assert found.repeated == 2
    assert found.troubled
    assert [len(samples) for samples in found.samples.values()] == [2, 2]
    assert sum("busy with something else" in line for line in said) == 3


def test_nothing_is_measured_at_a_high_load() -> None:
    with pytest.raises(SystemExit, match="nothing is measured at 0 or more"):
        wait_for_calm(0.0, 0.0, print)


def test_the_page_says_whether_what_is_wanted_was_met() -> None:
    ours = [sample(rate) for rate in (100e9, 101e9, 102e9)]
    theirs = [sample(rate) for rate in (50e9, 51e9, 50.5e9)]
    runs = CaseRuns("TCP", {"netmeasure": ours, "it": theirs}, {"it": 1.5}, 0, troubled=False)
    text = page("loopback", "a command", [runs], load=0.1, rounds=3, seconds=1)
    (line,) = (line for line in text.splitlines() if line.startswith("| it "))
    assert "404 (400 to 408)" in line
    assert "| 2.00 (1." in line
    assert "wanted 1.5: met" in line
    wanting = CaseRuns("TCP", runs.samples, {"it": 2.5}, 1, troubled=True)
    text = page("loopback", "a command", [wanting], load=0.1, rounds=3, seconds=1)
    assert "wanted 2.5: missed" in text
    assert "repeated, because other programs were busy in them: 1" in text
    assert "don't trust it" in text


def test_what_one_round_or_an_interval_does_not_tell_is_not_decided() -> None:
    for ours, theirs in (([2.0], [1.0]), ([1.0, 2.0, 3.0], [1.0, 1.1, 0.9])):
        rates = {"netmeasure": ours, "it": theirs}
        found = {name: [sample(n * 1e9) for n in some] for name, some in rates.items()}
        runs = CaseRuns("TCP", found, {"it": 1.5}, 0, troubled=False)
        text = page("loopback", "a command", [runs], load=0.1, rounds=3, seconds=1)
        assert "wanted 1.5: not decided" in text


def test_a_program_that_was_named_and_is_missing_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="there is no program /nowhere/python"):
        cases("loopback", "/nowhere/python")
    monkeypatch.setenv("IPERF3", "/nowhere/iperf3")
    with pytest.raises(SystemExit, match="there is no program /nowhere/iperf3"):
        cases("loopback", None)


def test_every_required_ratio_is_about_a_contender() -> None:
    for where in ("loopback", "veth"):
        found = cases(where, str(Path(sys.executable)))
        assert len(found) >= 12
        for case in found:
            assert len({one.name for one in case.contenders}) == len(case.contenders)


def test_a_contender_and_its_children_are_not_foreign() -> None:
    argv = ("sh", "-c", f"{sys.executable} -c '{BUSY}'; true")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        own_s = int(shell.stdout.readline()) / 1e9
        without = others_s([shell.pid])
        assert others_s([]) - without > own_s - 0.05  # the kernel counts in steps of 10 ms
        shell.stdin.close()
