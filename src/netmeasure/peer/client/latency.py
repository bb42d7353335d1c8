"""Measure the latency beside a bulk test: before the load, and under it.

The probe uses UDP to the server's port, on its own socket. If the probe fails, the test goes on
without it, and the result gives the reason.
"""

from __future__ import annotations

import asyncio
import math

from netmeasure.clock import nanoseconds, now_ns, seconds
from netmeasure.errors import MeasureError
from netmeasure.peer.client.connect import Connector
from netmeasure.peer.client.control import ClientControl
from netmeasure.protocol import LATENCY, STAMPS
from netmeasure.result.latency import Latency
from netmeasure.spec import PeerSpec, RrSpec, UdpSpec
from netmeasure.workloads.base import Workload
from netmeasure.workloads.latency import Probe

#: Before the load: this number of probes, at this rate, suffices for a 99th percentile.
IDLE_PROBES, IDLE_PER_S = 105, 400.0
#: The rate if the shortest round trip of the control connection took less than this time. Within a
#: host or a local network, probes may come at more than 1 Mbit/s, and the test begins sooner.
NEAR_US, NEAR_PER_S = 1000, 2500.0
#: Before a short test there are fewer probes, which take this share of its time, but at least this
#: number.
IDLE_SHARE, FEWEST_IDLE = 0.1, 10
#: After this time, a kernel that was told to take time stamps of packets does so.
STAMPED_S = 0.01
#: Under load: the highest and the lowest number of probes per second.
MOST_PER_S, LEAST_PER_S = 100.0, 1.0
#: The highest rate beside a load that may need all CPUs, so that the probe's threads use little CPU
#: time; in a short test, the rate that a 99th percentile needs.
HEAVY_PER_S, WANTED_PROBES = 20.0, 110
#: From these rates on, a load may need all CPUs.
HEAVY_BPS, HEAVY_PPS = 2e9, 1e5
#: The probe's share of the bulk rate. It uses the same rate in both directions.
SHARE = 0.001
#: The bits of a probe on an Ethernet link: the shortest frame, preamble and gap.
PROBE_BITS = 84 * 8
#: The rate of the load is checked after the first time, then at increasing intervals up to the
#: second one.
FIRST_LOOK_S, LAST_LOOK_S = 0.1, 1.0
POLL_S = 0.002
#: If a server runs more concurrent tests than this, it gets no probes.
MOST_TESTS = 8


