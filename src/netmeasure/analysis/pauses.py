"""Find the pauses in which an end's own host kept its traffic threads from running.

A traffic thread samples its clock about every 100 ms, whatever the network does, so a gap in these
samples distinguishes delays of the host from delays of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from netmeasure.result import Pause, Role, StreamReport
from netmeasure.result.resources import ThreadCpu

#: A gap is a pause if it exceeds the usual time between two samples by more than this.
LEAST_NS = 250_000_000
#: A pause is starvation if the thread was ready to run for at least this share of it.
STARVED = 0.5


def pauses(end: Role, streams: Sequence[StreamReport], spacing_ns: int = 0) -> tuple[Pause, ...]:
    """Return the periods in which none of an end's threads ran, in order.

    `spacing_ns` is the longest time between two sends that the test itself asks for: a thread that
    sends at a low rate samples no more often.
    """
    # streams that share a thread have its course once
    threads = [s.thread for s in streams if s.thread is not None]
    if not threads or not all(map(_is_continuous, streams)):
        return ()
    common = _gaps(threads[0], spacing_ns)
    for thread in threads[1:]:
        common = _shared(common, _gaps(thread, spacing_ns))
    found = [_pause(end, gap, threads) for gap in common if gap[1] - gap[0] > LEAST_NS]
    return tuple(found)


def _is_continuous(stream: StreamReport) -> bool:
    """Return whether one native loop moved all of the stream's bytes.

    No thread samples between two transfers of a stream, or while a library transfers a body.
    """
    transfer = stream.transfer
    return transfer is None or (transfer.transfers <= 1 and transfer.drained_by == "native")


def _gaps(thread: ThreadCpu, spacing_ns: int) -> list[tuple[int, int]]:
    steps = [after - before for before, after in pairwise(thread.at_ns)]
    if not steps:
        return []
    # a late sample is followed by one that is not late (the last one is taken at the very end), so
    # the median is the usual step
    from statistics import median  # only where a result is made, since it takes long to import

    usual = max(median(steps), spacing_ns)
    return [
        (before, after)
        for before, after in pairwise(thread.at_ns)
        if after - before > usual + LEAST_NS
    ]


def _shared(
    ones: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    both = [(max(a, c), min(b, d)) for a, b in ones for c, d in others]
    return [(start, end) for start, end in both if end > start]


def _pause(end: Role, gap: tuple[int, int], threads: Sequence[ThreadCpu]) -> Pause:
    waits = [waited for thread in threads if (waited := _waited(thread, gap)) is not None]
    wait_ns = min(max(waits), gap[1] - gap[0]) if waits else None
    starved = wait_ns is not None and wait_ns >= STARVED * (gap[1] - gap[0])
    return Pause(
        end=end,
        start_ns=gap[0],
        end_ns=gap[1],
        cause="starved" if starved else "stopped",
        wait_ns=wait_ns,
    )


def _waited(thread: ThreadCpu, gap: tuple[int, int]) -> int | None:
    """Return how long the thread waited for a CPU between the samples around a gap."""
    if thread.wait_ns is None:
        return None
    before = [w for at, w in zip(thread.at_ns, thread.wait_ns, strict=True) if at <= gap[0]]
    after = [w for at, w in zip(thread.at_ns, thread.wait_ns, strict=True) if at >= gap[1]]
    return after[0] - before[-1] if before and after else None
