"""How many datagrams can netmeasure send and receive, side by side with iperf3?

Loopback, one stream, no target rate, client and server in processes of their own and pinned to a
CPU each, alternately; 64 to 8900 bytes of payload, without and with segmentation offload (which
iperf3 3.12 does not have). The rate that counts is that of the datagrams received, as each tool's
own receiver reports them, over the time of the test. CPU is that of both ends during the test, as
each tool reports it, per million datagrams received.

    python -m benchmarks.bench_udp [--pairs N] [--time S] [--quick] [--json FILE]
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.common import Case, Column, Sample, main
from benchmarks.processes import CLIENT_CPU, free_port, pinned, running
from netmeasure import Result

SIZES = (64, 512, 1400, 8900)


class UdpSample(Sample, frozen=True):
    """Hold a tool's own figures of one run."""

    sent_packets: int
    received_packets: int
    datagram_bytes: int
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.received_packets / self.seconds


COLUMNS: list[Column] = [
    ("received Mpackets/s", 3, lambda s: s.rate / 1e6),
    ("received Gbit/s", 2, lambda s: s.rate * s.datagram_bytes * 8 / 1e9),
    ("sent Mpackets/s", 3, lambda s: s.sent_packets / s.seconds / 1e6),
    ("lost %", 1, lambda s: 100 * (1 - s.received_packets / s.sent_packets)),
    ("CPU s/Mpacket", 2, lambda s: s.cpu_s / s.received_packets * 1e6),
]


def netmeasure(seconds: float, size: int, *options: str) -> UdpSample:
    port = free_port()
    program = (sys.executable, "-m", "netmeasure")
    with running((*program, "server", "-B", "127.0.0.1", "-p", str(port)), port):
        argv = (*program, "client", f"127.0.0.1:{port}", "--json", "-u", "-b", "0")
        answer = subprocess.run(
            pinned(CLIENT_CPU, (*argv, "-t", str(seconds), "-l", str(size), *options)),
            capture_output=True,
            check=True,
        )
    result = Result.from_json(answer.stdout)
    loss = result.flow.loss
    assert loss is not None
    sides = (result.client, result.server)
    return UdpSample(
        sent_packets=loss.sent_packets or 0,
        received_packets=loss.received_packets or 0,
        datagram_bytes=size,
        seconds=seconds,
        cpu_s=sum((s.cpu_user_ns or 0) + (s.cpu_system_ns or 0) for s in sides) / 1e9,
    )


def iperf3(seconds: float, size: int) -> UdpSample:
    port = free_port()
    with running(("iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)), port):
        argv = ("iperf3", "-c", "127.0.0.1", "-p", str(port), "-J", "-u", "-b", "0")
        answer = subprocess.run(
            pinned(CLIENT_CPU, (*argv, "-t", str(round(seconds)), "-l", str(size))),
            capture_output=True,
            check=True,
        )
    end = json.loads(answer.stdout)["end"]
    stream, cpu = end["streams"][0]["udp"], end["cpu_utilization_percent"]
    return UdpSample(
        sent_packets=stream["packets"],
        received_packets=stream["packets"] - stream["lost_packets"],
        datagram_bytes=size,
        seconds=stream["seconds"],
        cpu_s=(cpu["host_total"] + cpu["remote_total"]) / 100 * stream["seconds"],
    )


def plain(seconds: float, size: int) -> Case:
    return Case(
        name=f"{size} bytes, no offload",
        ours=lambda: netmeasure(seconds, size, "--no-offload"),
        theirs=lambda: iperf3(seconds, size),
        target=1.0,
    )


def offloaded(seconds: float, size: int) -> Case:
    return Case(
        name=f"{size} bytes, offload",
        ours=lambda: netmeasure(seconds, size),
        theirs=lambda: iperf3(seconds, size),
        target=10.0 if size == 1400 else None,
    )


def cases(seconds: float) -> list[Case]:
    whole = float(max(1, round(seconds)))  # iperf3 takes whole seconds only
    return [make(whole, size) for size in SIZES for make in (plain, offloaded)]


if __name__ == "__main__":
    main(__doc__, cases, COLUMNS)
