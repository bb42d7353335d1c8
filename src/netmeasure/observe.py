"""Define the observers of a test, which tell a front-end of it before there is a result."""

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
    """Describe a data stream before its first byte; `role` is this end's."""

    id: int
    role: Role
    socket: SocketFacts


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a test whose streams are all open and whose data are about to flow.

    started_at  when the test began, by the wall clock (UTC, RFC 3339)
    unix_s      this moment by the wall clock, in seconds since 1970
    spec        at the server, as derived from the client's parameters
    peer        the other end, as far as it is known
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
    """Follow a test: override the methods that you need.

    All are called in the event loop, and must neither block nor raise. A transfer by URL calls only
    `on_interval`, `on_failed` and `on_ended`.
    """

    #: Whether `Control.mss_bytes` has to be the path's own. Otherwise the client keeps the packets
    #: of its control connection so short that they fit into every path.
    reads_control_mss = False

    def on_accepted(self, control: Control) -> None:
        """React to a new test. Server: a client has sent its cookie. Client: the parameters have
        been sent."""

    def on_queued(self, position: int) -> None:
        """React, at a client, to its place in the queue of a full server; 1 is next. It is called
        each time the server reports it."""

    def on_opening(self, opening: Opening) -> None:
        """React to the opened streams: data are about to flow."""

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
        """Server: return what a client gets that asked for the server's output: text, or an object
        for JSON.

        It is called when everything has been counted and the client's results have come, before the
        server's are sent. `result` is what the test ends with if no later step fails.
        """
        return None
