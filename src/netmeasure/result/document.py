"""The whole result of a measurement, as objects and as JSON."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from netmeasure.errors import ResultFormatError
from netmeasure.result.ending import AutoStop
from netmeasure.result.flows import Flow, Totals
from netmeasure.result.hosts import PathHole
from netmeasure.result.setup import Phase
from netmeasure.result.sides import SideReport
from netmeasure.result.steady import Steady
from netmeasure.spec import Spec

SCHEMA_VERSION = 1


class ErrorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Why a result is incomplete. `number` is iperf3's of the error, where one end told it to the
    other (SERVER_ERROR)."""

    code: str
    message: str
    phase: str | None = None
    hint: str | None = None
    number: int | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. `complete` is False when it was cut short; what was measured is still here.

    `notes` are sentences about what was asked for and could not be had, or could not be learned.
    `server_output` is what the server itself printed of the test, where it was asked for that: text
    or, of one that writes JSON, an object as JSON.
    `auto_stop` is there where the spec says `until`.
    `path_hole` is there where long packets were found to vanish on the way.
    """

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
    path_hole: PathHole | None = None
    notes: tuple[str, ...] = ()

    @property
    def upload(self) -> Flow | None:
        return next((flow for flow in self.flows if flow.direction == "upload"), None)

    @property
    def download(self) -> Flow | None:
        return next((flow for flow in self.flows if flow.direction == "download"), None)

    @property
    def flow(self) -> Flow:
        """The only flow of a one-way test; the upload of a two-way test. ResultFormatError where
        nothing was measured."""
        if not self.flows:
            raise ResultFormatError("nothing was measured: the test did not get that far")
        return self.flows[0]

    @property
    def steady(self) -> Steady | None:
        return self.flows[0].steady if self.flows else None

    @property
    def sender(self) -> Totals:
        return self.flows[0].sender if self.flows else Totals()

    @property
    def receiver(self) -> Totals:
        return self.flows[0].receiver if self.flows else Totals()

    @property
    def set_up_ns(self) -> int | None:
        """From the client's first attempt to the first payload byte."""
        return self.flows[0].averages.set_up_ns if self.flows else None

    @property
    def syn_retransmits(self) -> int | None:
        """SYNs sent again, over all connections of the run; None if no connect was measured."""
        known = [p.syn_retransmits for p in self.setup if p.syn_retransmits is not None]
        return sum(known) if known else None

    def to_json(self, *, indent: int = 2) -> bytes:
        """This result as UTF-8 JSON; `from_json` gives an equal one back."""
        return msgspec.json.format(msgspec.json.encode(self), indent=indent)

    @classmethod
    def from_json(cls, data: bytes | str) -> Result:
        """Read a saved result. Raises ResultFormatError."""
        return read_json(data, cls)


T = TypeVar("T", bound=msgspec.Struct)


def read_json(data: bytes | str, kind: type[T]) -> T:
    """A saved document of this schema version. Raises ResultFormatError."""
    try:
        version = msgspec.json.decode(data, type=_Versioned).schema_version
        if version != SCHEMA_VERSION:
            raise ResultFormatError(
                f"the result has schema version {version}; this netmeasure reads version"
                f" {SCHEMA_VERSION}",
                hint="read it with the netmeasure that wrote it",
            )
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ResultFormatError(f"not a netmeasure result: {exc}") from None


class _Versioned(msgspec.Struct):
    schema_version: int
