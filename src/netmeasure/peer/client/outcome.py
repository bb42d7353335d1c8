"""Build the Result of a client's test from the data of the test at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from netmeasure.engine.path_probe import hole_words
from netmeasure.engine.phases import PhaseLog
from netmeasure.measurement.autostop import ending_notes
from netmeasure.measurement.flows import Measured, build_flows
from netmeasure.measurement.trips import conntrack_notes, with_steady_rate
from netmeasure.peer.exchange import peer_report
from netmeasure.peer.plausibility import believed
from netmeasure.protocol import Announcement, PeerResults
from netmeasure.result import (
    AutoStop,
    ErrorRecord,
    Flow,
    FlowDirection,
    PathHole,
    Result,
    SideReport,
    StreamReport,
)
from netmeasure.result.latency import Latency
from netmeasure.result.round_trips import RoundTrips
from netmeasure.spec import PeerSpec, RrSpec, UdpSpec
from netmeasure.workloads.base import Workload
from netmeasure.workloads.round_trips import Trips

#: Headers in front of a datagram's payload: UDP's 8 bytes and those of IP (RFC 768, 791, 8200).
_HEADERS_V4, _HEADERS_V6 = 28, 48


class Outcome(NamedTuple):
    """Hold the data of a test after its threads have ended and its control connection is closed.

    workload      None: the test failed before it opened streams
    announcement  a netmeasure server's facts about itself; None: a plain iperf3
    peer_results  None: the server sent no results
    path_hole     the path MTU black hole that was found; None: none
    latency       the measurements of the latency probe; None: there was no probe
    no_latency    why there was no probe although one was requested
    stopped       the user ended the test early
    """

    target: str
    spec: PeerSpec
    directions: tuple[FlowDirection, ...]
    phases: PhaseLog
    workload: Workload | None
    client: SideReport
    announcement: Announcement | None
    peer_results: PeerResults | None
    auto_stop: AutoStop | None
    path_hole: PathHole | None
    latency: Latency | None
    no_latency: str | None
    stopped: bool


def build_result(outcome: Outcome, error: ErrorRecord | None) -> Result:
    """Return the Result of a test, complete without an error."""
    workload, phases, auto_stop = outcome.workload, outcome.phases, outcome.auto_stop
    server, doubts = believed(
        outcome.client,
        _server_report(outcome),
        "server",
        omitted=bool(outcome.spec.timing.omit_s),
    )
    origin_ns = None
    if workload is not None and workload.origin_ns is not None:
        origin_ns = workload.origin_ns - phases.origin_ns
        _add_first_bytes(phases, outcome.client, workload)
    flows = build_flows(
        Measured(
            outcome.spec,
            outcome.directions,
            outcome.client,
            server,
            origin_ns,
            counted_ns=auto_stop.counted_ns if auto_stop else None,
        )
    )
    trips = _round_trips(outcome, flows)
    fresh = trips.connections if trips is not None else None
    return Result(
        spec=outcome.spec,
        complete=error is None,
        error=error,
        started_at=outcome.phases.started_at,
        target=outcome.target,
        setup=phases.collected(flows[0].averages.set_up_ns if flows else None, by_thread=True),
        flows=flows,
        client=outcome.client,
        server=server,
        peer_extended=outcome.announcement is not None,
        server_output=_server_output(outcome),
        auto_stop=auto_stop,
        round_trips=trips,
        latency=outcome.latency,
        path_hole=outcome.path_hole,
        notes=(
            *_notes(outcome),
            *conntrack_notes(fresh.syn_retransmits if fresh is not None else None),
            *doubts,
            *ending_notes(auto_stop),
        ),
    )


def _round_trips(outcome: Outcome, flows: Sequence[Flow]) -> RoundTrips | None:
    """Return the figures of a test of round trips; the steady state is that of its requests, or of
    the responses for UDP."""
    spec, workload = outcome.spec, outcome.workload
    if not isinstance(spec, RrSpec) or not isinstance(workload, Trips):
        return None
    found = workload.round_trips()
    return None if found is None else with_steady_rate(found, flows, spec.request_bytes)


def _server_report(outcome: Outcome) -> SideReport:
    if outcome.announcement is not None and outcome.peer_results is None:
        return SideReport(host=outcome.announcement.host)
    udp = isinstance(outcome.spec, UdpSpec)
    return peer_report(outcome.peer_results, outcome.directions, "server", udp=udp)


def _server_output(outcome: Outcome) -> str | None:
    """Return the server's output, if it was requested."""
    results = outcome.peer_results
    if results is None or not outcome.spec.server_output:
        return None
    if results.server_output_json is not None:
        compact = msgspec.json.format(bytes(results.server_output_json), indent=-1)
        return compact.decode(errors="replace")
    return results.server_output_text