class LatencyWatch:
    """Probe the path of one test. All methods may be called even if there is no probe."""

    def __init__(self, spec: PeerSpec, control: ClientControl, connector: Connector) -> None:
        #: why there is no probe; None: there is a probe, or none was requested
        self.missing: str | None = None
        self._spec = spec
        self._control = control
        self._connector = connector
        self._probe: Probe | None = None
        self._idle_per_s = IDLE_PER_S
        self._idle_probes = 0
        self._over = False

    def is_due(self) -> bool:
        """Return whether there is to be a probe. If one was requested and can't be, `missing` gives
        the reason."""
        if isinstance(self._spec, RrSpec) or not self._spec.latency:
            return False
        if not self._control.extended:
            self.missing = "the server is a plain iperf3"
        elif LATENCY not in self._control.kinds:
            self.missing = "the server is an older netmeasure"
        elif (running := self._control.concurrent_tests) > MOST_TESTS:
            self.missing = f"{running} tests ran on the server when this one began"
        return self.missing is None

    async def idle(self) -> None:
        """Open the probe, and measure the path before the load."""
        await self._open()
        if self._probe is not None:
            await asyncio.sleep(STAMPED_S)
            self._idle_per_s = idle_per_s(self._control.channel.min_rtt_us)
            self._idle_probes = idle_probes(self._spec.limit_s, self._idle_per_s)
            self._probe.send("idle", self._idle_per_s, self._idle_probes)
            await self._all_sent(self._probe)
            self._probe.pause()
            await self._rest()
            if self._probe.is_broken:
                await self._probe.close()
                self._probe = None
                self.missing = f"{self._connector.address} has ended the probe"

    async def _open(self) -> None:
        try:
            sock = await self._connector.open_probe()
            self._probe = Probe(sock, stamped=STAMPS in self._control.kinds)
        except MeasureError as exc:
            self.missing = str(exc)

    async def _all_sent(self, probe: Probe) -> None:
        """Wait until all probes before the load are sent, for at most twice their planned time."""
        end_ns = now_ns() + nanoseconds(2 * self._idle_probes / self._idle_per_s)
        while True:
            if probe.sent_idle >= self._idle_probes or probe.is_broken or now_ns() >= end_ns:
                return
            await asyncio.sleep(POLL_S)

    async def _rest(self) -> None:
        """Wait for the outstanding answers."""
        while True:
            if self._probe is None or self._probe.is_quiet():
                return
            await asyncio.sleep(POLL_S)

    async def follow(self, workload: Workload) -> None:
        """Measure the path under load, from the end of the omitted time to the end of the test, and
        keep the probe's share of the rate small."""
        probe, limit_s = self._probe, self._spec.limit_s
        if probe is None:
            return
        begin_ns = (workload.origin_ns or now_ns()) + nanoseconds(self._spec.timing.omit_s)
        end_ns = None if limit_s is None else begin_ns + nanoseconds(limit_s)
        await _until(begin_ns)
        per_s, wait_s = self._per_s(workload), FIRST_LOOK_S
        while not self._over:
            probe.send("loaded", per_s)
            look_ns = now_ns() + nanoseconds(wait_s)
            await _until(look_ns if end_ns is None else min(look_ns, end_ns))
            if end_ns is not None and now_ns() >= end_ns:
                self.end_load()
            per_s, wait_s = self._per_s(workload), min(2 * wait_s, LAST_LOOK_S)

    def _per_s(self, workload: Workload) -> float:
        """Return the number of probes per second for the rate of the load so far."""
        spec, elapsed_ns = self._spec, now_ns() - (workload.origin_ns or 0)
        if elapsed_ns < nanoseconds(FIRST_LOOK_S):
            return MOST_PER_S
        moved = workload.moved_bytes() / (2 if spec.direction == "both" else 1)
        rate_bps = 8 * moved / seconds(elapsed_ns)
        most = MOST_PER_S
        size = spec.datagram_bytes if isinstance(spec, UdpSpec) else None
        if rate_bps > HEAVY_BPS or (size and rate_bps > 8 * size * HEAVY_PPS):
            most = min(max(HEAVY_PER_S, WANTED_PROBES / (spec.limit_s or math.inf)), MOST_PER_S)
        return min(max(SHARE * rate_bps / PROBE_BITS, LEAST_PER_S), most)

    def end_load(self) -> None:
        """Stop sending probes, because the load ends."""
        self._over = True
        if self._probe is not None:
            self._probe.pause()

    async def finish(self) -> None:
        """Wait for the last answers, then end the probe's thread."""
        self.end_load()
        await self._rest()
        await self.close()

    async def close(self) -> None:
        """End the probe's thread at once. A second call has no effect."""
        self._over = True
        if self._probe is not None:
            await self._probe.close()

    def latency(self, origin_ns: int | None) -> Latency | None:
        """Return what was measured, with times counted from `origin_ns`; None: there is no probe.
        Call after `close`."""
        if self._probe is None:
            return None
        return self._probe.latency(now_ns() if origin_ns is None else origin_ns)


def idle_per_s(min_rtt_us: int | None) -> float:
    """Return the number of probes per second before the load, on a path with this round trip; None:
    it is unknown."""
    return IDLE_PER_S if min_rtt_us is None or min_rtt_us >= NEAR_US else NEAR_PER_S


def idle_probes(limit_s: float | None, per_s: float) -> int:
    """Return how many probes precede a test of the given duration; None: no duration is set."""
    if limit_s is None:
        return IDLE_PROBES
    return min(max(int(IDLE_SHARE * limit_s * per_s), FEWEST_IDLE), IDLE_PROBES)


async def _until(moment_ns: int) -> None:
    """Wait until a moment of CLOCK_MONOTONIC."""
    await asyncio.sleep(max(0.0, seconds(moment_ns - now_ns())))
