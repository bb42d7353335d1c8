"""Define the figures of a test of round trips: latencies, and requests without a response."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from netmeasure.result.connections import Connections
from netmeasure.result.histogram import Histogram


class LatencySeries(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the round trips of each time bucket, by the moment of their response.

    Attributes:
        origin_ns: Where the first bucket starts, from the client's origin.
        width_ns: The length of a bucket.
        transactions: The responses of each bucket.
        sum_ns: The sum of their latencies.
    """

    packed: ClassVar[tuple[str, ...]] = ("transactions", "sum_ns")

    origin_ns: int
    width_ns: int
    transactions: tuple[int, ...]
    sum_ns: tuple[int, ...]


class RoundTrips(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the round trips of a test, on the client's clock.

    A round trip is timed from just before its request is passed to the kernel until its whole
    response has been read; on a fresh connection, from just before the connection is opened. At a
    set rate, a request that had to wait for the peer is timed from when it was due.

    Attributes:
        steady_per_s: Transactions per second in the steady state, over all connections; None:
            unknown.
        steady_interval_per_s: The interval of 95 % confidence of that rate; None: unknown.
        latency: The latencies of the transactions after the omitted time.
        series: The round trips over time, omitted time included; None: no response has arrived.
        begun: Requests sent, at least in part, omitted time included.
        unanswered: Requests without a response at the end. They are not counted in the latencies.
        skipped: Requests that were due at the set rate and could not be sent within the time.
        sent_late: Requests that this host sent late because of its own delays. They are timed from
            when they were sent.
        sent_late_max_ns: The longest delay of a request that this host sent late.
        connections: The figures of fresh connections, each for one transaction; None: connections
            stayed open, or the test used UDP.
        lost: Requests without a response in time, of those sent after the omitted time. They are
            not counted in the latencies. This and the following fields are for UDP only; None: the
            test used TCP.
        late_responses: Responses that arrived after their request was lost, or a second time.
        invalid_responses: Datagrams that were no response to any request.
        refused: Requests that the client's kernel refused, and ICMP errors for requests.
    """

    derived: ClassVar[tuple[str, ...]] = (
        "transactions",
        "loss_ratio",
        "mean_ns",
        "p50_ns",
        "p90_ns",
        "p99_ns",
        "p99_9_ns",
        "p99_99_ns",
    )

    steady_per_s: float | None = None
    steady_interval_per_s: tuple[float, float] | None = None
    latency: Histogram = Histogram()
    series: LatencySeries | None = None
    begun: int = 0
    unanswered: int = 0
    skipped: int = 0
    sent_late: int = 0
    sent_late_max_ns: int = 0
    connections: Connections | None = None
    lost: int | None = None
    late_responses: int | None = None
    invalid_responses: int | None = None
    refused: int | None = None

    @property
    def loss_ratio(self) -> float | None:
        """Return the share of lost transactions; None: the test used TCP, or there were none."""
        if self.lost is None or not self.lost + self.transactions:
            return None
        return self.lost / (self.lost + self.transactions)

    @property
    def transactions(self) -> int:
        """Return the number of transactions after the omitted time."""
        return self.latency.count

    @property
    def mean_ns(self) -> float | None:
        """Return the mean latency; None: unknown."""
        return self.latency.mean_ns

    @property
    def p50_ns(self) -> int | None:
        """Return the median latency; None: unknown."""
        return self.latency.percentile_ns(50)

    @property
    def p90_ns(self) -> int | None:
        """Return the latency that 90 % of the transactions do not exceed; None: unknown."""
        return self.latency.percentile_ns(90)

    @property
    def p99_ns(self) -> int | None:
        """Return the latency that 99 % of the transactions do not exceed; None: unknown."""
        return self.latency.percentile_ns(99)

    @property
    def p99_9_ns(self) -> int | None:
        """Return the latency that 99.9 % of the transactions do not exceed; None: unknown."""
        return self.latency.percentile_ns(99.9)

    @property
    def p99_99_ns(self) -> int | None:
        """Return the latency that 99.99 % of the transactions do not exceed; None: unknown."""
        return self.latency.percentile_ns(99.99)
