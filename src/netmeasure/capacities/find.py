"""Search the capacity of a path, test by test."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from msgspec.structs import replace

from netmeasure.capacities.search import RateSearch, keeps_up
from netmeasure.client import measure
from netmeasure.clock import now_ns, seconds, wall_now
from netmeasure.errors import MeasureError, SpecError
from netmeasure.measurement.run import error_record
from netmeasure.result import ErrorRecord, Flow, FlowDirection, Result, StreamReport
from netmeasure.result.capacity import CapacityReport, Ending, RateProbe, Verdict
from netmeasure.spec import DEFAULT_UDP_BPS, Timing, UdpSpec
from netmeasure.spec.target import is_url, parse_target

DEFAULT_LOSS_LIMIT = 0.001
DEFAULT_TIME_S = 10.0
MAX_TIME_S = 600.0
MAX_BPS = 10**12
#: How long a test sends before it counts, so that queues are full and token buckets empty; how long
#: it counts while the search increases the rate, near the capacity, and when token buckets must
#: become empty.
_OMIT_S, _CLIMB_S, _NEAR_S, _LONG_S = 0.1, 0.3, 1.0, 3.0
#: The least time that a test counts.
_LEAST_S = 0.2
_HEADERS_V4, _HEADERS_V6 = 28, 48


class CapacitySearch:
    """Search the highest rate at which no more datagrams are lost than a limit allows.

    ::

        search = nm.CapacitySearch("lab1", nm.UdpSpec(direction="download"))
        async for probe in search.run():
            ...
        report = search.report

    An interrupted search keeps its findings in `report`.
    """

    def __init__(
        self,
        target: str,
        spec: UdpSpec | None = None,
        *,
        port: int | None = None,
        loss_limit: float = DEFAULT_LOSS_LIMIT,
        time_s: float = DEFAULT_TIME_S,
        most_bps: int = MAX_BPS,
    ) -> None:
        """Prepare a search; the arguments are those of `capacity`."""
        spec = spec or UdpSpec()
        if is_url(target):
            raise SpecError(f"{target!r} is a URL, but a search uses UDP", hint="give HOST[:PORT]")
        parse_target(target, port)
        if spec.direction == "both":
            raise SpecError(
                "a search measures one direction at a time", hint="search upload, then download"
            )
        rated = spec.target_pps is not None or spec.target_bps != DEFAULT_UDP_BPS
        if spec.timing != Timing() or rated:
            raise SpecError("a search chooses rates and times itself", hint="leave them out")
        if not 0 <= loss_limit < 1:
            raise SpecError(
                f"the loss limit is {loss_limit:g}: it must be 0 or more, and less than 1",
                hint="write 0.1% or 0.001",
            )
        if not 1 <= time_s <= MAX_TIME_S:
            raise SpecError(f"a search takes 1 to {MAX_TIME_S:g} s, not {time_s:g}")
        if not spec.streams <= most_bps <= MAX_BPS:
            raise SpecError(
                f"the highest rate to try is {most_bps} bit/s: it must be 1 bit/s to 1 Tbit/s"
            )
        self._target, self._port, self._spec = target, port, spec
        self._loss_limit, self._time_s = loss_limit, time_s
        self._search = RateSearch(most_bps)
        self._started_at, self._start_ns = wall_now(), now_ns()
        self._ended_ns: int | None = None
        self._error: ErrorRecord | None = None
        self._last: Result | None = None

    async def run(self) -> AsyncGenerator[RateProbe, None]:
        """Yield each test of the search when it ends.

        Raises MeasureError if the first test fails. If a later test fails, the search ends, and
        `report.error` says why. Raises SpecError.
        """
        search = self._search
        self._started_at, self._start_ns = wall_now(), now_ns()
        around_ns = 0  # the time that the test took beside its sending
        try:
            while search.ended_by is None:
                wanted_s = _CLIMB_S if search.climbs else _LONG_S if search.is_long else _NEAR_S
                left_s = self._time_s - seconds(now_ns() - self._start_ns + around_ns)
                count_s = min(wanted_s, left_s - _OMIT_S)
                if search.probes and count_s < _LEAST_S:
                    search.ended_by = "time"
                    break
                try:
                    probe = await self._probe(search.next_bps, max(count_s, _LEAST_S))
                except MeasureError as exc:
                    if not search.probes:
                        raise
                    self._error = error_record(exc)
                    search.ended_by = "error"
                    break
                around_ns = probe.duration_ns - round((_OMIT_S + count_s) * 1e9)
                search.add(probe)
                yield probe
        finally:
            self._ended_ns = now_ns()

    async def _probe(self, asked_bps: int, count_s: float) -> RateProbe:
        """Return the outcome of a test at one rate. Raises MeasureError."""
        streams = self._spec.streams
        spec = replace(
            self._spec,
            target_bps=max(asked_bps // streams, 1),
            timing=Timing(duration_s=count_s, omit_s=_OMIT_S),
            latency=False,  # else each test would first measure the idle path
        )
        begun_ns = now_ns()
        result = await measure(self._target, spec, port=self._port)
        self._last = result
        return _found(result, asked_bps, now_ns() - begun_ns, self._loss_limit)

    @property
    def report(self) -> CapacityReport:
        """Return the findings so far."""
        search, spec, last = self._search, self._spec, self._last
        best, whole = search.best, search.loss_free
        size = header = None
        if last is not None and isinstance(last.spec, UdpSpec):
            size, header = last.spec.datagram_bytes, _header_bytes(last)
        capacity_bps = None if best is None else best.received_bps
        ip_bps = None
        if capacity_bps is not None and size and header is not None:
            ip_bps = capacity_bps * (size + header) / size
        ended_by: Ending = search.ended_by or "stopped"
        if best is None and ended_by == "time":
            ended_by = "nothing"
        direction: FlowDirection = "download" if spec.direction == "download" else "upload"
        return CapacityReport(
            target=self._target,
            direction=direction,
            started_at=self._started_at,
            loss_limit=self._loss_limit,
            streams=spec.streams,
            datagram_bytes=size,
            header_bytes=header,
            capacity_bps=capacity_bps,
            ip_capacity_bps=ip_bps,
            loss_free_bps=None if whole is None else whole.received_bps,
            above_bps=search.above_bps,
            ended_by=ended_by,
            duration_ns=(self._ended_ns or now_ns()) - self._start_ns,
            probes=tuple(search.probes),
            error=self._error,
        )


async def capacity(
    target: str,
    spec: UdpSpec | None = None,
    *,
    port: int | None = None,
    loss_limit: float = DEFAULT_LOSS_LIMIT,
    time_s: float = DEFAULT_TIME_S,
    most_bps: int = MAX_BPS,
) -> CapacityReport:
    """Return the highest rate of UDP at which no more datagrams are lost than a limit allows.

    The search makes a few short tests, as in RFC 9097. The rate is the rate of arrival; the report
    also has the rate at the IP layer. Tests above the capacity fill the path's queues for 0.4 s at
    a time.

    Args:
        target: "host" or "host:port" of a server.
        spec: Direction, streams, datagram size, socket options and deadlines of the tests; its rate
            and its timing must be the defaults.
        port: The port if the target names none; None: 5201.
        loss_limit: The share of the datagrams that may be lost; 0: no loss at all.
        time_s: The time limit of the search. A test that would end later is not begun.
        most_bps: The highest rate of payload to try, in bit/s, of all streams together.

    Raises:
        SpecError: An argument is not valid.
        MeasureError: The first test failed.
    """
    search = CapacitySearch(
        target, spec, port=port, loss_limit=loss_limit, time_s=time_s, most_bps=most_bps
    )
    async for _ in search.run():
        pass
    return search.report


def _found(result: Result, asked_bps: int, duration_ns: int, loss_limit: float) -> RateProbe:
    """Return the outcome of a test at its rate. Raises MeasureError if the server does not report
    the losses."""
    flow = result.flow
    loss = flow.loss
    if loss is None or loss.sent_packets is None or loss.lost_packets is None:
        raise MeasureError(
            "the server did not report what was lost",
            phase="results",
            hint="a search needs a netmeasure server",
        )
    sent_bps = _rate(flow, "sender")
    received_bps = _rate(flow, "receiver")
    if received_bps is None:
        received_bps = flow.averages.after_omit_bps or 0.0
    dropped = loss.host_dropped_packets or 0
    allowed = loss_limit * loss.sent_packets
    verdict: Verdict = "passed"
    if not loss.sent_packets:
        verdict = "sender"  # none was due, or its host kept it from sending: the path had no part
    elif loss.lost_packets > allowed or not loss.received_packets:
        verdict = "receiver" if loss.lost_packets - dropped <= allowed else "lost"
    elif not keeps_up(sent_bps, asked_bps, loss.sent_packets):
        verdict = "sender"
    return RateProbe(
        asked_bps=asked_bps,
        sent_bps=sent_bps,
        received_bps=received_bps,
        second_half_bps=_second_half(result),
        sent_packets=loss.sent_packets,
        lost_packets=loss.lost_packets,
        host_dropped_packets=dropped,
        duration_ns=duration_ns,
        verdict=verdict,
    )


def _rate(flow: Flow, end: str) -> float | None:
    """Return the payload bit/s that an end counted after the omitted time, over all streams."""
    total = 0.0
    for stream in flow.streams:
        report: StreamReport | None = stream.sender if end == "sender" else stream.receiver
        if report is None or report.counted_bytes is None or not report.counted_ns:
            return None
        total += report.counted_bytes * 8e9 / report.counted_ns
    return total


def _second_half(result: Result) -> float | None:
    """Return the rate of arrival in the second half of the counted time, from the receiver's time
    series."""
    series, timing = result.flow.series, result.spec.timing
    if series is None or timing.duration_s is None:
        return None
    end = round((timing.omit_s + timing.duration_s) * 1e9) // series.width_ns
    count = round(timing.duration_s * 1e9) // series.width_ns // 2
    if not 0 < count <= len(series.bytes):
        return None
    return sum(series.bytes[end - count : end]) * 8e9 / (count * series.width_ns)


def _header_bytes(result: Result) -> int | None:
    for stream in result.flow.streams:
        for report in (stream.sender, stream.receiver):
            if report is not None and report.socket is not None and report.socket.remote:
                return _HEADERS_V6 if report.socket.remote.startswith("[") else _HEADERS_V4
    return None
