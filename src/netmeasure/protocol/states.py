"""Define the states of the control connection, and the messages that cause transitions.

Both ends use the same table: every kind of message has one sender, and the table has the next
state. A transition that is not in the table is an error. The few messages that may arrive at any
time are listed separately.

The byte values are iperf3's, except 0x40 to 0x43, which are netmeasure's. 0x40 is sent only to a
client whose parameters say that it is netmeasure, 0x41 only if they say that it can wait in a
queue, and 0x42 only if they say that it knows a secret, which it proves with 0x43.
"""

from __future__ import annotations

from enum import Enum


class Side(Enum):
    """Name the two ends of a control connection."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> Side:
        """Return the end at the other side."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


class Kind(Enum):
    """List the kinds of message on the control connection."""

    COOKIE = "cookie"
    PARAM_EXCHANGE = "PARAM_EXCHANGE"
    PARAMETERS = "parameters"
    EXTENSION = "EXTENSION"
    CHALLENGE = "CHALLENGE"
    PROOF = "PROOF"
    QUEUED = "QUEUED"
    CREATE_STREAMS = "CREATE_STREAMS"
    TEST_START = "TEST_START"
    TEST_RUNNING = "TEST_RUNNING"
    TEST_END = "TEST_END"
    EXCHANGE_RESULTS = "EXCHANGE_RESULTS"
    CLIENT_RESULTS = "client results"
    SERVER_RESULTS = "server results"
    DISPLAY_RESULTS = "DISPLAY_RESULTS"
    IPERF_DONE = "IPERF_DONE"
    SERVER_TERMINATE = "SERVER_TERMINATE"
    CLIENT_TERMINATE = "CLIENT_TERMINATE"
    ACCESS_DENIED = "ACCESS_DENIED"
    SERVER_ERROR = "SERVER_ERROR"


class State(Enum):
    """List the states of the dialogue. The value is the name in error messages."""

    START = "start (cookie expected)"
    IDENTIFIED = "identified (PARAM_EXCHANGE expected)"
    ASKED = "asked (parameters expected)"
    OFFERED = "offered (CREATE_STREAMS expected)"
    CHALLENGED = "challenged (PROOF expected)"
    PROVEN = "proven (EXTENSION expected)"
    EXTENDED = "extended (CREATE_STREAMS expected)"
    CREATING = "creating streams (TEST_START expected)"
    STARTING = "starting (TEST_RUNNING expected)"
    RUNNING = "running (TEST_END expected)"
    ENDING = "ending (EXCHANGE_RESULTS expected)"
    EXCHANGING = "exchanging (client results expected)"
    ANSWERING = "answering (server results expected)"
    ANSWERED = "answered (DISPLAY_RESULTS expected)"
    DISPLAYING = "displaying (IPERF_DONE expected)"
    OVER = "over"


#: The byte of every message that starts with one; the state distinguishes the others.
BYTES: dict[Kind, int] = {
    Kind.TEST_START: 1,
    Kind.TEST_RUNNING: 2,
    Kind.TEST_END: 4,
    Kind.PARAM_EXCHANGE: 9,
    Kind.CREATE_STREAMS: 10,
    Kind.SERVER_TERMINATE: 11,
    Kind.CLIENT_TERMINATE: 12,
    Kind.EXCHANGE_RESULTS: 13,
    Kind.DISPLAY_RESULTS: 14,
    Kind.IPERF_DONE: 16,
    Kind.EXTENSION: 0x40,
    Kind.QUEUED: 0x41,
    Kind.CHALLENGE: 0x42,
    Kind.PROOF: 0x43,
    Kind.ACCESS_DENIED: 0xFF,
    Kind.SERVER_ERROR: 0xFE,
}
KINDS: dict[int, Kind] = {byte: kind for kind, byte in BYTES.items()}
#: The first message of a server that has a free place.
GREETING = bytes([BYTES[Kind.PARAM_EXCHANGE]])

FROM_CLIENT = frozenset(
    {
        Kind.COOKIE,
        Kind.PARAMETERS,
        Kind.PROOF,
        Kind.TEST_END,
        Kind.CLIENT_RESULTS,
        Kind.IPERF_DONE,
        Kind.CLIENT_TERMINATE,
    }
)

TRANSITIONS: dict[State, dict[Kind, State]] = {
    State.START: {Kind.COOKIE: State.IDENTIFIED},
    State.IDENTIFIED: {Kind.PARAM_EXCHANGE: State.ASKED},
    State.ASKED: {Kind.PARAMETERS: State.OFFERED},
    State.OFFERED: {
        Kind.QUEUED: State.OFFERED,
        Kind.CHALLENGE: State.CHALLENGED,
        Kind.EXTENSION: State.EXTENDED,
        Kind.CREATE_STREAMS: State.CREATING,
    },
    State.CHALLENGED: {Kind.PROOF: State.PROVEN},
    State.PROVEN: {Kind.QUEUED: State.PROVEN, Kind.EXTENSION: State.EXTENDED},
    State.EXTENDED: {Kind.CREATE_STREAMS: State.CREATING},
    State.CREATING: {Kind.TEST_START: State.STARTING},
    State.STARTING: {Kind.TEST_RUNNING: State.RUNNING},
    State.RUNNING: {Kind.TEST_END: State.ENDING},
    State.ENDING: {Kind.EXCHANGE_RESULTS: State.EXCHANGING},
    State.EXCHANGING: {Kind.CLIENT_RESULTS: State.ANSWERING},
    State.ANSWERING: {Kind.SERVER_RESULTS: State.ANSWERED},
    State.ANSWERED: {Kind.DISPLAY_RESULTS: State.DISPLAYING},
    State.DISPLAYING: {Kind.IPERF_DONE: State.OVER},
    State.OVER: {},
}

#: Messages that end the dialogue in any state (IPERF_DONE: an iperf3 client sends it after a local
#: error; ACCESS_DENIED: a server may send it even before it has read the cookie).
AT_ANY_TIME = frozenset(
    {
        Kind.SERVER_TERMINATE,
        Kind.CLIENT_TERMINATE,
        Kind.ACCESS_DENIED,
        Kind.SERVER_ERROR,
        Kind.IPERF_DONE,
    }
)


def origin(kind: Kind) -> Side:
    """Return the end that sends messages of a kind."""
    return Side.CLIENT if kind in FROM_CLIENT else Side.SERVER


def follow(state: State, kind: Kind) -> State | None:
    """Return the state to which `kind` leads; None: the message is not allowed."""
    if state is State.OVER:
        return None
    if kind in AT_ANY_TIME and not (state is State.START and origin(kind) is Side.CLIENT):
        return State.OVER
    return TRANSITIONS[state].get(kind)


def expected(state: State, sender: Side) -> tuple[Kind, ...]:
    """Return the messages that `sender` may send as the next step, without those of AT_ANY_TIME."""
    return tuple(kind for kind in TRANSITIONS[state] if origin(kind) is sender)


def is_greeting(byte: bytes) -> bool:
    """Return whether a first byte is a server's answer to a cookie, whether or not a place is
    free."""
    return byte in (GREETING, bytes([BYTES[Kind.ACCESS_DENIED]]))
