"""Is netmeasure's TCP generator at least as fast as iperf3's in the same test?

Loopback, one stream, client and server in processes of their own, cubic on both, alternately. The
client is pinned to CPU 0 and the server to CPU 1, for both tools: left to the scheduler, iperf3
often lands on one CPU with its server and is then half as fast, which is no property of the tool.
The rate is the receiver's as each tool reports it; the last columns hold each tool's byte count
over what the kernel counted on the loopback interface (headers make it a little less than 1). CPU
is that of both ends during the test, as each tool reports it.

    python -m benchmarks.bench_tcp [--pairs N] [--time S] [--quick] [--json FILE]
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.common import Case, Column, Sample, main
from benchmarks.processes import CLIENT_CPU, counted_loopback, free_port, pinned, running
from netmeasure import Result

CONGESTION = "cubic"


COLUMNS: list[Column] = [
    ("Gbit/s", 1, lambda sample: sample.goodput_bps / 1e9),
    ("CPU s/Gbit", 3, lambda sample: sample.cpu_s_per_gbit),
    ("bytes/kernel's", 3, lambda sample: sample.accounted),
]


class TcpSample(Sample, frozen=True):
    """Hold a tool's own figures of one run, and the kernel's byte count."""

    goodput_bps: float
    cpu_s: float
    bytes: int
    kernel_bytes: int

    @property
    def rate(self) -> float:
        return self.goodput_bps

    @property
    def cpu_s_per_gbit(self) -> float:
        return self.cpu_s / (self.bytes * 8 / 1e9)

    @property
    def accounted(self) -> float:
        """Return the bytes that the tool reports over those that crossed the loopback interface."""
        return self.bytes / self.kernel_bytes


def netmeasure(seconds: float, *options: str) -> TcpSample:
    port = free_port()
    crossed: list[int] = []
    program = (sys.executable, "-m", "netmeasure")
    with running((*program, "server", "-B", "127.0.0.1", "-p", str(port)), port):
        argv = (*program, "client", f"127.0.0.1:{port}", "--json", "-C", CONGESTION)
        with counted_loopback(crossed):
            answer = subprocess.run(
                pinned(CLIENT_CPU, (*argv, "-t", str(seconds), *options)),
                capture_output=True,
                check=True,
            )
    result = Result.from_json(answer.stdout)
    flow = result.flow
    sides = (result.client, result.server)
    return TcpSample(
        goodput_bps=flow.averages.after_omit_bps or 0,
        cpu_s=sum((s.cpu_user_ns or 0) + (s.cpu_system_ns or 0) for s in sides) / 1e9,
        bytes=flow.receiver.bytes or 0,
        kernel_bytes=crossed[0],
    )


def iperf3(seconds: float, *options: str) -> TcpSample:
    port = free_port()
    crossed: list[int] = []
    with running(("iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)), port):
        argv = ("iperf3", "-c", "127.0.0.1", "-p", str(port), "-J", "-C", CONGESTION)
        with counted_loopback(crossed):
            answer = subprocess.run(
                pinned(CLIENT_CPU, (*argv, "-t", str(max(1, round(seconds))), *options)),
                capture_output=True,
                check=True,
            )
    end = json.loads(answer.stdout)["end"]
    received, cpu = end["sum_received"], end["cpu_utilization_percent"]
    return TcpSample(
        goodput_bps=received["bits_per_second"],
        cpu_s=(cpu["host_total"] + cpu["remote_total"]) / 100 * received["seconds"],
        bytes=received["bytes"],
        kernel_bytes=crossed[0],
    )


def cases(seconds: float) -> list[Case]:
    return [
        Case(
            name="copying, 128 KiB blocks",
            ours=lambda: netmeasure(seconds, "-l", "128K"),
            theirs=lambda: iperf3(seconds, "-l", "128K"),
            target=1.0,
        ),
        Case(
            name="defaults",
            ours=lambda: netmeasure(seconds),
            theirs=lambda: iperf3(seconds),
            target=1.3,
        ),
        Case(
            name="sendfile + discard against -Z",
            ours=lambda: netmeasure(
                seconds, "--send-mode", "sendfile", "--receive-mode", "discard"
            ),
            theirs=lambda: iperf3(seconds, "-Z"),
        ),
        Case(
            name="best (copy) against -Z",
            ours=lambda: netmeasure(seconds),
            theirs=lambda: iperf3(seconds, "-Z"),
            target=1.5,
        ),
        Case(
            name="four streams, defaults",
            ours=lambda: netmeasure(seconds, "-P", "4"),
            theirs=lambda: iperf3(seconds, "-P", "4"),
        ),
    ]


if __name__ == "__main__":
    main(__doc__, cases, COLUMNS)
