"""Define how a test with `--until` ended, which ends as soon as its confidence interval is narrow
enough."""

from __future__ import annotations

from typing import Literal

import msgspec

from netmeasure.result.brief import Brief
from netmeasure.result.flows import FlowDirection

Ending = Literal["narrow", "cap", "ended", "stopped"]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the client's analysis of one direction at one moment during the test.

    It is the steady state over the first `at_ns` after the omitted time, from the received bytes,
    or from the acknowledged bytes if the client sends. All fields except the direction and the
    moment are None as long as no bytes have arrived.

    Attributes:
        direction: "upload" or "download".
        at_ns: The moment, from the end of the omitted time.
        verdict: As in `Steady`.
        goodput_bps: The steady bitrate so far, in bit/s.
        margin: Half its confidence interval as a share of it: 0.01 is +-1 %.
        grade: As in `Steady`.
    """

    direction: FlowDirection
    at_ns: int
    verdict: str | None = None
    goodput_bps: float | None = None
    margin: float | None = None
    grade: str | None = None


class AutoStop(Brief, frozen=True, kw_only=True):
    """Hold how a test ended that had a target precision (`spec.timing.until`).

    Attributes:
        target: The requested precision, as a share of the steady bitrate.
        reason: "narrow": the interval was narrow enough. "cap": the test used all of `cap_ns`.
            "ended": the transfer was complete before. "stopped": by the user, or by an error.
        cap_ns: The limit of the measured time.
        counted_ns: Measured time at the look that ended the test; None: no look did. The analysis
            of the flows ends there, too, and later bytes are their tail.
        looks: All looks in order, one for each direction.
    """

    target: float
    reason: Ending
    cap_ns: int
    counted_ns: int | None = None
    looks: tuple[Look, ...] = ()

    @property
    def saved_ns(self) -> int:
        """Return how much of `cap_ns` was not needed; 0: the test did not end by itself."""
        return 0 if self.counted_ns is None else self.cap_ns - self.counted_ns
