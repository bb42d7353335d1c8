"""Test UDP by the program: the effect of options, and the messages for wrong ones."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from netmeasure import Result, UdpSpec
from netmeasure.cli.exits import Exit
from support import warm
from support.optional import known

PROGRAM = (sys.executable, "-m", "netmeasure")


def loopback(*words: str) -> subprocess.CompletedProcess[str]:
    return warm.run(
        (*PROGRAM, "loopback", *words), capture_output=True, text=True, timeout=30, check=False
    )


def result_of(*words: str) -> tuple[Result, UdpSpec]:
    """Return the result of a successful test, read from the JSON that is its only output."""
    ran = loopback("-u", *words, "--json")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    result = Result.from_json(ran.stdout)
    assert result.complete
    assert isinstance(result.spec, UdpSpec)
    for flow in result.flows:
        loss = flow.loss
        assert loss is not None
        assert loss.sent_packets == known(loss.received_packets) + known(loss.lost_packets) > 0
    return result, result.spec


def test_the_default_is_a_rate_that_hurts_nobody() -> None:
    _, spec = result_of("-t", "0.2")
    assert (spec.target_bps, spec.target_pps, spec.direction) == (1024 * 1024, None, "upload")
    assert spec.datagram_bytes == 8972


def test_rate_size_and_streams() -> None:
    result, spec = result_of("-b", "4M", "-l", "500", "-P", "2", "-d", "both", "-k", "100")
    assert (spec.target_bps, spec.datagram_bytes, spec.streams) == (4_000_000, 500, 2)
    assert [flow.direction for flow in result.flows] == ["upload", "download"]
    for flow in result.flows:
        assert flow.loss is not None
        assert flow.loss.sent_packets == 100
        assert len(flow.streams) == 2


def test_packet_rate_burst_spin_and_no_offload() -> None:
    words = ("--packet-rate", "1000", "--burst", "5", "--spin", "50", "--no-offload", "-l", "200")
    result, spec = result_of(*words, "-n", "20000")
    assert (spec.target_pps, spec.target_bps, spec.burst_datagrams) == (1000, None, 5)
    assert (spec.spin_us, spec.offload) == (50, False)
    (stream,) = result.flow.streams
    assert stream.sender is not None
    assert stream.sender.datagrams is not None
    assert stream.sender.datagrams.packets == 100
    assert stream.sender.datagrams.offload is False
    # by design, plus 10 ms of the rate after a late wake-up
    assert 5 * 200 <= known(stream.sender.datagrams.largest_burst_bytes) <= (5 + 10) * 200


def test_no_limit_of_the_rate() -> None:
    _, spec = result_of("-b", "0", "-k", "1000", "-l", "1000")
    assert (spec.target_bps, spec.target_pps) == (None, None)


def test_the_json_holds_the_loss_and_says_that_it_is_udp() -> None:
    ran = loopback("-u", "-l", "1000", "-b", "8M", "-k", "100", "--json")
    said = json.loads(ran.stdout)
    assert said["spec"]["kind"] == "udp"
    assert said["flows"][0]["loss"]["sent_packets"] == 100
    assert [phase["name"] for phase in said["setup"]].count("hello") == 1


def test_the_report_and_the_intervals_speak_of_datagrams() -> None:
    ran = loopback("-u", "-l", "1000", "-b", "8M", "-t", "0.3", "-i", "0.1", "-d", "download")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    for words in ("UDP download at 8.00 Mbit/s", "hello", "lost", "jitter"):
        assert words in ran.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-u -l 15", "datagram size"),
        ("-u -l 65508", "datagram size"),
        ("-u -l 2M", "datagram size"),
        ("-u --packet-rate 0", "packet rate"),
        ("-u --packet-rate 1.5", "1.5"),
        ("-u --packet-rate x", "x"),
        ("-u -b 10x", "10x"),
        ("-u --burst 0", "burst"),
        ("-u --burst 1001", "burst"),
        ("-u --spin 1001", "spin"),
        ("-u --spin -1", "--spin"),
        ("-u -M 1000", "option of TCP"),
        ("-u -N", "option of TCP"),
        ("-u --receive-mode discard", "--receive-mode"),
        ("-u -P 1025", "streams"),
        ("--packet-rate 5", "-u"),
        ("--burst 5", "-u"),
        ("--spin 5", "-u"),
        ("--no-offload", "-u"),
    ],
)
def test_a_wrong_value_is_one_line_that_says_which(words: str, said: str) -> None:
    ran = loopback(*words.split())
    assert ran.returncode == Exit.USAGE
    assert ran.stdout == ""
    assert ran.stderr.startswith("netmeasure: ")
    assert ran.stderr.count("\n") == 1
    assert said in ran.stderr
