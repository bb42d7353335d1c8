"""Build the Result of a test at the server from the data of the session at its end."""

from __future__ import annotations

from typing import NamedTuple

from netmeasure.measurement.flows import Measured, build_flows
from netmeasure.peer.exchange import peer_report
from netmeasure.peer.plausibility import believed
from netmeasure.peer.server.agreement import Agreement
from netmeasure.protocol import PeerResults
from netmeasure.result import ErrorRecord, Result, SideReport


class Outcome(NamedTuple):
    """Hold the data of a session at its end. `client_results` is None if the client sent none."""

    peer: str
    started_at: str
    agreement: Agreement
    server: SideReport
    client_results: PeerResults | None


def build_result(outcome: Outcome, error: ErrorRecord | None, *, analysed: bool) -> Result:
    """Return the Result of a test, complete without an error; `analysed` as in `build_flows`."""
    agreed, results = outcome.agreement, outcome.client_results
    client = SideReport(host=agreed.client_host)
    if results is not None:
        client = peer_report(
            results,
            agreed.directions,
            "client",
            agreed.parameters.client_version,
            udp=agreed.parameters.udp,
        )
    client, doubts = believed(
        outcome.server, client, "client", omitted=bool(agreed.spec.timing.omit_s)
    )
    measured = Measured(agreed.spec, agreed.directions, client, outcome.server)
    return Result(
        spec=agreed.spec,
        complete=error is None,
        error=error,
        started_at=outcome.started_at,
        target=outcome.peer,
        flows=build_flows(measured, analysed=analysed),
        client=client,
        server=outcome.server,
        peer_extended=agreed.extended,
        notes=doubts,
    )
