"""Run the client's data phase: wait for the event that ends it, then for the last bytes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from netmeasure.clock import Quiet, nanoseconds, now_ns, seconds
from netmeasure.engine.tasks import beside, first_of
from netmeasure.errors import PeerClosedError, PeerTimeoutError, StreamError
from netmeasure.measurement import roles
from netmeasure.measurement.autostop import AutoStopper, begin_analysis, load_analysis
from netmeasure.measurement.intervals import IntervalClock
from netmeasure.peer.client.control import ClientControl
from netmeasure.peer.client.path_watch import PathWatch
from netmeasure.protocol import ErrorCode, Kind
from netmeasure.result import AutoStop, Interval, SideReport
from netmeasure.spec import PeerSpec, UdpSpec
from netmeasure.workloads.base import Workload

#: A plain iperf3 server stops counting when it reads TEST_END. By then its kernel has acknowledged
#: all data; this is the time that the server gets to read them from its socket buffer.
PLAIN_SERVER_READS_S = 0.005
POLL_S = 0.25
#: Streams that end more than this before their time did not end as planned.
EARLY_END_S = 0.5
#: How long after a broken stream the message with the reason may arrive.
REASON_S = 0.2
#: An old server opens only the streams of one direction, and resets the others.
OLD_IPERF3 = "iperf3 before 3.7 can't test both directions at once: test one after the other"
#: UDP has no end of stream: after the end of the test, no more data are expected after a silence of
#: this length.
QUIET_S = 0.2
#: In a test with a byte limit, the last datagrams count as lost after a silence of this length.
LAST_DATAGRAM_S = 1.0


class ClientData:
    """Run the client's data phase on a started workload. It emits intervals, and ends gracefully
    when the user sets `stop`. `on_over` is called just before the senders end."""

    def __init__(
        self,
        workload: Workload,
        spec: PeerSpec,
        control: ClientControl,
        path: PathWatch,
        emit: Callable[[Interval], None],
        stop: asyncio.Event,
        on_over: Callable[[], None],
    ) -> None:
        self._workload = workload
        self._spec = spec
        self._control = control
        self._path = path
        self._stop = stop
        self._on_over = on_over
        self._ticker = IntervalClock(workload, spec.timing, spec.limit_s, emit, roles.client_role)
        self._auto_stop = AutoStopper(workload, spec)
        #: how long the server's streams lasted, if they ended too early
        self._early_s: float | None = None

    async def run(self) -> None:
        """Run until the end of the test and the arrival of the last byte."""
        async with beside(self._ticker.run()), beside(load_analysis(self._workload, self._spec)):
            await first_of(
                self._control_failure(),
                self._stream_failure(),
                self._data_end(),
                self._stopped(),
                self._auto_stop.narrow_enough(),
                self._stall(),
                self._silence(),
                self._path.until_found(self._workload),
            )
            self._on_over()
            self._workload.stop_senders()
            await self._workload.join("sender")
            begin_analysis()
            if not self._streams_end and self._workload.ids("sender"):
                await asyncio.sleep(PLAIN_SERVER_READS_S)
            await self._control.send(Kind.TEST_END)
            await self._drain_receivers()

    async def _data_end(self) -> None:
        """Wait until the test has ended by its specification; wait for ever if a stream broke."""
        await self._all_over()
        if self._workload.failed():
            await asyncio.Event().wait()  # `_stream_failure` raises the reason

    async def _all_over(self) -> None:
        await self._workload.join("sender")
        if not self._workload.ids("receiver"):
            return
        limit_s = self._spec.limit_s
        if limit_s is not None:
            # A plain server sends until it is told to stop. A netmeasure server's TCP streams end
            # by themselves; the server is told as well, in case their end is lost.
            slack_s = self._spec.deadlines.drain_s if self._streams_end else 0.0
            over = self._time_over(self._spec.timing.omit_s + limit_s + slack_s)
            await first_of(over, self._all_ended(self._spec.timing.omit_s + limit_s))
        elif isinstance(self._spec, UdpSpec) and self._spec.timing.endless:
            await asyncio.Event().wait()
        elif isinstance(self._spec, UdpSpec):
            await self._datagrams_over(self._spec)
        else:
            # receivers return at the end of their stream, or at the byte limit of a plain server
            await self._workload.join("receiver")

    async def _all_ended(self, span_s: float) -> None:
        """Wait until all streams have ended. Raise StreamError if this is long before their time:
        then they were broken."""
        await self._workload.join("receiver")
        ended_ns = now_ns()
        if self._control.finite:
            return
        # the threads read before a busy event loop notices the start of the test
        moments = (self._workload.origin_ns, self._workload.first_ns)
        elapsed_s = seconds(ended_ns - min((m for m in moments if m is not None), default=ended_ns))
        if elapsed_s < span_s - EARLY_END_S:
            await asyncio.sleep(REASON_S)
            if not self._control.extended:
                raise ended_early(elapsed_s, span_s)
            self._early_s = elapsed_s

    def check_span(self, server: SideReport | None) -> None:
        """Raise StreamError if a netmeasure server's streams ended too early, and did not only seem
        to because this end was late."""
        span_s = self._spec.timing.omit_s + (self._spec.limit_s or 0.0)
        sent_ns = server.duration_ns if server is not None else None
        if self._early_s is not None and seconds(sent_ns or 0) < span_s - EARLY_END_S:
            raise ended_early(self._early_s, span_s)

    @property
    def _streams_end(self) -> bool:
        """Return whether the server's streams mark the end of their data themselves (FIN)."""
        return self._control.extended and not self._spec.over_udp

    async def _datagrams_over(self, spec: UdpSpec) -> None:
        """Wait until all datagrams of a byte limit have arrived, or a long silence shows that the
        rest are lost."""
        size = spec.datagram_bytes or 1
        wanted = -(-(spec.total_bytes or 0) // size)
        gap_s = size * 8 / spec.target_bps if spec.target_bps else 0.0
        quiet = Quiet(max(LAST_DATAGRAM_S, 5 * gap_s))
        while True:
            received = sum(map(self._workload.received, self._workload.ids("receiver")))
            if (received >= wanted and not spec.timing.omit_s) or (
                received and quiet.since_change(received)
            ):
                return
            await asyncio.sleep(POLL_S / 10)

    async def _time_over(self, span_s: float) -> None:
        """Wait until `span_s` after the first received byte."""
        end = (self._workload.origin_ns or 0) + nanoseconds(span_s)
        while (left := end - now_ns()) > 0:
            await asyncio.sleep(seconds(left))
            if (first := self._workload.first_ns) is not None:
                end = first + nanoseconds(span_s)

    async def _stopped(self) -> None:
        await self._stop.wait()

    async def _stream_failure(self) -> None:
        error = await self._workload.first_error()
        # `_control_failure` must raise first, since it has the server's reason
        await asyncio.sleep(REASON_S)
        if self._spec.direction == "both" and not self._control.extended:
            error.hint = OLD_IPERF3
        raise error

    async def _control_failure(self) -> None:
        try:
            message = await self._control.channel.receive(deadline_s=None)
        except PeerClosedError:
            raise PeerClosedError(
                "the server vanished in the middle of the test",
                phase="data",
                hint="its process was killed, or the path to it broke: check both, then repeat",
            ) from None
        raise self._control.failure(message)

    async def _stall(self) -> None:
        limit_s = self._spec.deadlines.stall_s
        if self._spec.over_udp and self._spec.limit_s is not None:
            # a test in which nothing arrives is a result, and its time limit ends it
            limit_s = math.inf
        quiet = Quiet(limit_s)
        while True:
            if quiet.since_change(self._workload.moved_bytes()):
                raise PeerTimeoutError(
                    f"no data moved for {limit_s:g} s",
                    phase="data",
                    hint="the peer is stopped or unreachable",
                )
            await asyncio.sleep(min(POLL_S, limit_s / 4))

    async def _silence(self) -> None:
        """Raise PeerTimeoutError if nothing was received for longer than the user's limit."""
        limit_s = await self._workload.silence(self._spec.deadlines.receive_s)
        raise PeerTimeoutError(
            f"no data were received for {limit_s:g} s",
            phase="data",
            hint="the peer is stopped or unreachable",
            number=ErrorCode.NO_DATA,
        )

    async def _drain_receivers(self) -> None:
        """Receive the data in flight, until the end of the streams or a silence."""
        udp = self._spec.over_udp
        over = self._quiet() if udp else self._workload.join("receiver")
        await self._workload.drain(over, self._spec.deadlines.drain_s)

    async def _quiet(self) -> None:
        quiet = Quiet(QUIET_S)
        while self._workload.ids("receiver"):
            if quiet.since_change(self._workload.moved_bytes()):
                return
            await asyncio.sleep(QUIET_S / 20)

    # ---- afterwards -----------------------------------------------------------------------------

    def last_interval(self) -> None:
        """Emit the interval after the last edge. Call when the threads have ended."""
        self._ticker.last()

    def auto_stop(self, *, stopped: bool) -> AutoStop | None:
        """Return how a test with `until` ended; None: the specification has no `until`. `stopped`:
        the user or an error ended the test."""
        return self._auto_stop.outcome(stopped=stopped)


def ended_early(elapsed_s: float, span_s: float) -> StreamError:
    """Return the error for a server whose streams ended long before their time."""
    return StreamError(
        f"the server's streams ended after {elapsed_s:.2f} of {span_s:g} s", phase="data"
    )
