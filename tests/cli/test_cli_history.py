"""Test `history` as a user runs it: its lines, exit codes and messages for wrong input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netmeasure import ResultSet
from netmeasure.cli import main
from netmeasure.cli.exits import Exit
from support.nights import import_linear_algebra, night, nights, rates
from support.program import netmeasure, one_line

Output = pytest.CaptureFixture[str]
#: Runs `history` with these words in the test's database; returns the exit code.
Command = Callable[[str], int]


def setup_module() -> None:
    import_linear_algebra()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with files of runs: quiet, and slower later."""
    monkeypatch.chdir(tmp_path)
    for name, levels in {
        "quiet": [(30, 1e9)],
        "slower": [(20, 1e9), (10, 0.9e9)],
    }.items():
        runs = nights(rates(*levels))
        Path(f"{name}.json").write_bytes(ResultSet(results=tuple(runs)).to_json())
    return tmp_path


@pytest.fixture
def options(database: str) -> list[str]:
    """Return the options that choose the database: none for the default, an SQLite file."""
    return ["--db", database] if database else []


@pytest.fixture
def history(folder: Path, options: list[str]) -> Command:
    return lambda words: main(["history", *words.split(), *options])


def test_a_history_from_its_first_run_to_an_accepted_change(
    history: Command, capsys: Output
) -> None:
    assert history("add slower.json --label cni=1.3.1") == Exit.OK
    assert capsys.readouterr().out == "added 30 of 30 runs\n"
    assert history("list") == Exit.OK
    span = f"from {night(0)} to {night(29)}"
    assert capsys.readouterr().out == f"lab1:5201 TCP upload cni=1.3.1: 30 runs, {span}\n"
    assert history("check") == Exit.MOVED
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("#1 lab1:5201 TCP upload cni=1.3.1: steady bitrate ")
    assert lines[0].endswith(f" between {night(19)} and {night(20)}, 10 runs since")
    assert "Mbit/s (-10" in lines[0]
    assert lines[1].startswith("#2 lab1:5201 TCP upload cni=1.3.1: average with set-up ")
    assert history("ack 1 #2 --note planned") == Exit.OK
    assert capsys.readouterr().out == "acknowledged #1 #2\n"
    assert history("check") == Exit.OK
    calm = "no new change in 1 series"
    assert capsys.readouterr().out == f"{calm}\n"
    assert history("check --all") == Exit.OK
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == calm
    assert [line.rpartition("; ")[2] for line in lines] == ["acknowledged: planned"] * 2


def test_a_history_without_a_change(history: Command, capsys: Output) -> None:
    assert history("add quiet.json quiet.json") == Exit.OK
    said = "added 30 of 60 runs, the others are there already\n"
    assert capsys.readouterr().out == said
    assert history("check") == Exit.OK
    assert capsys.readouterr().out == "no new change in 1 series\n"
    assert history("ack") == Exit.OK
    assert capsys.readouterr().out == "there was no change to acknowledge\n"


def test_too_few_runs_to_tell(history: Command, capsys: Output) -> None:
    Path("new.json").write_bytes(ResultSet(results=tuple(nights(rates((9, 1e9))))).to_json())
    history("add new.json")
    capsys.readouterr()
    assert history("check") == Exit.OK
    said = "no new change in 1 series; 1 of them have fewer than 10 runs, too few to tell\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("action", ["check", "list", "ack"])
def test_a_mistyped_history_is_no_quiet_one(folder: Path, capsys: Output, action: str) -> None:
    assert main(["history", action, "--db", "typo.sqlite"]) == Exit.FAILED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "there is no history typo.sqlite" in one_line(printed.err)
    assert not Path("typo.sqlite").exists()


def test_labels_that_no_run_has(history: Command, capsys: Output) -> None:
    history("add quiet.json --label cni=1.3.1")
    capsys.readouterr()
    assert history("check --label cni=1.3.2") == Exit.USAGE
    assert "has no such runs" in one_line(capsys.readouterr().err)


def test_the_password_of_a_url_is_not_printed(
    folder: Path, postgresql_server: str, capsys: Output
) -> None:
    url = postgresql_server.replace("netmeasure@", "netmeasure:secret-word@")
    assert main(["history", "check", "--db", url, "--label", "cni=1.3.2"]) == Exit.USAGE
    assert "secret-word" not in "".join(capsys.readouterr())


