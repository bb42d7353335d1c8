"""Run one real transfer on an emulated path, and record the receiving kernel's own count.

The path is the tests' relay: two namespaces joined by a line with a delay, a rate, a queue and
losses. The second count does not come from either end of the test, but from the receiver's network
device, which is read every 10 ms.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path as FilePath

import numpy as np

import netmeasure as nm
from benchmarks.recordings import HEADERS, MTU, Path, Recording
from netmeasure.result import Series

sys.path.insert(0, str(FilePath(__file__).parent.parent / "tests"))

from support.relay import Relay, available

__all__ = ["available", "measure", "measure_all"]

READ_EVERY_S = 0.01


class Counters(threading.Thread):
    """Read repeatedly how many packets and bytes a side's device has received."""

    def __init__(self, line: Relay, side: str) -> None:
        super().__init__(name="device-counters")
        self._device = f"{line.sides[side].device}:".encode()
        self._over = threading.Event()
        self.at_ns: list[int] = []
        self.payload_bytes: list[int] = []
        with line.enter(side):
            # an open file of /proc/net belongs to the namespace that it was opened in
            self._file = os.open("/proc/thread-self/net/dev", os.O_RDONLY)

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            self._read()
            self.start()
            try:
                yield
            finally:
                self._over.set()
                self.join()
            self._read()
        finally:
            os.close(self._file)

    def run(self) -> None:
        while not self._over.wait(READ_EVERY_S):
            self._read()

    def _read(self) -> None:
        at = time.monotonic_ns()
        line = os.pread(self._file, 4096, 0).split(self._device, 1)[1]
        received_bytes, packets = (int(word) for word in line.split(None, 2)[:2])
        self.at_ns.append(at)
        self.payload_bytes.append(received_bytes - HEADERS * packets)

    def series(self, begun_ns: int, origin_ns: int) -> Series:
        """Return the part from a moment on.

        `begun_ns` is on this host's clock, `origin_ns` on the clock of the series.
        """
        width = round(READ_EVERY_S * 1e9)
        edges = np.arange(begun_ns, self.at_ns[-1] + width, width)
        counts = np.interp(edges, self.at_ns, np.maximum(0, self.payload_bytes)).round()
        counts[0] = 0  # the first segments have just arrived
        return Series(
            origin_ns=origin_ns,
            width_ns=width,
            bytes=tuple(int(count) for count in np.diff(counts)),
        )


async def _transfer(line: Relay, path: Path) -> tuple[nm.Result, int]:
    """Return the result, and the moment of the client's first attempt on this host's clock."""
    spec = nm.TcpSpec(
        direction=path.direction,
        latency=False,  # its packets would count, and its time before the load is not set-up's
        timing=nm.Timing(duration_s=path.seconds),
        options=nm.SocketOptions(congestion=path.congestion),
    )
    with line.enter("server"):
        server = await nm.serve(None, 0).__aenter__()
    try:
        with line.enter("client"):
            first_ns = time.monotonic_ns()
            return await nm.measure(line.server.address, spec, port=server.port), first_ns
    finally:
        await server.close()


def measure(path: Path) -> Recording:
    """Run one transfer. The call blocks, and its thread enters namespaces."""
    upload = path.direction == "upload"
    with Relay(
        delay_ms=path.rtt_ms / 2,
        rate_bps=path.rate_bps,
        queue_bytes=path.queue_bytes,
        loss=path.loss,
        mtu=MTU,
    ) as line:
        counters = Counters(line, "server" if upload else "client")
        with counters.running():
            deadline_s = path.seconds + 30
            result, first_ns = asyncio.run(asyncio.wait_for(_transfer(line, path), deadline_s))
    flow = result.flow
    sender, receiver = flow.streams[0].sender, flow.streams[0].receiver
    assert result.complete
    assert flow.series is not None
    assert sender is not None
    assert receiver is not None
    assert receiver.last_ns is not None
    assert sender.tcp_info is not None
    assert sender.tcp_info.min_rtt_ns is not None
    assert sender.tcp_info.mss_bytes is not None
    (first,) = (phase for phase in result.setup if phase.name == "first_byte")
    # a sender learns half a round trip later that its first byte was received
    begun_ns = first_ns + first.end_ns - (round(path.rtt_ms / 2 * 1e6) if upload else 0)
    return Recording(
        command="python -m benchmarks.bench_paths --record DIR",
        date=datetime.now(UTC).date().isoformat(),
        linux=platform.release(),
        path=path,
        series=flow.series,
        last_ns=receiver.last_ns,
        rtt_ns=sender.tcp_info.min_rtt_ns[-1],
        mss_bytes=sender.tcp_info.mss_bytes[-1],
        overrun_packets=line.counts["up" if upload else "down"].overrun_packets,
        kernel=counters.series(begun_ns, flow.series.origin_ns),
    )


def measure_all(paths: Sequence[Path], at_a_time: int) -> Iterator[Recording]:
    """Run transfers in order, `at_a_time` of them at once, each in namespaces of its own."""
    with ThreadPoolExecutor(at_a_time) as threads:
        yield from threads.map(measure, paths)
