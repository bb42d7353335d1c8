"""Test `compare` as a user runs it: saved runs, two targets, wrong input, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from netmeasure import ResultSet
from netmeasure.cli import main
from netmeasure.cli.exits import Exit
from support.ports import nobody
from support.program import netmeasure, one_line, running, server
from support.proxy import Proxy
from support.recorded import recorded

QUICK = ("-t", "0.2", "-i", "0.1", "-q")
Output = pytest.CaptureFixture[str]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Make a folder of sets: fast, same (as fast), slow, two (runs only), single (a Result),
    down."""
    sets = {
        "fast": [recorded(1e9 + n * 1e6) for n in range(5)],
        "same": [recorded(1.001e9 + n * 1e6) for n in range(5)],
        "slow": [recorded(0.9e9 + n * 1e6) for n in range(5)],
        "noisy": [recorded(1e9 - n * 1e8) for n in range(5)],
        "two": [recorded(1e9)] * 2,
        "empty": [],
        "down": [recorded(1e9, direction="download")] * 3,
    }
    for name, results in sets.items():
        (tmp_path / f"{name}.json").write_bytes(ResultSet(results=tuple(results)).to_json())
    (tmp_path / "single.json").write_bytes(recorded(1e9).to_json())
    return tmp_path


def compare(folder: Path, words: str) -> int:
    """Run `compare` in this process; names that end in .json are files of that folder."""
    return main(
        ["compare", *(str(folder / w) if w.endswith(".json") else w for w in words.split())]
    )


# ---- saved runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("fast.json same.json", Exit.OK, "The network carries the same"),
        ("fast.json slow.json", Exit.OK, "less than A"),
        ("slow.json fast.json", Exit.OK, "more than A"),
        ("fast.json noisy.json", Exit.OK, "Can't tell"),
        ("two.json fast.json", Exit.OK, "Too few runs to tell: 2 of A and 5 of B"),
        ("single.json single.json", Exit.OK, "Too few runs to tell: 1 of A and 1 of B"),
        ("single.json two.json --against fast.json", Exit.OK, "The network carries the same"),
        ("fast.json same.json --fail-below 0.95", Exit.OK, "The network carries the same"),
        ("fast.json slow.json --fail-below 0.95", Exit.BELOW, "less than A"),
        ("fast.json slow.json --fail-below 0.85", Exit.OK, "less than A"),
        ("fast.json noisy.json --fail-below 0.95", Exit.CANT_TELL, "Can't tell"),
        ("two.json fast.json --fail-below 0.95", Exit.CANT_TELL, "Too few runs"),
        ("fast.json slow.json --fail-below 95%", Exit.BELOW, "less than A"),
        ("fast.json same.json --margin 0.05%", Exit.OK, "Can't tell"),
        ("fast.json same.json --margin 0.0005", Exit.OK, "Can't tell"),
    ],
)
def test_verdicts_and_exit_codes(
    words: str, code: Exit, said: str, saved: Path, capsys: Output
) -> None:
    assert compare(saved, words) == code
    output, errors = capsys.readouterr()
    assert errors == ""
    assert said in output


def test_columns_are_named_after_the_files(saved: Path, capsys: Output) -> None:
    assert compare(saved, "fast.json slow.json") == Exit.OK
    report = capsys.readouterr().out
    for words in ("A: fast", "B: slow", "1.004 Gbit/s", "904.0 Mbit/s", "B/A", "set-up"):
        assert words in report


def test_json(saved: Path, capsys: Output) -> None:
    assert compare(saved, "fast.json slow.json --json") == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert found["flows"][0]["verdict"] == "less"
    assert compare(saved, "fast.json slow.json --json found.json") == Exit.OK
    assert "less than A" in capsys.readouterr().out
    assert json.loads((saved / "found.json").read_bytes()) == found


