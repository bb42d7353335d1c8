"""Make round trips on fresh connections: each opens a TCP connection and closes it.

Both ends have one thread for all connections. The test's only stream is one more connection, which
carries no data: its end tells the server that all transactions are over, or that the client is
gone.
"""

from __future__ import annotations

import os
import socket

from msgspec.structs import replace

from netmeasure._fast.fresh_responder import FreshResponder
from netmeasure._fast.requests import RequestLoop
from netmeasure._fast.worker import Stream
from netmeasure.clock import SECOND_NS
from netmeasure.errors import (
    ConnectError,
    HostLimitError,
    MeasureError,
    PeerClosedError,
    PeerTimeoutError,
    RemoteProtocolError,
)
from netmeasure.result import Role, StreamInterval, StreamReport, TcpInfo
from netmeasure.result.connections import ConnectionErrors, Connections
from netmeasure.result.round_trips import RoundTrips
from netmeasure.workloads.base import DataStream, Workload
from netmeasure.workloads.round_trips import (
    RoundTripPlan,
    RoundTripWorkload,
    latency_series,
    stored,
)

#: Places at the server in addition to the client's connections: those that are closing, and
#: connections of others that have not been told apart yet.
SPARE_PLACES = 64


class FreshTripPlan(RoundTripPlan, frozen=True, kw_only=True):
    """Describe what this end does with fresh connections; see RoundTripPlan. `per_s` is for each of
    the connections that are open at a time. Addresses are in the kernel's form (struct sockaddr).

    connections     how many are open at a time
    token           how each request begins; empty: requests are too short for it
    to              client: the server's address
    origin          client: the address to bind to
    socket_options  client: (level, name, value) of each option of every connection
    answer_ns       client: how long a connection or an answer may take
    listener        server: the descriptor of the listening socket
    peer            server: the address of the client, whose host is the only one that is served
    """

    connections: int = 1
    token: bytes = b""
    to: bytes = b""
    origin: bytes = b""
    socket_options: tuple[tuple[int, int, bytes], ...] = ()
    answer_ns: int = 10 * SECOND_NS
    listener: int = -1
    peer: bytes = b""


class FreshTripWorkload(RoundTripWorkload):
    """Own one end of a test of round trips on fresh connections."""

    plan: FreshTripPlan

    def _make_ready(self, sock: socket.socket, role: Role) -> Stream:
        self._configure(sock, role)
        plan = self.plan
        if role == "sender":
            fill = plan.payload(plan.request_bytes)
            return RequestLoop(
                self._senders,
                sock.fileno(),
                request=plan.token + fill[len(plan.token) :],
                response_bytes=plan.response_bytes,
                to=plan.to,
                origin=plan.origin,
                socket_options=plan.socket_options,
                connections=plan.connections,
                keep=False,
                duration_ns=plan.duration_ns,
                omit_ns=plan.omit_ns,
                drain_ns=plan.drain_ns,
                connect_ns=plan.answer_ns,
                answer_ns=plan.answer_ns,
                per_s=(plan.per_s or 0) * plan.connections,
                width_ns=plan.bucket_ns,
            )
        return FreshResponder(
            self._receivers,
            sock.fileno(),
            listener=plan.listener,
            peer=plan.peer,
            token=plan.token,
            request_bytes=plan.request_bytes,
            payload=plan.payload(plan.response_bytes),
            places=plan.connections + SPARE_PLACES,
            width_ns=plan.bucket_ns,
        )

    @property
    def _loop(self) -> RequestLoop | None:
        """Return the client's loop; None: this is the server, or no stream has been opened."""
        loops = (s.loop for s in self._streams if isinstance(s.loop, RequestLoop))
        return next(loops, None)

    @property
    def strangers(self) -> int:
        """Return how many connections to this end's port were closed because they came from another
        host or did not begin with the token."""
        loops = (s.loop for s in self._streams if isinstance(s.loop, FreshResponder))
        return sum(loop.strangers for loop in loops)

    def round_trips(self) -> RoundTrips | None:
        """Return what the client has measured; None: this is the server. Call after join."""
        loop = self._loop
        if loop is None:
            return None
        late, latest_ns = loop.late
        return RoundTrips(
            latency=stored(loop.latency),
            series=latency_series([loop], self.origin_ns or 0, self._request_bytes),
            begun=loop.begun,
            unanswered=loop.begun - loop.answered - loop.failed,
            skipped=loop.skipped,
            sent_late=late,
            sent_late_max_ns=latest_ns,
            connections=connections(loop),
        )

    def failed(self) -> MeasureError | None:
        """Return the error that ended the stream, or the reason why no transaction succeeded."""
        error, loop = super().failed(), self._loop
        if error is not None or loop is None or loop.answered:
            return error
        ended = loop.reason in ("deadline", "budget")
        return nothing_answered(connections(loop)) if ended and loop.failed else None

    def _path(self, sock: socket.socket, origin_ns: int) -> TcpInfo | None:
        return None  # the stream's own connection carries no data

    def _level(self, stream: DataStream, until_ns: int) -> StreamInterval:
        return Workload._level(self, stream, until_ns)

    def _complete(self, stream: DataStream, report: StreamReport) -> StreamReport:
        acked_bytes = stream.loop.acked_bytes if stream.role == "sender" else None
        return replace(report, acked_bytes=acked_bytes, block_bytes=self.plan.request_bytes)


def connections(loop: RequestLoop) -> Connections:
    """Return the figures of a loop's connections."""
    connecting, errors = stored(loop.connecting), ConnectionErrors(**loop.errors)
    tried = connecting.count + errors.connect
    return Connections(
        connecting=connecting,
        answering=stored(loop.answering),
        syn_retransmits=loop.syn_retransmits if tried else None,
        errors=errors,
        connect_error=os.strerror(loop.connect_errno) if loop.connect_errno else None,
    )


def nothing_answered(found: Connections) -> MeasureError:
    """Return the error for a test in which every transaction failed."""
    kind, _ = max(found.errors.by_kind, key=lambda item: item[1])
    if kind == "connect":
        return ConnectError(
            f"no connection for a transaction could be made: {found.connect_error}",
            phase="data",
            hint="the port for fresh connections must be open in firewalls",
        )
    if kind == "local":
        return HostLimitError(
            f"this host had no resources left for a connection: {found.connect_error}",
            phase="data",
            hint="use fewer connections at a time",
        )
    if kind == "invalid":
        return RemoteProtocolError("no response had the agreed length", phase="data")
    if kind == "reset":
        return PeerClosedError(
            "the server ended every connection before its whole response had come",
            phase="data",
            hint="it serves only the address from which the control connection comes",
        )
    return PeerTimeoutError("no transaction had its whole response in time", phase="data")
