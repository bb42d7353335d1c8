"""Run the server's part of one test: agree, accept the streams, let them run, exchange results.

A session serves one client, and no error of that client leaves it: a broken, silent or vanished
client ends its own session only. In every case that came to a test there is a Result.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import NamedTuple

from netmeasure.clock import unix_s, wall_now
from netmeasure.engine import sockopts, tcpinfo
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.hosts import this_host
from netmeasure.engine.resources import ResourceLog
from netmeasure.engine.tasks import beside, drop_frames, first_of, uninterrupted
from netmeasure.engine.threads import in_thread
from netmeasure.errors import (
    HostLimitError,
    MeasureError,
    NetmeasureError,
    PeerClosedError,
    PeerTerminatedError,
    PeerTimeoutError,
    RefusedTestError,
    SocketOptionError,
    StreamError,
)
from netmeasure.measurement import roles
from netmeasure.measurement.autostop import load_analysis
from netmeasure.measurement.run import error_record
from netmeasure.measurement.side_report import own_report
from netmeasure.observe import Opening
from netmeasure.peer.exchange import wire_results
from netmeasure.peer.observing import control_facts, open_streams
from netmeasure.peer.plans import build_workload
from netmeasure.peer.server.accept import Arrivals
from netmeasure.peer.server.access import Access
from netmeasure.peer.server.admission import asked_bps
from netmeasure.peer.server.agreement import Agreement, agree
from netmeasure.peer.server.data_phase import ServerData, failure
from netmeasure.peer.server.notifier import Notifier
from netmeasure.peer.server.options import ServerOptions
from netmeasure.peer.server.outcome import Outcome, build_result
from netmeasure.peer.server.places import Places, Wish
from netmeasure.peer.server.shares import LoginBrake
from netmeasure.protocol import (
    LATENCY,
    ROUND_TRIPS,
    Announcement,
    ErrorCode,
    Kind,
    Message,
    PeerResults,
    QueuePlace,
    ServerError,
    State,
    test_name,
)
from netmeasure.protocol.error_codes import UNAUTHORIZED
from netmeasure.result import FlowDirection, Result, SideReport
from netmeasure.result.resources import HostUse
from netmeasure.spec import ServerLimits
from netmeasure.workloads.base import Workload
from netmeasure.workloads.latency import Reflection

#: How long a client is given to read why its streams are going to break.
HEARD_S = 0.5
#: A plain client reads its control connection between two writes. It must come to that before its
#: streams break, or it reports the break instead of the reason.
LAST_WORD_S = 0.05
#: The message of a cancellation that makes room for another client: the server goes on.
CROWDED = "crowded"
#: How long a client may probe the idle path before the time for its streams counts.
PROBING_S = 5.0
#: How long a client may take to receive the news that its test is over.
TELL_S = 1.0


class NewClient(NamedTuple):
    """Describe a client that has sent its cookie on a new control connection. `peer` is its
    address, `network` what its shares are counted by, `since_ns` when its cookie came
    (CLOCK_MONOTONIC)."""

    control: ControlChannel
    peer: str
    cookie: str
    network: str
    since_ns: int


class Surroundings(NamedTuple):
    """Hold what a session needs to know of its server.

    network           what the client's shares are counted by (`shares.network_of`)
    places            the tests that the server runs
    why_full          tells why no test of this client may begin now, after a moment
    accepted          is called when the client's parameters have been accepted
    brake             counts failed logins
    plain_udp_turn    is held while a plain iperf3 client at this address opens its UDP streams
    baseline          what the host did before, None where it was not idle
    """

    network: str
    places: Places
    why_full: Callable[[], Awaitable[str | None]]
    accepted: Callable[[], None]
    brake: LoginBrake
    plain_udp_turn: asyncio.Lock
    baseline: HostUse | None


class Session:
    """Run one test at the server. `arrivals` takes data connections while `run` is under way."""

    def __init__(
        self,
        client: NewClient,
        options: ServerOptions,
        limits: ServerLimits,
        surroundings: Surroundings,
    ) -> None:
        #: None until the end, and where the client has left before it asked for a test
        self.result: Result | None = None
        #: why there was no test, unless the client left by itself or the server ended
        self.refusal: str | None = None
        #: that reason in a word, for statistics
        self.reason = ""
        #: whether the client was refused because of who it is
        self.unauthorized = False
        self._peer = client.peer
        self._control = client.control
        self._cookie = client.cookie
        #: what logs call the test
        self.test = test_name(client.cookie)
        self._access = Access(options, surroundings.brake, surroundings.network)
        self._limits = limits
        self._surroundings = surroundings
        self._most_at_once = 0
        self._wish: Wish | None = None
        self._has_all_data = False
        self._started_at = wall_now()
        observer = options.observe() if options.observe is not None else None
        self._notifier = Notifier(observer, options.interval_s)
        self._resources = ResourceLog(surroundings.baseline)
        self._agreement: Agreement | None = None
        self._arrivals = Arrivals(())
        self._workload: Workload | None = None
        self._reflections: dict[socket.SocketKind, Reflection] = {}
        self._leaves = False
        self._client_results: PeerResults | None = None
        self._side: SideReport | None = None

    # ---- data connections, from the server's accept loop ----------------------------------------

    @property
    def tags_streams(self) -> bool:
        """Return whether the client is netmeasure: it numbers its data connections."""
        return self._agreement is not None and self._agreement.extended

    @property
    def is_udp(self) -> bool:
        """Return whether the data streams are UDP."""
        return self._agreement is not None and self._agreement.parameters.udp

    def awaits_probe(self, kind: socket.SocketKind) -> bool:
        """Return whether the client may open a probe of the latency now. There may be one of UDP
        and one of TCP: where the answer to the first one's hello came late, the client has given
        it up."""
        agreed = self._agreement
        if agreed is None or kind in self._reflections or self._leaves:
            return False
        creating = self._control.connection.state is State.CREATING
        return creating and self._asks_latency(agreed)

    def _asks_latency(self, agreed: Agreement) -> bool:
        """Return whether the client probes the path before it opens its streams."""
        return agreed.parameters.netmeasure is not None and agreed.parameters.netmeasure.latency

    def take_probe(self, sock: socket.socket) -> None:
        """Answer the client's probes on a socket, which is closed with the test."""
        assert self._agreement is not None
        if tos := self._agreement.parameters.TOS:
            with suppress(SocketOptionError):
                sockopts.set_tos(sock, tos)
        with suppress(HostLimitError):
            self._reflections[sock.type] = Reflection(sock)

    @property
    def is_leaving(self) -> bool:
        """Return whether nothing is missing but the client's last message."""
        return self._control.connection.state in (State.DISPLAYING, State.OVER)

    @property
    def local_host(self) -> str:
        """Return the address of this host that the client has connected to."""
        return self._control.local_host

    @property
    def client_host(self) -> str:
        """Return the address that the client has proven to have."""
        return self._control.peer_host

    @property
    def arrivals(self) -> Arrivals:
        """Return the data connections so far; none is missing but in the phase of their
        creation."""
        creating = self._control.connection.state is State.CREATING
        return self._arrivals if creating else Arrivals(())

    # ---- order of events ------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client to the end. `result` is set afterwards, or `refusal`."""
        error: BaseException | None = None
        try:
            self._notifier.accepted(control_facts(self._control, self._cookie))
            agreed = await agree(self._control, self._limits, self._access)
            await self._take_place(agreed)
            self._agreement = agreed
            self._count_tests()
            await self._announce(agreed)
            async with self._turn_to_open(agreed):
                workload = await self._accept_streams(agreed)
            async with self._resources.running():
                data = await self._transfer(agreed, workload)
            await self._exchange_results(agreed, workload, data)
        except BaseException as exc:
            error = exc
            self.unauthorized = getattr(exc, "number", None) in UNAUTHORIZED
            if not isinstance(exc, NetmeasureError):
                raise
        finally:
            try:
                await uninterrupted(self._end(error))
            finally:
                if self._wish is not None:
                    self._surroundings.places.give_back(self._wish, has_all_data=self._has_all_data)
                if isinstance(error, NetmeasureError):
                    drop_frames(error)

    async def _end(self, error: BaseException | None) -> None:
        """Leave and conclude. It is one step, for a cancellation between its parts would leave the
        second undone."""
        try:
            await self._leave(error)
        finally:
            await self._conclude(error)

    async def _take_place(self, agreed: Agreement) -> None:
        """Take a place among the server's tests. A netmeasure client may wait for it.

        Raises RefusedTestError if there is none and the client can't wait, or the queue is full.
        """
        around, extension = self._surroundings, agreed.parameters.netmeasure
        around.accepted()
        exclusive = extension is not None and extension.exclusive
        wish = Wish(around.network, exclusive, asked_bps(agreed.parameters))
        if not around.places.try_take(wish):
            if extension is not None and extension.waits:
                # a message that comes with the turn counts: it is why the test ends
                await first_of(self._control_failure(), self._wait_for_place(wish))
                return
            if (reason := await around.why_full()) is not None:
                raise RefusedTestError(reason, number=ErrorCode.BUSY)
            if not around.places.try_take(wish):
                raise RefusedTestError(
                    "the tests that are running use the total bitrate", number=ErrorCode.BUSY
                )
        self._wish = wish

    async def _wait_for_place(self, wish: Wish) -> None:
        await self._surroundings.places.wait(wish, self._tell_position)
        self._wish = wish  # in the same step, so that it is given back whatever comes next

    async def _tell_position(self, position: int) -> None:
        place = QueuePlace(position)
        await self._control.send(Kind.QUEUED, place, deadline_s=self._limits.handshake_s)

    async def _announce(self, agreed: Agreement) -> None:
        """Tell a netmeasure client what this server is."""
        if agreed.extended:
            mine = Announcement(
                host=this_host(),
                concurrent_tests=self._surroundings.places.measuring,
                finite=self._limits.file is not None,
                proof=self._access.own_proof(self._control),
                kinds=(*ROUND_TRIPS.values(), LATENCY),
            )
            await self._control.send(Kind.EXTENSION, mine, deadline_s=self._limits.handshake_s)

    def _turn_to_open(self, agreed: Agreement) -> AbstractAsyncContextManager[object]:
        """Return what is held while streams are opened. A plain iperf3 client's UDP hello does not
        name its test, so the tests of one address open their UDP streams in turn; those that wait
        have not been sent CREATE_STREAMS."""
        if agreed.parameters.udp and not agreed.extended:
            return self._surroundings.plain_udp_turn
        return nullcontext()

    async def _accept_streams(self, agreed: Agreement) -> Workload:
        limits = self._limits
        workload = self._workload = build_workload(agreed.plan)
        arrivals = self._arrivals = Arrivals(agreed.directions)
        await self._control.send(Kind.CREATE_STREAMS, deadline_s=limits.handshake_s)
        try:
            probing_s = PROBING_S if self._asks_latency(agreed) else 0.0
            async with asyncio.timeout(limits.streams_s + probing_s):
                await first_of(self._control_failure(), arrivals.all())
        except TimeoutError:
            wanted = len(agreed.directions)
            raise RefusedTestError(
                f"the client opened {wanted - arrivals.missing} of {wanted} streams in"
                f" {limits.streams_s:g} s",
                number=ErrorCode.NO_DATA,
            ) from None

        def add(number: int, direction: FlowDirection, sock: socket.socket) -> None:
            syns = None if agreed.parameters.udp else tcpinfo.syn_retransmits(sock)
            workload.add(number, roles.server_role(direction), sock, syns)

        try:
            await arrivals.each(add)
        except SocketOptionError as exc:
            raise RefusedTestError(str(exc), number=exc.number) from None
        return workload

    async def _transfer(self, agreed: Agreement, workload: Workload) -> ServerData:
        deadline_s = self._limits.handshake_s
        self._notifier.opened(self._opening(agreed, workload))
        for reflection in self._reflections.values():
            reflection.loaded()
        await workload.begin()
        await self._control.send(Kind.TEST_START, deadline_s=deadline_s)
        workload.start()
        await self._control.send(Kind.TEST_RUNNING, deadline_s=deadline_s)
        data = ServerData(
            workload, agreed.parameters, self._limits, self._control, self._count_tests
        )
        intervals = self._notifier.intervals(workload, agreed.spec.timing.omit_s)
        async with beside(load_analysis(workload)), intervals:
            await data.run()
        if error := workload.failed():
            raise error
        return data

    def _opening(self, agreed: Agreement, workload: Workload) -> Opening:
        return Opening(
            end="server",
            started_at=self._started_at,
            unix_s=unix_s(),
            control=control_facts(self._control, self._cookie),
            streams=open_streams(workload),
            spec=agreed.spec,
            peer=agreed.client_host,
            extended=agreed.extended,
        )

    def _count_tests(self) -> None:
        self._most_at_once = max(self._most_at_once, self._surroundings.places.measuring)

    def _end_company(self) -> None:
        """Be no company any more for tests that begin from now on: nothing flows here."""
        self._has_all_data = True
        self._surroundings.places.has_all_data()

    async def _exchange_results(
        self, agreed: Agreement, workload: Workload, data: ServerData
    ) -> None:
        control, deadline_s = self._control, self._limits.results_s
        await control.send(Kind.EXCHANGE_RESULTS, deadline_s=deadline_s)
        message = await self._receive(deadline_s)
        if message.kind is not Kind.CLIENT_RESULTS:
            raise failure(message)
        self._client_results = message.payload
        await data.take_rest(message.payload)
        self._end_company()
        mine = await first_of(
            self._no_results(),  # first: what has been received counts
            in_thread(
                lambda: wire_results(self._report(), extended=agreed.extended, peer=message.payload)
            ),
        )
        self._notifier.last_interval()
        workload.close()
        if agreed.parameters.get_server_output:
            mine = self._notifier.with_output(mine, lambda: self._build_result(None))
        await control.send(Kind.SERVER_RESULTS, mine, deadline_s=deadline_s)
        await control.send(Kind.DISPLAY_RESULTS, deadline_s=deadline_s)
        try:
            message = await self._receive(deadline_s)
        except (PeerClosedError, PeerTimeoutError):
            return  # both ends have all results; a last message that is lost changes nothing
        if message.kind is not Kind.IPERF_DONE:
            raise failure(message)  # the client has found something wrong with the results

    async def _receive(self, deadline_s: float | None) -> Message:
        return await self._control.receive(deadline_s=deadline_s)

    async def _no_results(self) -> PeerResults:
        """Raise what a client's message stands for that comes before the server's results."""
        raise failure(await self._receive(None))

    async def _control_failure(self) -> None:
        raise failure(await self._receive(None))

    # ---- the end --------------------------------------------------------------------------------

    async def _leave(self, error: BaseException | None) -> None:
        """Leave no thread and no socket; tell the client the reason if it has not left itself."""
        self._leaves = True
        if error is not None and self._control.connection.state is not State.OVER:
            await self._tell(error)
        if self._workload is not None:
            self._workload.abort()
            await self._workload.join()
            self._notifier.last_interval()
        for reflection in self._reflections.values():
            await reflection.close()
        self._arrivals.close()
        await self._control.close()

    async def _tell(self, error: BaseException) -> None:
        """Send the client the reason why its test ends."""
        try:
            if isinstance(error, asyncio.CancelledError):
                word = Kind.ACCESS_DENIED if CROWDED in error.args else Kind.SERVER_TERMINATE
                await self._control.send(word, deadline_s=TELL_S)
                await asyncio.sleep(LAST_WORD_S)
            elif (number := _wire_number(error)) == ErrorCode.BUSY:
                await self._control.send(Kind.ACCESS_DENIED, deadline_s=TELL_S)
                await self._control.finish(HEARD_S)
            elif number is not None:
                code = ServerError(number, None)
                await self._control.send(Kind.SERVER_ERROR, code, deadline_s=TELL_S)
                if self._workload is not None:
                    await self._control.finish(HEARD_S)
        except MeasureError:
            pass  # the client has gone already

    async def _conclude(self, error: BaseException | None) -> None:
        """Set `result` or `refusal`, and notify the observer."""
        self.result = await in_thread(lambda: self._build_result(error))
        left = isinstance(error, PeerClosedError | PeerTerminatedError | asyncio.CancelledError)
        if self.result is None and not left:
            self.refusal = str(error)
            known = ErrorCode.of(getattr(error, "number", None))
            self.reason = (known.name if known else getattr(error, "code", "nonsense")).lower()
        self._notifier.over(self.result, error)

    def _report(self) -> SideReport:
        """Return what this end saw. It is read once, when the threads have ended."""
        if self._side is None:
            self._side = own_report(self._workload, self._resources, self._most_at_once)
        return self._side

    def _build_result(self, error: BaseException | None) -> Result | None:
        """Return the Result of the test, None where the client has not come to a test."""
        if self._agreement is None:
            return None
        server = self._report()
        if self._workload is not None:
            self._workload.close()
        outcome = Outcome(
            self._peer, self._started_at, self._agreement, server, self._client_results
        )
        return build_result(outcome, error_record(error))


def _wire_number(error: BaseException) -> int | None:
    """Return the number of the error that is sent to the client, None where none is sent."""
    if isinstance(error, StreamError):
        return ErrorCode.STREAM_READ  # whatever the direction: any number ends the client's test
    return error.number if isinstance(error, RefusedTestError | HostLimitError) else None
