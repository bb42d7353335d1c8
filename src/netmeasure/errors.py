"""Every exception of the package, in one tree. Imports nothing.

A measurement that fails raises a :class:`MeasureError`. It says what is wrong (``str(exc)``), what
the user can do (``hint``), in which phase it happened (``phase``), and carries whatever had been
measured by then (``result``, a :class:`netmeasure.Result` with ``complete=False``, or None when
nothing had). ``code`` is a stable word for programs; it is what JSON output and exit codes use.
"""

from __future__ import annotations

from typing import Any, ClassVar


class NetmeasureError(Exception):
    """Base of all exceptions that netmeasure raises on purpose. `reason` has the system's own words
    where a system call failed."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.reason = reason


class SpecError(NetmeasureError, ValueError):
    """A value that a specification, an option or a unit can't have."""

    code = "bad_value"


class UsageError(NetmeasureError, ValueError):
    """A command line that can't be read: no such option, or not with or without a value."""

    code = "usage"


class ResultFormatError(NetmeasureError, ValueError):
    """A saved result that can't be read: not JSON, or of an unknown schema version."""

    code = "bad_result"


class ServeError(NetmeasureError):
    """The server can't listen."""

    code = "serve"


class BusyOriginError(ServeError):
    """An embedded file server has as many transfers as its limits allow; the client is told."""

    code = "origin_busy"


class UnsatisfiableRangeError(ServeError):
    """A client of an embedded file server asks for a part that has no byte of the file."""

    code = "unsatisfiable_range"


class MeasureError(NetmeasureError):
    """A measurement failed or was cut short. `number` is iperf3's number of the error, where one
    end tells it to the other (`protocol.ErrorCode`)."""

    code = "failed"

    #: what to try where the place of the failure knows nothing better
    usual_hint: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        phase: str | None = None,
        hint: str | None = None,
        number: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint or self.usual_hint, reason=reason)
        self.phase = phase
        self.number = None if number is None else int(number)
        self.result: Any = None


class NameNotFoundError(MeasureError):
    code = "name_not_found"
    usual_hint = "check the spelling and the name server"


class ConnectError(MeasureError):
    """No connection to the peer: see the subclasses for the usual reasons."""

    code = "connect"
    usual_hint = "is the server running and reachable?"


class ConnectRefusedError(ConnectError):
    code = "refused"


class ConnectTimeoutError(ConnectError, TimeoutError):
    code = "connect_timeout"


class UnreachableError(ConnectError):
    code = "unreachable"


class SocketOptionError(MeasureError):
    """The kernel refused an option that was asked for (congestion control, MSS, bind address)."""

    code = "socket_option"
    usual_hint = "leave the option out, or ask for what this host has"


class BusyError(MeasureError):
    """The server answers that it has no room for another test."""

    code = "busy"
    usual_hint = "try again later"


class PeerTimeoutError(MeasureError, TimeoutError):
    """The peer did not do its next step in time."""

    code = "peer_timeout"
    usual_hint = "the peer may be overloaded or stopped, or packets are lost on the way"


class PeerClosedError(MeasureError):
    """The peer went away: closed, reset or vanished."""

    code = "peer_closed"
    usual_hint = "it was killed, or the network lost it"


class PeerTerminatedError(MeasureError):
    """The peer was told to end by its own user and said so."""

    code = "peer_terminated"
    usual_hint = "its own user ended it"


class PeerRefusedError(MeasureError):
    """The peer reported an error of its own (SERVER_ERROR) instead of going on."""

    code = "peer_refused"
    usual_hint = "see what the peer itself says"


class TlsError(ConnectError):
    """No TLS with this peer: its certificate, or what it speaks."""

    code = "tls"
    usual_hint = "give the right CA file, or do not check the certificate"


class FileRefusedError(PeerRefusedError):
    """A server of files answers that it will not give or take this one."""

    code = "file_refused"
    usual_hint = "check the path, and what the server allows"


class StreamError(MeasureError):
    """A data connection failed in the middle of the test, while `sending` or receiving."""

    code = "stream"
    usual_hint = "something on the way or on the peer broke the connection"

    def __init__(
        self,
        message: str,
        *,
        phase: str | None = None,
        hint: str | None = None,
        reason: str | None = None,
        sending: bool = False,
    ) -> None:
        super().__init__(message, phase=phase, hint=hint, reason=reason)
        self.sending = sending


class PathMtuError(MeasureError):
    """Long packets vanish on the way without a word, and short ones get through (RFC 2923, 2.1)."""

    code = "path_mtu"
    usual_hint = (
        "set a smaller MTU or MSS at this end, or let ICMP 'packet too big' pass on the way"
    )


class RefusedTestError(MeasureError):
    """A server ends a client's test and tells it why, with one of iperf3's error numbers."""

    code = "test_refused"


class ProtocolError(MeasureError):
    """Base of breaches of the control protocol."""

    code = "protocol"
    usual_hint = "it is no iperf3 or netmeasure, or something on the way changes bytes"


class LocalProtocolError(ProtocolError):
    """Our own code tried a step that the protocol does not allow now: a bug of ours."""

    code = "local_protocol"


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow; the message names state and byte."""

    code = "remote_protocol"
