"""Define connection set-up: its phases, and how their durations spread over many transfers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a named part of connection set-up.

    Attributes:
        name: resolve, connect, control, hello or first_byte. By URL: resolve, connect, tls,
            request, first_byte or redirect; of FTP also greeting, auth, login, size, passive,
            transfer_start or final_reply.
        connection: "control" or "stream N"; by FTP "stream N control" or "stream N data".
        start_ns: Its start, from the client's first attempt to reach the server.
        duration_ns: How long it took.
        side: The end whose clock measured it.
        syn_retransmits: SYNs sent again (tcpi_total_retrans of TCP_INFO, read right after connect);
            None: the phase has no connect, or the kernel does not say.
        address: The address that it is about, such as "192.0.2.1:5201".
        detail: A remark, such as the TLS version.
    """

    name: str
    connection: str
    start_ns: int
    duration_ns: int
    side: Literal["client", "server"] = "client"
    syn_retransmits: int | None = None
    address: str | None = None
    detail: str | None = None

    @property
    def end_ns(self) -> int:
        """Return the moment at which the phase ended, counted like `start_ns`."""
        return self.start_ns + self.duration_ns


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a distribution of durations, with nearest-rank percentiles.

    Attributes:
        count: How many durations there are.
        min_ns: The shortest.
        median_ns: The median.
        p95_ns: The 95th percentile.
        max_ns: The longest.
    """

    count: int
    min_ns: int
    median_ns: int
    p95_ns: int
    max_ns: int

    @classmethod
    def of(cls, durations_ns: Sequence[int]) -> Spread | None:
        """Return the distribution of some durations; None: there are none."""
        if not durations_ns:
            return None
        ranked = sorted(durations_ns)

        def rank(percent: int) -> int:
            return ranked[-(-percent * len(ranked) // 100) - 1]

        return cls(
            count=len(ranked),
            min_ns=ranked[0],
            median_ns=rank(50),
            p95_ns=rank(95),
            max_ns=ranked[-1],
        )
