"""Build the Result of a run by URL from the data of the run at its end."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from netmeasure.engine.path_probe import hole_words
from netmeasure.engine.phases import PhaseLog
from netmeasure.measurement.autostop import ending_notes
from netmeasure.measurement.flows import Measured, build_flows
from netmeasure.result import (
    AutoStop,
    ErrorRecord,
    Host,
    PathHole,
    Result,
    SideReport,
    StreamReport,
)
from netmeasure.spec import FetchSpec, HttpSpec
from netmeasure.transfers.reach import public_url
from netmeasure.transfers.secrets import public_headers
from netmeasure.transfers.workload import TransferWorkload

#: From this many bytes through Python on, the result has a note.
NOTED_BYTES = 10 * 1024 * 1024


class Outcome(NamedTuple):
    """Hold the data of a run after its threads have ended.

    stopped    the user ended the run early
    path_hole  the path MTU black hole that was found; None: none
    """

    spec: FetchSpec
    workload: TransferWorkload
    phases: PhaseLog
    client: SideReport
    auto_stop: AutoStop | None
    stopped: bool
    path_hole: PathHole | None


def build_result(outcome: Outcome, error: ErrorRecord | None) -> Result:
    """Return the Result of a run, complete without an error."""
    spec, streams = outcome.spec, outcome.client.streams
    origin, auto_stop = outcome.workload.origin_ns, outcome.auto_stop
    flows = build_flows(
        Measured(
            spec,
            (spec.direction,) * spec.streams,
            outcome.client,
            SideReport(),
            None if origin is None else origin - outcome.phases.origin_ns,
            ids=[stream.id for stream in outcome.workload.streams],
            counted_ns=auto_stop.counted_ns if auto_stop else None,
        )
    )
    return Result(
        spec=without_secrets(spec),
        complete=error is None,
        error=error,
        started_at=outcome.phases.started_at,
        target=public_url(spec.url),
        setup=outcome.phases.collected(
            flows[0].averages.set_up_ns if flows else None, _first_stream(streams)
        ),
        flows=flows,
        client=outcome.client,
        server=SideReport(host=Host(program=_server_name(streams))),
        auto_stop=auto_stop,
        path_hole=outcome.path_hole,
        notes=(*_notes(outcome), *ending_notes(auto_stop)),
    )


def _first_stream(streams: tuple[StreamReport, ...]) -> str | None:
    """Return the name of the stream whose first byte was the run's first."""
    begun = [(s.series.origin_ns, s.id) for s in streams if s.series is not None]
    return f"stream {min(begun)[1]}" if begun else None


def _server_name(streams: tuple[StreamReport, ...]) -> str | None:
    return next((s.transfer.server for s in streams if s.transfer and s.transfer.server), None)


def _notes(outcome: Outcome) -> list[str]:
    notes: list[str] = []
    total = sum(stream.bytes or 0 for stream in outcome.client.streams)
    slow = sum(stream.library_bytes for stream in outcome.workload.streams)
    if slow > NOTED_BYTES:
        notes.append(
            f"{slow} of {total} bytes passed through Python, not through the native loops: what"
            " limited them may be that, not the network"
        )
    if outcome.spec.insecure:
        notes.append("the server's certificate was not checked")
    if outcome.path_hole is not None:
        notes.append(hole_words(outcome.path_hole))
    if outcome.stopped:
        notes.append("stopped early by the user")
    return notes


def without_secrets(spec: FetchSpec) -> FetchSpec:
    """Return the specification without secrets, for saving."""
    clean = replace(spec, url=public_url(spec.url), password=None)
    if isinstance(clean, HttpSpec):
        clean = replace(clean, headers=public_headers(clean.headers))
    return clean
