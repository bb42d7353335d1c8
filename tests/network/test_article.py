"""Repeat the article's experiment with set-up reported separately: files by HTTP and FTP over a
network that comes up late.

Real nginx, real vsftpd and curl in namespaces, on a link of 500 Mbit/s. Whatever is late, the
steady bitrate must be the link's rate, the time to connect must agree with the packets on the wire,
and curl's figure must be in the result under its own name.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.report import words
from support import servers
from support.netns import Network
from support.servers import FileServer

pytestmark = [
    pytest.mark.network,
    pytest.mark.rates,
    pytest.mark.skipif(
        bool(servers.available("nginx", "vsftpd", "curl", "tcpdump")),
        reason=servers.available("nginx", "vsftpd", "curl", "tcpdump") or "",
    ),
]

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]

#: SYNs go out at 0 and 1 s, so connecting takes 1 s.
LATE_S = 0.5
#: Server and client fill this rate even while other processes use the CPUs.
RATE = "500mbit"
FILE = "file.dat"
FILE_BYTES = 125 * 1024 * 1024
_SYN = re.compile(r"^(\d+\.\d+) IP \S+\.(\d+) > \S+\.(\d+): Flags \[(S\.?)\]", re.MULTILINE)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape(RATE)
        pair.sysctl("client", "net.ipv4.tcp_syn_linear_timeouts", 0)
        pair.congestion("cubic")
        yield pair


@pytest.fixture(scope="module", params=["http", "ftp"])
def server(request: pytest.FixtureRequest, network: Network) -> Iterator[FileServer]:
    make = servers.nginx if request.param == "http" else servers.vsftpd
    with make(network) as running:
        running.add(FILE, FILE_BYTES)
        servers.curl(running.url(FILE), network)  # the kernel caches its TCP metrics
        yield running


def lateness(network: Network, late: str | None) -> contextlib.AbstractContextManager[None]:
    if late == "control":
        return network.late(LATE_S)
    if late == "data":
        return network.late_ports(*servers.PASSIVE_PORTS, LATE_S)
    return contextlib.nullcontext()


@contextlib.contextmanager
def traced(network: Network) -> Iterator[list[str]]:
    """Record the SYNs and their answers at the client with tcpdump."""
    lines: list[str] = []
    command = ["tcpdump", "-i", network.client.device, "-tt", "-n", "--immediate-mode", "-l"]
    process = network.popen(
        "client",
        [*command, "tcp[tcpflags] & tcp-syn != 0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "listening" not in (line := process.stderr.readline()):
        assert line, "tcpdump did not start"
    try:
        yield lines
    finally:
        process.terminate()
        seen, _ = process.communicate(timeout=10)
        lines += seen.splitlines()


def connects(lines: list[str]) -> list[tuple[float, int]]:
    """Return (seconds from first SYN to answer, repeated SYNs) of each connection, in order."""
    syns: dict[str, list[float]] = {}
    found: list[tuple[float, int]] = []
    for match in _SYN.finditer("\n".join(lines)):
        at, source, target, flags = float(match[1]), match[2], match[3], match[4]
        if flags == "S":
            syns.setdefault(source, []).append(at)
        elif target in syns:
            sent = syns.pop(target)
            found.append((at - sent[0], len(sent) - 1))
    return found


def measured(
    network: Network, server: FileServer, run_once: RunOnce
) -> tuple[nm.Result, list[tuple[float, int]]]:
    with traced(network) as lines, network.enter("client"):
        result = run_once(nm.measure(server.url(FILE)))
    return result, connects(lines)


def check_rate(result: nm.Result) -> None:
    assert result.complete
    assert result.flow.receiver.bytes == FILE_BYTES
    steady = result.flow.steady
    assert steady is not None
    assert steady.verdict == "steady"
    assert steady.goodput_bps == pytest.approx(Network.payload_ceiling_bps(RATE), rel=0.005)


def check_connects(result: nm.Result, seen: list[tuple[float, int]]) -> None:
    phases = [phase for phase in result.setup if phase.name == "connect"]
    assert len(phases) == len(seen)
    for phase, (seconds, syns) in zip(phases, seen, strict=True):
        assert phase.duration_ns / 1e9 == pytest.approx(seconds, abs=0.02)
        assert phase.syn_retransmits == syns


def check_curls_figure(result: nm.Result, curls: list[servers.Curl]) -> None:
    """Compare with the nearest of curl's runs, since the kernel's timers let the time of a
    retransmitted SYN vary by about 30 ms."""
    ours = result.flow.averages.from_first_attempt_bps
    assert ours is not None
    assert min(abs(ours / (curl.speed_download * 8) - 1) for curl in curls) < 0.01


def test_on_time(network: Network, server: FileServer, run_once: RunOnce) -> None:
    curl = servers.curl(server.url(FILE), network)
    result, seen = measured(network, server, run_once)
    check_rate(result)
    check_connects(result, seen)
    check_curls_figure(result, [curl])
    assert result.syn_retransmits == 0
    assert words.distortion(result, result.flow) is None


@pytest.mark.parametrize("late", ["control", "data"])
def test_late(late: str, network: Network, server: FileServer, run_once: RunOnce) -> None:
    if late == "data" and server.scheme == "http":
        pytest.skip("HTTP has no data connection of its own")
    curls = []
    for _ in range(2):
        with lateness(network, late):
            curls.append(servers.curl(server.url(FILE), network))
    with lateness(network, late):
        result, seen = measured(network, server, run_once)
    check_rate(result)
    check_connects(result, seen)
    check_curls_figure(result, curls)
    assert result.syn_retransmits == 1
    assert result.set_up_ns is not None
    assert result.set_up_ns > 1e9
    sentence = words.distortion(result, result.flow)
    assert sentence is not None
    assert "1 SYN retransmission" in sentence


def test_the_output_of_tcpdump_is_parsed() -> None:
    """Check that the parsers of tcpdump's output match its lines."""
    assert shutil.which("tcpdump")
    lines = [
        "5.25 IP 10.77.0.1.40000 > 10.77.0.2.80: Flags [S], seq 1, win 2, length 0",
        "6.25 IP 10.77.0.1.40000 > 10.77.0.2.80: Flags [S], seq 1, win 2, length 0",
        "6.5 IP 10.77.0.2.80 > 10.77.0.1.40000: Flags [S.], seq 1, ack 2, win 2, length 0",
    ]
    assert connects(lines) == [(1.25, 1)]


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_ten_gibibytes_are_exact(scheme: str, run_once: RunOnce) -> None:
    """Transfer more bytes than 32 bits can count, on a link without a rate limit, from netmeasure's
    server, since creating a file of that size takes longer than sending it."""
    size = 10 * 1024**3
    spec = {"http": nm.HttpSpec, "ftp": nm.FtpSpec}[scheme](receive_mode="discard")
    program = [sys.executable, "-m", "netmeasure", "server", "-p", "0", f"--{scheme}", "0"]
    with Network() as fast:
        fast.congestion("cubic")
        server = fast.popen("server", program, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        line = next(line for line in server.stdout if line.startswith("serving"))
        port = line.rsplit(":", 1)[1].strip()
        with fast.enter("client"):
            result = run_once(nm.measure(f"{scheme}://{fast.server.address}:{port}/10GiB", spec))
        server.terminate()
        server.communicate(timeout=10)
    assert result.flow.receiver.bytes == size
    assert result.flow.series is not None
    assert result.flow.series.total_bytes == size
    (stream,) = result.flow.streams
    assert stream.receiver is not None
    assert stream.receiver.transfer is not None
    assert stream.receiver.transfer.native_bytes == pytest.approx(size, abs=1_000_000)