def _add_first_bytes(phases: PhaseLog, client: SideReport, workload: Workload) -> None:
    """Add the last phase of set-up: until the first byte of each stream. The phase begins for a
    receiver when all streams were open, and for a sender when it was released."""
    begun_ns, zero_ns = workload.begun_ns or 0, workload.origin_ns or 0
    for stream in client.streams:
        if stream.series is not None:
            counted_ns = zero_ns + stream.series.origin_ns
            start_ns = begun_ns if stream.role == "receiver" else zero_ns
            arrived_ns = workload.arrived_ns(stream.id) or counted_ns
            phases.add(
                "first_byte",
                f"stream {stream.id}",
                start_ns,
                max(start_ns, min(arrived_ns, counted_ns)),
                detail=_counted(stream),
            )


def _counted(stream: StreamReport) -> str:
    """Return how the bytes of a stream were counted."""
    if stream.role == "receiver":
        return "received"
    return "acknowledged" if stream.acked_bytes is not None else "sent"


def _notes(outcome: Outcome) -> tuple[str, ...]:
    """Return notes on requested features that were not available, and on figures that are
    unknown."""
    notes: list[str] = []
    spec, streams, results = outcome.spec, outcome.client.streams, outcome.peer_results
    if results is not None and outcome.announcement is None:
        notes.append("the server is a plain iperf3: its time series and kernel data are unknown")
        wanted, used = spec.options.congestion, results.congestion_used
        if wanted and used and wanted != used:
            notes.append(f"the server used congestion control {used}, not {wanted}")
    if outcome.no_latency is not None:
        notes.append(f"the latency under load is unknown: {outcome.no_latency}")
    if outcome.path_hole is not None:
        notes.append(hole_words(outcome.path_hole))
    if isinstance(spec, UdpSpec):
        notes += dict.fromkeys(note for stream in streams for note in _udp_notes(stream))
    theirs = results.netmeasure if results is not None else None
    if theirs is not None and (company := _company_words(theirs)) is not None:
        notes.append(company)
    if outcome.stopped:
        notes.append("stopped early by the user")
    late = (
        []
        if isinstance(spec, RrSpec)
        else [s.id for s in streams if s.acked_bytes is not None and s.bytes != s.acked_bytes]
    )
    if results is not None and late:
        notes.append(
            f"not everything sent was acknowledged within {spec.deadlines.drain_s:g} s"
            f" after the end, on streams {late}"
        )
    return tuple(notes)


def _company_words(server: SideReport) -> str | None:
    """Return a sentence on the other tests that a server ran, and by how much they overlapped with
    this one; None: there were none."""
    others = (server.concurrent_tests or 1) - 1
    if others <= 0:
        return None
    tests = "1 other test" if others == 1 else f"up to {others} other tests"
    words = f"{tests} ran on the server at the same time"
    mean = server.concurrent_tests_mean
    if mean is None or not 1 <= mean <= others + 1:
        return words
    if others == 1:
        return f"{words}, during {100 * (mean - 1):.0f} % of this one"
    return f"{words}, {mean - 1:.1f} on average"


def _udp_notes(stream: StreamReport) -> list[str]:
    """Return notes on events that affect the figures of a UDP stream."""
    facts, counts = stream.socket, stream.datagrams
    if facts is None or counts is None or counts.datagram_bytes is None:
        return []
    notes: list[str] = []
    header = _HEADERS_V6 if facts.remote and facts.remote.startswith("[") else _HEADERS_V4
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
    return notes
