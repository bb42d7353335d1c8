"""Define every exception of the package, in one tree. This module imports no other module of the
package.

A measurement that fails raises a :class:`MeasureError`. Its message says what is wrong
(``str(exc)``), ``hint`` what the user can do, and ``phase`` where the failure happened. ``result``
has the figures measured until then: a :class:`netmeasure.Result` with ``complete=False``, or None
if nothing was measured. ``code`` is a stable identifier for programs, which JSON output contains.
"""

from __future__ import annotations

from typing import Any, ClassVar


class NetmeasureError(Exception):
    """Serve as the base of all exceptions that netmeasure raises on purpose.

    Attributes:
        code: A word that names the kind of error and never changes, such as "refused".
        hint: What the user can try, as a clause without a full stop; None: no advice.
        reason: The system's own words where a system call failed, such as "Connection refused".
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.reason = reason

    @property
    def advice(self) -> str:
        """Return the message, and the hint in brackets: one line for a user."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class SpecError(NetmeasureError, ValueError):
    """Report a value that a specification, an option or a unit can't have.

    Raised before anything is sent, with the name of the value and the range that it must be in.
    """

    code = "bad_value"


class PlanError(SpecError):
    """Report the mistakes in a plan of a campaign, one line for each."""

    code = "bad_plan"

    @property
    def mistakes(self) -> tuple[str, ...]:
        """Return a sentence for each mistake."""
        return tuple(str(self).split("\n"))


class UsageError(NetmeasureError, ValueError):
    """Report a command line that can't be read: an unknown option, or a missing or extra value."""

    code = "usage"


class CommandError(NetmeasureError):
    """Report that a command of a plan could not be run, failed, or took too long."""

    code = "command"


class ResultFormatError(NetmeasureError, ValueError):
    """Report a saved result that can't be used.

    The document is not JSON, has an unknown schema version, or holds values that no measurement
    gives, such as columns of different lengths. Also raised if a figure of a result without any
    measured data is read (`Result.flow`), and if two sets of results have no direction in common
    (`compare`).
    """

    code = "bad_result"


class HistoryError(NetmeasureError):
    """Report that a history of runs can't be used: its database can't be reached, read or written,
    or its tables belong to another version."""

    code = "history"


class ServeError(NetmeasureError):
    """Report that a server can't listen: its port is in use, or its address is not an address of
    this host."""

    code = "serve"


class BusyOriginError(ServeError):
    """Report that an embedded file server has as many transfers as its limits allow.

    The server tells its client (HTTP 503, FTP 421) and goes on.
    """

    code = "origin_busy"


class UnsatisfiableRangeError(ServeError):
    """Report that a client of an embedded file server asks for bytes beyond the end of the file.

    The server answers with HTTP 416 (RFC 9110 section 15.5.17) and goes on.
    """

    code = "unsatisfiable_range"


class MeasureError(NetmeasureError):
    """Report that a measurement failed or was cut short.

    Attributes:
        phase: Where it happened, such as "resolve", "connect", "control" or "data"; None: unknown.
        number: iperf3's number of the error (`protocol.ErrorCode`), where one end sent it to the
            other; None: no number.
        result: The figures measured before the failure, a `netmeasure.Result` with
            `complete=False`; None: nothing was measured.
    """

    code = "failed"

    #: The hint if the failing code gives no other.
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
    """Report that the resolver knows no address of the target's name (getaddrinfo(3))."""

    code = "name_not_found"
    usual_hint = "check the spelling and the name server"


class ConnectError(MeasureError):
    """Report that no connection to the peer could be opened; the subclasses are the usual
    reasons."""

    code = "connect"
    usual_hint = "is the server running and reachable?"


class ConnectRefusedError(ConnectError):
    """Report that the peer's host refused the connection (ECONNREFUSED, connect(2)).

    The host is up, but no program listens on that port, or a firewall rejects the connection.
    """

    code = "refused"


class ConnectTimeoutError(ConnectError, TimeoutError):
    """Report that the peer's host did not answer within `Deadlines.connect_s`.

    Every SYN was lost: the host is down, or a firewall drops the packets silently.
    """

    code = "connect_timeout"


class UnreachableError(ConnectError):
    """Report that there is no route to the peer (ENETUNREACH, EHOSTUNREACH, connect(2))."""

    code = "unreachable"


