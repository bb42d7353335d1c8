"""Test wrong values: one line names the value, where it was given, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from netmeasure.cli import main
from netmeasure.cli.ceiling import refuse_rate
from netmeasure.cli.exits import Exit
from netmeasure.errors import SpecError
from support.program import one_line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("client lab1:99999", "the port of 'lab1:99999' is not a number from 1 to 65535"),
        ("client lab1 -p 0", "'0' is not a port: it must be 1 to 65535"),
        ("suite lab1 --http 0", "'0' is not a port: it must be 1 to 65535"),
        ("server -p 99999", "'99999' is not a port: it must be 0 to 65535"),
        ("server --metrics x", "'x' is not a port: it must be 0 to 65535"),
        ("exporter -p 99999", "'99999' is not a port: it must be 0 to 65535"),
        ("ready lab1 lab2:x", "the port of 'lab2:x'"),
        ("probe [::1]:0", "the port of '[::1]:0'"),
        ("probe lab1 --timeout 0", "timeout is 0 s"),
        ("client lab1 -t -1", "-t/--time: '-1' is not a duration"),
        ("loopback -b -5", "-b/--bitrate: '-5' is not a bitrate"),
        ("loopback -b", "-b/--bitrate: it needs a value"),
        ("client lab1 -u -N", "-N is an option of TCP tests"),
        ("client lab1 --spin 5", "--spin is an option of UDP tests (add -u)"),
        ("client http://lab1/x --burst 5", "--burst is not an option of transfers by URL"),
        ("client http://lab1/x --range 9-1", "the range 9-1 ends before it begins"),
        ("server -p 5300 --metrics 5300", "-p and --metrics can't have the same port, 5300"),
        ("server --http 5201", "-p and --http can't have the same port, 5201"),
        ("server -p 0 --http 5300 --ftp 5300", "--http and --ftp can't have the same port"),
        ("server --allow ,", "',' names no network"),
        ("server -p 0 --idle-timeout 0", "idle timeout is 0 s"),
        ("loopback --connect-timeout 0", "--connect-timeout is 0 s: it must be 0.01 to 86400 s"),
        ("server -p 0 --max-time 0", "--max-time is 0 s"),
        ("compare one.json", "compare takes two files, not 1"),
    ],
)
def test_a_wrong_value(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == Exit.USAGE
    assert said in one_line(capsys.readouterr().err)


def test_a_rate_where_a_host_belongs() -> None:
    with pytest.raises(SpecError, match="'10G' is not a host") as caught:
        refuse_rate("10G")
    assert caught.value.hint == "for a rate write --link-rate 10G"
    refuse_rate("lab1")


@pytest.mark.parametrize("command", ["client", "ready"])
def test_a_file_that_holds_no_certificate(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("hello\n")
    assert main([command, "https://127.0.0.1:9/", "--ca-file", str(path)]) != Exit.OK
    said = one_line(capsys.readouterr().err)
    assert f"can't use the CA file {path}: it holds no valid certificate (give a PEM file" in said
