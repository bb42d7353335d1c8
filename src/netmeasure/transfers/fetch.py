"""Run a measurement by URL: its streams, their repeated transfers, and its limits."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from netmeasure import analysis
from netmeasure.clock import Quiet, nanoseconds, now_ns, seconds
from netmeasure.engine import hosts, loading
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.resources import ResourceLog
from netmeasure.engine.tasks import cancel_and_wait, first_of
from netmeasure.engine.threads import in_thread
from netmeasure.engine.tls import client_context
from netmeasure.engine.watch import Watch
from netmeasure.errors import PeerTimeoutError, SpecError, StreamError, TlsError
from netmeasure.measurement.autostop import AutoStopper
from netmeasure.measurement.intervals import IntervalClock
from netmeasure.measurement.roles import client_role
from netmeasure.measurement.side_report import own_report
from netmeasure.result import ErrorRecord, Interval, Result
from netmeasure.spec import FetchSpec, FtpSpec, HttpSpec
from netmeasure.transfers.outcome import Outcome, build_result
from netmeasure.transfers.path_watch import Client, Maker, TransferPathWatch
from netmeasure.transfers.plan import TransferPlan
from netmeasure.transfers.reach import public_url
from netmeasure.transfers.stream import TransferStream
from netmeasure.transfers.workload import TransferWorkload

#: The steps of a stream's first transfers are kept, up to this number. For later transfers, only
#: the duration of set-up is kept.
LOGGED_TRANSFERS = 20
POLL_S = 0.25
#: How long a stream may take to stop.
STOP_S = 5.0


class Fetch:
    """Carry out one run of an HttpSpec or FtpSpec: `run`, then `leave`, then `result`."""

    def __init__(self, spec: FetchSpec) -> None:
        self.spec = spec
        self.stop = asyncio.Event()
        self.step = "connect"
        span_s = (spec.limit_s or 0.0) + spec.timing.omit_s if spec.limit_s else 0.0
        self._workload = TransferWorkload(
            TransferPlan(
                streams=spec.streams,
                span_ns=nanoseconds(span_s),
                omit_ns=nanoseconds(spec.timing.omit_s),
                receive_mode=spec.receive_mode,
                send_mode=spec.send_mode,
                block_bytes=spec.block_bytes,
                drain_ns=nanoseconds(spec.deadlines.drain_s),
            ),
            "receiver" if spec.direction == "download" else "sender",
            spec.streams,
        )
        self._make: Maker | None = None
        self._path: TransferPathWatch | None = None
        self._phases = PhaseLog()
        self._watch = Watch()
        self._ticker: IntervalClock | None = None
        self._auto_stop = AutoStopper(self._workload, spec)
        self._resources = ResourceLog()

    @staticmethod
    def load(spec: FetchSpec) -> None:
        """Start to import the library that a specification needs, and what the run may need while
        another one is being set up: the modules for its report, which may be due at once, and for
        analyses, since this process's interpreter may transfer the data meanwhile."""
        looks = () if spec.timing.until is None else analysis.MODULES
        loading.begin(_module(spec), *hosts.MODULES, *looks)

    @property
    def transferring(self) -> bool:
        return self._workload.first_ns is not None

    async def run(self, emit: Callable[[Interval], None]) -> None:
        """Run all transfers until they are complete, or the time, a limit or the user ends them."""
        # certificates are read in a thread, before set-up is timed
        self._make = _client_maker(self.spec, await _tls_context(self.spec))
        self._path = TransferPathWatch(self.spec, self._workload, self._make)
        if self.spec.timing.baseline_s:
            await first_of(self._resources.rest(self.spec.timing.baseline_s), self._stopped())
        async with self._resources.running():
            self._watch.start()
            self._phases = PhaseLog(self._watch)  # the first attempt begins now
            await self._transfer_all(emit, self._path)

    async def _transfer_all(
        self, emit: Callable[[Interval], None], path: TransferPathWatch
    ) -> None:
        shares = _shares(self.spec.total_bytes, self.spec.streams)
        tasks = [
            asyncio.create_task(self._stream(stream, share), name=f"netmeasure-{stream.id}")
            for stream, share in zip(self._workload.streams, shares, strict=True)
        ]
        ticking = asyncio.create_task(self._tick(emit))
        try:
            await first_of(
                self._all(tasks),
                self._time_over(),
                self._stopped(),
                self._stall(),
                self._auto_stop.narrow_enough(),
                path.until_found(),
            )
            self._workload.stop()
            await self._wind_up(tasks)
        finally:
            await cancel_and_wait(*tasks, ticking)

    async def _all(self, tasks: list[asyncio.Task[None]]) -> None:
        """Wait until all streams have ended; raise the first error of a stream."""
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done:
                task.result()

    async def _wind_up(self, tasks: list[asyncio.Task[None]]) -> None:
        """Let native loops end gracefully, and cancel the downloads without a running loop."""
        for task, stream in zip(tasks, self._workload.streams, strict=True):
            if not stream.native.running and self.spec.direction == "download":
                task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S + self.spec.deadlines.drain_s):
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _stream(self, stream: TransferStream, share: int | None) -> None:
        """Run one stream's transfers."""
        assert self._make is not None
        client = self._make(self.spec, self._workload, stream)
        left, number = share, 0
        try:
            while not stream.stopping and left != 0:
                number += 1
                phases = self._phases if number == 1 else self._phases.repeated(number)
                count = await client.transfer(
                    phases if number <= LOGGED_TRANSFERS else PhaseLog(), left
                )
                if count == 0 and left is not None and self.spec.repeat and not stream.stopping:
                    raise StreamError(
                        f"{public_url(self.spec.url)} is empty: repeating it can't reach {left}"
                        " bytes",
                        phase="data",
                        hint="give a time, or a file that is not empty",
                    )
                left = None if left is None else max(0, left - count)
                if not self.spec.repeat:
                    return
        finally:
            await client.close()

    async def _time_over(self) -> None:
        """Wait until the measured time is over. It counts from the first byte or, if all complete
        transfers were empty, from the start of the first body."""
        limit_s = self.spec.limit_s
        if limit_s is None:
            await asyncio.Event().wait()
            return
        span_ns = nanoseconds(self.spec.timing.omit_s + limit_s)
        while True:
            first = self._workload.first_ns
            if first is None and any(stream.set_ups_ns for stream in self._workload.streams):
                first = self._workload.origin_ns
            left = span_ns if first is None else first + span_ns - now_ns()
            if left <= 0:
                return
            await asyncio.sleep(min(seconds(left), POLL_S) if first is None else seconds(left))

    async def _stopped(self) -> None:
        await self.stop.wait()

    async def _stall(self) -> None:
        """Raise PeerTimeoutError if no byte is transferred for too long within a body. The steps of
        set-up have their own deadlines."""
        limit_s = self.spec.deadlines.stall_s
        quiet, attempts = Quiet(limit_s), -1
        while True:
            moved = self._workload.moved_bytes()
            done = sum(len(stream.set_ups_ns) for stream in self._workload.streams)
            if done != attempts or not self._workload.flowing():
                attempts, quiet = done, Quiet(limit_s)
            elif quiet.since_change(moved):
                raise PeerTimeoutError(
                    f"no data moved for {limit_s:g} s",
                    phase="data",
                    hint="the server is stopped or unreachable",
                )
            await asyncio.sleep(min(POLL_S, limit_s / 4))

    async def _tick(self, emit: Callable[[Interval], None]) -> None:
        while self._workload.first_ns is None:  # noqa: ASYNC110  (a native thread sets it)
            await asyncio.sleep(0.01)
        self.step = "data"
        ticker = IntervalClock(
            self._workload, self.spec.timing, self.spec.limit_s, emit, client_role
        )
        self._ticker = ticker
        await ticker.run()

    async def leave(self) -> None:
        """Emit the last interval. Every traffic thread has been joined by `run`."""
        await self._watch.close()
        if self._ticker is not None:
            self._ticker.last()

    def close(self) -> None:
        """Do nothing: every socket is closed by its stream."""

    def result(self, error: ErrorRecord | None) -> Result:
        """Return the Result; call after `leave`."""
        stopped = self.stop.is_set()
        outcome = Outcome(
            self.spec,
            self._workload,
            self._phases,
            own_report(self._workload, self._resources),
            self._auto_stop.outcome(stopped=stopped or error is not None),
            stopped,
            self._path.hole if self._path else None,
        )
        return build_result(outcome, error)


