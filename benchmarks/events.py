"""Measure a real transfer on an emulated path that is cut, or gets another rate, meanwhile.

The relay makes the events, at a given moment of this host's clock, and counts them.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import product
from pathlib import Path as FilePath
from typing import Literal, NamedTuple

import numpy as np

import netmeasure as nm
from benchmarks.recordings import LEAST_QUEUE_BYTES, MTU
from netmeasure.analysis.series import curve
from netmeasure.result import Steady

sys.path.insert(0, str(FilePath(__file__).parent.parent / "tests"))

from support.relay import Counts, Relay, available

__all__ = ["Case", "Outcome", "available", "cases", "measure", "measure_all"]

OUTAGE_S = 1.0
SHAPE_S = 0.25
FAST_BPS, SLOW_BPS = 40e6, 20e6
Event = Literal["outage", "down", "up"]
Congestion = Literal["reno", "cubic", "bbr"]
CONGESTIONS: tuple[Congestion, ...] = ("reno", "cubic", "bbr")
RTTS_MS, PLACES = (10, 40, 100), (0.30, 0.45, 0.60)


class Case(NamedTuple):
    """Describe an event at the share `place` of a download.

    It is an outage of 1 s, or a step from 40 to 20 Mbit/s ("down") or back ("up").
    """

    congestion: Congestion
    rtt_ms: int
    event: Event
    place: float
    seconds: float = 8.0

    @property
    def rates_bps(self) -> tuple[float, float]:
        """Return the rate at which the line sends whole IP packets before the event, and after
        it."""
        fast_first = (FAST_BPS, FAST_BPS if self.event == "outage" else SLOW_BPS)
        return fast_first if self.event != "up" else (SLOW_BPS, FAST_BPS)


class Outcome(NamedTuple):
    """Hold what was found.

    `begin_ns` and `end_ns` are the event's, on the clock of `steady`: just before it was ordered,
    and just after its end was ordered. `shape_mbps` is the rate received in each quarter of a
    second.
    """

    case: Case
    steady: Steady
    ramp_ns: int
    begin_ns: int
    end_ns: int
    received_bytes: int
    counts: Counts
    shape_mbps: tuple[float, ...]

    @property
    def told_as(self) -> str:
        """Return how the result reports the event; "" if it leaves the event out."""
        steady = self.steady
        if self.case.event == "outage" and any(
            stall.start_ns < self.end_ns and stall.end_ns > self.begin_ns for stall in steady.stalls
        ):
            return "stall"
        if steady.verdict in ("shifted", "not_steady"):
            return steady.verdict
        # the mean must contain at least one batch from before the event, or the event is left out
        if steady.verdict == "steady" and steady.start_ns <= self.begin_ns - steady.batch_ns:
            return "in the mean"
        return ""

    @property
    def misleads(self) -> bool:
        """Return whether the result has the grade A and does not report the event."""
        return not self.told_as and self.steady.grade == "A"


def cases(every: bool = False) -> list[Case]:
    """Return 36 cases, or `every` combination, which are 81.

    For each congestion control and place, the 36 have two outages and a step in each direction; the
    round-trip times alternate.
    """
    if every:
        events: tuple[Event, ...] = ("outage", "down", "up")
        return [Case(*row) for row in product(CONGESTIONS, RTTS_MS, events, PLACES)]
    chosen = []
    for (i, congestion), (j, place) in product(enumerate(CONGESTIONS), enumerate(PLACES)):
        rtts = [RTTS_MS[(i + j + turn) % len(RTTS_MS)] for turn in range(3)]
        chosen += [
            Case(congestion, rtts[0], "outage", place),
            Case(congestion, rtts[1], "outage", place),
            Case(congestion, rtts[2], "down", place),
            Case(congestion, rtts[j], "up", place),
        ]
    return chosen


class Moments(threading.Thread):
    """Let the event happen at its moment, and keep that moment by the wall clock."""

    def __init__(self, line: Relay, case: Case) -> None:
        super().__init__(name="events")
        self._line, self._case = line, case
        self._over = threading.Event()
        self._error: Exception | None = None
        self.begin_ns = self.end_ns = 0

    def finish(self) -> None:
        """Wait for the event's end; raise any error that it had."""
        self._over.set()
        self.join()
        if self._error is not None:
            raise self._error
        assert self.end_ns, "the transfer ended before the event was over"

    def run(self) -> None:
        try:
            if not self._over.wait(self._case.place * self._case.seconds):
                self._happen()
        except Exception as exc:
            self._error = exc

    def _happen(self) -> None:
        self.begin_ns = time.time_ns()
        if self._case.event != "outage":
            self._line.change_rate(self._case.rates_bps[1])
        else:
            self._line.cut()
            over = self._over.wait(OUTAGE_S)
            self._line.mend()
            if over:
                return
        self.end_ns = time.time_ns()


class AtOpening(nm.Observer):
    """Start the clock of the event when the streams are open and data are about to flow."""

    def __init__(self, start: Callable[[], None]) -> None:
        self._start = start

    def on_opening(self, opening: nm.Opening) -> None:
        """Start the clock."""
        self._start()


async def _transfer(line: Relay, case: Case, start: Callable[[], None]) -> nm.Result:
    spec = nm.TcpSpec(
        direction="download",
        latency=False,  # the line then counts only the transfer
        timing=nm.Timing(duration_s=case.seconds),
        options=nm.SocketOptions(congestion=case.congestion),
    )
    with line.enter("server"):
        server = await nm.serve(None, 0).__aenter__()
    try:
        with line.enter("client"):
            return await nm.measure(
                line.server.address, spec, port=server.port, observer=AtOpening(start)
            )
    finally:
        await server.close()


def measure(case: Case) -> Outcome:
    """Measure one case. The call blocks, and its thread enters namespaces."""
    queue_bytes = max(LEAST_QUEUE_BYTES, round(FAST_BPS / 8 * case.rtt_ms / 1000))
    with Relay(
        delay_ms=case.rtt_ms / 2,
        rate_bps=case.rates_bps[0],
        queue_bytes=queue_bytes,
        mtu=MTU,
    ) as line:
        moments = Moments(line, case)
        try:
            transfer = _transfer(line, case, moments.start)
            result = asyncio.run(asyncio.wait_for(transfer, case.seconds + 30))
        finally:
            if moments.ident is not None:
                moments.finish()
    flow = result.flow
    assert flow.steady is not None
    assert flow.series is not None
    (first,) = (phase for phase in result.setup if phase.name == "first_byte")
    started_ns = round(datetime.fromisoformat(result.started_at).timestamp() * 1e9)
    zero_ns = started_ns + first.end_ns - flow.series.origin_ns  # of steady's and the series' clock
    edges_ns = flow.series.origin_ns + np.arange(0, case.seconds + SHAPE_S, SHAPE_S) * 1e9
    shape = np.diff(curve(flow.series).until(edges_ns)) * 8 / SHAPE_S / 1e6
    return Outcome(
        case=case,
        steady=flow.steady,
        ramp_ns=flow.steady.start_ns - flow.series.origin_ns,
        begin_ns=moments.begin_ns - zero_ns,
        end_ns=moments.end_ns - zero_ns,
        received_bytes=flow.series.total_bytes,
        counts=line.counts["down"],
        shape_mbps=tuple(float(rate) for rate in shape),
    )


def measure_all(chosen: Sequence[Case], at_a_time: int) -> Iterator[Outcome]:
    """Yield the outcomes in order; `at_a_time` cases run at once, each in namespaces of its own."""
    with ThreadPoolExecutor(at_a_time) as threads:
        yield from threads.map(measure, chosen)
