"""The client's part of a TCP test, step by step: connect, agree, open streams, transfer, results.

Each step has its deadline and raises a MeasureError that says what the peer did wrong. Nothing here
cleans up; `run.Run` owns the life of a test and closes what a Dialogue has opened.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from netmeasure import assemble, negotiate
from netmeasure.autostop import Watcher
from netmeasure.clock import Quiet, nanoseconds, now_ns, seconds, unix_s, wall_now
from netmeasure.engine import sockets, sockopts
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.hello import greet
from netmeasure.engine.hosts import this_host
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.resources import ResourceLog
from netmeasure.engine.tasks import all_of, first_of, one_by_one
from netmeasure.engine.threads import check_cpu
from netmeasure.errors import (
    BusyError,
    ConnectError,
    MeasureError,
    PeerClosedError,
    PeerRefusedError,
    PeerTerminatedError,
    PeerTimeoutError,
    RemoteProtocolError,
    StreamError,
)
from netmeasure.intervals import IntervalClock
from netmeasure.observe import Observer
from netmeasure.protocol import (
    Announcement,
    Kind,
    Message,
    PeerResults,
    Phase,
    Side,
    error_text,
    make_hello,
    new_cookie,
    stream_ids,
    stream_tag,
)
from netmeasure.protocol.auth import make_token
from netmeasure.result import AutoStop, ErrorRecord, FlowDirection, Host, Interval, SideReport
from netmeasure.spec import MAX_DATAGRAM_BYTES, PeerSpec, TcpSpec, UdpSpec
from netmeasure.witness import control_seen, opening
from netmeasure.workloads.base import Workload
from netmeasure.workloads.tcp import check_file

#: A plain iperf3 server stops counting when it reads TEST_END. Everything is acknowledged by its
#: kernel by then; this is the time it gets to read that from its socket buffer.
PLAIN_SERVER_READS_S = 0.005
POLL_S = 0.25
#: iperf3's number of an idle time-out.
NO_DATA = 144
#: iperf3's datagrams where the MSS of the control connection can't be used.
PLAIN_DATAGRAM_BYTES = 1460
#: Streams that end so long before their time did not end by plan.
EARLY_END_S = 0.5
#: How long a reason may come behind the break that it explains.
REASON_S = 0.2
#: UDP has no end of stream: after the end of the test, nothing for so long means nothing more.
QUIET_S = 0.2
#: Within a test that ends by a byte limit, the last datagrams are taken for lost after so long.
LAST_DATAGRAM_S = 1.0


class Dialogue:
    """One test with one server. Call the steps in the order in which they stand here."""

    def __init__(
        self, host: str, port: int, spec: PeerSpec, phases: PhaseLog, observer: Observer
    ) -> None:
        self.spec = replace(spec, credentials=None)
        self.phases = phases
        self.directions = negotiate.directions(spec.direction, spec.streams)
        self.announcement: Announcement | None = None
        self.peer_results: PeerResults | None = None
        self.workload: Workload | None = None
        self.stop = asyncio.Event()
        #: where the test stands: the phase of an error that does not name its own
        self.step = "connect"
        self._observer = observer
        self._credentials = spec.credentials
        self._started_at = wall_now()
        self._host = host
        self._port = port
        self._cookie = new_cookie()
        self._address: sockets.Address | None = None
        self._control: ControlChannel | None = None
        self._side: SideReport | None = None
        self._ticker: IntervalClock | None = None
        self._watcher: Watcher | None = None
        self._resources = ResourceLog()

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
            self.phases = PhaseLog()  # the first attempt is now
        await self._connect()
        self.step = "control"
        await self._shake_hands()
        plan = negotiate.client_plan(self.spec, extended=self.extended)
        self.workload = negotiate.workload(plan)
        self.step = "connect"
        await self._open_streams(self.workload)
        self.step = "data"
        await self._transfer(self.workload, emit)
        self.step = "results"
        await self._exchange_results(self.workload)

    async def _connect(self) -> None:
        deadlines, options = self.spec.deadlines, self.spec.options
        with self.phases.measure("resolve", "control"):
            addresses = await sockets.resolve(
                self._host, self._port, options.family, deadlines.resolve_s
            )
        made = await self._timed_connect(
            "control", sockets.connect_first(addresses, options, deadlines.connect_s)
        )
        sockopts.watch_peer(made.sock, deadlines.vanished_s)
        if options.keepalive is not None:
            sockopts.set_keepalive(made.sock, options.keepalive)
        self._address = made.address
        self._control = ControlChannel(made.sock, Side.CLIENT)

    def _choose_datagram_size(self) -> None:
        """The largest payload that the path's MTU takes whole, where the user named none; or
        iperf3's default, the MSS of the control connection."""
        if isinstance(self.spec, UdpSpec) and self.spec.datagram_bytes is None:
            size = sockets.datagram_room(self._there)
            if self.spec.size_by_mss:
                mss = self.control.mss_bytes or 0
                size = mss if 0 < mss <= MAX_DATAGRAM_BYTES else PLAIN_DATAGRAM_BYTES
            self.spec = replace(self.spec, datagram_bytes=size)

    @property
    def _there(self) -> sockets.Address:
        """The server's address, once the control connection has found it."""
        if self._address is None:
            raise MeasureError("not connected yet")
        return self._address

    async def _shake_hands(self) -> None:
        control, deadline_s = self.control, self.spec.deadlines.handshake_s
        with self.phases.measure("control", "control"):
            try:
                await control.send(Kind.COOKIE, self._cookie, deadline_s=deadline_s)
                await self._expect(Kind.PARAM_EXCHANGE)
                self._choose_datagram_size()
                parameters = negotiate.client_parameters(self.spec, self._token())
                await control.send(Kind.PARAMETERS, parameters, deadline_s=deadline_s)
                self._observer.on_accepted(control_seen(control, self._cookie))
                message = await self._expect(Kind.EXTENSION, Kind.CREATE_STREAMS)
                if message.kind is Kind.EXTENSION:
                    self.announcement = message.payload
                    await self._expect(Kind.CREATE_STREAMS)
            except RemoteProtocolError as exc:
                raise RemoteProtocolError(
                    f"{self._address} is not an iperf3 or netmeasure server: {exc}",
                    phase="control",
                    hint="another service listens on that port",
                ) from None
            except (PeerClosedError, PeerTimeoutError) as exc:
                exc.hint = "it may be busy with another test, or not an iperf3 server"
                raise

    def _token(self) -> str | None:
        return make_token(self._credentials, unix_s()) if self._credentials else None

    async def _expect(self, *kinds: Kind) -> Message:
        message = await self.control.receive(deadline_s=self.spec.deadlines.handshake_s)
        if message.kind in kinds:
            return message
        raise self._bad_news(message)

    def _bad_news(self, message: Message) -> MeasureError:
        """The error that a message stands for which ends the test."""
        if message.kind is Kind.ACCESS_DENIED:
            return BusyError(
                f"{self._address} is busy with another test",
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
        role = negotiate.client_role(direction)
        if isinstance(self.spec, UdpSpec):
            sock, syns = await self._greet(index, number), None
        else:
            sock, syns = await self._connect_stream(index, number)
        workload.add(number, role, sock, syns)

    async def _greet(self, index: int, number: int) -> socket.socket:
        """Open a UDP stream: its socket, and a hello that is repeated until it is answered."""
        name, start = f"stream {number}", now_ns()
        sock = sockets.open_datagram(self._there, self.spec.options, index)
        try:
            hello = make_hello(self._cookie, number, extended=self.extended)
            made = await greet(sock, self._there, hello, self.spec.deadlines.connect_s)
        except BaseException as exc:
            # the server may have heard it and go on, which ends this wait: then the stream is good
            if isinstance(exc, asyncio.CancelledError) and self.control.has_news:
                self.phases.add("hello", name, start, now_ns(), detail="answer lost")
                return sock
            sock.close()
            if isinstance(exc, MeasureError):
                self.phases.add("hello", name, start, now_ns(), detail=exc.code)
            raise
        repeats = f"{made.repeats} repeated" if made.repeats else None
        self.phases.add(
            "hello", name, made.start_ns, made.end_ns, address=str(self._there), detail=repeats
        )
        return sock

    async def _connect_stream(self, index: int, number: int) -> tuple[socket.socket, int | None]:
        """Open a TCP stream: connect, and say to which test it belongs."""
        deadlines = self.spec.deadlines
        name = f"stream {number}"
        made = await self._timed_connect(name, self._reach_again(index))
        hello = self._cookie.encode() + b"\0"
        if self.extended:
            hello += stream_tag(number)
        try:
            async with asyncio.timeout(deadlines.handshake_s):
                await asyncio.get_running_loop().sock_sendall(made.sock, hello)
        except OSError as exc:
            made.sock.close()
            raise StreamError(
                f"{name} failed before any data: {exc.strerror or 'timed out'}", phase="connect"
            ) from None
        except BaseException:
            made.sock.close()
            raise
        return made.sock, made.syn_retransmits

    async def _reach_again(self, index: int) -> sockets.Connected:
        return await sockets.connect_one(
            self._there,
            self.spec.options,
            self.spec.deadlines.connect_s,
            port_offset=index,
        )

    async def _timed_connect(
        self, connection: str, connecting: Coroutine[Any, Any, sockets.Connected]
    ) -> sockets.Connected:
        start = now_ns()
        try:
            made = await connecting
        except ConnectError as exc:
            self.phases.add("connect", connection, start, now_ns(), detail=exc.code)
            raise
        self.phases.add(
            "connect",
            connection,
            made.start_ns,
            made.end_ns,
            syn_retransmits=made.syn_retransmits,
            address=str(made.address),
        )
        return made

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
        async with self._resources.running():
            await self._move(workload, emit)
        if error := workload.failed():
            raise error

    async def _move(self, workload: Workload, emit: Callable[[Interval], None]) -> None:
        """The data phase, to its last byte."""
        ticker = self._ticker = IntervalClock(
            workload, self.spec.timing, self.spec.limit_s, emit, negotiate.client_role
        )
        ticking = asyncio.create_task(ticker.run())
        watcher = self._watcher = Watcher(workload, self.spec)
        try:
            await first_of(
                self._control_failure(),
                self._stream_failure(workload),
                self._data_end(workload),
                self._stopped(),
                watcher.narrow(),
                self._stall(workload),
                self._silence(workload),
            )
            workload.stop_senders()
            await workload.join("sender")
            if not self._streams_end and workload.ids("sender"):
                await asyncio.sleep(PLAIN_SERVER_READS_S)
            await self.control.send(Kind.TEST_END, deadline_s=self.spec.deadlines.handshake_s)
            await self._drain_receivers(workload)
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    async def _data_end(self, workload: Workload) -> None:
        """Return when the test is over by its own terms; not when a stream broke."""
        await self._all_over(workload)
        if workload.failed():
            await asyncio.Event().wait()  # `_stream_failure` has the word

    async def _all_over(self, workload: Workload) -> None:
        await workload.join("sender")
        if not workload.ids("receiver"):
            return
        limit_s = self.spec.limit_s
        if limit_s is not None:
            # A plain server sends until it is told to stop. A netmeasure server's TCP streams end
            # by themselves; should that go unnoticed, it is told as well.
            slack_s = self.spec.deadlines.drain_s if self._streams_end else 0.0
            over = self._time_over(workload, self.spec.timing.omit_s + limit_s + slack_s)
            await first_of(over, self._all_ended(workload, self.spec.timing.omit_s + limit_s))
        elif isinstance(self.spec, UdpSpec) and self.spec.timing.endless:
            await asyncio.Event().wait()
        elif isinstance(self.spec, UdpSpec):
            await self._datagrams_over(workload, self.spec)
        else:
            await workload.join("receiver")  # end of stream, or our own count of a plain server

    async def _all_ended(self, workload: Workload, span_s: float) -> None:
        """Return when the streams have ended in time; long before it, something broke them."""
        await workload.join("receiver")
        elapsed_s = seconds(now_ns() - (workload.origin_ns or 0))
        if self._finite:
            return
        if elapsed_s < span_s - EARLY_END_S:
            await asyncio.sleep(REASON_S)
            raise StreamError(
                f"the server's streams ended after {elapsed_s:.2f} of {span_s:g} s", phase="data"
            )

    @property
    def _finite(self) -> bool:
        """The server's data are those of a file, and end where it ends."""
        return self.announcement is not None and self.announcement.finite

    @property
    def _streams_end(self) -> bool:
        """The server's streams say by themselves where their data end (FIN)."""
        return self.extended and not isinstance(self.spec, UdpSpec)

    async def _datagrams_over(self, workload: Workload, spec: UdpSpec) -> None:
        """Return when all datagrams of a byte limit have come, or when none has come for so long
        that the rest must be lost."""
        size = spec.datagram_bytes or 1
        wanted = -(-(spec.total_bytes or 0) // size)
        gap_s = size * 8 / spec.target_bps if spec.target_bps else 0.0
        quiet = Quiet(max(LAST_DATAGRAM_S, 5 * gap_s))
        while True:
            received = sum(workload.received(number) for number in workload.ids("receiver"))
            if (received >= wanted and not spec.timing.omit_s) or (
                received and quiet.since_change(received)
            ):
                return
            await asyncio.sleep(POLL_S / 10)

    async def _time_over(self, workload: Workload, span_s: float) -> None:
        """Return `span_s` after the first byte was received."""
        end = (workload.origin_ns or 0) + nanoseconds(span_s)
        while (left := end - now_ns()) > 0:
            await asyncio.sleep(seconds(left))
            if (first := workload.first_ns) is not None:
                end = first + nanoseconds(span_s)

    async def _stopped(self) -> None:
        await self.stop.wait()

    async def _stream_failure(self, workload: Workload) -> None:
        error = await workload.first_error()
        await asyncio.sleep(REASON_S)  # a server that ends a test says why: let that be heard first
        raise error

    async def _control_failure(self) -> None:
        try:
            message = await self.control.receive(deadline_s=None)
        except PeerClosedError:
            raise PeerClosedError(
                "the server vanished in the middle of the test",
                phase="data",
                hint="it was killed, or the network lost it",
            ) from None
        raise self._bad_news(message)

    async def _stall(self, workload: Workload) -> None:
        limit_s = self.spec.deadlines.stall_s
        if isinstance(self.spec, UdpSpec) and self.spec.limit_s is not None:
            limit_s = math.inf  # that nothing arrives is a result, and the time limit ends it
        quiet = Quiet(limit_s)
        while True:
            if quiet.since_change(workload.moved_bytes()):
                raise PeerTimeoutError(
                    f"no data moved for {limit_s:g} s",
                    phase="data",
                    hint="the peer is stopped or unreachable",
                )
            await asyncio.sleep(min(POLL_S, limit_s / 4))

    async def _silence(self, workload: Workload) -> None:
        """Raise when nothing has been received for as long as the user would wait."""
        limit_s = await workload.silence(self.spec.deadlines.receive_s)
        raise PeerTimeoutError(
            f"no data were received for {limit_s:g} s",
            phase="data",
            hint="the peer is stopped or unreachable",
            number=NO_DATA,
        )

    async def _drain_receivers(self, workload: Workload) -> None:
        """Take what is still on its way: to the end of the streams, or until nothing comes."""
        ended = workload.join("receiver")
        if isinstance(self.spec, UdpSpec):
            ended.close()
            ended = self._quiet(workload)
        try:
            async with asyncio.timeout(self.spec.deadlines.drain_s):
                await ended
        except TimeoutError:
            pass
        workload.stop_receivers()
        await workload.join("receiver")

    async def _quiet(self, workload: Workload) -> None:
        quiet = Quiet(QUIET_S)
        while True:
            if not workload.ids("receiver") or quiet.since_change(workload.moved_bytes()):
                return
            await asyncio.sleep(QUIET_S / 20)

    async def _exchange_results(self, workload: Workload) -> None:
        control, deadlines = self.control, self.spec.deadlines
        message = await control.receive(deadline_s=deadlines.drain_s + deadlines.results_s)
        if message.kind is not Kind.EXCHANGE_RESULTS:
            raise self._bad_news(message)
        mine = assemble.wire_results(self.side(), extended=self.extended)
        await control.send(Kind.CLIENT_RESULTS, mine, deadline_s=deadlines.results_s)
        message = await control.receive(deadline_s=deadlines.drain_s + deadlines.results_s)
        if message.kind is not Kind.SERVER_RESULTS:
            raise self._bad_news(message)
        self.peer_results = message.payload
        message = await control.receive(deadline_s=deadlines.results_s)
        if message.kind is not Kind.DISPLAY_RESULTS:
            raise self._bad_news(message)
        self._check_totals(workload)
        with suppress(PeerClosedError, PeerTimeoutError):  # a farewell: everything is here
            await control.send(Kind.IPERF_DONE, deadline_s=deadlines.results_s)

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
        if self._ticker is not None:
            self._ticker.last()
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
            streams = self.workload.report() if self.workload is not None else ()
            origin = self.workload.origin_ns if self.workload is not None else None
            resources = None if origin is None else self._resources.collected(origin)
            self._side = assemble.side_report(this_host(streams), streams, resources)
        return self._side

    def auto_stop(self, error: ErrorRecord | None) -> AutoStop | None:
        """How the test ended, where its spec says `until` and the data had begun."""
        stopped = self.stop.is_set() or error is not None
        return self._watcher.outcome(stopped=stopped) if self._watcher is not None else None

    def close(self) -> None:
        if self.workload is not None:
            self.workload.close()
