"""Measure by a packet trace, not by the sender's own counts, how evenly a UDP sender paces.

The program uses two network namespaces on a veth link. tcpdump on the sender's end stamps every
packet (the kernel's clock, nanoseconds). For each target rate, netmeasure and iperf3 run
alternately:

    rate error       payload of the whole trace over its time, against the target
    worst 100 ms     the largest deviation of any 100 ms of it
    longest train    the longest run of datagrams that follow each other at more than 4 times the
                     target rate (a kernel-cut train counts whole)
    policer's burst  the depth that a token bucket, filled at the target rate, must have to let all
                     datagrams pass; and the burst that the sender itself reports
    gap spread       standard deviation of the time between packets

The host is responsible for a part of the deviations: a thread that is not run for 4 ms can't send
for 4 ms. Needs root and tcpdump.

    python -m benchmarks.pacing_trace [--time S] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common import host_facts

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import iperf3
from support.netns import Network, available

#: Small datagrams at the low rate: nine of 1400 bytes in 100 ms are too few to measure evenness.
TARGETS = {1_000_000: 125, 100_000_000: 1400, 300_000_000: 1400, 800_000_000: 1400}
SLICE_S = 0.1
_SNAPLEN = 64
_HAND_OVER_S = 1.0  # tcpdump gets its packets in blocks, after this time at the latest


class Trace(msgspec.Struct, frozen=True):
    """Hold what the packets of one run show."""

    tool: str
    target_bps: int
    packets: int
    rate_error: float
    worst_slice_error: float
    longest_train_bytes: int
    policer_burst_bytes: int
    said_burst_bytes: int | None
    gap_spread_us: float

    def as_ms(self, size: int) -> float:
        """Return how long so many bytes take at the target rate."""
        return size * 8e3 / self.target_bps


def read_pcap(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (times in ns, UDP payload bytes) of the packets of a nanosecond pcap file."""
    data = path.read_bytes()
    (magic,) = struct.unpack_from("=I", data)
    if magic != 0xA1B23C4D:
        raise SystemExit(f"{path} is no pcap file with nanoseconds")
    times, sizes, offset = [], [], 24
    while offset + 16 <= len(data):
        seconds, nanoseconds, captured, _ = struct.unpack_from("=IIII", data, offset)
        (udp_bytes,) = struct.unpack_from("!H", data, offset + 16 + 14 + 24)
        times.append(seconds * 1_000_000_000 + nanoseconds)
        sizes.append(udp_bytes - 8)
        offset += 16 + captured
    return np.array(times), np.array(sizes)


def token_bucket_depth(target_bps: int, times: np.ndarray, sizes: np.ndarray) -> int:
    """Return the depth (bytes) that a token bucket must have to let every packet pass.

    The bucket is filled at the target rate. What a packet takes out is missing until the rate has
    put it back; the depth is the most that is ever missing.
    """
    taken = np.cumsum(sizes)
    refilled = (times - times[0]) * (target_bps / 8e9)
    # missing before the first packet: nothing; the bucket never holds more than its depth
    level = (taken - sizes) - refilled
    return int(np.max(taken - refilled - np.minimum.accumulate(level)))


def judge(
    tool: str,
    target_bps: int,
    seconds: float,
    times: np.ndarray,
    sizes: np.ndarray,
    said_burst_bytes: int | None = None,
) -> Trace:
    """Compute the figures of one run from its packets."""
    data = sizes >= TARGETS[target_bps]  # hellos are shorter
    times, sizes = times[data], sizes[data]
    at = times - times[0]
    whole = at < seconds * 1e9
    slices = round(seconds / SLICE_S)
    per_slice, _ = np.histogram(
        at[whole], bins=slices, range=(0, seconds * 1e9), weights=sizes[whole]
    )
    wanted = target_bps / 8 * SLICE_S
    gaps = np.diff(at)
    # the gap that the datagrams before it should have caused, against the gap in the trace
    close = gaps < sizes[:-1] * 8e9 / target_bps / 4
    runs = np.split(sizes, np.flatnonzero(~close) + 1)
    return Trace(
        tool=tool,
        target_bps=target_bps,
        packets=int(sizes.sum()) // TARGETS[target_bps],
        rate_error=float(sizes[whole].sum() * 8 / seconds / target_bps - 1),
        worst_slice_error=float(np.max(np.abs(per_slice / wanted - 1))),
        longest_train_bytes=int(max(run.sum() for run in runs)),
        policer_burst_bytes=token_bucket_depth(target_bps, times, sizes),
        said_burst_bytes=said_burst_bytes,
        gap_spread_us=float(gaps.std() / 1e3),
    )


