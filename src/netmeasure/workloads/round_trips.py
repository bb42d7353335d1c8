"""Send requests by TCP and time their responses, or answer requests."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from itertools import accumulate, pairwise

from netmeasure import analysis
from netmeasure._fast.round_trips import Histogram as NativeHistogram, Requester, Responder
from netmeasure._fast.worker import Stream
from netmeasure.result import Role, Series
from netmeasure.result.round_trips import Histogram, LatencySeries, RoundTrips
from netmeasure.workloads.base import relative
from netmeasure.workloads.tcp import TcpPlan, TcpWorkload


class RoundTripPlan(TcpPlan, frozen=True, kw_only=True):
    """Describe what this end does with its connections; see TcpPlan. The client's are senders, of
    requests, and the server's are receivers.

    in_flight  requests that may wait for their response at a time, on each connection
    per_s      requests per second on each connection; None: as soon as a response has come
    """

    response_bytes: int
    in_flight: int = 1
    per_s: int | None = None

    @property
    def request_bytes(self) -> int:
        """Return the length of a request."""
        return self.block_bytes


class RoundTripWorkload(TcpWorkload):
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

    def moved_bytes(self, role: Role | None = None) -> int:
        """Return what was counted so far: of a responder both what it read and what it wrote."""
        written = sum(s.loop.acked_bytes for s in self._streams if s.role == "receiver")
        return super().moved_bytes(role) + (written if role != "sender" else 0)

    def round_trips(self) -> RoundTrips | None:
        """Return what the requesters of this end have measured; None: it has none. Call after
        join."""
        loops = [s.loop for s in self._streams if isinstance(s.loop, Requester)]
        if not loops:
            return None
        merged = NativeHistogram()
        for loop in loops:
            merged.merge(loop.latency)
        begun = sum(loop.begun for loop in loops)
        late, latest_ns = zip(*(loop.late for loop in loops), strict=True)
        return RoundTrips(
            latency=_stored(merged),
            series=self._course(loops),
            begun=begun,
            unanswered=begun - sum(loop.answered for loop in loops),
            skipped=sum(loop.skipped for loop in loops),
            sent_late=sum(late),
            sent_late_max_ns=max(latest_ns),
        )

    def _course(self, loops: list[Requester]) -> LatencySeries | None:
        """Return the responses and the latencies of all connections, on one grid."""
        origin_ns = self.origin_ns or 0
        counted = analysis.series.total(_known(relative(one.series(), origin_ns) for one in loops))
        sums = analysis.series.total(
            _known(relative(one.latency_sums(), origin_ns) for one in loops)
        )
        if counted is None or sums is None:
            return None
        # on the common grid a bucket need not hold whole requests: their sum does
        size, ends = self.plan.request_bytes, accumulate(counted.bytes, initial=0)
        done = [round(end / size) for end in ends]
        return LatencySeries(
            origin_ns=counted.origin_ns,
            width_ns=counted.width_ns,
            transactions=tuple(later - earlier for earlier, later in pairwise(done)),
            sum_ns=sums.bytes,
        )


def _known(parts: Iterable[Series | None]) -> list[Series]:
    return [part for part in parts if part is not None]


def _stored(native: NativeHistogram) -> Histogram:
    """Return a native histogram as it stands in results."""
    buckets = native.buckets()
    return Histogram(
        from_ns=tuple(start for start, _, _ in buckets),
        counts=tuple(count for _, _, count in buckets),
        sum_ns=native.sum_ns,
        min_ns=native.min_ns,
        max_ns=native.max_ns,
    )
