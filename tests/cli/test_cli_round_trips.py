"""Test `netmeasure client --rr` as a process: its lines, its JSON, and what it refuses."""

from __future__ import annotations

import json

import pytest

from netmeasure.cli.exits import Exit
from support.program import netmeasure, one_line, server


def test_the_report_and_the_document() -> None:
    with server() as (_, address):
        ran = netmeasure("client", address, "--rr", "-k", "2000", "-P", "2", "-q")
        assert (ran.returncode, ran.stderr) == (Exit.OK, "")
        head, *lines = ran.stdout.splitlines()
        assert head.startswith(
            "TCP round trips of 1 byte and 1 back, 2 connections, 2000 transactions"
        )
        assert any(line.split()[:2] == ["transactions", "2000"] for line in lines)
        assert lines[-3].startswith("Transactions/s")
        assert lines[-2].startswith("Latency         p50 ")
        again = netmeasure("client", address, "--rr", "-k", "50", "--json", "summary")
        udp = netmeasure("client", address, "--rr", "-u", "-k", "50", "-q")
    head, *lines = udp.stdout.splitlines()
    assert head.startswith("UDP round trips of 16 bytes and 16 back, 1 connection, 50 transactions")
    assert any(line.split()[:2] == ["lost", "0"] for line in lines)
    assert "without a response in time; not counted in the latency" in " ".join(udp.stdout.split())
    document = json.loads(again.stdout)
    assert document["spec"]["kind"] == "rr"
    assert document["round_trips"]["transactions"] == 50
    assert document["round_trips"]["series"] is None
    assert document["round_trips"]["p50_ns"] > 0
    assert document["round_trips"]["p99_ns"] is None


def test_the_report_of_fresh_connections() -> None:
    with server() as (_, address):
        ran = netmeasure("client", address, "--crr", "-k", "2000", "-P", "2", "-q")
        again = netmeasure("client", address, "--crr", "-k", "50", "--json", "summary")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    head, *lines = ran.stdout.splitlines()
    assert head.startswith(
        "TCP round trips of 1 byte and 1 back, 2 connections, a fresh one for each, 2000"
    )
    rows = {line.split()[0]: line.split()[1] for line in lines if len(line.split()) > 1}
    assert (rows["transactions"], rows["connections"]) == ("2000", "2000")
    assert {"connect", "answer"} <= rows.keys()
    document = json.loads(again.stdout)
    made = document["round_trips"]["connections"]
    assert document["spec"]["keep_connections"] is False
    assert (made["connected"], made["error_ratio"], made["syn_retransmits"]) == (50, 0.0, 0)
    assert made["connect_p50_ns"] > 0
    assert made["answer_p50_ns"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rr", "-n", "5M"], "-n is not an option of round trips"),
        (["--rr", "-u", "-N"], "-N is an option of TCP tests"),
        (["--rr", "-u", "--request-size", "15"], "request size is 15 B"),
        (["--crr", "-u"], "UDP has no connections"),
        (["--crr", "--in-flight", "2"], "a fresh connection has one request in flight"),
        (["--crr", "--rr"], "not allowed with argument"),
        (["--crr", "-n", "5M"], "-n is not an option of round trips (--crr)"),
        (["--rr", "--lost-after", "3"], "--lost-after is an option of round trips by UDP"),
        (["--in-flight", "3"], "--in-flight is an option of round trips"),
    ],
)
def test_options_that_exclude_each_other(words: list[str], said: str) -> None:
    ran = netmeasure("client", "127.0.0.1:1", *words)
    assert ran.returncode == Exit.USAGE
    assert said in one_line(ran.stderr)
