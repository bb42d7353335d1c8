"""Define a histogram of durations, with buckets that all histograms share."""

from __future__ import annotations

from typing import ClassVar

import msgspec

#: Buckets below this are 1 ns wide; each octave above has half as many buckets of equal width.
_LINEAR_NS = 2048


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Hold durations in log-linear buckets, each at most 1/1024 as wide as its durations.

    Buckets of all histograms have the same edges, so histograms are merged by adding counts.

    Attributes:
        from_ns: The shortest duration of each bucket that has a count, in ascending order.
        counts: The number of durations in each bucket of `from_ns`.
        sum_ns: The sum of all durations.
        min_ns: The shortest duration, exactly; None: there is none.
        max_ns: The longest duration, exactly; None: there is none.
    """

    packed: ClassVar[tuple[str, ...]] = ("from_ns", "counts")

    from_ns: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    sum_ns: int = 0
    min_ns: int | None = None
    max_ns: int | None = None

    @property
    def count(self) -> int:
        """Return the number of durations."""
        return sum(self.counts)

    @property
    def mean_ns(self) -> float | None:
        """Return the mean duration; None: there is none."""
        return self.sum_ns / self.count if self.count else None

    def percentile_ns(self, percent: float) -> int | None:
        """Return the duration that `percent` % of the durations do not exceed, within 0.05 %.

        None: there are no durations, or too few for the percentile: the 99.9th of 100 durations is
        not known.
        """
        count = self.count
        beyond = count * (100 - percent) / 100
        if not count or self.min_ns is None or self.max_ns is None or round(beyond, 6) < 1:
            return None
        rank, seen = count - int(round(beyond, 6)), 0
        for start, number in zip(self.from_ns, self.counts, strict=True):
            seen += number
            if seen >= rank:
                middle = start + (bucket_width_ns(start) - 1) // 2
                return max(self.min_ns, min(middle, self.max_ns))
        return self.max_ns


def bucket_width_ns(from_ns: int) -> int:
    """Return the width of the bucket that begins at a duration."""
    return 1 if from_ns < _LINEAR_NS else 1 << (from_ns.bit_length() - _LINEAR_NS.bit_length() + 1)
