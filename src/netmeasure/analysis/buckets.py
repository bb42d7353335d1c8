"""Count the bytes of one series within a stretch of time.

This is what `series.curve(...).between(...)` computes, for one stretch and without numpy, which a
server that analyses nothing need not load.
"""

from __future__ import annotations

from netmeasure.result import Series


def between(series: Series, last_ns: int | None, start_ns: int, end_ns: int) -> int:
    """Return the bytes between two moments, both rounded to whole bytes, so that the bytes of
    adjoining stretches add up exactly.

    Args:
        series: The bytes; within a bucket, they are taken to have come evenly.
        last_ns: When the last of them came, which ends a last bucket that was not yet full; None:
            unknown.
        start_ns: The beginning of the stretch, on the clock of the series.
        end_ns: Its end.
    """
    return _until(series, last_ns, end_ns) - _until(series, last_ns, start_ns)


def _until(series: Series, last_ns: int | None, moment_ns: int) -> int:
    counts, width_ns = series.bytes, series.width_ns
    elapsed_ns = moment_ns - series.origin_ns
    if elapsed_ns <= 0 or not counts:
        return 0
    whole = min(elapsed_ns // width_ns, len(counts) - 1)
    begin_ns = whole * width_ns
    if whole == len(counts) - 1 and last_ns is not None:
        filled_ns = last_ns - series.origin_ns - begin_ns
        if 0 < filled_ns < width_ns:
            width_ns = filled_ns
    part = counts[whole] * min(elapsed_ns - begin_ns, width_ns)
    return sum(counts[:whole]) + (2 * part + width_ns) // (2 * width_ns)
