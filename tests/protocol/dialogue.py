"""Helpers of the protocol tests: the dialogue as the facts sheet tells it, and ends set anywhere.

`STEPS` and `WIRE` are written by hand, not taken from `netmeasure.protocol.states`, so that a slip
in the table there shows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from netmeasure.protocol import (
    Announcement,
    Challenge,
    Closed,
    Connection,
    Kind,
    Message,
    NeedData,
    Parameters,
    PeerResults,
    Proof,
    QueuePlace,
    ServerError,
    Side,
    State,
)
from netmeasure.result import Host

COOKIE = "3irjk66rzayjbo6jt2wsxjofr3huyxssmkrc"

# Captures of iperf3 3.21+ (and 3.12 for UDP_PARAMETERS), byte for byte.
TCP_PARAMETERS = (
    b'{"tcp":true,"omit":0,"time":2,"num":0,"blockcount":0,"parallel":1,"len":100,'
    b'"bandwidth":8000,"pacing_timer":1000,"client_version":"3.21+"}'
)
UDP_PARAMETERS = (
    b'{"udp":true,"omit":0,"time":1,"num":0,"blockcount":0,"parallel":1,"len":100,'
    b'"bandwidth":8000,"pacing_timer":1000,"client_version":"3.12"}'
)
FULL_PARAMETERS = (
    b'{"tcp":true,"omit":0,"server_affinity":1,"time":1,"num":0,"blockcount":0,"MSS":1400,'
    b'"nodelay":true,"parallel":3,"reverse":true,"window":262144,"len":100,"bandwidth":8000,'
    b'"fqrate":1000000,"pacing_timer":500,"burst":5,"TOS":32,"title":"ttl","extra_data":"xx",'
    b'"congestion":"cubic","get_server_output":1,"repeating_payload":1,"zerocopy":1,'
    b'"skip_rx_copy":1,"client_version":"3.21+"}'
)
UDP_CLIENT_RESULTS = (
    b'{"cpu_util_total":0.22232363998285842,"cpu_util_user":0,'
    b'"cpu_util_system":0.22242306915995269,"sender_has_retransmits":0,"streams":[{"id":1,'
    b'"bytes":1000,"retransmits":-1,"jitter":0,"errors":0,"omitted_errors":0,"packets":10,'
    b'"omitted_packets":0,"start_time":0,"end_time":1.001316}]}'
)
UDP_SERVER_RESULTS = (
    b'{"cpu_util_total":0.059202966338171736,"cpu_util_user":0,'
    b'"cpu_util_system":0.059202966338171736,"sender_has_retransmits":-1,"streams":[{"id":1,'
    b'"bytes":1000,"retransmits":-1,"jitter":2.8436881603687653e-05,"errors":0,'
    b'"omitted_errors":0,"packets":10,"omitted_packets":0,"start_time":0,"end_time":1.001585}]}'
)
TCP_CLIENT_RESULTS = (
    b'{"cpu_util_total":0.22258437729370636,"cpu_util_user":0.22273366259034869,'
    b'"cpu_util_system":0,"sender_has_retransmits":1,"congestion_used":"bbr","streams":[{"id":1,'
    b'"bytes":2100,"retransmits":0,"jitter":0,"errors":0,"omitted_errors":0,"packets":0,'
    b'"omitted_packets":0,"start_time":0,"end_time":2.006051}]}'
)
TCP_SERVER_RESULTS = (
    b'{"cpu_util_total":0.14355463593807127,"cpu_util_user":0.14365425747584923,'
    b'"cpu_util_system":0,"sender_has_retransmits":-1,"congestion_used":"bbr","streams":[{"id":1,'
    b'"bytes":2100,"retransmits":-1,"jitter":0,"errors":0,"omitted_errors":0,"packets":0,'
    b'"omitted_packets":0,"start_time":0,"end_time":2.007558}]}'
)
PARAMETER_CAPTURES = (TCP_PARAMETERS, UDP_PARAMETERS, FULL_PARAMETERS)
RESULT_CAPTURES = (
    UDP_CLIENT_RESULTS,
    UDP_SERVER_RESULTS,
    TCP_CLIENT_RESULTS,
    TCP_SERVER_RESULTS,
)


def as_3_12(results: bytes) -> bytes:
    """A results capture as iperf3 3.12 writes it."""
    return (
        results.replace(b'"omitted_errors":0,', b"")
        .replace(b'"omitted_packets":0,', b"")
        .replace(b":-1", b":18446744073709551615")
    )


def framed(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


ANNOUNCEMENT = Announcement(host=Host(hostname="lab1", cpu_count=2), concurrent_tests=3)

NONCE, MAC = bytes(range(32)), bytes(range(100, 132))

#: What every kind carries, and its bytes.
PAYLOADS: dict[Kind, Any] = {
    Kind.COOKIE: COOKIE,
    Kind.PARAMETERS: Parameters.decode(TCP_PARAMETERS),
    Kind.EXTENSION: ANNOUNCEMENT,
    Kind.QUEUED: QueuePlace(3),
    Kind.CHALLENGE: Challenge(NONCE),
    Kind.PROOF: Proof(MAC),
    Kind.CLIENT_RESULTS: PeerResults.decode(TCP_CLIENT_RESULTS),
    Kind.SERVER_RESULTS: PeerResults.decode(TCP_SERVER_RESULTS),
    Kind.SERVER_ERROR: ServerError(142, 107),
}
WIRE: dict[Kind, bytes] = {
    Kind.COOKIE: COOKIE.encode() + b"\0",
    Kind.PARAM_EXCHANGE: b"\x09",
    Kind.PARAMETERS: framed(TCP_PARAMETERS),
    Kind.EXTENSION: b"\x40"
    + framed(
        b'{"host":{"hostname":"lab1","cpu_count":2,"interfaces":[],"governors":[],"sysctls":[]},'
        b'"concurrent_tests":3}'
    ),
    Kind.QUEUED: b"\x41\0\0\0\3",
    Kind.CHALLENGE: b"\x42" + NONCE,
    Kind.PROOF: b"\x43" + MAC,
    Kind.CREATE_STREAMS: b"\x0a",
    Kind.TEST_START: b"\x01",
    Kind.TEST_RUNNING: b"\x02",
    Kind.TEST_END: b"\x04",
    Kind.EXCHANGE_RESULTS: b"\x0d",
    Kind.CLIENT_RESULTS: framed(TCP_CLIENT_RESULTS),
    Kind.SERVER_RESULTS: framed(TCP_SERVER_RESULTS),
    Kind.DISPLAY_RESULTS: b"\x0e",
    Kind.IPERF_DONE: b"\x10",
    Kind.SERVER_TERMINATE: b"\x0b",
    Kind.CLIENT_TERMINATE: b"\x0c",
    Kind.ACCESS_DENIED: b"\xff",
    Kind.SERVER_ERROR: b"\xfe\0\0\0\x8e\0\0\0\x6b",
}
JSON_KINDS = frozenset({Kind.PARAMETERS, Kind.CLIENT_RESULTS, Kind.SERVER_RESULTS})

#: The regular dialogue with the extension; the plain one leaves ours out.
STEPS: tuple[tuple[State, Side, Kind, State], ...] = (
    (State.START, Side.CLIENT, Kind.COOKIE, State.IDENTIFIED),
    (State.IDENTIFIED, Side.SERVER, Kind.PARAM_EXCHANGE, State.ASKED),
    (State.ASKED, Side.CLIENT, Kind.PARAMETERS, State.OFFERED),
    (State.OFFERED, Side.SERVER, Kind.CHALLENGE, State.CHALLENGED),
    (State.CHALLENGED, Side.CLIENT, Kind.PROOF, State.PROVEN),
    (State.PROVEN, Side.SERVER, Kind.QUEUED, State.PROVEN),
    (State.PROVEN, Side.SERVER, Kind.EXTENSION, State.EXTENDED),
    (State.EXTENDED, Side.SERVER, Kind.CREATE_STREAMS, State.CREATING),
    (State.CREATING, Side.SERVER, Kind.TEST_START, State.STARTING),
    (State.STARTING, Side.SERVER, Kind.TEST_RUNNING, State.RUNNING),
    (State.RUNNING, Side.CLIENT, Kind.TEST_END, State.ENDING),
    (State.ENDING, Side.SERVER, Kind.EXCHANGE_RESULTS, State.EXCHANGING),
    (State.EXCHANGING, Side.CLIENT, Kind.CLIENT_RESULTS, State.ANSWERING),
    (State.ANSWERING, Side.SERVER, Kind.SERVER_RESULTS, State.ANSWERED),
    (State.ANSWERED, Side.SERVER, Kind.DISPLAY_RESULTS, State.DISPLAYING),
    (State.DISPLAYING, Side.CLIENT, Kind.IPERF_DONE, State.OVER),
)
EXTENDED_DIALOGUE = tuple((side, kind) for _, side, kind, _ in STEPS)
_OURS = (Kind.CHALLENGE, Kind.PROOF, Kind.QUEUED, Kind.EXTENSION)
PLAIN_DIALOGUE = tuple(step for step in EXTENDED_DIALOGUE if step[1] not in _OURS)

#: Where a server leads a client that need not prove anything.
WITHOUT_SECRET: dict[Kind, State] = {
    Kind.QUEUED: State.OFFERED,
    Kind.EXTENSION: State.EXTENDED,
    Kind.CREATE_STREAMS: State.CREATING,
}

INTERRUPTIONS: dict[Kind, Side] = {
    Kind.IPERF_DONE: Side.CLIENT,
    Kind.CLIENT_TERMINATE: Side.CLIENT,
    Kind.SERVER_TERMINATE: Side.SERVER,
    Kind.ACCESS_DENIED: Side.SERVER,
    Kind.SERVER_ERROR: Side.SERVER,
}
SENDER: dict[Kind, Side] = {kind: side for _, side, kind, _ in STEPS} | INTERRUPTIONS


def leads_to(state: State, kind: Kind) -> State | None:
    """The test's own idea of what may follow what."""
    if state is State.OVER:
        return None
    if kind in INTERRUPTIONS and (state, SENDER[kind]) != (State.START, Side.CLIENT):
        return State.OVER
    if state is State.OFFERED and kind in WITHOUT_SECRET:
        return WITHOUT_SECRET[kind]
    return {(before, k): after for before, _, k, after in STEPS}.get((state, kind))