def test_a_plot_has_a_bar_for_each_run(history: Command, capsys: Output) -> None:
    history("add slower.json")
    capsys.readouterr()
    assert history("check --plot") == Exit.MOVED
    bars = capsys.readouterr().out.splitlines()[1].strip()
    assert len(bars) == 30
    assert min(bars[:20]) > max(bars[20:])


def test_json(history: Command, capsys: Output) -> None:
    history("add slower.json")
    capsys.readouterr()
    assert history("check --json") == Exit.MOVED
    found = json.loads(capsys.readouterr().out)
    assert [one["metric"] for one in found] == ["steady_bps", "from_first_attempt_bps"]
    assert found[0]["first_after_at"] == night(20)
    assert history("list --json") == Exit.OK
    assert json.loads(capsys.readouterr().out)[0]["runs"] == 30


def test_runs_are_chosen_by_label(history: Command, capsys: Output) -> None:
    history("add slower.json --label cni=a --label node=n1")
    history("add quiet.json --label cni=b")
    assert history("check --label cni=b") == Exit.OK
    assert history("check --label cni=a") == Exit.MOVED
    capsys.readouterr()
    assert history("list --label node=n1") == Exit.OK
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_program_of_its_own(folder: Path, options: list[str]) -> None:
    where = options or ["--db", "other.sqlite"]
    ran = netmeasure("history", "add", "slower.json", *where)
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    ran = netmeasure("history", "check", *where)
    assert (ran.returncode, ran.stderr) == (Exit.MOVED, "")
    assert not (folder / "netmeasure-history.sqlite").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("add", Exit.USAGE, "takes files"),
        ("add none.json", Exit.USAGE, "none.json: No such file"),
        ("add quiet.json none.json", Exit.USAGE, "none.json: No such file"),
        ("add quiet.json --label x", Exit.USAGE, "'x' is not a label (write NAME=VALUE)"),
        ("add quiet.json --label =x", Exit.USAGE, "'=x' is not a label"),
        ("add quiet.json --note x", Exit.USAGE, "--note is an option of history ack"),
        ("add quiet.json --json", Exit.USAGE, "--json is an option of history list and check"),
        ("check x", Exit.USAGE, "'x' is one argument too many"),
        ("check --last 5", Exit.USAGE, "the last 5 runs are too few"),
        ("check --last x", Exit.USAGE, "--last"),
        ("ack x", Exit.USAGE, "'x' is not the number of a change"),
        ("ack 7", Exit.USAGE, "7 is not the number of a change"),
        ("ack 99999999999999999999", Exit.USAGE, "is not the number of a change"),
        ("ack --note \udcff", Exit.USAGE, "is not valid UTF-8"),
        ("add quiet.json --label a=\udcff", Exit.USAGE, "is not valid UTF-8"),
        ("ack --label a=b", Exit.USAGE, "--label is an option of history add, list and check"),
        ("forget", Exit.USAGE, "forget"),
        ("", Exit.USAGE, "required"),
    ],
)
def test_wrong_input_is_one_line(
    words: str, code: Exit, said: str, history: Command, capsys: Output
) -> None:
    history("add quiet.json")
    capsys.readouterr()
    assert history(words) == code
    output, errors = capsys.readouterr()
    assert said in one_line(errors)
    assert output == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("list --db quiet.json", Exit.FAILED, "file is not a database"),
        ("add quiet.json --db none/x.sqlite", Exit.FAILED, "unable to open"),
        ("list --db nothing://x", Exit.USAGE, "not a database"),
        ("add quiet.json --db=", Exit.USAGE, "the history has no name"),
        ("add quiet.json --db :memory:", Exit.USAGE, "would keep nothing"),
        ("add quiet.json --db sqlite://", Exit.USAGE, "would keep nothing"),
    ],
)
def test_a_place_that_is_no_database(
    words: str, code: Exit, said: str, folder: Path, capsys: Output
) -> None:
    assert main(["history", *words.split()]) == code
    output, errors = capsys.readouterr()
    assert said in one_line(errors)
    assert output == ""
