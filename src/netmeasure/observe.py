"""Define the observers of a test, which inform a front-end before the result is available."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from netmeasure.errors import NetmeasureError
from netmeasure.result import ErrorRecord, Host, Interval, Result, Role, SocketFacts
from netmeasure.spec import PeerSpec


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a control connection, seen from this end. Addresses are written as
    "192.0.2.1:5201"."""

    local: str
    remote: str
    cookie: str
    mss_bytes: int | None = None


class OpenStream(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a data stream before its first byte; `role` is the role of this end."""

    id: int
    role: Role
    socket: SocketFacts


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a test whose streams are all open, just before the first data.

    started_at  when the test began, by the wall clock (UTC, RFC 3339)
    unix_s      this moment by the wall clock, in seconds since 1970
    spec        at the server, as derived from the client's parameters
    peer        the other end, as far as known
    extended    the other end is netmeasure as well
    """

    end: Literal["client", "server"]
    started_at: str
    unix_s: float
    control: Control
    streams: tuple[OpenStream, ...]
    spec: PeerSpec
    peer: Host = Host()
    extended: bool = False


class Observer:
    """Observe a test. Override the methods that you need.

    All methods are called in the event loop; they must neither block nor raise. A transfer by URL
    calls only `on_interval`, `on_failed` and `on_ended`.
    """

    #: Whether `Control.mss_bytes` must be the MSS of the path. Otherwise the client limits the
    #: packets of its control connection to a length that fits every path.
    reads_control_mss = False

    #: Whether `on_ended` and `output` read what is computed from the recorded series, such as the
    #: steady state and the bottleneck. A server without `on_result` computes nothing for an
    #: observer that doesn't: the flows of the Result then hold counts, loss and the reports of
    #: their streams. It needs no numpy for them, and less memory and time.
    reads_analysis = True

    def on_accepted(self, control: Control) -> None:
        """React to a new test. Server: a client has sent its cookie. Client: the parameters have
        been sent."""

    def on_queued(self, position: int) -> None:
        """React, at a client, to its place in the queue of a full server; 1 is next. This is called
        each time the server reports the place."""

    def on_opening(self, opening: Opening) -> None:
        """React to the opened streams, just before the first data."""

    def on_interval(self, interval: Interval) -> None:
        """React to an interval, counted at this end."""

    def on_failed(self, error: NetmeasureError) -> None:
        """React to a test that failed or was refused; `on_ended` or `on_refused` follows at
        once."""

    def on_ended(self, result: Result) -> None:
        """React to the end of the test, complete or not. No call follows."""

    def on_refused(self, error: ErrorRecord) -> None:
        """React, at a server, to a client that left or was refused before its test. No call
        follows."""

    def output(self, result: Result) -> str | Mapping[str, Any] | None:
        """Server: return the output for a client that requested the server's output: text, or an
        object for JSON.

        This is called when everything has been counted and the client's results have arrived,
        before the server sends its own. `result` is the final result if no later step fails.
        """
        return None
