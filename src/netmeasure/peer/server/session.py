"""Run the server's part of one test: agree on it, accept the streams, transfer, exchange results.

A session serves one client, and contains its errors: a broken, silent or vanished client ends only
its own session. Every test that got a place has a Result.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import NamedTuple

from netmeasure.clock import SECOND_NS, now_ns, unix_s, wall_now
from netmeasure.engine import tcpinfo
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.hosts import this_host
from netmeasure.engine.resources import ResourceLog
from netmeasure.engine.tasks import beside, drop_frames, first_of, uninterrupted
from netmeasure.engine.threads import in_turn
from netmeasure.errors import (
    NetmeasureError,
    PeerClosedError,
    PeerTerminatedError,
    PeerTimeoutError,
    RefusedTestError,
    SocketOptionError,
)
from netmeasure.measurement import roles
from netmeasure.measurement.autostop import load_analysis, load_host_facts
from netmeasure.measurement.run import error_record
from netmeasure.measurement.side_report import own_report
from netmeasure.observe import Opening
from netmeasure.peer.exchange import wire_results, within_limits
from netmeasure.peer.observing import control_facts, open_streams
from netmeasure.peer.plans import build_workload
from netmeasure.peer.server.accept import Arrivals
from netmeasure.peer.server.access import Access
from netmeasure.peer.server.admission import asked_bps
from netmeasure.peer.server.agreement import Agreement, agree
from netmeasure.peer.server.company import Company, Presence
from netmeasure.peer.server.data_phase import ServerData, failure
from netmeasure.peer.server.farewell import say_why
from netmeasure.peer.server.fresh import FreshListener
from netmeasure.peer.server.notifier import Notifier
from netmeasure.peer.server.options import ServerOptions
from netmeasure.peer.server.outcome import Outcome, build_result
from netmeasure.peer.server.places import Places, Wish
from netmeasure.peer.server.probes import Probes
from netmeasure.peer.server.shares import LoginBrake
from netmeasure.peer.server.statistics import Refusals
from netmeasure.protocol import (
    FRESH_ROUND_TRIPS,
    LATENCY,
    ROUND_TRIPS,
    STAMPS,
    Announcement,
    ErrorCode,
    Kind,
    Message,
    PeerResults,
    QueuePlace,
    State,
    test_name,
)
from netmeasure.protocol.error_codes import UNAUTHORIZED
from netmeasure.result import FlowDirection, Result, SideReport
from netmeasure.result.resources import HostUse
from netmeasure.spec import ServerLimits
from netmeasure.workloads.base import Workload
from netmeasure.workloads.fresh_trips import FreshTripPlan, FreshTripWorkload

#: How long a client may probe the idle path before the time limit for its streams begins.
PROBING_S = 5.0


class NewClient(NamedTuple):
    """Describe a client that has sent its cookie on a new control connection. `peer` is its
    address, `network` the network whose shares it uses, `since_ns` when its cookie arrived
    (CLOCK_MONOTONIC)."""

    control: ControlChannel
    peer: str
    cookie: str
    network: str
    since_ns: int


class Surroundings(NamedTuple):
    """Hold the parts of the server that a session uses.

    network           the network whose shares the client uses (`shares.network_of`)
    places            the tests that the server runs
    company           the tests that transfer data
    why_full          returns, after a moment, why no test of this client may begin now
    accepted          is called when the client's parameters have been accepted
    brake             counts failed logins
    plain_udp_turn    is held while a plain iperf3 client at this address opens its UDP streams
    refuse            counts and reports connections that are refused
    baseline          the use of the host before; None: it was not idle
    """

    network: str
    places: Places
    company: Company
    why_full: Callable[[], Awaitable[str | None]]
    accepted: Callable[[], None]
    brake: LoginBrake
    plain_udp_turn: asyncio.Lock
    refuse: Refusals
    baseline: HostUse | None


class Session:
    """Run one test at the server. `arrivals` accepts data connections while `run` is in
    progress."""

    def __init__(
        self,
        client: NewClient,
        options: ServerOptions,
        limits: ServerLimits,
        surroundings: Surroundings,
    ) -> None:
        #: None until the end, and if there was no test
        self.result: Result | None = None
        #: why there was no test; None if the client left by itself or the server ended
        self.refusal: str | None = None
        #: the code of this reason, for statistics
        self.reason = ""
        #: whether the client's authentication failed
        self.unauthorized = False
        self._peer = client.peer
        self._control = client.control
        self._cookie = client.cookie
        #: the name of the test in logs
        self.test = test_name(client.cookie)
        self._access = Access(options, surroundings.brake, surroundings.network)
        self._options = options
        self._limits = limits
        self._surroundings = surroundings
        self._most_at_once = 0
        self._wish: Wish | None = None
        self._has_all_data = False
        self._presence: Presence | None = None
        self._started_at = wall_now()
        observer = options.observe() if options.observe is not None else None
        self._notifier = Notifier(observer, options.interval_s)
        self._analysed = options.on_result is not None or self._notifier.reads_analysis
        self._resources = ResourceLog(surroundings.baseline)
        self._agreement: Agreement | None = None
        self._arrivals = Arrivals(())
        self._workload: Workload | None = None
        self._probes = Probes()
        self._listener: FreshListener | None = None
        self._strangers = 0
        self._strangers_told_ns = 0
        self._leaves = False
        self._client_results: PeerResults | None = None
        self._side: SideReport | None = None
        self._own: SideReport | None = None

    # ---- data connections, from the server's accept loop ----------------------------------------

    @property
    def tags_streams(self) -> bool:
        """Return whether the client is netmeasure, which numbers its data connections."""
        return self._agreement is not None and self._agreement.extended

    @property
    def is_udp(self) -> bool:
        """Return whether the data streams are UDP."""
        return self._agreement is not None and self._agreement.parameters.udp

    def awaits_probe(self, kind: socket.SocketKind) -> bool:
        """Return whether the client may open a probe of the latency now. There may be one UDP and
        one TCP probe: if the answer to the UDP hello was late, the client uses TCP instead."""
        agreed = self._agreement
        if agreed is None or kind in self._probes or self._leaves:
            return False
        creating = self._control.connection.state is State.CREATING
        return creating and self._asks_latency(agreed)

    def _asks_latency(self, agreed: Agreement) -> bool:
        """Return whether the client probes the path before it opens its streams."""
        return agreed.parameters.netmeasure is not None and agreed.parameters.netmeasure.latency

    def take_probe(self, sock: socket.socket) -> None:
        """Answer the client's probes on a socket, which is closed at the end of the test."""
        assert self._agreement is not None
        self._probes.take(sock, self._agreement.parameters)

    @property
    def is_leaving(self) -> bool:
        """Return whether only the client's last message is missing."""
        return self._control.connection.state in (State.DISPLAYING, State.OVER)

    @property
    def has_ended(self) -> bool:
        """Return whether the test is over, so that a data connection that its client opened before
        comes too late."""
        return self._leaves or self._control.connection.state is State.OVER

    @property
    def local_host(self) -> str:
        """Return the address of this host to which the client is connected."""
        return self._control.local_host

    @property
    def client_host(self) -> str:
        """Return the client's address, which its TCP connection has verified."""
        return self._control.peer_host

    @property
    def arrivals(self) -> Arrivals:
        """Return the accepted data connections; connections are missing only while the streams are
        created."""
        creating = self._control.connection.state is State.CREATING
        return self._arrivals if creating else Arrivals(())

    # ---- order of events ------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client to the end. Afterwards `result` or `refusal` is set."""
        error: BaseException | None = None
        try:
            self._notifier.accepted(control_facts(self._control, self._cookie))
            agreed = await agree(self._control, self._limits, self._access)
            await self._take_place(agreed)
            self._agreement = agreed
            self._count_tests()
            agreed = self._agreement = self._with_listener(agreed)
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
        """Leave and conclude. This is a single step, because a cancellation between its parts would
        leave the second undone."""
        try:
            await self._leave(error)
        finally:
            await self._conclude(error)

    async def _take_place(self, agreed: Agreement) -> None:
        """Take a place among the server's tests. A netmeasure client may wait for it.

        Raises RefusedTestError if no place is free and the client can't wait, or the queue is full.
        """
        around, extension = self._surroundings, agreed.parameters.netmeasure
        around.accepted()
        exclusive = extension is not None and extension.exclusive
        wish = Wish(around.network, exclusive, asked_bps(agreed.parameters))
        if not around.places.try_take(wish):
            if extension is not None and extension.waits:
                # a message that arrives together with the place counts, since it ends the test
                await first_of(self._control_failure(), self._wait_for_place(wish))
                return
            if (reason := await around.why_full()) is not None:
                raise RefusedTestError(reason, number=ErrorCode.BUSY)
            if not around.places.try_take(wish):
                raise RefusedTestError(
                    "the running tests use up the total bitrate", number=ErrorCode.BUSY
                )
        self._wish = wish

    async def _wait_for_place(self, wish: Wish) -> None:
        await self._surroundings.places.wait(wish, self._tell_position)
        self._wish = wish  # in the same step, so that the place is given back in any case

    async def _tell_position(self, position: int) -> None:
        place = QueuePlace(position)
        await self._control.send(Kind.QUEUED, place, deadline_s=self._limits.handshake_s)

    def _with_listener(self, agreed: Agreement) -> Agreement:
        """Return the agreement. If the client opens fresh connections, listen for them first.

        Raises RefusedTestError if this host can't listen, PeerClosedError if the client is gone.
        """
        plan, options = agreed.plan, self._options
        if not isinstance(plan, FreshTripPlan):
            return agreed
        self._listener = FreshListener(self._control, plan, options.fresh_port, options.device)
        return agreed._replace(plan=self._listener.completed(plan))

    async def _announce(self, agreed: Agreement) -> None:
        """Announce this server to a netmeasure client."""
        if agreed.extended:
            mine = Announcement(
                host=this_host(),
                concurrent_tests=self._surroundings.places.measuring,
                finite=self._limits.file is not None,
                proof=self._access.own_proof(self._control),
                kinds=(*ROUND_TRIPS.values(), FRESH_ROUND_TRIPS, LATENCY, STAMPS),
                fresh=self._listener.announced if self._listener is not None else None,
            )
            await self._control.send(Kind.EXTENSION, mine, deadline_s=self._limits.handshake_s)

    def _turn_to_open(self, agreed: Agreement) -> AbstractAsyncContextManager[object]:
        """Return the lock to hold while streams are opened. A plain iperf3 client's UDP hello does
        not name its test, so the tests of one address open their UDP streams in turn; the waiting
        tests have not yet received CREATE_STREAMS."""
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
        self._probes.loaded()
        await workload.begin()
        await self._control.send(Kind.TEST_START, deadline_s=deadline_s)
        workload.start()
        self._presence = self._surroundings.company.join()
        await self._control.send(Kind.TEST_RUNNING, deadline_s=deadline_s)
        data = ServerData(workload, agreed.parameters, self._limits, self._control, self._tick)
        intervals = self._notifier.intervals(workload, agreed.spec.timing.omit_s)
        # this end analyses nothing before the test is over, unless the client wants its output
        at_once = self._analysed and agreed.parameters.get_server_output
        load = load_analysis if at_once else load_host_facts
        async with beside(load(workload, agreed.spec)), intervals:
            await data.run()
        self._leave_company()
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

    def _tick(self) -> None:
        self._count_tests()
        if now_ns() - self._strangers_told_ns >= SECOND_NS:
            self._count_strangers()

    def _count_strangers(self) -> None:
        """Report connections to the test's own port that do not belong to it."""
        if not isinstance(self._workload, FreshTripWorkload):
            return
        more = self._workload.strangers - self._strangers
        if more:
            self._strangers += more
            self._strangers_told_ns = now_ns()
            connections = "1 connection" if more == 1 else f"{more} connections"
            self._surroundings.refuse(
                f"{self._peer}: closed {connections} of others to its test's port",
                "stranger",
                self._peer,
                self.test,
                count=more,
            )

    def _count_tests(self) -> None:
        self._most_at_once = max(self._most_at_once, self._surroundings.places.measuring)

    def _end_company(self) -> None:
        """Stop counting as a concurrent test for tests that begin from now on, since this test
        transfers no more data."""
        self._has_all_data = True
        self._surroundings.places.has_all_data()

    def _leave_company(self) -> None:
        if self._presence is not None:
            self._presence.leave()

    async def _exchange_results(
        self, agreed: Agreement, workload: Workload, data: ServerData
    ) -> None:
        control, deadline_s = self._control, self._limits.results_s
        await control.send(Kind.EXCHANGE_RESULTS, deadline_s=deadline_s)
        async with beside(self._report_early(agreed, data)):
            message = await self._receive(deadline_s)
        if message.kind is not Kind.CLIENT_RESULTS:
            raise failure(message)
        self._client_results = message.payload
        await data.take_rest(message.payload)
        self._end_company()
        mine = await first_of(
            self._no_results(),  # first, so that all received data count
            in_turn(lambda: self._wire_results(agreed, message.payload)),
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
            return  # both ends have all results, so the loss of the last message does not matter
        if message.kind is not Kind.IPERF_DONE:
            raise failure(message)  # the client has found an error in the results

    async def _report_early(self, agreed: Agreement, data: ServerData) -> None:
        """Make this end's report while the client makes its own, if all data have been counted."""
        if data.streams_end:
            await in_turn(self._own_report if agreed.extended else self._report)

    async def _receive(self, deadline_s: float | None) -> Message:
        return await self._control.receive(deadline_s=deadline_s)

    async def _no_results(self) -> PeerResults:
        """Raise the error for a client's message that arrives before the server's results are
        sent."""
        raise failure(await self._receive(None))

    async def _control_failure(self) -> None:
        raise failure(await self._receive(None))

    # ---- the end --------------------------------------------------------------------------------

    async def _leave(self, error: BaseException | None) -> None:
        """Close all threads and sockets; tell the client the reason if it has not left by
        itself."""
        self._leaves = True
        if error is not None and self._control.connection.state is not State.OVER:
            await say_why(self._control, error, opened=self._workload is not None)
        if self._workload is not None:
            self._workload.abort()
            await self._workload.join()
            self._leave_company()
            self._count_strangers()
            self._notifier.last_interval()
        await self._probes.close()
        if self._listener is not None:
            self._listener.close()
        self._arrivals.close()
        await self._control.close()

    async def _conclude(self, error: BaseException | None) -> None:
        """Set `result` or `refusal`, and notify the observer."""
        self.result = await in_turn(lambda: self._build_result(error))
        left = isinstance(error, PeerClosedError | PeerTerminatedError | asyncio.CancelledError)
        if self.result is None and not left:
            self.refusal = str(error)
            known = ErrorCode.of(getattr(error, "number", None))
            self.reason = (known.name if known else getattr(error, "code", "nonsense")).lower()
        self._notifier.over(self.result, error)

    def _report(self) -> SideReport:
        """Return this end's report. It is made once, after the threads have ended."""
        if self._side is None:
            mean = self._presence.mean if self._presence is not None else None
            self._side = own_report(self._workload, self._resources, self._most_at_once, mean)
        return self._side

    def _own_report(self) -> SideReport:
        """Return this end's report for a netmeasure client. It is made once, as `_report` is."""
        if self._own is None:
            self._own = within_limits(self._report())
        return self._own

    def _wire_results(self, agreed: Agreement, theirs: PeerResults) -> PeerResults:
        own = self._own_report() if agreed.extended else None
        return wire_results(self._report(), own=own, peer=theirs)

    def _build_result(self, error: BaseException | None) -> Result | None:
        """Return the Result of the test; None: no test got a place."""
        if self._agreement is None:
            return None
        server = self._report()
        if self._workload is not None:
            self._workload.close()
        outcome = Outcome(
            self._peer, self._started_at, self._agreement, server, self._client_results
        )
        return build_result(outcome, error_record(error), analysed=self._analysed)
