"""Stretches of a transfer, and the one that counts: its steady state."""

from __future__ import annotations

from typing import Literal

import msgspec


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a transfer: the ramp before the steady state, the tail after it, a stall or a
    level within it, a reporting period."""

    start_ns: int
    end_ns: int
    bytes: int

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def goodput_bps(self) -> float:
        """0.0 for an empty one."""
        return self.bytes * 8e9 / self.duration_ns if self.duration_ns > 0 else 0.0


class Steady(msgspec.Struct, frozen=True, kw_only=True):
    """The steady state. Moments count from the counting side's origin.

    verdict               steady | shifted (from one level to another: see `levels`) |
                          not_steady (no plateau was found) | too_short (too few data to tell). But
                          for the first, the rate is a best effort
    goodput_bps           the mean over the whole stretch, with its stalls, and over all levels
    confidence_interval   (low, high) in bit/s, 95 %, of the mean that this path in this state has;
                          None: not estimated
    grade                 of the interval: A (covers the truth as often as it says), B (nearly so),
                          C (rather too narrow: it says "at least +-"; also of all but `steady`)
    autocorrelation_ns    the run is worth `duration_ns` / this independent samples
    stalls                stretches of 0.2 s or longer in which nothing came at all
    levels                one after the other, where the verdict is `shifted`
    """

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
        return self.end_ns - self.start_ns

    @property
    def stalled_ns(self) -> int:
        return sum(stall.duration_ns for stall in self.stalls)

    @property
    def between_stalls_bps(self) -> float:
        """The rate of the time in which something came."""
        moving_ns = self.duration_ns - self.stalled_ns
        return self.bytes * 8e9 / moving_ns if moving_ns > 0 else 0.0

    @property
    def margin(self) -> float | None:
        """Half the interval's width as a share of the rate: 0.01 is +-1 %."""
        if self.confidence_interval is None or self.goodput_bps <= 0:
            return None
        return (self.confidence_interval[1] - self.goodput_bps) / self.goodput_bps
