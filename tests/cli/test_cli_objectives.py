"""Test `--slo` and `check` as a user or a CI job runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from netmeasure.cli.exits import Exit
from netmeasure.result.resultset import ResultSet
from support.program import netmeasure, one_line
from support.recorded import recorded

QUICK = ("loopback", "-t", "0.2", "-q")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "runs.json"
    runs = tuple(recorded(1e9 + n * 1e5, set_up_ns=1_000_000 + n) for n in range(3))
    file.write_bytes(ResultSet(results=runs).to_json())
    return file


@pytest.mark.parametrize(
    ("objectives", "code", "lines"),
    [
        ("steady>900M, setup<1s", Exit.OK, ["met steady>900M (upload): 1.00 Gbit/s"]),
        ("steady>2G, loss<1%", Exit.BELOW, ["missed steady>2G", "unknown loss<1%"]),
        ("loss<1%", Exit.CANT_TELL, ["unknown loss<1% (upload) (no run has measured it)"]),
    ],
)
def test_saved_runs(saved: Path, objectives: str, code: Exit, lines: list[str]) -> None:
    junit = saved.parent / "junit.xml"
    ran = netmeasure("check", str(saved), "--slo", objectives, "--junit", str(junit))
    assert (ran.returncode, ran.stderr) == (code, "")
    for line in lines:
        assert f"slo: {line}" in ran.stdout
    (suite,) = ElementTree.parse(junit).getroot()
    assert len(suite) == len(objectives.split(","))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is nothing to check"),
        (("--qoo", "p99 2s..1s"), "what is unacceptable must be more than what is optimal"),
        (("--slo", "stedy>1G"), "did you mean steady?"),
        (("--slo", "setup<1s", "--junit", "/nowhere/at/all.xml"), "can't write /nowhere"),
        (
            ("missing.json", "--slo", "setup<1s"),
            "(give files that --json, iperf3 -J or --keep wrote)",
        ),
    ],
)
def test_mistakes(saved: Path, words: tuple[str, ...], said: str) -> None:
    ran = netmeasure("check", str(saved), *words)
    assert (ran.returncode, ran.stdout) == (Exit.USAGE, "")
    assert said in one_line(ran.stderr)


def test_a_mistake_is_told_before_the_test() -> None:
    ran = netmeasure(*QUICK, "--junit", "unused.xml")
    assert ran.returncode == Exit.USAGE
    assert "--slo" in one_line(ran.stderr)
    assert not Path("unused.xml").exists()


def test_a_measured_run_ends_with_its_code() -> None:
    ran = netmeasure(*QUICK, "--slo", "setup<1h, average>1")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    assert ran.stdout.splitlines()[-2].startswith("slo: met setup<1h: ")
    ran = netmeasure(*QUICK, "--slo", "setup<1ns", "--repeat", "2")
    assert (ran.returncode, ran.stderr) == (Exit.BELOW, "")


def test_json_on_standard_output_stays_json() -> None:
    ran = netmeasure(*QUICK, "--slo", "setup<1h", "--json")
    assert ran.returncode == Exit.OK
    assert json.loads(ran.stdout)["complete"]
    assert ran.stderr.startswith("slo: met setup<1h: ")


@pytest.mark.rates
def test_a_run_is_scored() -> None:
    """A run of 0.2 s has no 1000 probes: its 99.9th percentile is unknown."""
    ran = netmeasure(*QUICK, "--qoo", "p50 1..2h, rate 1k")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    line = ran.stdout.splitlines()[-1]
    assert re.fullmatch(r"qoo: 100 %: p50 .* gives 100 %, rate .* Gbit/s gives 100 %", line)
    ran = netmeasure(*QUICK, "--qoo", "p99.9 1..2h", "--repeat", "2", "--json")
    assert json.loads(ran.stdout)
    assert re.fullmatch(
        r"qoo: unknown: p99\.9 unknown \(only \d+ round trips\), the lowest of 2 runs\n", ran.stderr
    )


def test_saved_runs_are_scored(saved: Path) -> None:
    ran = netmeasure("check", str(saved), "--qoo", "p99 1..2s, rate 2G")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    assert ran.stdout == (
        "qoo: 0 %: p99 unknown (no round trips were measured), rate 975 Mbit/s gives 0 %,"
        " the lowest of 3 runs\n"
    )


def test_compare_holds_the_second_side(saved: Path) -> None:
    ran = netmeasure("compare", str(saved), str(saved), "--slo", "steady>2G")
    assert (ran.returncode, ran.stderr) == (Exit.BELOW, "")
    assert "slo: missed steady>2G (upload): 1.00 Gbit/s" in ran.stdout
