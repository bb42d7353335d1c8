"""A run of iperf3's protocol as `run.Run` drives it: a dialogue, and the Result of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.sockets import address_text
from netmeasure.measurement.autostop import ending_notes
from netmeasure.measurement.flows import build_flows
from netmeasure.observe import Observer
from netmeasure.peer.client.dialogue import Dialogue
from netmeasure.peer.exchange import peer_report
from netmeasure.result import ErrorRecord, Interval, Result, SideReport, StreamReport
from netmeasure.spec import PeerSpec, UdpSpec
from netmeasure.workloads.base import Workload


class PeerTest:
    """One test with one server."""

    def __init__(
        self, host: str, port: int, spec: PeerSpec, observer: Observer | None = None
    ) -> None:
        self._host = host
        self._port = port
        self._dialogue = Dialogue(host, port, spec, observer or Observer())

    @property
    def stop(self) -> asyncio.Event:
        return self._dialogue.stop

    @property
    def step(self) -> str:
        return self._dialogue.step

    @property
    def transferring(self) -> bool:
        workload = self._dialogue.workload
        return workload is not None and workload.origin_ns is not None

    async def run(self, emit: Callable[[Interval], None]) -> None:
        await self._dialogue.run(emit)

    async def leave(self) -> None:
        await self._dialogue.leave()

    def result(self, started_at: str, error: ErrorRecord | None) -> Result:
        return _result(self._host, self._port, self._dialogue, started_at, error)

    def close(self) -> None:
        self._dialogue.close()


def _result(
    host: str, port: int, dialogue: Dialogue, started_at: str, error: ErrorRecord | None
) -> Result:
    client = dialogue.side()
    server = peer_report(
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
    auto_stop = dialogue.auto_stop(error)
    return Result(
        spec=dialogue.spec,
        complete=error is None,
        error=error,
        started_at=started_at,
        target=address_text((host, port)),
        setup=dialogue.phases.collected(),
        flows=build_flows(
            dialogue.spec,
            dialogue.directions,
            client,
            server,
            origin_ns,
            counted_ns=auto_stop.counted_ns if auto_stop else None,
        ),
        client=client,
        server=server,
        peer_extended=dialogue.extended,
        server_output=dialogue.server_output,
        auto_stop=auto_stop,
        notes=(*_notes(dialogue, client), *ending_notes(auto_stop)),
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


def udp_notes(spec: PeerSpec, side: SideReport) -> list[str]:
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
