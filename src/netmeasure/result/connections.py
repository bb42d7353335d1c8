"""Define the figures of connections that carry one transaction each."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from netmeasure.result.histogram import Histogram


class ConnectionErrors(msgspec.Struct, frozen=True, kw_only=True):
    """Count the errors by kind, omitted time included. The latencies do not count them.

    Attributes:
        connect: Connections that were refused, found no route or no answer in time.
        local: Connections that this host had no port, descriptor or memory for.
        reset: Connections that ended before the whole response had come.
        timeout: Requests without their whole response in time.
        invalid: Responses that were not what was asked for, or were followed by other bytes.
    """

    connect: int = 0
    local: int = 0
    reset: int = 0
    timeout: int = 0
    invalid: int = 0

    @property
    def total(self) -> int:
        """Return the number of errors of all kinds."""
        return sum(count for _, count in self.by_kind)

    @property
    def by_kind(self) -> tuple[tuple[str, int], ...]:
        """Return the name of each kind, and its number."""
        return tuple((name, getattr(self, name)) for name in self.__struct_fields__)


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the figures of fresh connections, each for one transaction; omitted time included.

    Attributes:
        connecting: How long connections took to open, from connect() until the kernel reported
            them open; failed connections are excluded.
        answering: How long the open connections then took until the whole response had been read.
        syn_retransmits: SYNs sent again, over all connections; None: no connection was tried.
        errors: The errors by kind.
        connect_error: The system's text for the last failed connection; None: none failed.
    """

    derived: ClassVar[tuple[str, ...]] = (
        "connected",
        "connect_p50_ns",
        "connect_p99_ns",
        "answer_p50_ns",
        "answer_p99_ns",
        "error_ratio",
    )

    connecting: Histogram = Histogram()
    answering: Histogram = Histogram()
    syn_retransmits: int | None = None
    errors: ConnectionErrors = ConnectionErrors()
    connect_error: str | None = None

    @property
    def connected(self) -> int:
        """Return the number of opened connections."""
        return self.connecting.count

    @property
    def connect_p50_ns(self) -> int | None:
        """Return the median time to open a connection; None: unknown."""
        return self.connecting.percentile_ns(50)

    @property
    def connect_p99_ns(self) -> int | None:
        """Return the time that 99 % of the connections did not exceed; None: unknown."""
        return self.connecting.percentile_ns(99)

    @property
    def answer_p50_ns(self) -> int | None:
        """Return the median time from an open connection to the whole response; None: unknown."""
        return self.answering.percentile_ns(50)

    @property
    def answer_p99_ns(self) -> int | None:
        """Return the time that 99 % of the responses did not exceed; None: unknown."""
        return self.answering.percentile_ns(99)

    @property
    def error_ratio(self) -> float | None:
        """Return the errors of every kind over all attempts; None: there were none."""
        good, bad = self.answering.count, self.errors.total
        return bad / (good + bad) if good + bad else None
