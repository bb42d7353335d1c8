"""Measure how much the latency probe slows down the bulk test that it accompanies.

The same test runs alternately with the probe and without it ("peer" is the one without). Compared
are the bitrates, and the probe's share of the bytes. On loopback the CPU limits the test, so a
probe costs more there than on a link. The spread of the ratios shows how much of the difference is
noise.

    python -m benchmarks.bench_latency [--pairs N] [--time S] [--quick] [--json FILE]
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.common import Case, Column, Sample, main
from benchmarks.processes import CLIENT_CPU, free_port, pinned, running
from netmeasure import Result

#: The size of a probe's payload, and of its UDP and IPv4 headers.
PROBE_BYTES = 16 + 28

COLUMNS: list[Column] = [
    ("Gbit/s", 2, lambda sample: sample.goodput_bps / 1e9),
    ("probe's share of the bytes, ppm", 2, lambda sample: sample.share * 1e6),
    ("latency under load, us", 0, lambda sample: sample.loaded_p50_ns / 1e3),
]


class LoadSample(Sample, frozen=True):
    """Hold the rate of a run, and how much its probe has sent."""

    goodput_bps: float
    bytes: int
    probes: int
    loaded_p50_ns: int

    @property
    def rate(self) -> float:
        return self.goodput_bps

    @property
    def share(self) -> float:
        """Return the probes' bytes divided by the load's, in one direction."""
        return self.probes * PROBE_BYTES / self.bytes


def load(seconds: float, *options: str) -> LoadSample:
    port = free_port()
    program = (sys.executable, "-m", "netmeasure")
    with running((*program, "server", "-B", "127.0.0.1", "-p", str(port)), port):
        argv = (*program, "client", f"127.0.0.1:{port}", "--json", "-t", str(seconds), *options)
        answer = subprocess.run(pinned(CLIENT_CPU, argv), capture_output=True, check=True)
    result = Result.from_json(answer.stdout)
    loaded = None if result.latency is None else result.latency.loaded
    return LoadSample(
        goodput_bps=result.flow.averages.after_omit_bps or 0,
        bytes=result.flow.receiver.bytes or 0,
        probes=0 if loaded is None else loaded.sent,
        loaded_p50_ns=0 if loaded is None else loaded.p50_ns or 0,
    )


def case(name: str, seconds: float, *options: str) -> Case:
    return Case(
        name=name,
        ours=lambda: load(seconds, *options),
        theirs=lambda: load(seconds, *options, "--no-latency"),
        target=0.999,
    )


def cases(seconds: float) -> list[Case]:
    return [
        case("TCP, as fast as possible", seconds),
        case("UDP, as fast as possible", seconds, "-u", "-b", "0"),
        case("TCP at 10 Mbit/s", seconds, "-b", "10M"),
    ]


if __name__ == "__main__":
    main(__doc__, cases, COLUMNS)