def drain(connection: Connection) -> Iterator[Message]:
    """The messages that are complete; stops at NeedData or Closed."""
    while isinstance(message := connection.next_message(), Message):
        yield message


def end_at(state: State, side: Side) -> Connection:
    """One end that has come to `state` by the extended dialogue."""
    connection = Connection(side)
    for before, sender, kind, _ in STEPS:
        if before is state:
            return connection
        if sender is side:
            connection.send(kind, PAYLOADS.get(kind))
        else:
            connection.receive_data(WIRE[kind])
            assert [message.kind for message in drain(connection)] == [kind]
    assert connection.state is state
    return connection


def outcome(
    side: Side, state: State, chunks: Iterable[bytes], *, eof: bool = True
) -> tuple[list[Message], str, State]:
    """The messages that `chunks` make, how it ended, and in which state."""
    connection = end_at(state, side)
    messages: list[Message] = []
    ended = NeedData.__name__
    for chunk in (*chunks, *([b""] if eof else [])):
        connection.receive_data(chunk)
        for _ in range(100):
            answer = connection.next_message()
            if not isinstance(answer, Message):
                break
            messages.append(answer)
        else:
            raise AssertionError("next_message does not come to an end")
        assert isinstance(answer, NeedData | Closed)
        ended = type(answer).__name__
        assert_bounded(connection)
    return messages, ended, connection.state


def assert_bounded(connection: Connection) -> None:
    """What is kept while more is awaited is the beginning of one message, within its limit."""
    held = connection.trailing_data
    if len(held) < 37:
        return
    assert connection.state not in (State.START, State.OVER)
    start = {0: 0, 0x40: 1}[held[0]]
    announced = int.from_bytes(held[start : start + 4], "big")
    assert 0 < announced < 2**24
    assert len(held) < start + 4 + announced
