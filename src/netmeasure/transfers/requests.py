"""Run a test of requests by HTTP: look the server up, connect once, then start the threads."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from netmeasure.clock import Quiet, nanoseconds
from netmeasure.engine import limits, sockets
from netmeasure.engine.addresses import Address, numeric
from netmeasure.engine.packed import packed_address, packed_options
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.resources import ResourceLog
from netmeasure.engine.tasks import cancel_and_wait, first_of, uninterrupted
from netmeasure.engine.threads import check_cpu, in_thread
from netmeasure.engine.tls import client_context, client_stream
from netmeasure.errors import (
    ConnectError,
    FileRefusedError,
    HostLimitError,
    MeasureError,
    NameNotFoundError,
    PeerClosedError,
    PeerTimeoutError,
    RemoteProtocolError,
    SpecError,
    TlsError,
)
from netmeasure.measurement.autostop import (
    AutoStopper,
    begin_analysis,
    begin_looks,
    ending_notes,
    first_byte,
)
from netmeasure.measurement.flows import Measured, build_flows
from netmeasure.measurement.intervals import IntervalClock
from netmeasure.measurement.roles import client_role
from netmeasure.measurement.run import RESPONSE
from netmeasure.measurement.side_report import own_report
from netmeasure.measurement.trips import conntrack_notes, with_steady_rate
from netmeasure.result import ErrorRecord, Host, Interval, Result, SideReport
from netmeasure.result.requests import RequestErrors, Requests
from netmeasure.spec import RequestSpec, parse_pin
from netmeasure.transfers.reach import no_tls, public_url
from netmeasure.transfers.secrets import public_headers
from netmeasure.workloads.requests import (
    RequestPlan,
    RequestWorkload,
    TlsClient,
    tls_client,
)

POLL_S = 0.25
#: Descriptors in addition to the connections: the threads' epoll sets, and the event loop's own.
SPARE_DESCRIPTORS = 64
PORTS = {"http": 80, "https": 443}
#: The name of the connection whose set-up is timed, and the name of those that carry requests.
FIRST, ALL = "first connection", "connections"


class _Tls(NamedTuple):
    """Hold TLS for the first connection, which the event loop opens, and for those of threads."""

    context: ssl.SSLContext
    client: TlsClient


class RequestTest:
    """Carry out one run of a RequestSpec: `run`, then `leave`, then `result`."""

    def __init__(self, spec: RequestSpec) -> None:
        self.spec = spec
        begin_looks(spec)
        self.stop = asyncio.Event()
        self.step = "connect"
        self._workload: RequestWorkload | None = None
        self._phases = PhaseLog()
        self._ticker: IntervalClock | None = None
        self._auto_stop: AutoStopper | None = None
        self._resources = ResourceLog()
        self._tls: _Tls | None = None

    @property
    def transferring(self) -> bool:
        return self._workload is not None and self._workload.first_ns is not None

    async def run(self, emit: Callable[[Interval], None]) -> None:
        """Send requests until the time, their number or the user ends the test."""
        check_cpu(self.spec.cpu)
        _check_descriptors(self.spec.streams)
        if self.spec.timing.baseline_s:
            await first_of(self._resources.rest(self.spec.timing.baseline_s), self._stopped())
        self._tls = await _tls_of(self.spec)
        async with self._resources.running():
            self._phases = PhaseLog()  # the first attempt begins now
            address = await self._reach()
            client = None if self._tls is None else self._tls.client
            self._workload = RequestWorkload(_plan(self.spec, address, client))
            self._auto_stop = AutoStopper(self._workload, self.spec)
            await self._ask(self._workload, self._auto_stop, emit)

    async def _reach(self) -> Address:
        """Return the first of the server's addresses that answers. Raises MeasureError."""
        spec = self.spec
        parts = urlsplit(spec.url)
        host, port = _host(spec), parts.port or PORTS[parts.scheme]
        pins = {(name, number): address for name, number, address in map(parse_pin, spec.pins)}
        wanted = pins.get((host.lower(), port)) or host
        deadlines, options = spec.deadlines, spec.options
        found = await self._phases.looked_up(
            FIRST,
            sockets.resolve(wanted, port, options.family, deadlines.resolve_s, deadlines.connect_s),
        )
        connecting = sockets.connect_first(found, options, deadlines.connect_s, port_offset=0)
        made = await self._phases.connected(FIRST, connecting)
        with made.sock:
            if self._tls is not None:
                await self._shake_hands(made.sock, self._tls.context)
        return made.address

    async def _shake_hands(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Agree on TLS on the first connection: if that fails, the error has its reason. Raises
        TlsError, PeerTimeoutError."""
        spec, host = self.spec, _host(self.spec)
        stream = client_stream(sock, context, host)
        try:
            with self._phases.measure("tls", FIRST):
                async with asyncio.timeout(spec.deadlines.handshake_s):
                    await stream.shake_hands()
        except TimeoutError:
            raise PeerTimeoutError(
                f"no TLS with {host} in {spec.deadlines.handshake_s:g} s",
                phase="tls",
                hint="the port may not be for TLS",
            ) from None
        except OSError as exc:
            raise no_tls(host, exc) from None
        stream.say_goodbye()

    async def _ask(
        self, workload: RequestWorkload, auto_stop: AutoStopper, emit: Callable[[Interval], None]
    ) -> None:
        ticking = asyncio.create_task(self._tick(workload, emit))
        awaiting = self._phases.awaiting
        try:
            with (
                awaiting("connect", ALL, lambda: workload.first_ns is not None),
                awaiting(RESPONSE, ALL, lambda: workload.came > 0 or any(workload.errors.values())),
            ):
                await workload.start()
                await first_of(
                    workload.join(),
                    self._stopped(),
                    self._stall(workload),
                    auto_stop.narrow_enough(),
                )
            workload.stop()
            await workload.join()
        finally:
            workload.abort()
            await uninterrupted(self._ended(workload, ticking))
        if not workload.answered and not self.stop.is_set():
            raise _nothing_good(workload.requests())

    async def _ended(self, workload: RequestWorkload, ticking: asyncio.Task[None]) -> None:
        await workload.join()
        begin_analysis()  # not beside the requests: it takes CPU time, which their latencies show
        await cancel_and_wait(ticking)

    async def _stopped(self) -> None:
        await self.stop.wait()

    async def _stall(self, workload: RequestWorkload) -> None:
        """Raise PeerTimeoutError if no response arrives for too long, whatever errors occur
        meanwhile."""
        limit_s = self.spec.deadlines.stall_s
        quiet = Quiet(limit_s)
        while True:
            if quiet.since_change(workload.came):
                kinds = [f"{number} {kind}" for kind, number in workload.errors.items()]
                raise PeerTimeoutError(
                    f"no response came for {limit_s:g} s",
                    phase="data" if workload.came else "first_byte",
                    hint=f"errors so far: {', '.join(kinds)}"
                    if kinds
                    else "the server is stopped or unreachable",
                )
            await asyncio.sleep(min(POLL_S, limit_s / 4))

    async def _tick(self, workload: RequestWorkload, emit: Callable[[Interval], None]) -> None:
        await first_byte(workload)
        self.step = "data"
        ticker = IntervalClock(workload, self.spec.timing, self.spec.limit_s, emit, client_role)
        self._ticker = ticker
        await ticker.run()

    async def leave(self) -> None:
        """Emit the last interval. Every thread has been joined by `run`."""
        if self._ticker is not None:
            self._ticker.last()

    def close(self) -> None:
        """Do nothing: the threads have closed their connections."""

    def result(self, error: ErrorRecord | None) -> Result:
        """Return the Result; call after `leave`."""
        spec, workload, stopped = self.spec, self._workload, self.stop.is_set()
        client = own_report(workload, self._resources)
        auto_stop = None
        if self._auto_stop is not None:
            auto_stop = self._auto_stop.outcome(stopped=stopped or error is not None)
        origin_ns = workload.origin_ns if workload is not None else None
        # without a successful response there is no data phase, as in a refused transfer
        began = workload is not None and (error is None or workload.answered > 0)
        ids = [stream.id for stream in client.streams] if began else []
        flows = build_flows(
            Measured(
                spec,
                (spec.direction,) * len(ids),
                client,
                SideReport(),
                None if origin_ns is None else origin_ns - self._phases.origin_ns,
                ids=ids,
                counted_ns=auto_stop.counted_ns if auto_stop else None,
            )
        )
        trips = workload.round_trips() if workload is not None else None
        requests = workload.requests() if workload is not None else None
        return Result(
            spec=replace(spec, url=public_url(spec.url), headers=public_headers(spec.headers)),
            complete=error is None,
            error=error,
            started_at=self._phases.started_at,
            target=public_url(spec.url),
            setup=self._phases.collected(flows[0].averages.set_up_ns if flows else None, FIRST),
            flows=flows,
            client=client,
            server=SideReport(host=Host()),
            auto_stop=auto_stop,
            round_trips=trips and with_steady_rate(trips, flows, spec.request_bytes),
            requests=requests,
            notes=(*_notes(spec, requests, stopped=stopped), *ending_notes(auto_stop)),
        )


def _nothing_good(found: Requests | None) -> MeasureError:
    """Return the error for a test in which no response had a status below 400."""
    errors = RequestErrors() if found is None else found.errors
    if found is not None and errors.status:
        codes = ", ".join(f"{one.count} x {one.status}" for one in found.statuses)
        return FileRefusedError(
            f"the server refused every request ({codes})",
            phase="first_byte",
            hint="check the URL, the method and the headers, and the server's log",
        )
    why = None if found is None else found.connect_error
    kind, most = max(errors.by_kind, key=lambda item: item[1])
    if not most:
        return PeerTimeoutError(
            "no response came while the test lasted", phase="first_byte", hint="give it more time"
        )
    if kind == "connect":
        return ConnectError(f"no connection for requests could be made: {why}", phase="connect")
    if kind == "local":
        return HostLimitError(
            f"this host had no resources left for a connection: {why}",
            phase="connect",
            hint="use fewer connections, or keep them (without --fresh)",
        )
    if kind == "tls":
        fault = None if found is None else found.tls_error
        return TlsError(
            f"no connection for requests agreed on TLS: {fault or 'the server ended it'}",
            phase="tls",
            hint="see the server's log",
        )
    if kind == "invalid":
        return RemoteProtocolError(
            "no response was HTTP/1.1",
            phase="first_byte",
            hint="another service is there; if it is TLS, write https://",
        )
    if kind == "reset":
        return PeerClosedError(
            "the server ended every connection before its whole response had come",
            phase="first_byte",
            hint="see the server's log; if that port is for TLS, write https://",
        )
    return PeerTimeoutError("no request had its whole response in time", phase="first_byte")


def _notes(spec: RequestSpec, found: Requests | None, *, stopped: bool) -> Iterator[str]:
    if stopped:
        yield "stopped early by the user"
    if found is not None and spec.keep_connections and _closed_after_each(found):
        yield (
            f"the server closed connections that were to be kept: {found.connected} were opened"
            f" for {found.responses} responses"
        )
    yield from conntrack_notes(found.syn_retransmits if found is not None else None)


def _closed_after_each(found: Requests) -> bool:
    """Return whether a new connection followed at least half of the responses."""
    broken = found.errors.reset + found.errors.timeout + found.errors.invalid
    again = found.connected - found.connections - broken
    return found.responses > 0 and 2 * again >= found.responses


def _check_descriptors(connections: int) -> None:
    """Raise HostLimitError if this process may not open so many connections."""
    left = limits.descriptors_left()
    if left is not None and left < connections + SPARE_DESCRIPTORS:
        raise HostLimitError(
            f"{connections} connections need more file descriptors than the {left} that are left",
            phase="connect",
            hint="raise `ulimit -n`, or use fewer connections",
        )


async def _tls_of(spec: RequestSpec) -> _Tls | None:
    """Return what a test's connections are encrypted with; None: nothing is. Raises TlsError,
    NameNotFoundError.

    Both load the trusted certificates, in a thread, before the set-up begins that is timed.
    """
    if urlsplit(spec.url).scheme != "https":
        return None
    own: dict[str, Any] = {"ca_file": spec.ca_file, "insecure": spec.insecure}
    try:
        context = await in_thread(partial(client_context, **own))
        return _Tls(context, await in_thread(partial(tls_client, _host(spec), **own)))
    except (SpecError, OSError) as exc:
        raise TlsError(str(exc), phase="tls", hint=getattr(exc, "hint", None)) from None
    except UnicodeError:  # a label is empty or too long, so no certificate can have the name
        raise NameNotFoundError(
            f"can't find host {_host(spec)!r}: not a valid host name",
            phase="resolve",
            hint="check the spelling",
        ) from None


def _host(spec: RequestSpec) -> str:
    """Return the server's name or address, with its zone if it is a link-local one."""
    return (urlsplit(spec.url).hostname or "").replace("%25", "%")


def _plan(spec: RequestSpec, address: Address, tls: TlsClient | None) -> RequestPlan:
    timing, deadlines = spec.timing, spec.deadlines
    span_s = 0.0 if spec.limit_s is None else spec.limit_s + timing.omit_s
    bind, origin = spec.options.bind_address, b""
    if bind is not None:
        origin = packed_address(address.family, numeric(bind, 0, address.family))
    return RequestPlan(
        request=spec.request(),
        to=packed_address(address.family, address.sockaddr),
        origin=origin,
        socket_options=tuple(packed_options(spec.options, address.family)),
        connections=spec.streams,
        threads=spec.thread_count,
        tls=tls,
        keep=spec.keep_connections,
        no_body=spec.method == "HEAD",
        duration_ns=nanoseconds(span_s),
        omit_ns=nanoseconds(timing.omit_s),
        send_budget=spec.total_bytes or 0,
        connect_ns=nanoseconds(deadlines.connect_s),
        answer_ns=nanoseconds(spec.answer_s),
        drain_ns=nanoseconds(deadlines.drain_s),
        per_s=spec.target_rps,
        cpu=spec.cpu,
    )
