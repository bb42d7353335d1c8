"""Define connection set-up: its phases, and the distribution of their durations over many
transfers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a named part of connection set-up.

    The phases on the critical path (`decides`) follow each other without gap and without overlap,
    from the first attempt to the first payload byte. Times of network events are from the kernel or
    a native thread; delays of this host are a separate phase, "host".

    Attributes:
        name: resolve, connect, control, hello, start or first_byte. By URL: resolve, connect,
            proxy, tls, request, first_byte (of the answer), first_body_byte (the delay of the body
            after the head) or redirect; of FTP also greeting, auth, login, type, size, passive,
            transfer_start or final_reply. Between any of them: host.
        connection: "control" or "stream N"; by FTP "stream N control" or "stream N data".
        start_ns: Its start, from the client's first attempt to reach the server.
        duration_ns: How long it took.
        side: The end whose clock measured the phase.
        syn_retransmits: SYNs sent again (tcpi_total_retrans of TCP_INFO, read right after connect);
            None: the phase has no connect, or the kernel does not say.
        address: The address of the phase, such as "192.0.2.1:5201".
        detail: A remark, such as why a look-up waited, or what delayed this host.
        decides: Whether the first payload byte of the run waited for it.
    """

    name: str
    connection: str
    start_ns: int
    duration_ns: int
    side: Literal["client", "server"] = "client"
    syn_retransmits: int | None = None
    address: str | None = None
    detail: str | None = None
    decides: bool = False

    @property
    def end_ns(self) -> int:
        """Return when the phase ended, counted like `start_ns`."""
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
