"""List iperf3's error numbers, each with netmeasure's description and iperf3's sentence, and a few
numbers of netmeasure, which are sent to netmeasure clients only."""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """List iperf3's error numbers, which SERVER_ERROR carries.

    description  what happened, in the words of a client whose server reports the error
    sentence     the text that iperf3 prints; it ends with ": " if iperf3 appends the system's
                 reason, and is empty if `netmeasure iperf3` prints the exception's message
                 instead
    """

    description: str
    sentence: str

    def __new__(cls, number: int, description: str, sentence: str = "") -> ErrorCode:
        member = int.__new__(cls, number)
        member._value_ = number
        member.description = description
        member.sentence = sentence
        return member

    @classmethod
    def of(cls, number: int | None) -> ErrorCode | None:
        """Return the member with a number; None: the number is unknown."""
        return cls._value2member_map_.get(number)  # type: ignore[return-value]

    # ---- a parameter that is out of range, or not for this server -------------------------------

    DURATION = (
        5,
        "test duration out of range",
        "test duration valid values are 0 to 86400 seconds",
    )
    STREAMS = (
        6,
        "number of streams out of range",
        "invalid number of parallel streams (min = 1, max = 128)",
    )
    BLOCK_SIZE = 7, "block size out of range", "block size too large (maximum = 1048576 bytes)"
    BUFFER_SIZE = (
        8,
        "socket buffer size out of range",
        "socket buffer size too large (maximum = 536870912 bytes)",
    )
    MSS_SIZE = 10, "MSS out of range", "TCP MSS too large (maximum = 32767 bytes)"
    OMIT = 12, "omit time out of range", "bogus value for --omit (maximum = 600 seconds)"
    NOT_SUPPORTED = 13, "this kind of test is not supported by the server"
    BURST = 15, "burst count out of range", "invalid burst count (maximum = 1000)"
    DATAGRAM_SIZE = (
        20,
        "UDP block size out of range",
        "block size invalid (minimum = 16 bytes, maximum = 65507 bytes)",
    )
    TOS_VALUE = (
        21,
        "type of service out of range",
        "bad TOS value (must be between 0 and 255 inclusive)",
    )
    REVERSE_AND_BIDIR = 25, "reverse and bidirectional exclude each other"
    BITRATE_LIMIT = (
        27,
        "the requested bitrate is above the server's limit",
        "total required bandwidth is larger than server limit",
    )
    FILE_WITH_UDP = 34, "the server's file is not for UDP tests"
    DURATION_LIMIT = (
        37,
        "the requested duration is above the server's limit",
        "client's requested duration exceeds the server's maximum permitted limit",
    )

    # ---- the dialogue of the two ends -----------------------------------------------------------

    LISTEN = (
        102,
        "the server could not listen",
        "unable to start listener for connections: ",
    )
    CONNECT = (
        103,
        "no connection to the server",
        "unable to connect to server - server may have stopped running or use a different port,"
        " firewall issue, etc.: ",
    )
    RECEIVE_COOKIE = (
        106,
        "the server could not read the cookie",
        "unable to receive cookie at server: ",
    )
    CONTROL_CLOSED = (
        109,
        "the control connection was closed",
        "control socket has closed unexpectedly",
    )
    UNKNOWN_MESSAGE = (
        110,
        "unknown message on the control connection",
        "received an unknown control message (ensure other side is iperf3 and not iperf)",
    )
    RECEIVE_MESSAGE = (
        112,
        "no message came on the control connection",
        "unable to receive control message - port may not be available, the other side may have"
        " stopped running, etc.: ",
    )
    RECEIVE_PARAMETERS = (
        114,
        "the server could not read the parameters",
        "unable to receive parameters from client: ",
    )
    RECEIVE_RESULTS = 117, "the server could not read the results"
    CLIENT_TERMINATED = 119, "the client ended the test", "the client has terminated"
    SERVER_TERMINATED = 120, "the server was told to terminate", "the server has terminated"
    BUSY = (
        121,
        "the server is busy with another test",
        "the server is busy running a test. try again later",
    )
    UNAUTHORIZED = 142, "authorization failed", "test authorization failed"

    # ---- a socket option or a CPU that can't be had ---------------------------------------------

    NO_DELAY = 122, "the server could not set TCP_NODELAY"
    MSS = 123, "the server could not set the MSS"
    SOCKET_BUFFERS = 124, "the server could not set the socket buffers"
    TOS = 125, "the server could not set the type of service"
    TRAFFIC_CLASS = 126, "the server could not set the IPv6 traffic class"
    FLOW_LABEL = 127, "IPv6 flow label out of range"
    WINDOW = 130, "the server could not set the window"
    AFFINITY = 132, "CPU affinity out of range", "unable to set CPU affinity: "
    CONGESTION = (
        134,
        "the server could not set the congestion control",
        "unable to set TCP_CONGESTION: Supplied congestion control algorithm not supported on this"
        " host",
    )
    PACING = 140, "the server could not set the pacing rate"
    WINDOW_TOO_SMALL = (
        141,
        "the server could not have socket buffers of that size",
        "socket buffer size not set correctly",
    )
    DEVICE = 143, "the server could not bind to the network interface"
    DONT_FRAGMENT = 145, "the server could not set the don't-fragment flag"

    # ---- the data phase -------------------------------------------------------------------------

    NO_DATA = (
        144,
        "the server received no data for too long",
        "idle timeout for receiving data",
    )
    DURATION_EXPIRED = (
        160,
        "the test took longer than the server allows",
        "server test duration expired - test is terminated by the server",
    )
    STREAM_ACCEPT = (
        204,
        "the server's host lacks what another data connection takes",
        "unable to accept stream connection: ",
    )
    STREAM_WRITE = (
        205,
        "the server could not write to a data connection",
        "unable to write to stream socket: ",
    )
    STREAM_READ = (
        206,
        "the server could not read from a data connection",
        "unable to read from stream socket: ",
    )

    # ---- netmeasure's own -----------------------------------------------------------------------

    SECRET_WANTED = 1001, "it asks for a shared secret, and none was given"
    SECRET_WRONG = 1002, "the shared secret is not the server's"
    TLS_WANTED = 1003, "it serves over TLS only"
    TOO_MANY_FAILURES = 1004, "too many failed logins from this address"
    FRESH_PORT = 1005, "it could not listen for this test's connections"


#: The numbers of refusals because of a client's authentication.
UNAUTHORIZED = frozenset(
    {
        ErrorCode.UNAUTHORIZED,
        ErrorCode.SECRET_WANTED,
        ErrorCode.SECRET_WRONG,
        ErrorCode.TLS_WANTED,
        ErrorCode.TOO_MANY_FAILURES,
    }
)
