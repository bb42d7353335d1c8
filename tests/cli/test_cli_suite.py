"""Test `suite` as a user runs it: a line for each run, the table, files, wrong plans, signals."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from netmeasure.cli import main
from netmeasure.cli.exits import Exit, code_of_many
from support.census import settle
from support.program import netmeasure, one_line, running, server

PLAN = """
title = "loopback"
target = "{address}"
runs = 2
seed = 1
baseline_s = 0
[defaults]
duration_s = {seconds}
[[variant]]
name = "one"
[[variant]]
name = "two"
settings = {{ streams = 2 }}
[[test]]
kind = "tcp"
"""

Output = pytest.CaptureFixture[str]


def write(folder: Path, address: str, seconds: float = 0.1) -> Path:
    file = folder / "plan.toml"
    file.write_text(PLAN.format(address=address, seconds=seconds))
    return file


def test_a_campaign_ends_with_its_table_and_files(tmp_path: Path) -> None:
    table, markdown = tmp_path / "json", tmp_path / "table"
    kept = tmp_path / "runs.jsonl"
    with server() as (_, address):
        words = ("suite", str(write(tmp_path, address)), "--keep", str(kept))
        ran = netmeasure(*words, "--json", str(table), "--markdown", str(markdown))
        assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    lines = ran.stdout.splitlines()
    assert [line.partition("  ")[0] for line in lines[:4]] == ["1/4", "2/4", "3/4", "4/4"]
    assert "loopback: 4 runs, order from seed 1" in ran.stdout
    assert "two / one" in ran.stdout
    document = json.loads(table.read_text())
    assert (document["runs_made"], document["variants"]) == (4, ["one", "two"])
    assert markdown.read_text().startswith("# loopback: 4 runs, order from seed 1\n\n| test | one")
    # the file has all runs: the table is shown again, and nothing is measured
    again = netmeasure(*words, "--json")
    assert (again.returncode, again.stderr) == (Exit.OK, "4 of 4 runs are there already\n")
    assert json.loads(again.stdout) == document


def test_a_signal_keeps_what_was_measured(tmp_path: Path) -> None:
    kept = tmp_path / "runs.jsonl"
    with server() as (_, address):
        plan = write(tmp_path, address)
        # whichever variant is first in round 1, the campaign can't end
        plan.write_text(plan.read_text().replace('"two"', '"two"\nbefore = ["sleep", "60"]'))
        with running("suite", str(plan), "--keep", str(kept)) as process:
            assert settle(lambda: kept.exists() and kept.read_bytes().count(b"\n") >= 2, 30)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    made = kept.read_bytes().count(b"\n") - 1
    assert process.returncode == Exit.INTERRUPTED
    assert f"loopback: {made} of 4 runs" in out
    told = f"netmeasure: ended by the user before run {made + 1} of 4 was over"
    assert one_line(err) == f"{told} (the same command continues)\n"


def test_a_plan_is_checked_and_listed(tmp_path: Path, capsys: Output) -> None:
    assert main(["suite", str(write(tmp_path, "lab1")), "--check"]) == Exit.OK
    assert capsys.readouterr().out.splitlines() == [
        "TCP upload, one: lab1",
        "TCP upload, two: lab1",
        "2 cases, 2 runs of each",
    ]
    assert main(["suite", "lab1", "lab2", "--ftp", "2121", "--check"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert "FTP download, lab2: ftp://lab2:2121/10G.dat" in lines
    assert lines[-1] == "14 cases, 5 runs of each"


def test_each_mistake_of_a_plan_has_a_line(tmp_path: Path, capsys: Output) -> None:
    plan = write(tmp_path, "lab1", seconds=-1)
    plan.write_text(plan.read_text() + "streems = 3\n")
    assert main(["suite", str(plan)]) == Exit.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        f"netmeasure: {plan}: test 1: there is no setting 'streems': did you mean 'streams'?"
    )
    assert "duration is -1 s: it must be 0.001 to 86400 s" in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("none.toml", "can't read none.toml: No such file or directory"),
        ("lab1 plan.toml", "suite takes one plan, or servers (not both)"),
        ("lab1 lab1", "two variants are called 'lab1'"),
        ("lab1/x", "'lab1/x' is not a host (write a name or an address)"),
        ("lab1 --runs 0", "runs is 0: it must be 1 to 1000"),
        ("lab1 --json /nowhere/x.json", "can't write /nowhere/x.json: No such file or directory"),
        ("lab1 --keep /nowhere/x", "can't write /nowhere/x: No such file or directory"),
    ],
)
def test_wrong_options_of_a_campaign(words: str, sentence: str, capsys: Output) -> None:
    assert main(["suite", *words.split()]) == Exit.USAGE
    assert one_line(capsys.readouterr().err) == f"netmeasure: {sentence}\n"


def test_servers_that_refuse(capsys: Output, tmp_path: Path) -> None:
    assert main(["suite", str(write(tmp_path, "127.0.0.1:1")), "-q"]) == Exit.NO_CONNECTION
    out = capsys.readouterr().out
    refused = "Nothing was measured: 127.0.0.1:1 refused the connection:"
    assert f"{refused} TCP upload, one; TCP upload, two" in " ".join(out.split())


@pytest.mark.parametrize(
    ("objective", "code"), [("setup<1us", Exit.BELOW), ("setup<60s", Exit.CUT_SHORT)]
)
def test_a_missed_objective_counts_more_than_runs_that_failed(
    objective: str, code: Exit, tmp_path: Path
) -> None:
    with server() as (_, address):
        plan = write(tmp_path, address)
        text = plan.read_text().replace('name = "two"', 'name = "two"\ntarget = "127.0.0.1:1"')
        plan.write_text(
            text.replace(f'target = "{address}"\n', "", 1).replace(
                'name = "one"', f'name = "one"\ntarget = "{address}"'
            )
        )
        ran = netmeasure("suite", str(plan), "--runs", "1", "--slo", objective, "-q")
    assert ran.returncode == code
    assert "refused the connection" in ran.stdout


@pytest.mark.parametrize(
    ("held", "failed", "code"),
    [
        (Exit.OK, Exit.OK, Exit.OK),
        (Exit.BELOW, Exit.NO_CONNECTION, Exit.BELOW),
        (Exit.CANT_TELL, Exit.CUT_SHORT, Exit.CUT_SHORT),
        (Exit.CANT_TELL, Exit.OK, Exit.CANT_TELL),
        (Exit.OK, Exit.CUT_SHORT, Exit.CUT_SHORT),
    ],
)
def test_which_exit_code_comes_first(held: Exit, failed: Exit, code: Exit) -> None:
    assert code_of_many(held, failed) is code
