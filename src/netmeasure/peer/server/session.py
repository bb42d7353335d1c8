"""The server's part of one test: agree, take the streams in, let them run, exchange results.

A session serves one client and never raises what that client did: a broken, silent or vanished peer
costs its own session only. The outcome is a Result in every case.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from netmeasure.clock import unix_s, wall_now
from netmeasure.engine import tcpinfo
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.hosts import this_host
from netmeasure.engine.resources import ResourceLog
from netmeasure.engine.tasks import first_of, uninterrupted
from netmeasure.errors import (
    MeasureError,
    NetmeasureError,
    PeerClosedError,
    PeerTerminatedError,
    PeerTimeoutError,
    RefusedTestError,
    RemoteProtocolError,
    SocketOptionError,
    SpecError,
    StreamError,
)
from netmeasure.measurement import roles
from netmeasure.measurement.flows import build_flows
from netmeasure.measurement.run import error_record
from netmeasure.measurement.side_report import own_report
from netmeasure.observe import Observer, Opening
from netmeasure.peer.exchange import peer_report, wire_results
from netmeasure.peer.observing import control_facts, open_streams
from netmeasure.peer.parameters import server_spec
from netmeasure.peer.plans import build_workload, server_plan
from netmeasure.peer.server.accept import Arrivals
from netmeasure.peer.server.admission import admit
from netmeasure.peer.server.data_phase import ServerData
from netmeasure.peer.server.notifier import Notifier
from netmeasure.protocol import (
    Announcement,
    ErrorCode,
    Kind,
    Message,
    Parameters,
    PeerResults,
    Phase,
    ServerError,
)
from netmeasure.protocol.auth import Gatekeeper
from netmeasure.result import FlowDirection, Host, Result, SideReport
from netmeasure.result.resources import HostUse
from netmeasure.spec import PeerSpec, ServerLimits
from netmeasure.workloads.base import Workload
from netmeasure.workloads.tcp import TcpPlan
from netmeasure.workloads.udp import UdpPlan

#: How long a client gets to hear why its streams are going to break.
HEARD_S = 0.5
#: A plain client looks at its control connection between two writes: it must come to that before
#: its streams break, or it takes the break for the reason.
LAST_WORD_S = 0.05


class Session:
    """One test on the server. `offer` may be called while `run` is under way."""

    def __init__(
        self,
        control: ControlChannel,
        peer: str,
        limits: ServerLimits,
        concurrency: Callable[[], int],
        plain_udp_turn: asyncio.Lock,
        cookie: str,
        observer: Observer | None = None,
        interval_s: float = 1.0,
        baseline: HostUse | None = None,
        gatekeeper: Gatekeeper | None = None,
    ) -> None:
        self.peer = peer
        #: None until the end, and where the client left before it asked for a test
        self.result: Result | None = None
        #: why it came to no test, where neither the client just left nor the server ended
        self.refusal: str | None = None
        self._control = control
        self._limits = limits
        self._concurrency = concurrency
        self._plain_udp_turn = plain_udp_turn
        self._most_at_once = concurrency()
        self._started_at = wall_now()
        self._parameters: Parameters | None = None
        self._directions: tuple[FlowDirection, ...] = ()
        self._plan: TcpPlan | UdpPlan | None = None
        self._spec: PeerSpec | None = None
        self._workload: Workload | None = None
        self._arrivals = Arrivals(())
        self._client_results: PeerResults | None = None
        self._side: SideReport | None = None
        self._resources = ResourceLog(baseline)
        self._cookie = cookie
        self._notifier = Notifier(observer, interval_s)
        self._gatekeeper = gatekeeper
        #: the client was refused because of who it is, or is not
        self.unauthorized = False

    # ---- data connections, from the server's accept loop ----------------------------------------

    @property
    def tags_streams(self) -> bool:
        """This client says with each data connection which stream it is."""
        return self._parameters is not None and self._parameters.netmeasure is not None

    @property
    def is_udp(self) -> bool:
        return self._parameters is not None and self._parameters.udp

    @property
    def is_leaving(self) -> bool:
        """Everything has been said but the goodbye."""
        return self._control.connection.phase in (Phase.DISPLAYING, Phase.OVER)

    @property
    def local_host(self) -> str:
        """The address of this host that the client reached."""
        return self._control.local_host

    @property
    def client_host(self) -> str:
        """The address that the client has proven to have."""
        return self._control.peer_host

    @property
    def arrivals(self) -> Arrivals:
        """Where its data connections go; none is missing outside the phase of their creation."""
        creating = self._control.connection.phase is Phase.CREATING
        return self._arrivals if creating else Arrivals(())

    # ---- order of events ------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client to the end; `result` is what came of it."""
        error: BaseException | None = None
        try:
            self._notifier.accepted(control_facts(self._control, self._cookie))
            parameters = await self._agree()
            async with self._may_open(parameters):
                workload = await self._take_streams(parameters)
            async with self._resources.running():
                data = await self._transfer(parameters, workload)
            await self._exchange_results(workload, data)
        except BaseException as exc:
            error = exc
            if not isinstance(exc, NetmeasureError):
                raise
        finally:
            try:
                await uninterrupted(self._leave(error))
            finally:
                self.result = self._assemble(error)
                if self.result is None and not isinstance(
                    error, PeerClosedError | PeerTerminatedError | asyncio.CancelledError
                ):
                    self.refusal = str(error)
                self._notifier.over(self.result, error)

    async def _agree(self) -> Parameters:
        limits = self._limits
        await self._control.send(Kind.PARAM_EXCHANGE, deadline_s=limits.handshake_s)
        try:
            message = await self._receive(limits.handshake_s)
        except RemoteProtocolError as exc:
            raise RefusedTestError(str(exc), number=ErrorCode.RECEIVE_PARAMETERS) from None
        if message.kind is not Kind.PARAMETERS:
            raise self._bad_news(message)
        parameters: Parameters = message.payload
        try:
            admit(parameters, limits, self._gatekeeper)
            self._plan = server_plan(parameters, limits)
            self._spec = server_spec(parameters, self._plan)
        except SpecError as exc:
            raise RefusedTestError(str(exc), number=ErrorCode.RECEIVE_PARAMETERS) from None
        except RefusedTestError as exc:
            self.unauthorized = exc.number == ErrorCode.UNAUTHORIZED
            raise
        self._parameters = parameters
        self._directions = roles.directions(self._spec.direction, parameters.parallel)
        if parameters.netmeasure is not None:
            mine = Announcement(
                host=this_host(),
                concurrent_tests=self._concurrency(),
                finite=limits.file is not None,
            )
            await self._control.send(Kind.EXTENSION, mine, deadline_s=limits.handshake_s)
        return parameters

    def _may_open(self, parameters: Parameters) -> AbstractAsyncContextManager[object]:
        """A plain iperf3 client's UDP hello says nothing of its test, so only one test of an
        address opens its UDP streams at a time; the others wait for CREATE_STREAMS."""
        if parameters.udp and parameters.netmeasure is None:
            return self._plain_udp_turn
        return nullcontext()

    async def _take_streams(self, parameters: Parameters) -> Workload:
        assert self._plan is not None
        limits = self._limits
        workload = self._workload = build_workload(self._plan)
        arrivals = self._arrivals = Arrivals(self._directions)
        await self._control.send(Kind.CREATE_STREAMS, deadline_s=limits.handshake_s)
        try:
            async with asyncio.timeout(limits.streams_s):
                await first_of(arrivals.all(), self._control_failure())
        except TimeoutError:
            wanted = len(self._directions)
            raise RefusedTestError(
                f"the client opened {wanted - arrivals.missing} of {wanted} streams in"
                f" {limits.streams_s:g} s",
                number=ErrorCode.NO_DATA,
            ) from None

        def add(number: int, direction: FlowDirection, sock: socket.socket) -> None:
            role = roles.server_role(direction)
            syns = None if parameters.udp else tcpinfo.syn_retransmits(sock)
            workload.add(number, role, sock, syns)

        try:
            arrivals.each(add)
        except SocketOptionError as exc:
            raise RefusedTestError(str(exc), number=exc.number) from None
        return workload

    async def _transfer(self, parameters: Parameters, workload: Workload) -> ServerData:
        limits = self._limits
        assert self._spec is not None
        self._notifier.opened(
            Opening(
                end="server",
                started_at=self._started_at,
                unix_s=unix_s(),
                control=control_facts(self._control, self._cookie),
                streams=open_streams(workload),
                spec=self._spec,
                peer=self._client_host(),
                extended=self.tags_streams,
            )
        )
        workload.begin()
        await self._control.send(Kind.TEST_START, deadline_s=limits.handshake_s)
        workload.start()
        await self._control.send(Kind.TEST_RUNNING, deadline_s=limits.handshake_s)
        data = ServerData(
            workload, parameters, limits, self._control, self._bad_news, self._count_tests
        )
        async with self._notifier.intervals(workload, self._spec.timing.omit_s):
            await data.run()
        if error := workload.failed():
            raise error
        return data

    def _count_tests(self) -> None:
        self._most_at_once = max(self._most_at_once, self._concurrency())

    async def _exchange_results(self, workload: Workload, data: ServerData) -> None:
        control, limits = self._control, self._limits
        await control.send(Kind.EXCHANGE_RESULTS, deadline_s=limits.results_s)
        message = await self._receive(limits.results_s)
        if message.kind is not Kind.CLIENT_RESULTS:
            raise self._bad_news(message)
        self._client_results = message.payload
        await data.take_rest(message.payload)
        mine = wire_results(self._report(), extended=self.tags_streams, peer=message.payload)
        self._notifier.last_interval()
        workload.close()
        if self._parameters is not None and self._parameters.get_server_output:
            mine = self._notifier.with_output(mine, lambda: self._assemble(None))
        await control.send(Kind.SERVER_RESULTS, mine, deadline_s=limits.results_s)
        await control.send(Kind.DISPLAY_RESULTS, deadline_s=limits.results_s)
        try:
            message = await self._receive(limits.results_s)
        except (PeerClosedError, PeerTimeoutError):
            return  # it has everything; that it forgot to say goodbye takes nothing from the result
        if message.kind is not Kind.IPERF_DONE:
            raise self._bad_news(message)  # it has found something wrong with the results

    # ---- what the client may do instead ---------------------------------------------------------

    async def _receive(self, deadline_s: float | None) -> Message:
        return await self._control.receive(deadline_s=deadline_s)

    async def _control_failure(self) -> None:
        raise self._bad_news(await self._receive(None))

    def _bad_news(self, message: Message) -> MeasureError:
        if message.kind in (Kind.CLIENT_TERMINATE, Kind.IPERF_DONE):
            return PeerTerminatedError("the client ended the test early", phase="data")
        return RemoteProtocolError(f"the client sent {message.kind.name} too early")

    # ---- the end --------------------------------------------------------------------------------

    async def _leave(self, error: BaseException | None) -> None:
        """Leave no thread and no socket; tell the client why if it did not go by itself."""
        if error is not None and self._control.connection.phase is not Phase.OVER:
            await self._tell(error)
        if self._workload is not None:
            self._workload.abort()
            await self._workload.join()
            self._notifier.last_interval()
        self._arrivals.close()
        await self._control.close()

    async def _tell(self, error: BaseException) -> None:
        try:
            if isinstance(error, asyncio.CancelledError):
                await self._control.send(Kind.SERVER_TERMINATE, deadline_s=1.0)
                await asyncio.sleep(LAST_WORD_S)
                return
            number = error.number if isinstance(error, RefusedTestError) else None
            if isinstance(error, StreamError):  # iperf3 says the same of either direction
                number = ErrorCode.STREAM_READ
            if number is not None:
                code = ServerError(number, None)
                await self._control.send(Kind.SERVER_ERROR, code, deadline_s=1.0)
                if self._workload is not None:
                    await self._control.finish(HEARD_S)
        except MeasureError:
            pass  # it is gone: nobody to tell

    def _report(self) -> SideReport:
        """What this end saw; read once, when the threads have ended."""
        if self._side is None:
            self._side = own_report(self._workload, self._resources, self._most_at_once)
        return self._side

    def _client_host(self) -> Host:
        """The client as far as its parameters say what it is."""
        parameters = self._parameters
        if parameters is None:
            return Host()
        name = "iperf3" if parameters.netmeasure is None else None
        return Host(program=name, version=parameters.client_version)

    def _assemble(self, error: BaseException | None) -> Result | None:
        parameters, spec = self._parameters, self._spec
        if parameters is None or spec is None:
            return None
        server = self._report()
        if self._workload is not None:
            self._workload.close()
        client = peer_report(
            self._client_results,
            self._directions,
            "client",
            parameters.client_version,
            udp=parameters.udp,
        )
        if self._client_results is None:
            client = SideReport(host=self._client_host())
        return Result(
            spec=spec,
            complete=error is None,
            error=error_record(error),
            started_at=self._started_at,
            target=self.peer,
            flows=build_flows(spec, self._directions, client, server, None),
            client=client,
            server=server,
            peer_extended=self.tags_streams,
        )
