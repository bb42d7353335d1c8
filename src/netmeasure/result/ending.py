"""How a test ended that was to end by itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from netmeasure.result.flows import FlowDirection

Ending = Literal["narrow", "cap", "ended", "stopped"]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the client knew of one direction while the test went on: its steady state over the first
    `at_ns` after the omitted time, of the bytes received, or acknowledged where it sends. All but
    the moment is None where nothing had come yet."""

    direction: FlowDirection
    at_ns: int
    verdict: str | None = None
    goodput_bps: float | None = None
    margin: float | None = None
    grade: str | None = None


class AutoStop(msgspec.Struct, frozen=True, kw_only=True):
    """How a test ended that was to end when its interval is narrow (`spec.timing.until`).

    reason      narrow: by itself. cap: it went on for all of `cap_ns`. ended: what was transferred
                came to its end before. stopped: by the user, or an error
    counted_ns  of a test that ended by itself, the measured time at the look that decided it: the
                flows' analysis ends there, too, and what came later is their tail
    looks       all of them, in their order, one per direction
    """

    target: float
    reason: Ending
    cap_ns: int
    counted_ns: int | None = None
    looks: tuple[Look, ...] = ()

    @property
    def saved_ns(self) -> int:
        """Against the cap."""
        return 0 if self.counted_ns is None else self.cap_ns - self.counted_ns
