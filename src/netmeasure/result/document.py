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
        phase: Where it happened, as in `MeasureError`; None: unknown.
        hint: What the user can try; None: no advice.
        number: iperf3's number of the error, where one end sent it to the other (SERVER_ERROR).
    """

    code: str
    message: str
    phase: str | None = None
    hint: str | None = None
    number: int | None = None


class Result(Brief, frozen=True, kw_only=True):
    """Hold one measurement, complete or not: connection set-up apart from the steady bitrate.

    Counts and moments are stored; rates are computed from them. Times are integer nanoseconds,
    rates bit/s, unknown is None. docs/reference/results.md says what each number means.

    Attributes:
        schema_version: The version of the document's format.
        spec: What was measured.
        complete: False: the test was cut short; what was measured is still here.
        error: Why it was cut short; None: complete, or stopped by the user.
        started_at: Wall-clock time of the first attempt (UTC, RFC 3339).
        target: The server or the URL.
        setup: The phases of connection set-up, on the client's clock from its first attempt.
        flows: One flow for each direction in which anything was measured.
        client: What the client saw.
        server: What the server saw, as far as it reported.
        peer_extended: Whether the peer is a netmeasure, which tells more than iperf3's protocol.
        server_output: What the server printed of the test, where that was asked for: text, or an
            object as JSON from a server that writes JSON.
        auto_stop: How the test ended, where the specification has `timing.until`.
        round_trips: Latencies and losses of a test of round trips, at the client; None: another
            kind of test, or no response has come.
        requests: Connections, errors and statuses of a test of requests by HTTP, whose latencies
            are in `round_trips`; None: another kind of test.
        latency: Latencies of the path before a bulk test and under its load; None: another kind of
            test, or it was not measured, and a note says why.
        path_hole: The packet length from which on packets vanish on the path; None: no such
            length was found.
        notes: Sentences about what was asked for and not possible, or what could not be learned.
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
        """Return what of the set-up time this host took, and neither the network nor the server:
        the event loop was busy or blocked, or a thread waited for a CPU. None if it is unknown."""
        way = [phase for phase in self.setup if phase.decides]
        return sum(p.duration_ns for p in way if p.name == "host") if way else None

    @property
    def syn_retransmits(self) -> int | None:
        """Return the SYNs sent again, over all connections; None: no connect was measured."""
        known = [p.syn_retransmits for p in self.setup if p.syn_retransmits is not None]
        return sum(known) if known else None

    def to_json(self, *, indent: int | None = 2) -> bytes:
        """Return this result as UTF-8 JSON; `from_json` gives an equal one back.

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
        """Return what a document holds instead of what already stands elsewhere in it."""
        return repeats(self.flows, (self.client, self.server))
