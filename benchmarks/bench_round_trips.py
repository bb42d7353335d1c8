"""Compare round trips on kept connections (`--rr`) with sockperf, qperf and a plain C loop.

All of it is on loopback. With one connection, each tool's client is on CPU 0 and its server on
CPU 1; with 100 connections, nothing is pinned. The plain loop (`plain_rr.c`) has blocking calls and
a thread for each connection at each end. sockperf's messages have at least 14 bytes, and our
datagrams 16. qperf reports half of a round trip.

    python -m benchmarks.bench_round_trips [--pairs N] [--time S] [--quick] [--json FILE]
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import Case, Column, Sample, main
from benchmarks.processes import CLIENT_CPU, SERVER_CPU, free_port, pinned, wait_listening
from netmeasure.result import Result

SOURCE = Path(__file__).with_name("plain_rr.c")
MANY = 100
#: The shortest messages of sockperf, and of our round trips by UDP, whose datagrams are numbered.
SOCKPERF_BYTES, UDP_BYTES = 14, 16


class TripSample(Sample, frozen=True):
    """Hold the round trips of one run."""

    transactions: float
    seconds: float

    @property
    def rate(self) -> float:
        return self.transactions / self.seconds


COLUMNS: list[Column] = [("round trips/s", 0, lambda sample: sample.rate)]


def compiled(folder: Path) -> Path:
    """Return the plain loop's program."""
    program = folder / "plain_rr"
    subprocess.run(["cc", "-O2", "-pthread", "-o", str(program), str(SOURCE)], check=True)
    return program


@contextmanager
def server(words: list[str], port: int, *, single: bool, tcp: bool = True) -> Iterator[None]:
    """Run a server: on its CPU if there is only one connection."""
    argv = pinned(SERVER_CPU, words) if single else tuple(words)
    null = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdout=null, stderr=null)
    try:
        if tcp:
            wait_listening(port)
        else:
            _wait_bound(port)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_bound(port: int) -> None:
    """Wait until a process has the UDP port, by the kernel's table."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if any(
            line.split()[1].endswith(f":{port:04X}")
            for line in Path("/proc/net/udp").read_text().splitlines()[1:]
        ):
            return
        time.sleep(0.02)
    raise SystemExit(f"nothing is bound to UDP port {port} after 10 s")


def client(words: list[str], *, single: bool) -> str:
    argv = pinned(CLIENT_CPU, words) if single else tuple(words)
    return subprocess.run(argv, capture_output=True, check=True, text=True).stdout


def ours(seconds: float, transport: str, size: int, connections: int) -> TripSample:
    port, single = free_port(), connections == 1
    program = [sys.executable, "-m", "netmeasure"]
    words = [*program, "client", "127.0.0.1", "-p", str(port), "--rr", "--json"]
    words += ["-t", f"{seconds:g}", "-P", str(connections)]
    words += ["--request-size", str(size), "--response-size", str(size)]
    words += ["-u"] if transport == "udp" else []
    with server([*program, "server", "-B", "127.0.0.1", "-p", str(port)], port, single=single):
        trips = Result.from_json(client(words, single=single)).round_trips
    assert trips is not None
    return TripSample(trips.transactions, seconds)


def plain(seconds: float, transport: str, size: int, connections: int, program: Path) -> TripSample:
    """Return what the plain loop makes, which pins itself."""
    words = [transport, "127.0.0.1", f"{seconds:g}", str(size), str(connections)]
    found = json.loads(client([str(program), *words], single=False))
    return TripSample(found["transactions"], found["seconds"])


def sockperf(seconds: float, transport: str, size: int) -> TripSample:
    port = free_port()
    at = ["-i", "127.0.0.1", "-p", str(port), *(["--tcp"] if transport == "tcp" else [])]
    asked = ["-t", f"{max(seconds, 1):g}", "-m", str(size)]
    with server(["sockperf", "server", *at], port, single=True, tcp=transport == "tcp"):
        said = client(["sockperf", "ping-pong", *at, *asked], single=True)
    found = re.search(r"Valid Duration\] RunTime=([\d.]+).*?ReceivedMessages=(\d+)", said)
    assert found is not None, said
    return TripSample(float(found[2]), float(found[1]))


def qperf(seconds: float, transport: str, size: int) -> TripSample:
    port = free_port()
    words = ["qperf", "127.0.0.1", "-lp", str(port), "-t", f"{max(seconds, 1):g}", "-vvs", "-u"]
    with server(["qperf", "-lp", str(port)], port, single=True):
        said = client([*words, "-m", str(size), f"{transport}_lat"], single=True)
    found = re.search(r"latency\s*=\s*([\d.,]+)\s*(\w+)", said)
    assert found is not None, said
    unit = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}[found[2]]
    half_s = float(found[1].replace(",", "")) * unit
    return TripSample(1 / (2 * half_s), 1.0)


def make_cases(folder: Path, seconds: float) -> list[Case]:
    program = compiled(folder)
    cases = []
    for transport, least in (("tcp", 1), ("udp", UDP_BYTES)):

        def case(
            connections: int,
            size: int,
            name: str,
            target: float,
            peer: Callable[..., TripSample],
            *more: Any,
            transport: str = transport,
        ) -> Case:
            return Case(
                f"{transport.upper()}, {connections} at a time, {size} bytes: {name}",
                lambda: ours(seconds, transport, size, connections),
                lambda: peer(seconds, transport, size, *more),
                target,
            )

        cases.append(case(1, least, "plain C", 0.95, plain, 1, program))
        cases.append(case(MANY, least, "plain C", 0.95, plain, MANY, program))
        if shutil.which("sockperf"):
            cases.append(case(1, max(least, SOCKPERF_BYTES), "sockperf", 1.0, sockperf))
        if shutil.which("qperf"):
            cases.append(case(1, least, "qperf", 1.0, qperf))
    return cases


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(__doc__, lambda seconds: make_cases(Path(directory), seconds), COLUMNS)