@contextmanager
def tracing(network: Network, into: Path) -> Iterator[None]:
    argv = ["tcpdump", "-i", network.client.device, "-Q", "out", "-n", "-B", "65536"]
    argv += ["-s", str(_SNAPLEN), "--time-stamp-precision=nano", "-w", str(into), "udp"]
    process = network.popen("client", argv, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "listening" not in (line := process.stderr.readline()):
        if not line:
            raise SystemExit("tcpdump did not start")
    try:
        yield
        time.sleep(2 * _HAND_OVER_S)
    finally:
        process.terminate()
        told = process.communicate(timeout=30)[1]
    if "0 packets dropped by kernel" not in told:
        raise SystemExit(f"the trace has holes: {told.strip()}")


def netmeasure(network: Network, target_bps: int, seconds: float) -> int:
    """Run a test of ours. Return the largest burst that the sender reports."""
    program = (sys.executable, "-m", "netmeasure")
    server = network.popen(
        "server", (*program, "server", "-p", "0"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().rsplit(":", 1)[1].split()[0]
        options = (
            "-u",
            "-b",
            str(target_bps),
            "-l",
            str(TARGETS[target_bps]),
            "-t",
            str(seconds),
            "--json",
        )
        argv = (*program, "client", network.server.address, "-p", port, *options)
        ran = subprocess.run(network.command("client", argv), check=True, stdout=-1, timeout=60)
    finally:
        server.terminate()
        server.communicate()
    (stream,) = json.loads(ran.stdout)["flows"][0]["streams"]
    return int(stream["sender"]["datagrams"]["largest_burst_bytes"])


def peer(network: Network, target_bps: int, seconds: float) -> None:
    with iperf3.server(network) as server:
        options = (
            "-u",
            "-b",
            str(target_bps),
            "-l",
            str(TARGETS[target_bps]),
            "-t",
            f"{seconds:.0f}",
        )
        iperf3.client(network.server.address, server.port, *options, network=network)


def measure(network: Network, seconds: float) -> Iterator[Trace]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "trace.pcap")
        for target_bps in TARGETS:
            for tool, run in (("netmeasure", netmeasure), ("iperf3", peer)):
                with tracing(network, path):
                    said = run(network, target_bps, seconds)
                yield judge(tool, target_bps, seconds, *read_pcap(path), said)


def table(traces: Sequence[Trace]) -> Table:
    drawn = Table(title="from packet traces", title_justify="left")
    for name in ("target Mbit/s", "tool", "datagrams", "of bytes", "rate error", "worst 100 ms"):
        drawn.add_column(name, justify="right")
    for name in ("longest train", "policer's burst", "said"):
        drawn.add_column(name, justify="right")
    drawn.add_column("gap spread", justify="right")
    for trace in traces:
        drawn.add_row(
            f"{trace.target_bps / 1e6:g}",
            trace.tool,
            str(trace.packets),
            str(TARGETS[trace.target_bps]),
            f"{100 * trace.rate_error:+.3f} %",
            f"{100 * trace.worst_slice_error:.2f} %",
            *(
                "-" if burst is None else f"{burst} bytes, {trace.as_ms(burst):.2f} ms"
                for burst in (
                    trace.longest_train_bytes,
                    trace.policer_burst_bytes,
                    trace.said_burst_bytes,
                )
            ),
            f"{trace.gap_spread_us:.1f} us",
        )
    return drawn


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--time", type=float, default=10.0, help="seconds of each run")
    options.add_argument("--quick", action="store_true", help="one second each: does it work?")
    options.add_argument("--json", metavar="FILE", help="every figure and the host facts")
    chosen = options.parse_args()
    reason = available() or (None if shutil.which("tcpdump") else "tcpdump is not installed")
    if reason:
        raise SystemExit(f"can't run: {reason}")
    facts, console = host_facts(), Console(width=None if sys.stdout.isatty() else 140)
    console.print(facts, highlight=False)
    with Network() as network:
        traces = list(measure(network, 1.0 if chosen.quick else chosen.time))
    console.print(table(traces), highlight=False)
    if chosen.json:
        document = {"host": facts, "traces": msgspec.to_builtins(traces)}
        Path(chosen.json).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
