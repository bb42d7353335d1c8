"""A measurement as its user holds it: start, live intervals, early stop, abort, result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from netmeasure import assemble
from netmeasure.clock import wall_now
from netmeasure.dialogue import Dialogue
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.sockets import address_text
from netmeasure.engine.tasks import uninterrupted
from netmeasure.errors import MeasureError, NetmeasureError
from netmeasure.result import ErrorRecord, Interval, Result, SideReport, StreamReport
from netmeasure.spec import Spec, UdpSpec
from netmeasure.workloads.base import Workload


class Run:
    """A measurement on its way. Use as an async context manager and iterate for live intervals::

        async with client.run(spec) as run:
            async for interval in run:
                ...
        result = run.result

    Leaving the block waits for the end; leaving it by an exception aborts the run. `result` is set
    in every case, once set-up had begun; it is incomplete when the run failed.
    """

    def __init__(self, host: str, port: int, spec: Spec) -> None:
        self.host = host
        self.port = port
        self.spec = spec
        self.result: Result | None = None
        self._task: asyncio.Task[Result] | None = None
        self._intervals: asyncio.Queue[Interval | None] = asyncio.Queue()
        self._dialogue: Dialogue | None = None
        self._stop_asked = False
        self._aborted = False

    async def __aenter__(self) -> Run:
        self._task = asyncio.create_task(self._drive(), name="netmeasure-run")
        self._task.add_done_callback(lambda _: self._intervals.put_nowait(None))
        return self

    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        assert self._task is not None
        if exc_type is not None:
            await self.abort()
        if self._aborted:
            return
        await self.wait()

    async def __aiter__(self) -> AsyncIterator[Interval]:
        while (interval := await self._intervals.get()) is not None:
            yield interval
        await self.wait()

    async def wait(self) -> Result:
        """The result, once there is one. Raises the MeasureError of a run that failed."""
        if self._task is None:
            raise MeasureError("the run has not been started", hint="use `async with`")
        if self._aborted:
            raise MeasureError("the run was aborted")
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if not self._task.done():
                self._task.cancel()
                await uninterrupted(_settled(self._task))
            raise

    async def abort(self) -> None:
        """End the run at once, if it is not over; `result` is then incomplete."""
        if self._task is not None and not self._task.done():
            self._aborted = True
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stop(self) -> None:
        """End the data phase now; what was measured becomes a complete result, with a note."""
        self._stop_asked = True
        if self._dialogue is not None:
            self._dialogue.stop.set()

    @property
    def transferring(self) -> bool:
        """The data phase has begun: `stop` can end it in good order."""
        workload = self._dialogue.workload if self._dialogue is not None else None
        return workload is not None and workload.origin_ns is not None

    async def _drive(self) -> Result:
        started_at = wall_now()
        dialogue = self._dialogue = Dialogue(self.host, self.port, self.spec, PhaseLog())
        if self._stop_asked:
            dialogue.stop.set()
        error: BaseException | None = None
        try:
            await dialogue.run(self._intervals.put_nowait)
        except BaseException as exc:
            error = exc
            if isinstance(exc, MeasureError) and exc.phase is None:
                exc.phase = dialogue.step
            raise
        finally:
            try:
                await uninterrupted(dialogue.leave())
            finally:
                self.result = _result(self.host, self.port, dialogue, started_at, error)
                dialogue.close()
                if isinstance(error, MeasureError):
                    error.result = self.result
        return self.result


def _result(
    host: str, port: int, dialogue: Dialogue, started_at: str, error: BaseException | None
) -> Result:
    client = dialogue.side()
    server = assemble.peer_report(
        dialogue.peer_results,
        dialogue.directions,
        "server",
        udp=isinstance(dialogue.spec, UdpSpec),
    )
    if dialogue.announcement is not None and dialogue.peer_results is None:
        server = SideReport(host=dialogue.announcement.host)
    origin_ns = None
    if dialogue.workload is not None and dialogue.workload.origin_ns is not None:
        origin_ns = dialogue.workload.origin_ns - dialogue.phases.origin_ns
        _add_first_bytes(dialogue.phases, client, dialogue.workload)
    return Result(
        spec=dialogue.spec,
        complete=error is None,
        error=error_record(error),
        started_at=started_at,
        target=address_text((host, port)),
        setup=dialogue.phases.collected(),
        flows=assemble.flows(dialogue.spec, dialogue.directions, client, server, origin_ns),
        client=client,
        server=server,
        peer_extended=dialogue.extended,
        notes=_notes(dialogue, client),
    )


def _add_first_bytes(phases: PhaseLog, client: SideReport, workload: Workload) -> None:
    """The last phase of set-up: from when all streams were there to the first byte of each."""
    begun_ns, zero_ns = workload.begun_ns or 0, workload.origin_ns or 0
    for stream in client.streams:
        if stream.series is not None:
            phases.add(
                "first_byte",
                f"stream {stream.id}",
                begun_ns,
                zero_ns + stream.series.origin_ns,
                detail=_first(stream),
            )


def _first(stream: StreamReport) -> str:
    if stream.role == "receiver":
        return "received"
    return "acknowledged" if stream.acked_bytes is not None else "sent"


def _notes(dialogue: Dialogue, client: SideReport) -> tuple[str, ...]:
    """What was asked for and could not be had, or could not be learned."""
    notes: list[str] = []
    results = dialogue.peer_results
    if results is not None and not dialogue.extended:
        notes.append("the server is a plain iperf3: its time series and kernel data are unknown")
        wanted, used = dialogue.spec.options.congestion, results.congestion_used
        if wanted and used and wanted != used:
            notes.append(f"the server used congestion control {used}, not {wanted}")
    notes += udp_notes(dialogue.spec, client)
    if dialogue.stop.is_set():
        notes.append("stopped early by the user")
    late = [s.id for s in client.streams if s.acked_bytes is not None and s.bytes != s.acked_bytes]
    if results is not None and late:
        notes.append(
            f"not everything sent was acknowledged within {dialogue.spec.deadlines.drain_s:g} s"
            f" after the end, on streams {late}"
        )
    return tuple(notes)


def udp_notes(spec: Spec, side: SideReport) -> list[str]:
    """What a user should know before he believes a UDP test's figures."""
    if not isinstance(spec, UdpSpec):
        return []
    notes: list[str] = []
    header = 28
    for stream in side.streams:
        facts, counts = stream.socket, stream.datagrams
        if facts is None or counts is None or counts.datagram_bytes is None:
            continue
        if facts.remote and facts.remote.startswith("["):
            header = 48
        if facts.pmtu_bytes and counts.datagram_bytes + header > facts.pmtu_bytes:
            notes.append(
                f"datagrams of {counts.datagram_bytes} bytes are sent in fragments: the path's MTU"
                f" of {facts.pmtu_bytes} takes {facts.pmtu_bytes - header}"
            )
        if counts.offload_error:
            notes.append(f"no segmentation offload on this path: {counts.offload_error}")
        if counts.skipped_ns:
            notes.append(
                f"stream {stream.id} gave up {counts.skipped_ns / 1e6:.1f} ms of its schedule after"
                " stalls, rather than send a burst"
            )
    return list(dict.fromkeys(notes))


def error_record(error: BaseException | None) -> ErrorRecord | None:
    """An exception as it stands in a Result."""
    if error is None:
        return None
    if isinstance(error, NetmeasureError):
        return ErrorRecord(
            code=error.code,
            message=str(error),
            phase=getattr(error, "phase", None),
            hint=error.hint,
        )
    if isinstance(error, asyncio.CancelledError):
        return ErrorRecord(code="cancelled", message="the run was cancelled")
    return ErrorRecord(code="internal", message=f"{type(error).__name__}: {error}")


async def _settled(task: asyncio.Task[Result]) -> None:
    await asyncio.wait([task])
