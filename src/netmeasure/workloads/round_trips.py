"""Send requests by TCP or UDP and time their responses, or answer requests."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Protocol

from msgspec.structs import replace

from netmeasure import analysis
from netmeasure._fast.round_trips import (
    DatagramRequester,
    DatagramResponder,
    Histogram as NativeHistogram,
    Requester,
    Responder,
    SharedLoop,
)
from netmeasure._fast.worker import Stream
from netmeasure.clock import SECOND_NS
from netmeasure.engine.threads import TrafficThread
from netmeasure.protocol import ANSWER, HELLO, MAX_HELLO_BYTES
from netmeasure.result import Role, Series, StreamInterval, StreamReport
from netmeasure.result.histogram import Histogram
from netmeasure.result.round_trips import LatencySeries, RoundTrips
from netmeasure.workloads.base import DataStream, Plan, Workload
from netmeasure.workloads.stream_report import relative
from netmeasure.workloads.tcp import TcpPlan, TcpWorkload
from netmeasure.workloads.udp import UdpPlan, UdpWorkload


class RoundTripPlan(TcpPlan, frozen=True, kw_only=True):
    """Describe what this end does with its connections; see TcpPlan. The client's streams have the
    role of senders (of requests), the server's that of receivers.

    in_flight  the most requests without a response at a time, on each connection
    per_s      requests per second on each connection; None: one after each response
    """

    response_bytes: int
    in_flight: int = 1
    per_s: int | None = None

    @property
    def request_bytes(self) -> int:
        """Return the length of a request."""
        return self.block_bytes


class DatagramTripPlan(UdpPlan, frozen=True, kw_only=True):
    """Describe what this end does with its UDP streams; see UdpPlan. `datagram_bytes` is the length
    of a request, `per_s` is as in RoundTripPlan.

    lost_after_ns  a request without a response after this time counts as lost
    """

    response_bytes: int
    in_flight: int = 1
    per_s: int | None = None
    lost_after_ns: int = SECOND_NS


def shared_threads(cpu: int | None) -> int:
    """Return how many threads share the connections of a test at most. `cpu`: their only CPU."""
    return 1 if cpu is not None else len(os.sched_getaffinity(0))


class Trips(Workload):
    """Count round trips: the common part of the TCP and the UDP workload.

    There are at most as many threads as CPUs, which share the connections. At a set rate each
    connection has a thread, since no connection's requests are to wait for another's.
    """

    plan: RoundTripPlan | DatagramTripPlan

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._most = shared_threads(plan.cpu)
        self._shared: list[tuple[SharedLoop, TrafficThread]] = []

    def _thread(self, loop: Stream, role: Role, stream_id: int) -> TrafficThread:
        if self.plan.per_s is not None or not isinstance(loop, Requester | Responder):
            return super()._thread(loop, role, stream_id)
        if len(self._shared) < self._most:
            shared = SharedLoop()
            name = f"netmeasure-{role}-{stream_id}"
            self._shared.append((shared, TrafficThread(shared, name, self.plan.cpu)))
        shared, thread = self._shared[len(self._streams) % self._most]
        shared.add(loop)
        return thread

    @property
    def _request_bytes(self) -> int:
        """Return the length of a request."""
        raise NotImplementedError

    def moved_bytes(self, role: Role | None = None) -> int:
        """Return the bytes counted so far; a responder counts both requests and responses."""
        written = sum(s.loop.acked_bytes for s in self._streams if s.role == "receiver")
        return super().moved_bytes(role) + (written if role != "sender" else 0)

    def round_trips(self) -> RoundTrips | None:
        """Return what the requesters of this end have measured; None: it has no requesters. Call
        after join."""
        loops = [s.loop for s in self._streams if isinstance(s.loop, Requester)]
        if not loops:
            return None
        merged = NativeHistogram()
        for loop in loops:
            merged.merge(loop.latency)
        begun = sum(loop.begun for loop in loops)
        late, latest_ns = zip(*(loop.late for loop in loops), strict=True)
        return RoundTrips(
            latency=stored(merged),
            series=latency_series(loops, self.origin_ns or 0, self._request_bytes),
            begun=begun,
            unanswered=begun - sum(loop.answered for loop in loops),
            skipped=sum(loop.skipped for loop in loops),
            sent_late=sum(late),
            sent_late_max_ns=max(latest_ns),
        )


class RoundTripWorkload(Trips, TcpWorkload):
    """Own the connections of a test of round trips at one end."""

    plan: RoundTripPlan

    def _make_ready(self, sock: socket.socket, role: Role) -> Stream:
        self._configure(sock, role)
        plan = self.plan
        if role == "sender":
            return Requester(
                self._senders,
                sock.fileno(),
                payload=plan.payload(plan.request_bytes),
                response_bytes=plan.response_bytes,
                in_flight=plan.in_flight,
                duration_ns=plan.duration_ns,
                omit_ns=plan.omit_ns,
                drain_ns=plan.drain_ns,
                per_s=plan.per_s or 0,
                width_ns=plan.bucket_ns,
            )
        return Responder(
            self._receivers,
            sock.fileno(),
            request_bytes=plan.request_bytes,
            payload=plan.payload(plan.response_bytes),
            width_ns=plan.bucket_ns,
        )

    @property
    def _request_bytes(self) -> int:
        return self.plan.request_bytes


class DatagramTripWorkload(Trips, UdpWorkload):
    """Own the UDP streams of a test of round trips at one end."""

    plan: DatagramTripPlan

    def _make_ready(self, sock: socket.socket, role: Role) -> Stream:
        self._configure(sock)
        plan = self.plan
        if role == "sender":
            return DatagramRequester(
                self._senders,
                sock.fileno(),
                payload=plan.payload(plan.datagram_bytes),
                response_bytes=plan.response_bytes,
                in_flight=plan.in_flight,
                duration_ns=plan.duration_ns,
                omit_ns=plan.omit_ns,
                drain_ns=plan.drain_ns,
                per_s=plan.per_s or 0,
                lost_after_ns=plan.lost_after_ns,
                width_ns=plan.bucket_ns,
            )
        return DatagramResponder(
            self._receivers,
            sock.fileno(),
            request_bytes=plan.datagram_bytes,
            payload=plan.payload(plan.response_bytes),
            hello=HELLO,
            hello_bytes=MAX_HELLO_BYTES,
            hello_reply=ANSWER,
            width_ns=plan.bucket_ns,
        )

    @property
    def _request_bytes(self) -> int:
        return self.plan.datagram_bytes

    def round_trips(self) -> RoundTrips | None:
        """Return what the requesters of this end have measured, lost requests too; see Trips."""
        found = super().round_trips()
        loops = [s.loop for s in self._streams if isinstance(s.loop, DatagramRequester)]
        if found is None:
            return None
        return replace(
            found,
            unanswered=found.unanswered - sum(loop.lost[0] for loop in loops),
            lost=sum(loop.lost[0] - loop.lost[1] for loop in loops),
            late_responses=sum(loop.late_responses for loop in loops),
            invalid_responses=sum(loop.invalid_responses for loop in loops),
            refused=sum(loop.refused for loop in loops),
        )

    def _level(self, stream: DataStream, until_ns: int) -> StreamInterval:
        return Workload._level(self, stream, until_ns)

    def _complete(self, stream: DataStream, report: StreamReport) -> StreamReport:
        acked_bytes = stream.loop.acked_bytes if stream.role == "sender" else None
        return replace(report, acked_bytes=acked_bytes, block_bytes=self.plan.datagram_bytes)


class Timing(Protocol):
    """Provide the counts of a native loop from which a time series of latencies is made."""

    def series(self) -> tuple[int | None, int, list[int]]: ...
    def latency_sums(self) -> tuple[int | None, int, list[int]]: ...


def latency_series(
    loops: Sequence[Timing], origin_ns: int, request_bytes: int
) -> LatencySeries | None:
    """Return the time series of responses and latencies of all loops, on one grid; None: there are
    none."""
    counted = analysis.series.total(_known(relative(one.series(), origin_ns) for one in loops))
    sums = analysis.series.total(_known(relative(one.latency_sums(), origin_ns) for one in loops))
    if counted is None or sums is None:
        return None
    # on the common grid, only the sum of all buckets is a whole number of requests
    done = [round(end / request_bytes) for end in accumulate(counted.bytes, initial=0)]
    return LatencySeries(
        origin_ns=counted.origin_ns,
        width_ns=counted.width_ns,
        transactions=tuple(later - earlier for earlier, later in pairwise(done)),
        sum_ns=sums.bytes,
    )


def _known(parts: Iterable[Series | None]) -> list[Series]:
    return [part for part in parts if part is not None]


def stored(native: NativeHistogram) -> Histogram:
    """Return a native histogram in the form that results have."""
    buckets = native.buckets()
    return Histogram(
        from_ns=tuple(start for start, _, _ in buckets),
        counts=tuple(count for _, _, count in buckets),
        sum_ns=native.sum_ns,
        min_ns=native.min_ns,
        max_ns=native.max_ns,
    )
