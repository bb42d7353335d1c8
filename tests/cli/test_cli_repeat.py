"""Test `--repeat` as a user runs it: what it prints, what it saves, how it ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from netmeasure import ResultSet
from netmeasure.cli import main
from netmeasure.cli.exits import Exit
from support.ports import nobody
from support.program import netmeasure, one_line, running, server
from support.proxy import Proxy

QUICK = ("-t", "0.2", "-i", "0.1")


def test_every_run_has_a_line_and_all_have_a_summary(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    ran = netmeasure("loopback", *QUICK, "--repeat", "3", "--json", str(file))
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    for words in (
        "run 1 of 3  set-up",
        "run 3 of 3  set-up",
        "3 runs: TCP upload",
        "mean of 3 runs",
    ):
        assert words in ran.stdout
    assert ran.stdout.count("retransmits\n") >= 3
    runs = ResultSet.from_json(file.read_bytes())
    assert (len(runs), runs.complete) == (3, True)
    assert len({result.started_at for result in runs}) == 3


def test_json_is_all_that_is_printed() -> None:
    ran = netmeasure("loopback", *QUICK, "--repeat", "2", "--json", "-q")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    assert len(ResultSet.from_json(ran.stdout)) == 2


def test_files_by_url_are_fetched_again() -> None:
    with server("--http", "0") as (process, _):
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        ran = netmeasure("client", f"http://{address}/10M.dat", "--repeat", "3", "-q")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    assert "3 runs: HTTP download" in ran.stdout


@pytest.mark.parametrize("words", ["0", "-1", "x", "1000000", "1.5"])
def test_a_number_of_runs_that_can_not_be(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loopback", *QUICK, "--repeat", words]) == Exit.USAGE
    output, errors = capsys.readouterr()
    one_line(errors)
    assert output == ""


def test_a_host_without_a_server_is_reported_once() -> None:
    with nobody() as port:
        ran = netmeasure("client", f"127.0.0.1:{port}", *QUICK, "--repeat", "5")
    assert ran.returncode == Exit.NO_CONNECTION
    assert "refused" in one_line(ran.stderr)
    assert ran.stdout == ""


def test_a_broken_run_is_marked_and_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    with server() as (_, address):
        host, port = address.split(":")
        with Proxy((host, int(port))) as proxy:
            proxy.connection(3).after(1_000_000, "up", "reset")
            target = "{}:{}".format(*proxy.address)
            # a probe would be one of the connections that are counted
            options = ("--no-latency", "--repeat", "3", "--json", str(file))
            ran = netmeasure("client", target, *QUICK, *options)
    assert ran.returncode == Exit.CUT_SHORT
    one_line(ran.stderr)
    assert "INCOMPLETE, does not count" in ran.stdout
    assert "mean of 2 of 3 runs" in ran.stdout
    assert [result.complete for result in ResultSet.from_json(file.read_bytes())] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)],
)
def test_a_signal_ends_the_run_and_begins_no_other(
    number: signal.Signals, code: Exit, tmp_path: Path
) -> None:
    file = tmp_path / "set.json"
    words = ("loopback", "-t", "0.3", "-i", "0.1", "--repeat", "100", "--json", str(file))
    with running(*words) as ran:
        assert ran.stdout is not None
        while not ran.stdout.readline().startswith("run 1 of 100"):
            pass
        assert "upload" in ran.stdout.readline()  # of the second run
        ran.send_signal(number)
        output, errors = ran.communicate(timeout=20)
    assert (ran.returncode, errors) == (code, "")
    # on a busy machine the signal may come in a later run
    *earlier, last = (run.complete for run in ResultSet.from_json(file.read_bytes()))
    assert earlier == [True] * len(earlier)
    assert not last
    count = len(earlier) + 1
    assert 2 <= count < 100
    assert f"{count} runs: TCP upload" in output
    assert f"note (1 of {count} runs): stopped early by the user" in output
    assert "INCOMPLETE, does not count" in output
    assert f"mean of {count - 1} of {count} runs" in output


def test_a_set_that_can_not_be_saved_is_told_before_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no" / "set.json"
    assert main(["loopback", "--repeat", "2", "--json", str(file)]) == Exit.USAGE
    assert "can't write" in one_line(capsys.readouterr().err)
