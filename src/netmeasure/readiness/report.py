"""Say what was found out about each target."""

from __future__ import annotations

from typing import Literal

import msgspec

#: What an attempt met.
Cause = Literal[
    "name_not_found",
    "name_no_answer",
    "no_route",
    "unresolved_neighbour",
    "unreachable",
    "no_answer",
    "refused",
    "forbidden_here",
    "tls",
    "http",
    "failed",
]


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a stretch of time in which all attempts met the same.

    Attributes:
        cause: What they met: see docs/reference/readiness.md.
        detail: The system's or the peer's own words, None where the cause says all.
        start_ns: When the first of these attempts began, from the start of the whole.
        end_ns: When the first attempt began that met something else; or when the path was usable.
    """

    cause: Cause
    detail: str | None = None
    start_ns: int
    end_ns: int


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what was found out about one target. All times are CLOCK_MONOTONIC of this host, from
    the start of the whole.

    Attributes:
        target: As it was asked for.
        wanted: "allowed" or "denied".
        reached: Whether what was wanted came about within the time.
        at_ns: When it did: "allowed": when the SYN was sent that was answered first; for TLS and
            HTTP, when the first good answer came. "denied": when the first attempt began of those
            that all failed until the end. None: not reached.
        grain_ns: How far apart the attempts began; `at_ns` is not known better than this.
        address: The address that answered first, None: none did.
        connect_ns: How long that connection took from its SYN to the answer.
        waits: What was in the way, in order of time, without gaps. With "denied", the last is what
            denies.
        attempts: How many attempts began.
    """

    target: str
    wanted: Literal["allowed", "denied"]
    reached: bool
    at_ns: int | None
    grain_ns: int
    address: str | None
    connect_ns: int | None
    waits: tuple[Wait, ...]
    attempts: int
