"""Define the figures of a test of requests by HTTP that other round trips do not have."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from netmeasure.result.connections import ConnectionErrors
from netmeasure.result.histogram import Histogram


class RequestErrors(ConnectionErrors, frozen=True, kw_only=True):
    """Count the errors by kind, omitted time included. The latencies do not
    count them.

    Attributes:
        connect: Connections that were refused, found no route or no answer in time.
        local: Connections that this host had no port, descriptor or memory for.
        reset: Connections that ended before the whole response had come.
        timeout: Requests without their whole response in time.
        invalid: Responses that were no HTTP, or were followed by other bytes.
        tls: Connections whose TLS handshake failed, or was not over in time.
        status: Responses with a status of 400 or more.
    """

    tls: int = 0
    status: int = 0


class StatusCount(msgspec.Struct, frozen=True, kw_only=True):
    """Count the whole responses with one status.

    Attributes:
        status: The status code.
        count: The responses that had it.
    """

    status: int
    count: int


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the figures of a test of requests in addition to its round trips; omitted time included.

    Attributes:
        connections: The number of concurrent connections.
        threads: The client's threads that shared the connections.
        connecting: How long connections took to open, from connect() until the kernel reported
            them open; failed connections are excluded.
        shaking: How long TLS handshakes took, from when TCP had opened a connection; failed ones
            are excluded. None: nothing is encrypted.
        syn_retransmits: SYNs sent again, over all connections; None: no connection was tried.
        errors: The errors by kind.
        connect_error: The system's text for the last failed connection; None: none failed.
        tls_error: OpenSSL's text for the last failed handshake; None: none failed, or there is no
            text.
        statuses: The responses with each status, in ascending order; whole ones only.
        body_bytes: The bodies of all whole responses, without framing.
    """

    derived: ClassVar[tuple[str, ...]] = (
        "connected",
        "connect_p50_ns",
        "connect_p99_ns",
        "tls_p50_ns",
        "tls_p99_ns",
        "error_ratio",
    )

    connections: int
    threads: int
    connecting: Histogram = Histogram()
    shaking: Histogram | None = None
    syn_retransmits: int | None = None
    errors: RequestErrors = RequestErrors()
    connect_error: str | None = None
    tls_error: str | None = None
    statuses: tuple[StatusCount, ...] = ()
    body_bytes: int = 0

    @property
    def connected(self) -> int:
        """Return the number of opened connections."""
        return self.connecting.count

    @property
    def responses(self) -> int:
        """Return the number of whole responses, whatever their status."""
        return sum(one.count for one in self.statuses)

    @property
    def error_ratio(self) -> float | None:
        """Return the errors of every kind over all attempts, which are the errors and the responses
        without error. None: there are neither."""
        good, bad = self.responses - self.errors.status, self.errors.total
        return bad / (good + bad) if good + bad else None

    @property
    def connect_p50_ns(self) -> int | None:
        """Return the median time to open a connection; None: unknown."""
        return self.connecting.percentile_ns(50)

    @property
    def connect_p99_ns(self) -> int | None:
        """Return the time that 99 % of the connections did not exceed; None: unknown."""
        return self.connecting.percentile_ns(99)

    @property
    def tls_p50_ns(self) -> int | None:
        """Return the median TLS handshake; None: unknown, or nothing is encrypted."""
        return None if self.shaking is None else self.shaking.percentile_ns(50)

    @property
    def tls_p99_ns(self) -> int | None:
        """Return the time that 99 % of the TLS handshakes did not exceed; None as above."""
        return None if self.shaking is None else self.shaking.percentile_ns(99)