class SocketOptionError(MeasureError):
    """Report that the kernel refused a socket option or a local address that was asked for.

    Examples are an unknown congestion control, an MSS out of range, and an address of another host.
    """

    code = "socket_option"
    usual_hint = "leave the option out, or ask for what this host has"


class HostLimitError(MeasureError):
    """Report that this host lacks a resource that a test needs: descriptors, threads or memory.

    A limit of the process (ulimit), of its control group (cgroup) or of the whole host is reached.
    """

    code = "host_limit"
    usual_hint = (
        "use fewer streams, or raise the limits: see ulimit -a and the control group's files"
    )


class BusyError(MeasureError):
    """Report that the server has no room for another test (ACCESS_DENIED of iperf3's protocol)."""

    code = "busy"
    usual_hint = "try again later"


class PeerTimeoutError(MeasureError, TimeoutError):
    """Report that the peer did not take its next step before the deadline of that step passed.

    `netmeasure.Deadlines` has one deadline for each kind of step.
    """

    code = "peer_timeout"
    usual_hint = "the peer may be overloaded or stopped, or packets are lost on the way"


class PeerClosedError(MeasureError):
    """Report that the peer closed or reset the connection, or vanished, before the test ended."""

    code = "peer_closed"
    usual_hint = "the peer was killed, or the path to it broke: check both, then repeat"


class PeerTerminatedError(MeasureError):
    """Report that the user at the other end ended the test (iperf3's *_TERMINATE)."""

    code = "peer_terminated"
    usual_hint = "the user at the other end stopped it"


class PeerRefusedError(MeasureError):
    """Report that the peer met an error of its own and sent its number (iperf3's SERVER_ERROR).

    `number` is the error's number in iperf3's list, where the peer sent one.
    """

    code = "peer_refused"
    usual_hint = "see the peer's own output or log"


class AuthenticationError(PeerRefusedError):
    """Report that the two ends could not authenticate each other.

    The server requires a shared secret, credentials or TLS that the client lacks, or the two ends
    have different secrets.
    """

    code = "authentication"
    usual_hint = "give both ends the same secret (--secret-file)"


class TlsError(ConnectError):
    """Report that the TLS handshake failed.

    The certificate is not trusted or belongs to another host, the two ends have no TLS version or
    cipher in common, or the peer does not use TLS on this port.
    """

    code = "tls"
    usual_hint = "trust the server's CA with --ca-file FILE, or skip the check with --insecure"


class FileRefusedError(PeerRefusedError):
    """Report that an HTTP or FTP server refuses this file or this upload.

    The message has the server's status, such as 404 or 550.
    """

    code = "file_refused"
    usual_hint = "check the path, and what the server allows"


class StreamError(MeasureError):
    """Report that a data connection failed in the middle of the test.

    Attributes:
        sending: Whether this end was sending on it.
    """

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
    """Report that the path drops long packets without an ICMP message, while short ones get through
    (RFC 2923, 2.1)."""

    code = "path_mtu"
    usual_hint = (
        "set a smaller MTU or MSS at this end, or let ICMP 'packet too big' pass on the way"
    )


class RefusedTestError(MeasureError):
    """Make a server end a client's test and tell it why, with one of iperf3's error numbers.

    Attributes:
        errno: The errno of the system call that failed, which is sent as well; None: there was
            none.
    """

    code = "test_refused"

    def __init__(
        self,
        message: str,
        *,
        phase: str | None = None,
        hint: str | None = None,
        number: int | None = None,
        reason: str | None = None,
        errno: int | None = None,
    ) -> None:
        super().__init__(message, phase=phase, hint=hint, number=number, reason=reason)
        self.errno = errno


class ProtocolError(MeasureError):
    """Serve as the base of violations of iperf3's control protocol."""

    code = "protocol"
    usual_hint = "the peer is not iperf3 or netmeasure, or something on the way changes bytes"


class LocalProtocolError(ProtocolError):
    """Report that netmeasure itself tried a step that the protocol does not allow in its present
    state, which is a bug."""

    code = "local_protocol"


class RemoteProtocolError(ProtocolError):
    """Report that the peer sent a message that the protocol does not allow in its present state.

    The error's text names the protocol's state and the byte.
    """

    code = "remote_protocol"