def _client_maker(spec: FetchSpec, tls: ssl.SSLContext | None) -> Maker:
    """Return the function that creates a stream's client. The client's module imports a large
    library, which other kinds of test do not need; `Fetch.load` starts the import early, in a
    thread."""
    if isinstance(spec, HttpSpec):
        from netmeasure.transfers.http import HttpClient

        def by_http(spec: FetchSpec, workload: TransferWorkload, stream: TransferStream) -> Client:
            assert isinstance(spec, HttpSpec)
            return HttpClient(spec, stream, workload, tls)

        return by_http
    from netmeasure.transfers.ftp import FtpClient

    def by_ftp(spec: FetchSpec, workload: TransferWorkload, stream: TransferStream) -> Client:
        assert isinstance(spec, FtpSpec)
        return FtpClient(spec, stream, workload, tls)

    return by_ftp


def _module(spec: FetchSpec) -> str:
    """Return the name of the module of a specification's protocol."""
    return f"{__package__}.{'http' if isinstance(spec, HttpSpec) else 'ftp'}"


async def _tls_context(spec: FetchSpec) -> ssl.SSLContext | None:
    """Return the TLS context that checks certificates; None: the run needs none. Raises TlsError if
    the CA file can't be used: for a URL, this is an error of the connection."""
    if not _wants_tls(spec):
        return None
    try:
        return await in_thread(partial(client_context, spec.ca_file, insecure=spec.insecure))
    except SpecError as exc:
        raise TlsError(str(exc), hint=exc.hint) from None


def _wants_tls(spec: FetchSpec) -> bool:
    return isinstance(spec, HttpSpec) or spec.explicit_tls or spec.url.startswith("ftps:")


def _shares(total: int | None, streams: int) -> list[int | None]:
    """Return each stream's share of a total, exact to the byte; None without a total."""
    if total is None:
        return [None] * streams
    return [total // streams + (index < total % streams) for index in range(streams)]
