"""Define the whole result of a measurement, and its form as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from netmeasure.errors import ResultFormatError
from netmeasure.result.brief import Brief
from netmeasure.result.encoding import encoded
from netmeasure.result.ending import AutoStop
from netmeasure.result.flows import Flow, Totals
from netmeasure.result.hosts import PathHole
from netmeasure.result.latency import Latency
from netmeasure.result.reading import SCHEMA_VERSION, read_json
from netmeasure.result.repeats import repeats
from netmeasure.result.requests import Requests
from netmeasure.result.round_trips import RoundTrips
from netmeasure.result.setup import Phase
from netmeasure.result.sides import SideReport
from netmeasure.result.steady import Steady
from netmeasure.result.words import figure_rows, html_table, one_line
from netmeasure.spec import Spec


class ErrorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Hold why a result is incomplete.

    Attributes:
        code: The exception's `code`, such as "peer_timeout".
        message: What went wrong, for people.
        phase: Where the error happened, as in `MeasureError`; None: unknown.
        hint: What the user can try; None: no advice.
        number: iperf3's number of the error, where one end sent it to the other (SERVER_ERROR).
    """

    code: str
    message: str
    phase: str | None = None
    hint: str | None = None
    number: int | None = None


class Result(Brief, frozen=True, kw_only=True):
    """Hold one measurement, complete or not, with connection set-up and the steady bitrate reported
    separately.

    Counts and moments are stored; rates are computed from them. Times are integer nanoseconds,
    rates bit/s, unknown is None. docs/reference/results.md says what each number means.

    Attributes:
        schema_version: The version of the document's format.
        spec: The specification of the test.
        complete: False: the test ended early; the result has the figures until then.
        error: Why the test ended early; None: it is complete, or was stopped by the user.
        started_at: Wall-clock time of the first attempt (UTC, RFC 3339).
        target: The server or the URL.
        setup: The phases of connection set-up, on the client's clock from its first attempt.
        flows: One flow for each direction in which anything was measured.
        client: The client's report.
        server: The server's report, as far as the server sent it.
        peer_extended: Whether the peer is netmeasure, which reports more than iperf3's protocol.
        server_output: The server's own output, if it was requested: text, or an object as JSON from
            a server that writes JSON.
        auto_stop: How the test ended, if the specification has `timing.until`.
        round_trips: Latencies and losses of a test of round trips, at the client; None: another
            kind of test, or no response has arrived.
        requests: Connections, errors and statuses of a test of requests by HTTP, whose latencies
            are in `round_trips`; None: another kind of test.
        latency: Latencies of the path before a bulk test and under its load; None: another kind of
            test, or the latency was not measured, and a note gives the reason.
        path_hole: The packet length from which on the path drops packets silently; None: no such
            length was found.
        notes: Sentences about requested features that were not possible, and figures that are
            unknown.
    """

    derived: ClassVar[tuple[str, ...]] = ("set_up_ns", "set_up_host_ns", "syn_retransmits")

    schema_version: int = SCHEMA_VERSION
    spec: Spec
    complete: bool
    error: ErrorRecord | None = None
    started_at: str
    target: str
    setup: tuple[Phase, ...] = ()
    flows: tuple[Flow, ...] = ()
    client: SideReport = SideReport()
    server: SideReport = SideReport()
    peer_extended: bool = False
    server_output: str | None = None
    auto_stop: AutoStop | None = None
    round_trips: RoundTrips | None = None
    requests: Requests | None = None
    latency: Latency | None = None
    path_hole: PathHole | None = None
    notes: tuple[str, ...] = ()

    @property
    def upload(self) -> Flow | None:
        """Return the flow from the client to the server; None: not measured."""
        return next((flow for flow in self.flows if flow.direction == "upload"), None)

    @property
    def download(self) -> Flow | None:
        """Return the flow from the server to the client; None: not measured."""
        return next((flow for flow in self.flows if flow.direction == "download"), None)

    @property
    def flow(self) -> Flow:
        """Return the only flow of a one-way test, or the upload of a two-way test.

        Raises ResultFormatError if nothing was measured.
        """
        if not self.flows:
            raise ResultFormatError("nothing was measured: the test did not get that far")
        return self.flows[0]

    @property
    def steady(self) -> Steady | None:
        """Return the steady state of `flow`; None: nothing was measured."""
        return self.flows[0].steady if self.flows else None

    @property
    def sender(self) -> Totals:
        """Return the sums over the sending end of `flow`."""
        return self.flows[0].sender if self.flows else Totals()

    @property
    def receiver(self) -> Totals:
        """Return the sums over the receiving end of `flow`."""
        return self.flows[0].receiver if self.flows else Totals()

    @property
    def set_up_ns(self) -> int | None:
        """Return the time from the client's first attempt to the first payload byte of `flow`."""
        return self.flows[0].averages.set_up_ns if self.flows else None

    @property
    def set_up_host_ns(self) -> int | None:
        """Return the part of the set-up time that this host took, not the network or the server:
        the event loop was busy or blocked, or a thread waited for a CPU. None: unknown."""
        way = [phase for phase in self.setup if phase.decides]
        return sum(p.duration_ns for p in way if p.name == "host") if way else None

    @property
    def syn_retransmits(self) -> int | None:
        """Return the number of retransmitted SYNs, over all connections; None: no connect was
        measured."""
        known = [p.syn_retransmits for p in self.setup if p.syn_retransmits is not None]
        return sum(known) if known else None

    def to_json(self, *, indent: int | None = 2) -> bytes:
        """Return this result as UTF-8 JSON; `from_json` returns an equal result.

        Derived figures, such as `set_up_ns`, are in it. Without `indent` it is one line.
        """
        return encoded(self, indent=indent)

    @classmethod
    def from_json(cls, data: bytes | str) -> Result:
        """Return a saved result. Raises ResultFormatError if the data are no such document."""
        return read_json(data, cls)

    def __repr__(self) -> str:
        return f"Result({one_line(self._figures())})"

    def _repr_html_(self) -> str:
        """Return the figures as a table, for notebooks."""
        return html_table(self._figures())

    def _figures(self) -> Iterator[tuple[str, str]]:
        outcome = "complete" if self.complete else "cut short"
        if self.error is not None:
            outcome += f": {self.error.message}"
        return figure_rows(self.target, outcome, self.set_up_ns, self.flows)

    def _repeats(self) -> dict[tuple[int, str], object]:
        """Return the replacements for values that a document already has at another place."""
        return repeats(self.flows, (self.client, self.server))
