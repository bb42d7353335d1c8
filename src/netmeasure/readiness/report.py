"""Define the report about each target."""

from __future__ import annotations

from typing import Literal

import msgspec

#: What blocked an attempt.
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
    """Hold a period in which the same cause blocked all attempts.

    Attributes:
        cause: What blocked the attempts: see docs/reference/readiness.md.
        detail: The message of the system or the peer; None: the cause says everything.
        start_ns: When the first of these attempts began, from the start of the call.
        end_ns: When the first attempt with another outcome began, or when the path became usable.
    """

    cause: Cause
    detail: str | None = None
    start_ns: int
    end_ns: int


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the report about one target. All times are CLOCK_MONOTONIC of this host, from the moment
    at which the first attempt was due: with many targets, up to some 20 ms after the call, in which
    this process gets room for their sockets.

    Attributes:
        target: The target, as it was given.
        wanted: "allowed" or "denied".
        reached: Whether the target became as wanted within the time.
        at_ns: When the target became as wanted. "allowed": when the first answered SYN was sent, or
            answered if only that is known; for TLS and HTTP, when the first valid answer arrived.
            "denied": when the first of the
            final failed attempts began. None: not reached.
        grain_ns: The time between the starts of attempts, which is the resolution of `at_ns`. It is
            longer than requested if this host could not begin the successful attempt in time.
        address: The address that answered first; None: no address answered.
        connect_ns: How long this connection took from its SYN to the answer. None: there is none,
            or it is not known which of several SYNs was answered.
        waits: What blocked the path, in order of time, without gaps. With "denied", the last item
            is the final cause.
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
