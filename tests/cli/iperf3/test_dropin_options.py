"""Run every option that shapes a test with a real server and ours: it works without an error."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import census, warm
from support.iperf3 import OURS, REAL, server

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with server(program=REAL) as real, server(program=OURS) as ours:
        yield {"real": real.port, "ours": ours.port}


_CPU = min(os.sched_getaffinity(0))
_LINES = [
    "-n 1M -l 16K -w 64K -M 1000 -N -S 0x20 -C reno -Z -4 --cntl-ka=10/2/3 --snd-timeout 5000",
    "-n 1M -P 2 --bidir --rcv-timeout 5000 --skip-rx-copy --repeating-payload --dscp ef",
    "-k 10 -R -l 8K --connect-timeout 5000 --pacing-timer 500 --get-server-output --extra-data x",
    f"-t 1 -O 1 -i 0.5 -b 20M/4 --fq-rate 30M -A {_CPU},{_CPU} -B 127.0.0.1%lo",
    "-t 1 -u -b 10M/2 -l 1000 --udp-counters-64bit --dont-fragment --gsro --tos 16 -d",
    "-t 1 -u -b 0 -l 1400 -R -T title --no-fq-socket-pacing --bind-dev lo -i 0 -f m",
]


@pytest.mark.parametrize("line", _LINES)
def test_runs_in_silence(line: str, ports: dict[str, int]) -> None:
    for port in ports.values():
        ran = _again_if_busy([*line.split(), "-p", str(port)])
        warning = "Warning:  --no-fq-socket-pacing is deprecated\n"
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith(warning) == ("--no-fq" in line)
        assert ran.stdout.endswith("iperf Done.\n")
        assert ("Server output:" in ran.stdout) == ("--get-server" in line)


def _again_if_busy(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Try again if the server is busy: the real one needs a moment between two tests."""
    for _ in range(5):
        ran = warm.run(
            (*OURS, "-c", "127.0.0.1", *words), capture_output=True, text=True, timeout=30
        )
        if "busy" not in ran.stderr and "Connection refused" not in ran.stderr:
            break
    return ran


def test_flow_label_and_ipv6() -> None:
    with server(program=OURS, args=("-6", "-B", "::1")) as running:
        words = ("-c", "::1", "-p", str(running.port), "-n", "1M", "-L", "0x123", "-J")
        ran = warm.run((*OURS, *words), capture_output=True, text=True, timeout=30)
    report = json.loads(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert report["start"]["connecting_to"]["host"] == "::1"
    assert report["start"]["connected"][0]["remote_host"] == "::1"


def test_multipath() -> None:
    with server(program=OURS, args=("-m",)) as running:
        words = ("-c", "127.0.0.1", "-p", str(running.port), "-n", "1M", "-m")
        ran = warm.run((*OURS, *words), capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")
    with server(program=OURS) as running:
        words = ("-c", "127.0.0.1", "-p", str(running.port), "-n", "1M", "-m")
        ran = warm.run((*OURS, *words), capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1
    assert ran.stderr.startswith("iperf3: error - ")
    assert ran.stderr.count("\n") == 1


def test_a_file_there_and_back(tmp_path: Path) -> None:
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.write_bytes(bytes(range(256)) * 4096)
    with server(program=OURS, args=("-F", str(sink))) as running:
        words = ("-c", "127.0.0.1", "-p", str(running.port), "-F", str(source))
        ran = warm.run((*OURS, *words), capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"        Sent 1.00 MByte / 1.00 MByte (100%) of {source}\n" in ran.stdout
    assert sink.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("option", ["--sctp", "--nstreams 3", "-X lo"])
def test_what_is_refused_on_purpose(option: str) -> None:
    ran = warm.run(
        (*OURS, "-c", "127.0.0.1", *option.split()), capture_output=True, text=True, timeout=10
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("iperf3: parameter error - SCTP (--")


@pytest.mark.parametrize(
    ("limit", "asked", "sentence"),
    [
        ("--server-bitrate-limit 10M", "-b 20M", "total required bandwidth is larger than server"),
        ("--server-bitrate-limit 1M/0.2", "-t 5", "total required bandwidth is larger than server"),
        ("--server-max-duration 2", "-t 3", "client's requested duration exceeds the server's"),
        ("--server-max-duration 2", "-t 0", "client's requested duration exceeds the server's"),
    ],
)
def test_what_a_server_does_not_grant(limit: str, asked: str, sentence: str) -> None:
    with server(program=OURS, args=limit.split()) as running:
        words = ("-c", "127.0.0.1", "-p", str(running.port), *asked.split())
        ran = warm.run((*OURS, *words), capture_output=True, text=True, timeout=30)
        assert ran.returncode == 1
        assert ran.stderr.startswith(f"iperf3: error - {sentence}")
        assert census.settle(lambda: f"iperf3: error - {sentence}" in running.output, 30)
