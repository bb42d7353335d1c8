"""What went wrong, in iperf3's words: scripts look for them on standard error and in `error`."""

from __future__ import annotations

import os
import socket

from netmeasure.errors import (
    BusyError,
    ConnectError,
    ConnectTimeoutError,
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
from netmeasure.result import ErrorRecord

_UNABLE = (
    "unable to connect to server - server may have stopped running or use a different port,"
    " firewall issue, etc."
)
#: As the resolver words it (EAI_NONAME).
NO_SUCH_HOST = f"{_UNABLE}: Name or service not known"
_NO_MESSAGE = (
    "unable to receive control message - port may not be available, the other side may have"
    " stopped running, etc."
)
_UNKNOWN_MESSAGE = "received an unknown control message (ensure other side is iperf3 and not iperf)"
_CONGESTION = (
    "unable to set TCP_CONGESTION: Supplied congestion control algorithm not supported on this host"
)

#: What a SERVER_ERROR of that number stands for, where we say it in other words.
NUMBERED = {
    5: "test duration valid values are 0 to 86400 seconds",
    6: "invalid number of parallel streams (min = 1, max = 128)",
    7: "block size too large (maximum = 1048576 bytes)",
    8: "socket buffer size too large (maximum = 536870912 bytes)",
    10: "TCP MSS too large (maximum = 32767 bytes)",
    12: "bogus value for --omit (maximum = 600 seconds)",
    15: "invalid burst count (maximum = 1000)",
    20: "block size invalid (minimum = 16 bytes, maximum = 65507 bytes)",
    21: "bad TOS value (must be between 0 and 255 inclusive)",
    27: "total required bandwidth is larger than server limit",
    37: "client's requested duration exceeds the server's maximum permitted limit",
    106: "unable to receive cookie at server: ",
    114: "unable to receive parameters from client: ",
    132: "unable to set CPU affinity: ",
    134: _CONGESTION,
    141: "socket buffer size not set correctly",
    142: "test authorization failed",
    144: "idle timeout for receiving data",
    160: "server test duration expired - test is terminated by the server",
    205: "unable to write to stream socket: ",
    206: "unable to read from stream socket: ",
}


def client_sentence(error: NetmeasureError) -> str:
    """Of a client's failure, without "error - " in front."""
    reason = _reason(error)
    match error:
        case BusyError():
            return "the server is busy running a test. try again later"
        case SocketOptionError() if "congestion" in str(error):
            return _CONGESTION
        case SocketOptionError() if "window" in str(error):
            return "socket buffer size not set correctly"
        case PeerTimeoutError() if error.phase == "data":
            return NUMBERED[144]
        case PeerTimeoutError() if error.phase == "connect":
            return "unable to read from stream socket: Resource temporarily unavailable"
        case PeerTimeoutError() if error.phase == "resolve":
            return f"{_UNABLE}: Temporary failure in name resolution"
        case PeerTimeoutError():
            return f"{_NO_MESSAGE}: Connection timed out"
        case ConnectTimeoutError():
            return f"{_UNABLE}: Connection timed out"
        case NameNotFoundError() | ConnectError() | SocketOptionError():
            return f"{_UNABLE}: {reason}"
        case PeerClosedError():
            return "control socket has closed unexpectedly"
        case PeerTerminatedError():
            return "the server has terminated"
        case PeerRefusedError():
            return NUMBERED.get(error.number or 0, str(error))
        case ProtocolError():
            return _UNKNOWN_MESSAGE
        case StreamError():
            return _stream_sentence(str(error))
    return str(error)


def server_sentence(error: ErrorRecord) -> str:
    """Of a test that failed on the server: everything behind "iperf3: "."""
    if error.code == PeerClosedError.code:
        return "the client has unexpectedly closed the connection"
    if error.code == PeerTerminatedError.code:
        return "the client has terminated"
    if error.code == StreamError.code:
        return f"error - {_stream_sentence(error.message)}"
    if error.number is not None:
        return f"error - {NUMBERED.get(error.number, error.message)}"
    if error.code == PeerTimeoutError.code:
        return f"error - {_NO_MESSAGE}: Connection timed out"
    return f"error - {error.message}"


def listen_sentence(error: ServeError) -> str:
    return f"error - unable to start listener for connections: {_reason(error)}"


def _stream_sentence(message: str) -> str:
    verb = "write to" if "send" in message or "before any data" in message else "read from"
    return f"unable to {verb} stream socket: {message.rpartition(': ')[2]}"


def _reason(error: NetmeasureError) -> str:
    """The system's own words: those of the failed call that the error was made of."""
    cause = error.__context__
    if isinstance(cause, socket.gaierror):
        return str(cause.strerror)
    if isinstance(cause, OSError) and cause.errno:  # asyncio has words of its own for some
        return os.strerror(cause.errno)
    return str(error).rpartition(": ")[2]
