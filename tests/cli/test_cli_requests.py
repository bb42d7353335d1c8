"""Test `netmeasure client URL --requests` as a process: its lines, its JSON, its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netmeasure.cli.exits import Exit
from support.program import netmeasure, one_line, server


def test_the_report_the_document_and_a_comparison(tmp_path: Path) -> None:
    saved = tmp_path / "a.json"
    with server("--http", "0") as (process, _):
        assert process.stdout is not None
        url = f"http://{process.stdout.readline().split()[-1]}/1K.dat"
        ran = netmeasure("client", url, "--requests", "-k", "2000", "-P", "4", "-q")
        again = netmeasure("client", url, "--requests", "-k", "50", "--fresh", "--json", str(saved))
        missing = netmeasure("client", f"{url}/none", "--requests", "-k", "20", "-q")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    head, *lines = ran.stdout.splitlines()
    assert head.startswith("HTTP requests, 4 connections kept, 2000 requests, http://127.0.0.1")
    assert any(line.split()[:2] == ["requests", "2000"] for line in lines)
    assert any(line.split()[:2] == ["responses", "2000"] for line in lines)
    assert lines[-3].startswith("Requests/s")
    assert lines[-2].startswith("Latency         p50 ")
    assert max(map(len, lines)) <= 120
    assert again.returncode == Exit.OK
    document = json.loads(saved.read_text())
    assert document["spec"]["kind"] == "requests"
    assert document["requests"]["connected"] == 50
    assert document["requests"]["statuses"] == [{"status": 200, "count": 50}]
    assert document["round_trips"]["transactions"] == 50
    assert "errors: 20 status" in missing.stdout
    shown = netmeasure("compare", str(saved), str(saved))
    assert "transactions" in shown.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["127.0.0.1:1", "--requests"], "--requests needs a URL of http"),
        (["ftp://127.0.0.1:1/", "--requests"], "--requests needs a URL of http"),
        (["http://127.0.0.1:1/", "--fresh"], "--fresh is an option of requests by URL"),
        (["http://127.0.0.1:1/", "--requests", "--rr"], "--rr is not an option of requests"),
        (["http://127.0.0.1:1/", "--requests", "-n", "5M"], "-n is not an option of requests"),
        (["http://127.0.0.1:1/", "--requests", "-P", "10001"], "number of connections is 10001"),
    ],
)
def test_options_that_exclude_each_other(words: list[str], said: str) -> None:
    ran = netmeasure("client", *words)
    assert ran.returncode == Exit.USAGE
    assert said in one_line(ran.stderr)