def test_a_file_of_any_name_is_shown(saved: Path, capsys: Output) -> None:
    odd, page = saved / os.fsdecode(b"caf\xe9.json"), saved / "page.md"
    odd.write_bytes((saved / "fast.json").read_bytes())
    assert main(["compare", str(odd), str(saved / "slow.json")]) == Exit.OK
    assert "A: caf\\xe9" in capsys.readouterr().out
    assert main(["compare", str(odd), str(saved / "slow.json"), "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["name_a"] == "caf\\xe9"
    assert main(["report", str(odd), str(saved / "slow.json"), "-o", str(page)]) == Exit.OK
    assert "A is caf\\xe9, B is slow" in page.read_text()


def test_a_document_of_iperf3_and_a_run_of_ours(saved: Path, capsys: Output) -> None:
    iperf3 = Path(__file__).parents[1] / "samples" / "iperf3" / "3.12-tcp.json"
    assert main(["compare", str(iperf3), str(saved / "single.json")]) == Exit.OK
    shown = " ".join(capsys.readouterr().out.split())
    for name, figure in (("set-up", "1.00 ms"), ("average with set-up", "974.5 Mbit/s")):
        unknown = rf"{name} (A: )?unknown (B: )?{figure} (B against A: )?unknown"
        assert re.search(unknown, shown), shown
    assert "best effort: too short to tell" in shown
    assert "Too few runs to tell: 1 of A and 1 of B" in shown


# ---- wrong input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fast.json", "compare takes two files, not 1"),
        ("fast.json same.json slow.json", "--against"),
        ("fast.json none.json", "none.json: No such file"),
        ("fast.json lab1", "add --measure"),
        ("fast.json broken.json", "broken.json: not a netmeasure result"),
        ("fast.json empty.json", "empty: no run in which anything was measured"),
        ("fast.json down.json", "fast has only the upload, down has only the download"),
        ("fast.json slow.json -t 5", "--time has no effect on saved runs"),
        ("fast.json slow.json -6", "-4 or -6 has no effect on saved runs"),
        ("fast.json slow.json --pairs 3", "--pairs (--repeat) has no effect on saved runs"),
        ("fast.json slow.json --repeat 3", "--repeat) has no effect on saved runs"),
        ("fast.json slow.json --margin 2", "not less than 100 %"),
        ("fast.json slow.json --margin 0", "margin is 0"),
        ("fast.json slow.json --margin x", "not a share"),
        ("fast.json slow.json --margin nan", "not a share"),
        ("fast.json slow.json --fail-below 0", "--fail-below is 0"),
        ("fast.json slow.json --fail-below nan", "'nan' is not a ratio"),
        ("fast.json slow.json --fail-below 95", "write 95% or 0.95"),
        ("fast.json slow.json --measure", "is a file"),
        ("lab1 --measure", "--measure takes two targets"),
        ("lab1 lab2 --measure --against lab3", "--measure takes two targets"),
        ("lab1 lab2 --measure --pairs 0", "runs: it must be"),
        ("lab1 http://lab2/1G.dat --measure", "choose one with -d"),
        ("lab1 lab2:0 --measure", "0"),
        ("lab1 lab2 --measure -t 0", "duration is 0"),
        ("lab1 lab2 --measure --save no/a.json no/b.json", "can't write"),
        ("fast.json slow.json --json no/c.json", "can't write"),
        ("", "required"),
    ],
)
def test_wrong_input_is_one_line(words: str, said: str, saved: Path, capsys: Output) -> None:
    (saved / "broken.json").write_bytes(b'{"schema_version":1,"results":[{"spec":7}]}')
    assert compare(saved, words) == Exit.USAGE
    output, errors = capsys.readouterr()
    assert said in one_line(errors)
    assert output == ""


# ---- two targets --------------------------------------------------------------------------------


def test_two_targets_are_measured_in_turns(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    with server() as (_, one), server() as (_, two):
        words = ("compare", "--measure", one, two, "--pairs", "2", "--save", *map(str, files))
        ran = netmeasure(*words, *QUICK)
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    lines = [line for line in ran.stdout.splitlines() if " of 2  set-up" in line]
    assert [line[:3] for line in lines] == ["A 1", "B 1", "B 2", "A 2"]
    assert "Too few runs to tell: 2 of A and 2 of B" in ran.stdout
    assert f"A: {one}" in ran.stdout
    for file, target in zip(files, (one, two), strict=True):
        assert {result.target for result in ResultSet.from_json(file.read_bytes())} == {target}


def test_a_file_that_can_not_be_written_keeps_nothing_else_back(tmp_path: Path) -> None:
    with server() as (_, address):
        ran = netmeasure(
            "compare", "--measure", address, address, *QUICK, "--pairs", "1",
            "--save", "/dev/full", str(tmp_path / "b.json"),
        )  # fmt: skip
    assert ran.returncode == Exit.FAILED
    assert "can't write /dev/full" in one_line(ran.stderr)
    assert "B/A" in ran.stdout
    assert len(ResultSet.from_json((tmp_path / "b.json").read_bytes())) == 1


def test_a_target_that_is_not_there_ends_it_at_once() -> None:
    with server() as (_, one), nobody() as port:
        ran = netmeasure("compare", "--measure", one, f"127.0.0.1:{port}", *QUICK)
    assert ran.returncode == Exit.CUT_SHORT
    assert "refused" in one_line(ran.stderr)
    assert ran.stdout.count("of 5  set-up") == 1


def test_a_broken_run_does_not_count() -> None:
    with server() as (_, address):
        host, port = address.split(":")
        with Proxy((host, int(port))) as proxy:
            proxy.connection(3).after(1_000_000, "up", "reset")
            target = "{}:{}".format(*proxy.address)
            words = ("compare", "--measure", target, target, "--pairs", "2", "--fail-below", "0.9")
            # a probe would be one of the connections that are counted
            ran = netmeasure(*words, *QUICK, "--no-latency")
    assert ran.returncode == Exit.CANT_TELL
    one_line(ran.stderr)
    assert "B: INCOMPLETE, does not count" in ran.stdout
    assert "2 of A and 1 of B count" in ran.stdout


def test_a_signal_ends_it_with_what_there_is() -> None:
    with server() as (_, address):
        words = ("compare", "--measure", address, address, "--pairs", "100", "--fail-below", "0.9")
        with running(*words, "-t", "0.2", "-i", "0.1") as ran:
            assert ran.stdout is not None
            while not ran.stdout.readline().startswith("B 1 of 100"):
                pass
            assert "upload" in ran.stdout.readline()
            ran.send_signal(signal.SIGINT)
            output, errors = ran.communicate(timeout=20)
    assert ran.returncode == Exit.INTERRUPTED
    # if the signal comes late, the run waits for the server's results, and says so
    assert re.fullmatch(r"(netmeasure: ended by the user, waiting for .* results .*\n)?", errors)
    # on a busy machine the signal may come in a later run
    assert re.search(r"Too few runs to tell: [12] of A and [12] of B count", output), output
