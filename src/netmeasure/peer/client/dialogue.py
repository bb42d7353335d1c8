"""The client's part of a test, step by step: connect, agree, open streams, transfer, results.

Each step has its deadline and raises a MeasureError that says what the peer did wrong. Nothing here
cleans up; `run.Run` owns the life of a test and closes what a Dialogue has opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from netmeasure.clock import unix_s, wall_now
from netmeasure.engine import sockets
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.resources import ResourceLog
from netmeasure.engine.tasks import all_of, first_of, one_by_one
from netmeasure.engine.threads import check_cpu
from netmeasure.errors import (
    BusyError,
    MeasureError,
    PeerClosedError,
    PeerRefusedError,
    PeerTerminatedError,
    PeerTimeoutError,
    RemoteProtocolError,
    StreamError,
)
from netmeasure.measurement import roles
from netmeasure.measurement.side_report import own_report
from netmeasure.observe import Observer
from netmeasure.peer.client.connect import Approach
from netmeasure.peer.client.data_phase import ClientData
from netmeasure.peer.exchange import wire_results
from netmeasure.peer.observing import control_seen, opening
from netmeasure.peer.parameters import client_parameters
from netmeasure.peer.plans import build_workload, client_plan
from netmeasure.protocol import (
    Announcement,
    Kind,
    Message,
    PeerResults,
    Phase,
    Side,
    error_text,
    new_cookie,
    stream_ids,
)
from netmeasure.protocol.auth import make_token
from netmeasure.result import AutoStop, ErrorRecord, FlowDirection, Host, Interval, SideReport
from netmeasure.spec import MAX_DATAGRAM_BYTES, PeerSpec, TcpSpec, UdpSpec
from netmeasure.workloads.base import Workload
from netmeasure.workloads.tcp import check_file

#: iperf3's datagrams where the MSS of the control connection can't be used.
PLAIN_DATAGRAM_BYTES = 1460


class Dialogue:
    """One test with one server. Call the steps in the order in which they stand here."""

    def __init__(self, host: str, port: int, spec: PeerSpec, observer: Observer) -> None:
        self.spec = replace(spec, credentials=None)
        self.directions = roles.directions(spec.direction, spec.streams)
        self.announcement: Announcement | None = None
        self.peer_results: PeerResults | None = None
        self.workload: Workload | None = None
        self.stop = asyncio.Event()
        #: where the test stands: the phase of an error that does not name its own
        self.step = "connect"
        self._observer = observer
        self._credentials = spec.credentials
        self._started_at = wall_now()
        self._cookie = new_cookie()
        self._approach = Approach(host, port, self.spec, self._cookie)
        self._control: ControlChannel | None = None
        self._side: SideReport | None = None
        self._data: ClientData | None = None
        self._resources = ResourceLog()

    @property
    def phases(self) -> PhaseLog:
        return self._approach.phases

    @property
    def extended(self) -> bool:
        """The server is netmeasure, too."""
        return self.announcement is not None

    @property
    def server_output(self) -> str | None:
        """What the server printed, where it was asked to tell."""
        results = self.peer_results
        if results is None or not self.spec.server_output:
            return None
        if results.server_output_json is not None:
            return msgspec.json.encode(results.server_output_json).decode()
        return results.server_output_text

    @property
    def control(self) -> ControlChannel:
        if self._control is None:
            raise MeasureError("not connected yet")
        return self._control

    async def run(self, emit: Callable[[Interval], None]) -> None:
        """All steps. Intervals go to `emit` as they are complete."""
        check_cpu(self.spec.cpu)
        if isinstance(self.spec, TcpSpec) and self.spec.file is not None:
            check_file(self.spec.file, writing=self.spec.direction == "download")
        if self.spec.timing.baseline_s:
            await first_of(self._resources.rest(self.spec.timing.baseline_s), self._stopped())
            self._approach.begin()
        self._control = ControlChannel(await self._approach.control(), Side.CLIENT)
        self.step = "control"
        await self._shake_hands()
        plan = client_plan(self.spec, extended=self.extended)
        self.workload = build_workload(plan)
        self.step = "connect"
        await self._open_streams(self.workload)
        self.step = "data"
        await self._transfer(self.workload, emit)
        self.step = "results"
        await self._exchange_results(self.workload)

    def _choose_datagram_size(self) -> None:
        """The largest payload that the path's MTU takes whole, where the user named none; or
        iperf3's default, the MSS of the control connection."""
        if isinstance(self.spec, UdpSpec) and self.spec.datagram_bytes is None:
            size = sockets.datagram_room(self._approach.address)
            if self.spec.size_by_mss:
                mss = self.control.mss_bytes or 0
                size = mss if 0 < mss <= MAX_DATAGRAM_BYTES else PLAIN_DATAGRAM_BYTES
            self.spec = replace(self.spec, datagram_bytes=size)

    async def _shake_hands(self) -> None:
        control, deadline_s = self.control, self.spec.deadlines.handshake_s
        with self.phases.measure("control", "control"):
            try:
                await control.send(Kind.COOKIE, self._cookie, deadline_s=deadline_s)
                await self._expect(Kind.PARAM_EXCHANGE)
                self._choose_datagram_size()
                parameters = client_parameters(self.spec, self._token())
                await control.send(Kind.PARAMETERS, parameters, deadline_s=deadline_s)
                self._observer.on_accepted(control_seen(control, self._cookie))
                message = await self._expect(Kind.EXTENSION, Kind.CREATE_STREAMS)
                if message.kind is Kind.EXTENSION:
                    self.announcement = message.payload
                    await self._expect(Kind.CREATE_STREAMS)
            except RemoteProtocolError as exc:
                raise RemoteProtocolError(
                    f"{self._approach.address} is not an iperf3 or netmeasure server: {exc}",
                    phase="control",
                    hint="another service listens on that port",
                ) from None
            except (PeerClosedError, PeerTimeoutError) as exc:
                exc.hint = "it may be busy with another test, or not an iperf3 server"
                raise

    def _token(self) -> str | None:
        return make_token(self._credentials, unix_s()) if self._credentials else None

    async def _expect(self, *kinds: Kind, deadline_s: float | None = None) -> Message:
        """The next message, which must be one of these; within the handshake's deadline, if no
        other is given."""
        if deadline_s is None:
            deadline_s = self.spec.deadlines.handshake_s
        message = await self.control.receive(deadline_s=deadline_s)
        if message.kind in kinds:
            return message
        raise self._bad_news(message)

    def _bad_news(self, message: Message) -> MeasureError:
        """The error that a message stands for which ends the test."""
        if message.kind is Kind.ACCESS_DENIED:
            return BusyError(
                f"{self._approach.address} is busy with another test",
                phase="control",
                hint="try again later; a netmeasure server runs tests at the same time",
            )
        if message.kind is Kind.SERVER_ERROR:
            return PeerRefusedError(
                f"the server gave up: {error_text(message.payload)}",
                number=message.payload.code,
            )
        if message.kind is Kind.SERVER_TERMINATE:
            return PeerTerminatedError("the server was told to terminate")
        return RemoteProtocolError(f"the server sent {message.kind.name} too early")

    async def _open_streams(self, workload: Workload) -> None:
        """A netmeasure server knows streams by their number, so all are opened at once; iperf3
        goes by the order in which it accepts them, so there it is one after the other."""
        numbers = zip(stream_ids(len(self.directions)), self.directions, strict=True)
        opening = [
            self._open_stream(workload, index, number, direction)
            for index, (number, direction) in enumerate(numbers)
        ]
        steps = all_of(*opening) if self.extended else one_by_one(*opening)
        if isinstance(self.spec, UdpSpec):
            # a server that goes on has heard all hellos, even if its last answer was lost
            await first_of(steps, self.control.arrives())
        else:
            await steps

    async def _open_stream(
        self, workload: Workload, index: int, number: int, direction: FlowDirection
    ) -> None:
        sock, syns = await self._approach.stream(
            index, number, lambda: self.control.has_news, extended=self.extended
        )
        workload.add(number, roles.client_role(direction), sock, syns)

    async def _transfer(self, workload: Workload, emit: Callable[[Interval], None]) -> None:
        workload.begin()
        await self._expect(Kind.TEST_START)
        await self._expect(Kind.TEST_RUNNING)
        self._observer.on_opening(
            opening(
                "client",
                self._started_at,
                control_seen(self.control, self._cookie),
                workload,
                self.spec,
                self.announcement.host if self.announcement else Host(program="iperf3"),
                extended=self.extended,
            )
        )
        workload.start()
        self._data = ClientData(
            workload,
            self.spec,
            self.control,
            emit,
            self.stop,
            self._bad_news,
            extended=self.extended,
            finite=self._finite,
        )
        async with self._resources.running():
            await self._data.run()
        if error := workload.failed():
            raise error

    async def _stopped(self) -> None:
        await self.stop.wait()

    async def _exchange_results(self, workload: Workload) -> None:
        control, deadlines = self.control, self.spec.deadlines
        drained_s = deadlines.drain_s + deadlines.results_s
        await self._expect(Kind.EXCHANGE_RESULTS, deadline_s=drained_s)
        mine = wire_results(self.side(), extended=self.extended)
        await control.send(Kind.CLIENT_RESULTS, mine, deadline_s=deadlines.results_s)
        message = await self._expect(Kind.SERVER_RESULTS, deadline_s=drained_s)
        self.peer_results = message.payload
        await self._expect(Kind.DISPLAY_RESULTS, deadline_s=deadlines.results_s)
        self._check_totals(workload)
        with suppress(PeerClosedError, PeerTimeoutError):  # a farewell: everything is here
            await control.send(Kind.IPERF_DONE, deadline_s=deadlines.results_s)

    @property
    def _finite(self) -> bool:
        """The server's data are those of a file, and end where it ends."""
        return self.announcement is not None and self.announcement.finite

    def _check_totals(self, workload: Workload) -> None:
        """TCP loses nothing: what was acknowledged at one end was read at the other, and a byte
        limit was met, or something on the way ended a stream early."""
        if isinstance(self.spec, UdpSpec):
            return  # what is missing is lost, and counted as such
        far = self.peer_results.netmeasure if self.peer_results else None
        there = {stream.id: stream for stream in far.streams} if far is not None else {}
        for mine in self.side().streams:
            pair = (mine, there.get(mine.id, mine))
            sent = next((s.acked_bytes for s in pair if s.role == "sender"), None)
            came = next((s for s in pair if s.role == "receiver"), None)
            if sent is not None and came is not None and came.end_reason == "eof":
                self._check_total(f"stream {mine.id}", came.bytes or 0, sent)
        wanted = self.spec.total_bytes
        numbers = workload.ids("receiver")
        if (
            numbers
            and wanted is not None
            and not self.stop.is_set()
            and not self._finite
            and not self.spec.timing.omit_s
        ):
            self._check_total("the test", sum(map(workload.received, numbers)), wanted)

    def _check_total(self, what: str, received: int, wanted: int) -> None:
        if received < wanted:
            raise StreamError(f"{what} ended early: {received} of {wanted} bytes were received")

    # ---- after the last step --------------------------------------------------------------------

    async def leave(self) -> None:
        """Stop every thread, tell the server if the test was not over, close the connection. The
        data sockets stay until `close`, so that their figures can still be read."""
        if self.workload is not None:
            self.workload.abort()
            await self.workload.join()
        if self._data is not None:
            self._data.last_interval()
        control = self._control
        if control is None:
            return
        if control.connection.phase not in (Phase.OVER, Phase.START):
            try:
                await control.send(Kind.CLIENT_TERMINATE, deadline_s=1.0)
            except MeasureError:
                pass  # it is gone: nobody to tell
        await control.close()

    def side(self) -> SideReport:
        """What this end saw; read once, when the threads have ended."""
        if self._side is None:
            self._side = own_report(self.workload, self._resources)
        return self._side

    def auto_stop(self, error: ErrorRecord | None) -> AutoStop | None:
        """How the test ended, where its spec says `until` and the data had begun."""
        stopped = self.stop.is_set() or error is not None
        return self._data.auto_stop(stopped=stopped) if self._data is not None else None

    def close(self) -> None:
        if self.workload is not None:
            self.workload.close()
