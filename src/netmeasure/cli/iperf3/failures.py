"""Format failures with iperf3's sentences, for which scripts search on standard error and in
`error`.

The sentence is chosen by the class of the error. Every failure has exit code 1 (`program`).
"""

from __future__ import annotations

from netmeasure.errors import (
    BusyError,
    ConnectError,
    ConnectTimeoutError,
    MeasureError,
    NameNotFoundError,
    NetmeasureError,
    PeerClosedError,
    PeerRefusedError,
    PeerTerminatedError,
    PeerTimeoutError,
    ProtocolError,
    ServeError,
    SocketOptionError,
    StreamError,
)
from netmeasure.protocol import ErrorCode

#: The sentence for a host name that does not exist, with the resolver's message (EAI_NONAME).
NO_SUCH_HOST = f"{ErrorCode.CONNECT.sentence}Name or service not known"
#: The sentence for an address of another IP version than the requested one, with the resolver's
#: message.
WRONG_FAMILY = f"{ErrorCode.CONNECT.sentence}Address family for hostname not supported"
_NO_ANSWER = f"{ErrorCode.RECEIVE_MESSAGE.sentence}Connection timed out"
_WINDOWS = (ErrorCode.WINDOW, ErrorCode.WINDOW_TOO_SMALL)


def client_sentence(error: NetmeasureError) -> str:
    """Return the sentence on a client's failure, without "error - " in front."""
    match error:
        case BusyError():
            return ErrorCode.BUSY.sentence
        case SocketOptionError(number=ErrorCode.CONGESTION):
            return ErrorCode.CONGESTION.sentence
        case SocketOptionError() if error.number in _WINDOWS:
            return ErrorCode.WINDOW_TOO_SMALL.sentence
        case PeerTimeoutError():
            return _timeout_sentence(error)
        case ConnectTimeoutError():
            return f"{ErrorCode.CONNECT.sentence}Connection timed out"
        case NameNotFoundError() | ConnectError() | SocketOptionError():
            return f"{ErrorCode.CONNECT.sentence}{_reason(error)}"
        case PeerClosedError():
            return ErrorCode.CONTROL_CLOSED.sentence
        case PeerTerminatedError():
            return ErrorCode.SERVER_TERMINATED.sentence
        case PeerRefusedError():
            return _numbered_sentence(error.number) or str(error)
        case ProtocolError():
            return ErrorCode.UNKNOWN_MESSAGE.sentence
        case StreamError():
            return _stream_sentence(error)
    return str(error)


def _timeout_sentence(error: PeerTimeoutError) -> str:
    match error.phase:
        case "data":
            return ErrorCode.NO_DATA.sentence
        case "connect":
            return f"{ErrorCode.STREAM_READ.sentence}Resource temporarily unavailable"
        case "resolve":
            return f"{ErrorCode.CONNECT.sentence}Temporary failure in name resolution"
    return _NO_ANSWER


def server_sentence(error: NetmeasureError) -> str:
    """Return the sentence on a test that failed at the server: everything behind "iperf3: "."""
    match error:
        case PeerClosedError():
            return "the client has unexpectedly closed the connection"
        case PeerTerminatedError():
            return ErrorCode.CLIENT_TERMINATED.sentence
        case StreamError():
            return f"error - {_stream_sentence(error)}"
    if isinstance(error, MeasureError) and error.number is not None:
        return f"error - {_numbered_sentence(error.number) or error}"
    if isinstance(error, PeerTimeoutError):
        return f"error - {_NO_ANSWER}"
    return f"error - {error}"


def listen_sentence(error: ServeError) -> str:
    """Return the sentence on a server that can't listen."""
    return f"error - {ErrorCode.LISTEN.sentence}{_reason(error)}"


def _numbered_sentence(number: int | None) -> str:
    """Return iperf3's sentence for an error number; empty: netmeasure's own message is used."""
    code = ErrorCode.of(number)
    return code.sentence if code is not None else ""


def _stream_sentence(error: StreamError) -> str:
    code = ErrorCode.STREAM_WRITE if error.sending else ErrorCode.STREAM_READ
    return f"{code.sentence}{_reason(error)}"


def _reason(error: NetmeasureError) -> str:
    return error.reason or str(error)
