"""Run one test against one server, step by step: connect, agree, open streams, transfer, results.

Each step has its deadline, and raises a MeasureError that says what the peer did wrong. The steps
do no clean-up: `measurement.run.Run` controls the test, and always calls `leave` and `close`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from netmeasure.clock import unix_s, wall_now
from netmeasure.engine import progress, sockets, tls
from netmeasure.engine.addresses import address_text
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.resources import ResourceLog
from netmeasure.engine.tasks import all_of, beside, first_of, one_by_one
from netmeasure.engine.threads import check_cpu, in_thread, in_turn
from netmeasure.errors import (
    ConnectError,
    MeasureError,
    PeerClosedError,
    PeerRefusedError,
    PeerTimeoutError,
)
from netmeasure.measurement import roles
from netmeasure.measurement.autostop import begin_looks
from netmeasure.measurement.side_report import own_report
from netmeasure.observe import Observer, Opening
from netmeasure.peer.client.connect import Connector
from netmeasure.peer.client.control import ClientControl
from netmeasure.peer.client.data_phase import ClientData
from netmeasure.peer.client.elsewhere import answered_elsewhere
from netmeasure.peer.client.fresh import reached
from netmeasure.peer.client.latency import LatencyWatch
from netmeasure.peer.client.outcome import Outcome, build_result
from netmeasure.peer.client.path_watch import PathWatch
from netmeasure.peer.client.totals import check_streams, check_total
from netmeasure.peer.exchange import wire_results, within_limits
from netmeasure.peer.observing import control_facts, open_streams
from netmeasure.peer.parameters import client_parameters, round_trip_kind, stream_count
from netmeasure.peer.plans import build_workload, client_plan
from netmeasure.protocol import Kind, PeerResults, Side, new_cookie, stream_ids
from netmeasure.protocol.auth import make_token
from netmeasure.result import ErrorRecord, FlowDirection, Host, Interval, Result, SideReport
from netmeasure.result.latency import Latency
from netmeasure.spec import MAX_DATAGRAM_BYTES, PeerSpec, RrSpec, TcpSpec, UdpSpec
from netmeasure.workloads.base import Workload
from netmeasure.workloads.fresh_trips import FreshTripPlan
from netmeasure.workloads.tcp import check_file

#: The size of iperf3's datagrams if the MSS of the control connection can't be used.
PLAIN_DATAGRAM_BYTES = 1460
#: The control connection's packets fit every path (RFC 9293, 3.7.1), so that both ends can still
#: report errors if longer packets are lost.
CONTROL_MSS_BYTES = 536
#: The most connections that are being opened at a time. A server closes the oldest of several
#: hundred whose test it does not know yet.
AT_ONCE = 128
#: The most streams of an iperf3 server.
PLAIN_STREAMS = 128
#: How a server that does not announce a kind of round trips can't answer them.
_WAYS = {"udp_rr": " by UDP", "crr": " on fresh connections"}


class PeerTest:
    """Run one test against one server, controlled by `measurement.run.Run`."""

    def __init__(
        self, host: str, port: int, spec: PeerSpec, observer: Observer | None = None
    ) -> None:
        self.stop = asyncio.Event()
        #: the present step, which is the phase of an error that names none
        self.step = "connect"
        self._host = host
        self._target = address_text((host, port))
        self._spec = replace(spec, credentials=None, secret=None)
        self._credentials = spec.credentials
        self._secret = spec.secret
        self._directions = roles.directions(spec.direction, stream_count(spec))
        self._observer = observer or Observer()
        self._started_at = wall_now()
        self._cookie = new_cookie(waits=spec.deadlines.queue_s > 0)
        self._connector = Connector(
            host,
            port,
            self._spec,
            self._cookie,
            control_mss_bytes=_control_mss_bytes(spec, self._observer),
        )
        begin_looks(spec)
        self._path: PathWatch | None = None
        self._resources = ResourceLog()
        self._client_control: ClientControl | None = None
        self._latency: LatencyWatch | None = None
        self._workload: Workload | None = None
        self._sending: list[socket.socket] = []
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._data: ClientData | None = None
        self._peer_results: PeerResults | None = None
        self._side: SideReport | None = None

    @property
    def transferring(self) -> bool:
        """Return whether the data phase has begun."""
        return self._workload is not None and self._workload.origin_ns is not None

    @property
    def _control(self) -> ClientControl:
        if self._client_control is None:
            raise MeasureError("not connected yet")
        return self._client_control

    # ---- the steps ------------------------------------------------------------------------------

    async def run(self, emit: Callable[[Interval], None]) -> None:
        """Take all steps, and pass each interval to `emit` when it ends."""
        self._check_host()
        context = await self._tls_context()
        await self._rest()
        self._connector.begin()
        channel = await self._control_channel(context)
        self._client_control = ClientControl(
            channel,
            self._connector.address,
            self._spec.deadlines,
            self._observer.on_queued,
            secret=self._secret,
            has_user=self._credentials is not None,
        )
        self.step = "control"
        await self._shake_hands()
        path = self._path = PathWatch(
            self._connector.address, self._spec, extended=self._control.extended
        )
        plan = client_plan(self._spec, extended=self._control.extended)
        self.step = "connect"
        if isinstance(plan, FreshTripPlan):
            plan = await reached(plan, self._control, self._connector, self._spec)
        workload = self._workload = build_workload(plan)
        latency = self._latency = LatencyWatch(self._spec, self._control, self._connector)
        if latency.is_due():  # else this host's delays here would be left out of set-up
            with self._connector.set_up_paused():
                await first_of(latency.idle(), self._stopped())
        await self._open_streams(workload)
        self.step = "data"
        await self._transfer(workload, path, latency, emit)
        await latency.finish()
        self.step = "results"
        try:
            with progress.current().step("results", "control"):
                await self._exchange_results(workload)
        except (PeerClosedError, PeerTimeoutError):
            if await path.search_all():
                raise path.error() from None
            raise
        for direction in self._without_datagrams(workload):
            await path.search(direction)

    async def _tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS context that checks the server's certificate; None without TLS. Loading
        the CAs takes long, so this is done before set-up is timed."""
        if not self._spec.tls:
            return None
        return await in_thread(partial(tls.client_context, self._spec.ca_file))

    async def _control_channel(self, context: ssl.SSLContext | None) -> ControlChannel:
        """Return an open control connection. Raise TlsError if TLS was requested but the server
        does not support it or has no valid certificate."""
        sock = await self._connector.connect_control()
        if context is None:
            return ControlChannel(sock, Side.CLIENT)
        self.step = "tls"
        stream = tls.client_stream(sock, context, self._host)
        where, deadline_s = self._connector.address, self._spec.deadlines.handshake_s
        try:
            with self._connector.answered("tls"):
                async with asyncio.timeout(deadline_s):
                    await stream.shake_hands()
        except TimeoutError:
            sock.close()
            raise PeerTimeoutError(
                f"{where} did not agree on TLS in {deadline_s:g} s",
                phase="tls",
                hint="it may hang, or not speak TLS on this port",
            ) from None
        except OSError as exc:
            sock.close()
            raise tls.tls_error(str(where), exc) from None
        except BaseException:
            sock.close()
            raise
        return ControlChannel(sock, Side.CLIENT, tls=stream)

    def _check_host(self) -> None:
        """Raise SpecError or SocketOptionError if this host lacks what the test needs."""
        spec = self._spec
        check_cpu(spec.cpu)
        if isinstance(spec, TcpSpec) and spec.file is not None:
            check_file(spec.file, writing=spec.direction == "download")

    async def _rest(self) -> None:
        """Measure the use of this host before the test, if requested."""
        if baseline_s := self._spec.timing.baseline_s:
            await first_of(self._resources.rest(baseline_s), self._stopped())

    async def _stopped(self) -> None:
        await self.stop.wait()

    async def _shake_hands(self) -> None:
        control = self._control
        with self._connector.answered("control"):
            await control.introduce(self._cookie)
        with self._connector.answered("control"):
            self._choose_datagram_size(control.channel.mss_bytes)
            knows = self._secret is not None
            await control.propose(client_parameters(self._spec, self._token(), secret=knows))
            self._observer.on_accepted(control_facts(control.channel, self._cookie))
            await control.agree()
        if not control.extended and self._spec.streams > PLAIN_STREAMS:
            raise PeerRefusedError(
                f"{self._target} is a plain iperf3, which takes at most {PLAIN_STREAMS} streams",
                phase="control",
                hint="use fewer streams (-P), or netmeasure at the other end",
            )
        if (
            isinstance(self._spec, RrSpec)
            and (kind := round_trip_kind(self._spec)) not in control.kinds
        ):
            way = _WAYS.get(kind, "")
            raise PeerRefusedError(
                f"{self._target} does not answer round trips{way}",
                phase="control",
                hint="they need a netmeasure at the other end, as new as this one",
            )

    def _choose_datagram_size(self, mss_bytes: int | None) -> None:
        """Choose the size of datagrams where the user has given none: the largest payload that fits
        the path's MTU, or iperf3's default, the MSS of the control connection."""
        if isinstance(self._spec, UdpSpec) and self._spec.datagram_bytes is None:
            size = sockets.datagram_room(self._connector.address)
            if self._spec.size_by_mss:
                mss = mss_bytes or 0
                size = mss if 0 < mss <= MAX_DATAGRAM_BYTES else PLAIN_DATAGRAM_BYTES
            self._spec = replace(self._spec, datagram_bytes=size)

    def _token(self) -> str | None:
        return make_token(self._credentials, unix_s()) if self._credentials else None

    async def _open_streams(self, workload: Workload) -> None:
        """Open all data streams: concurrently with a netmeasure server, which identifies them by
        their numbers; one after the other with iperf3, which identifies them by their order."""
        numbers = zip(stream_ids(len(self._directions)), self._directions, strict=True)
        opening = [
            self._open_stream(workload, index, number, direction)
            for index, (number, direction) in enumerate(numbers)
        ]
        control = self._control
        steps = all_of(*opening) if control.extended else one_by_one(*opening)
        if self._spec.over_udp:
            # a server that goes on has received all hellos, even if its last answer was lost
            await first_of(steps, control.channel.arrives())
        else:
            await steps

    async def _open_stream(
        self, workload: Workload, index: int, number: int, direction: FlowDirection
    ) -> None:
        control = self._control
        async with self._turn:
            sock, syns = await self._connector.open_stream(
                index, number, lambda: control.channel.has_news, extended=control.extended
            )
        role = roles.client_role(direction)
        if role == "sender" and not self._spec.over_udp:
            self._sending.append(sock)
        workload.add(number, role, sock, syns)

    def _without_datagrams(self, workload: Workload) -> list[FlowDirection]:
        """Return the directions of a UDP test in which no datagram at all has arrived."""
        results = self._peer_results
        if results is None or not self._spec.over_udp:
            return []
        found: list[FlowDirection] = []
        sent = workload.ids("sender")
        if sent and not any(stream.bytes for stream in results.streams if stream.id in sent):
            found.append("upload")
        answering = workload.ids("receiver") and self._control.extended
        if answering and not workload.moved_bytes("receiver"):
            found.append("download")
        return found

    async def _transfer(
        self,
        workload: Workload,
        path: PathWatch,
        latency: LatencyWatch,
        emit: Callable[[Interval], None],
    ) -> None:
        control = self._control
        await workload.begin()
        await first_of(self._test_start(), self._another_server(workload))
        self._sending.clear()
        await control.expect(Kind.TEST_RUNNING)
        if workload.ids("sender"):
            self._connector.add_start(workload.begun_ns or 0)
        self._connector.end_set_up()
        self._observer.on_opening(self._opening(workload))
        workload.start()
        self._data = ClientData(
            workload, self._spec, control, path, emit, self.stop, latency.end_load
        )
        async with self._resources.running(), beside(latency.follow(workload)):
            await self._data.run()
        if error := workload.failed():
            raise error

    async def _test_start(self) -> None:
        await self._control.expect(Kind.TEST_START)

    async def _another_server(self, workload: Workload) -> None:
        """Raise ConnectError as soon as it is known that a data connection reached another
        server."""
        if self._spec.over_udp:
            await asyncio.Event().wait()  # such a server does not answer hellos
        await answered_elsewhere(
            self._sending, lambda: workload.moved_bytes("receiver"), len(self._directions)
        )
        raise ConnectError(
            f"{self._connector.address} is the address of several servers: a data connection came"
            " to another one than the control connection",
            phase="connect",
            hint="give the address of one server, or let all connections of a client go to the same"
            " one (session affinity)",
        )

    def _opening(self, workload: Workload) -> Opening:
        control = self._control
        announced = control.announcement
        return Opening(
            end="client",
            started_at=self._started_at,
            unix_s=unix_s(),
            control=control_facts(control.channel, self._cookie),
            streams=open_streams(workload),
            spec=self._spec,
            peer=announced.host if announced else Host(program="iperf3"),
            extended=control.extended,
        )

    async def _exchange_results(self, workload: Workload) -> None:
        control, deadlines = self._control, self._spec.deadlines
        drained_s = deadlines.drain_s + deadlines.results_s
        await control.expect(Kind.EXCHANGE_RESULTS, deadline_s=drained_s)
        mine = await in_turn(self._wire_results)
        await control.send(Kind.CLIENT_RESULTS, mine, deadline_s=deadlines.results_s)
        message = await control.expect(Kind.SERVER_RESULTS, deadline_s=drained_s)
        self._peer_results = message.payload
        await control.expect(Kind.DISPLAY_RESULTS, deadline_s=deadlines.results_s)
        self._check_totals(workload, message.payload)
        # the result is complete without this message
        with suppress(PeerClosedError, PeerTimeoutError):
            await control.send(Kind.IPERF_DONE, deadline_s=deadlines.results_s)

    def _wire_results(self) -> PeerResults:
        side = self._report()
        return wire_results(side, own=within_limits(side) if self._control.extended else None)

    def _check_totals(self, workload: Workload, results: PeerResults) -> None:
        """Raise StreamError if a TCP stream lost bytes, or a byte limit was not reached."""
        spec = self._spec
        if spec.over_udp:
            return  # missing datagrams are lost, and counted as lost
        check_streams(self._report(), results.netmeasure)
        if self._data is not None:
            self._data.check_span(results.netmeasure)
        received = [workload.received(number) for number in workload.ids("receiver")]
        partial = self.stop.is_set() or self._control.finite or spec.timing.omit_s
        if received and spec.total_bytes is not None and not partial:
            check_total("the test", sum(received), spec.total_bytes)

    # ---- after the last step --------------------------------------------------------------------

    async def leave(self) -> None:
        """Stop every thread, tell the server if the test ended early, and close the connection. The
        data sockets stay until `close`, so that their figures can still be read."""
        if self._workload is not None:
            self._workload.abort()
            await self._workload.join()
        if self._latency is not None:
            await self._latency.close()
        if self._data is not None:
            self._data.last_interval()
        self._connector.end_set_up()  # the control connection stays open as long as it is watched
        if self._client_control is not None:
            # immediately, since the server has noticed the broken streams
            await self._client_control.leave()
        await self._connector.leave()

    def result(self, error: ErrorRecord | None) -> Result:
        """Return the Result of the test, complete without an error. Call after `leave`."""
        control = self._client_control
        stopped = self.stop.is_set()
        cut_short = stopped or error is not None
        outcome = Outcome(
            target=self._target,
            spec=self._spec,
            directions=self._directions,
            phases=self._connector.phases,
            workload=self._workload,
            client=self._report(),
            announcement=control.announcement if control else None,
            peer_results=self._peer_results,
            auto_stop=self._data.auto_stop(stopped=cut_short) if self._data else None,
            path_hole=self._path.hole if self._path else None,
            latency=self._measured_latency(),
            no_latency=self._latency.missing if self._latency else None,
            stopped=stopped,
        )
        return build_result(outcome, error)

    def _measured_latency(self) -> Latency | None:
        workload = self._workload
        if self._latency is None:
            return None
        return self._latency.latency(workload.origin_ns if workload is not None else None)

    def close(self) -> None:
        """Close the data sockets. Call after `result`."""
        if self._workload is not None:
            self._workload.close()

    def _report(self) -> SideReport:
        """Return this end's report. It is made once, after the threads have ended."""
        if self._side is None:
            self._side = own_report(self._workload, self._resources)
        return self._side


def _control_mss_bytes(spec: PeerSpec, observer: Observer) -> int | None:
    """Return the limit of the control connection's MSS; None: the path's own MSS, if the size of
    datagrams follows from it or an observer needs it."""
    by_mss = isinstance(spec, UdpSpec) and spec.size_by_mss
    return None if by_mss or observer.reads_control_mss else CONTROL_MSS_BYTES
