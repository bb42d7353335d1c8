"""Define stretches of a transfer, and its steady state."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from netmeasure.result.brief import Brief

#: Two of the finest time buckets of a series: over less time, a rate depends more on the wake-ups
#: of the counting thread than on the network.
LEAST_STRETCH_NS = 2_000_000


class Stretch(Brief, frozen=True, kw_only=True):
    """Hold a stretch of a transfer, such as its ramp, a stall, a level or a reporting period.

    Attributes:
        start_ns: Its start, on the clock of the counting side.
        end_ns: Its end, on the clock of the counting side.
        bytes: The payload bytes in it.
    """

    derived: ClassVar[tuple[str, ...]] = ("duration_ns", "measured_bps")

    start_ns: int
    end_ns: int
    bytes: int

    @property
    def duration_ns(self) -> int:
        """Return how long the stretch lasts."""
        return self.end_ns - self.start_ns

    @property
    def goodput_bps(self) -> float:
        """Return the rate in bit/s (RFC 2647 section 3.17); 0.0 for an empty stretch."""
        return self.bytes * 8e9 / self.duration_ns if self.duration_ns > 0 else 0.0

    @property
    def measured_bps(self) -> float | None:
        """Return the rate in bit/s; None: the stretch is too short for one."""
        return self.goodput_bps if self.duration_ns >= LEAST_STRETCH_NS else None


class Steady(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the steady state of a flow or a stream, and its bitrate with a confidence interval.

    Moments count from the counting side's origin.

    Attributes:
        verdict: "steady": one level. "shifted": the rate went from one level to another, see
            `levels`. "not_steady": no plateau was found. "too_short": too few data to tell. With
            all verdicts except "steady", the rate is a best effort.
        start_ns: Where the steady state begins.
        end_ns: Where it ends.
        bytes: The payload bytes in it.
        goodput_bps: The mean rate over the whole stretch in bit/s, stalls and all levels included
            (RFC 2647 section 3.17).
        batches: The number of parts from which the interval is computed.
        batch_ns: The length of each part from which the interval is computed.
        confidence_interval: (low, high) in bit/s: the 95 % confidence interval of the mean rate of
            this path in this state; None: not estimated.
        grade: How well the interval is supported. "A": it contains the true rate as often as
            stated. "B": nearly as often. "C": it tends to be too narrow, and means "at least +-";
            all verdicts except "steady" have this grade. None: no interval.
        autocorrelation_ns: Integrated autocorrelation time: the run has `duration_ns` divided by
            this time as its effective number of independent samples; None: not estimated.
        stalls: Periods of 0.2 s or longer without any received bytes.
        levels: The levels in order, if the verdict is "shifted".
    """

    derived: ClassVar[tuple[str, ...]] = ("duration_ns", "margin")

    verdict: Literal["steady", "shifted", "not_steady", "too_short"]
    start_ns: int
    end_ns: int
    bytes: int
    goodput_bps: float
    batches: int
    batch_ns: int
    confidence_interval: tuple[float, float] | None = None
    grade: Literal["A", "B", "C"] | None = None
    autocorrelation_ns: int | None = None
    stalls: tuple[Stretch, ...] = ()
    levels: tuple[Stretch, ...] = ()

    @property
    def duration_ns(self) -> int:
        """Return how long the steady state lasts."""
        return self.end_ns - self.start_ns

    @property
    def stalled_ns(self) -> int:
        """Return how long all stalls last together."""
        return sum(stall.duration_ns for stall in self.stalls)

    @property
    def between_stalls_bps(self) -> float:
        """Return the rate in bit/s over the time outside of stalls; 0.0: there is no such time."""
        moving_ns = self.duration_ns - self.stalled_ns
        return self.bytes * 8e9 / moving_ns if moving_ns > 0 else 0.0

    @property
    def margin(self) -> float | None:
        """Return half the interval's width as a share of the rate: 0.01 is +-1 %; None: unknown."""
        if self.confidence_interval is None or self.goodput_bps <= 0:
            return None
        return (self.confidence_interval[1] - self.goodput_bps) / self.goodput_bps
