"""What came before the data: the phases of set-up, and how they spread over many transfers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A named part of set-up. `start_ns` counts from the client's first attempt.

    name            resolve | connect | control | hello | first_byte; by URL: resolve | connect |
                    tls | request | first_byte | redirect, and of FTP greeting | auth | login |
                    size | passive | transfer_start | final_reply
    connection      "control", "stream N"; by FTP "stream N control", "stream N data"
    syn_retransmits SYNs sent again, from TCP_INFO right after connect (tcpi_total_retrans); None
                    where there is no connect or the kernel does not say
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
        return self.start_ns + self.duration_ns


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of durations; nearest-rank percentiles."""

    count: int
    min_ns: int
    median_ns: int
    p95_ns: int
    max_ns: int

    @classmethod
    def of(cls, durations_ns: Sequence[int]) -> Spread | None:
        """None of nothing."""
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
