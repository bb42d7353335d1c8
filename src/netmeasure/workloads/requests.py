"""Send HTTP requests over many connections from a few threads, and count the responses and
errors."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from netmeasure._fast.requests import RequestLoop, TlsClient as TlsClient
from netmeasure._fast.round_trips import Histogram as NativeHistogram
from netmeasure._fast.worker import Group
from netmeasure.engine.threads import TrafficThread, join_all, start_all
from netmeasure.result import Role, StreamInterval, StreamReport
from netmeasure.result.requests import RequestErrors, Requests, StatusCount
from netmeasure.result.round_trips import RoundTrips
from netmeasure.workloads.base import Plan
from netmeasure.workloads.round_trips import latency_series, stored
from netmeasure.workloads.stream_report import relative, stream_report, stretch


class RequestPlan(Plan, frozen=True, kw_only=True):
    """Describe the requests of this end; see Plan. `send_budget` is in bytes of requests.

    to              the server's address in the kernel's form (struct sockaddr)
    origin          the address to bind to, in the same form; empty: the kernel chooses
    socket_options  (level, name, value) of each option of every connection
    tls             how connections are encrypted; None: not at all
    keep            reuse connections
    per_s           requests per second over all connections; None: as soon as a connection is free
    """

    request: bytes
    to: bytes
    origin: bytes = b""
    socket_options: tuple[tuple[int, int, bytes], ...] = ()
    connections: int
    threads: int
    tls: TlsClient | None = None
    keep: bool
    no_body: bool
    connect_ns: int
    answer_ns: int
    per_s: int | None = None


def tls_client(host: str, *, ca_file: str | None, insecure: bool) -> TlsClient:
    """Return what encrypts connections to a server, named or numeric. Raises OSError.

    A file of trusted certificates takes the place of those that Python trusts.
    """
    name = host.partition("%")[0]  # the zone of a link-local address is local to this host
    try:
        ipaddress.ip_address(name)
        numeric, text = True, name.encode()
    except ValueError:
        numeric, text = False, name.encode("idna")
    system = ssl.get_default_verify_paths()
    file, folder = (ca_file, None) if ca_file else (system.cafile, system.capath)
    return TlsClient(
        text,
        numeric=numeric,
        verifies=not insecure,
        ca_file=os.fsencode(file) if file else None,
        ca_folder=os.fsencode(folder) if folder else None,
    )


class _Part(NamedTuple):
    """Hold one thread and its loop, which handles a share of the connections."""

    id: int
    loop: RequestLoop
    thread: TrafficThread

    role: Role = "sender"
    syn_retransmits: int | None = None  # reported for all connections together
    facts: None = None

    @property
    def error(self) -> str | None:
        return os.strerror(self.loop.errno) if self.loop.errno else None


class RequestWorkload:
    """Own the threads of a test of requests. Call `start`, `stop` or `abort`, `join`, then read the
    figures.

    `origin_ns` is the moment when the threads were released.
    """

    def __init__(self, plan: RequestPlan) -> None:
        self.plan = plan
        self.origin_ns: int | None = None
        self._group = Group(plan.send_budget)
        self._parts = [self._part(i) for i in range(plan.threads)]

    def _part(self, index: int) -> _Part:
        plan, count = self.plan, self.plan.threads
        loop = RequestLoop(
            self._group,
            request=plan.request,
            to=plan.to,
            origin=plan.origin,
            socket_options=plan.socket_options,
            connections=plan.connections // count + (index < plan.connections % count),
            tls=plan.tls,
            keep=plan.keep,
            no_body=plan.no_body,
            duration_ns=plan.duration_ns,
            omit_ns=plan.omit_ns,
            drain_ns=plan.drain_ns,
            connect_ns=plan.connect_ns,
            answer_ns=plan.answer_ns,
            per_s=(plan.per_s or 0) / count,
            phase=index / count,
            width_ns=plan.bucket_ns,
        )
        thread = TrafficThread(loop, f"netmeasure-requests-{index + 1}", plan.cpu)
        return _Part(index + 1, loop, thread)

    async def start(self) -> None:
        """Start the threads and release them. Raises HostLimitError."""
        await start_all([part.thread for part in self._parts])
        self.origin_ns = self._group.open()

    def stop(self) -> None:
        """Make the threads send no more requests and wait for the last responses."""
        self._group.stop()

    def abort(self) -> None:
        """Make the threads end at once."""
        self._group.abort()

    async def join(self) -> None:
        """Wait until all threads have ended."""
        await join_all([part.thread for part in self._parts])

    # ---- while they run --------------------------------------------------------------------------

    @property
    def bucket_ns(self) -> int:
        return self.plan.bucket_ns

    @property
    def first_ns(self) -> int | None:
        """Return when the first request could be sent: the persistent connections were open
        then."""
        known = [p.loop.first_ns for p in self._parts if p.loop.first_ns is not None]
        return min(known, default=None)

    @property
    def last_ns(self) -> int | None:
        known = [p.loop.last_ns for p in self._parts if p.loop.last_ns is not None]
        return max(known, default=None)

    @property
    def came(self) -> int:
        """Return the number of responses so far, whatever their status. It grows as long as the
        server answers in any way."""
        return sum(p.loop.answered + p.loop.rejected for p in self._parts)

    @property
    def answered(self) -> int:
        """Return the number of responses with a status below 400 so far."""
        return sum(p.loop.answered for p in self._parts)

    @property
    def errors(self) -> dict[str, int]:
        """Return the number of errors of each kind so far, HTTP statuses excluded."""
        kinds: Counter[str] = Counter()
        for part in self._parts:
            kinds.update(part.loop.errors)
        return dict(kinds)

    def ids(self, role: Role) -> tuple[int, ...]:
        return tuple(part.id for part in self._parts if part.role == role)

    def levels(self, role: Role, until_ns: int) -> tuple[StreamInterval, ...]:
        """Return the counts of each thread at a moment."""
        return tuple(
            StreamInterval(id=p.id, bytes=p.loop.counted_until(until_ns))
            for p in self._parts
            if p.role == role
        )

    def so_far(self) -> tuple[StreamReport, ...]:
        origin = self.origin_ns or 0
        return tuple(
            StreamReport(id=p.id, role=p.role, series=relative(p.loop.series(), origin))
            for p in self._parts
        )

    # ---- the end; call after join ----------------------------------------------------------------

    def report(self) -> tuple[StreamReport, ...]:
        """Return each thread's report."""
        origin = self.origin_ns
        if origin is None:
            return ()
        found = stretch((part.loop for part in self._parts), self.plan.omit_ns)
        window = None if found is None else (found[0] - origin, found[1] - origin)
        return tuple(
            replace(
                stream_report(part, origin, window),
                acked_bytes=part.loop.acked_bytes,
                block_bytes=len(self.plan.request),
            )
            for part in self._parts
        )

    def round_trips(self) -> RoundTrips | None:
        """Return the latencies of all responses; None: the threads were never released."""
        loops = self._loops
        if self.origin_ns is None:
            return None
        begun = sum(loop.begun for loop in loops)
        late, latest_ns = zip(*(loop.late for loop in loops), strict=True)
        return RoundTrips(
            latency=stored(_merged([loop.latency for loop in loops])),
            series=latency_series(loops, self.origin_ns, len(self.plan.request)),
            begun=begun,
            unanswered=begun - sum(loop.answered + loop.rejected + loop.failed for loop in loops),
            skipped=sum(loop.skipped for loop in loops),
            sent_late=sum(late),
            sent_late_max_ns=max(latest_ns),
        )

    def requests(self) -> Requests | None:
        """Return the figures of connections and errors; None: the threads were never released."""
        loops = self._loops
        if self.origin_ns is None:
            return None
        kinds = self.errors
        statuses: Counter[int] = Counter()
        for loop in loops:
            statuses.update(loop.statuses)
        connecting = stored(_merged([loop.connecting for loop in loops]))
        codes = [loop.connect_errno for loop in loops if loop.connect_errno]
        tried = connecting.count + kinds.get("connect", 0)
        shaking = stored(_merged([loop.shaking for loop in loops]))
        faults = [loop.tls_error for loop in loops if loop.tls_error]
        return Requests(
            connections=self.plan.connections,
            threads=self.plan.threads,
            connecting=connecting,
            shaking=None if self.plan.tls is None else shaking,
            syn_retransmits=sum(loop.syn_retransmits for loop in loops) if tried else None,
            errors=RequestErrors(**kinds, status=sum(loop.rejected for loop in loops)),
            connect_error=os.strerror(codes[-1]) if codes else None,
            tls_error=faults[-1] if faults else None,
            statuses=tuple(
                StatusCount(status=status, count=count)
                for status, count in sorted(statuses.items())
            ),
            body_bytes=sum(loop.body_bytes for loop in loops),
        )

    @property
    def _loops(self) -> list[RequestLoop]:
        return [part.loop for part in self._parts]


def _merged(parts: Sequence[NativeHistogram]) -> NativeHistogram:
    merged = NativeHistogram()
    for part in parts:
        merged.merge(part)
    return merged
