"""A test as it is watched from outside: what a front-end needs before there is a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from netmeasure.result import ErrorRecord, Host, Interval, Result, Role, SocketFacts
from netmeasure.spec import PeerSpec


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A control connection, seen from this end. Addresses as in "192.0.2.1:5201"."""

    local: str
    remote: str
    cookie: str
    mss_bytes: int | None = None


class OpenStream(msgspec.Struct, frozen=True, kw_only=True):
    """A data stream before its first byte; `role` is this end's."""

    id: int
    role: Role
    socket: SocketFacts


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """All streams are open and data are about to flow.

    started_at  when the test began, wall clock (UTC, RFC 3339)
    unix_s      the wall clock of this moment, seconds since 1970
    spec        the server's is derived from the client's parameters
    peer        as far as it has said what it is
    extended    the other end is netmeasure, too
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
    """Override what you want to hear of. All methods are called in the event loop and must neither
    block nor raise. Of a transfer by URL, only `on_interval` and `on_ended` are told."""

    def on_accepted(self, control: Control) -> None:
        """Server: a client has said its cookie. Client: the server has got the parameters."""

    def on_opening(self, opening: Opening) -> None:
        """Data are about to flow."""

    def on_interval(self, interval: Interval) -> None:
        """An interval is over, counted at this end."""

    def on_ended(self, result: Result) -> None:
        """It is over, complete or not; nothing follows."""

    def on_refused(self, error: ErrorRecord) -> None:
        """Server: it came to no test; nothing follows."""

    def output(self, result: Result) -> str | Mapping[str, Any] | None:
        """Server: what a client gets that asked for the server's output: text, or an object for
        JSON. Asked for when everything has been counted and the client's results are here, before
        the server's are sent; `result` is what will be known if nothing goes wrong any more."""
        return None
