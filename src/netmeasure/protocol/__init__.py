"""Implement iperf3's control protocol and netmeasure's extension of it, without input or output.

`states` has the table of states and messages, `messages` the payloads, `ranges` the valid values of
parameters, `error_codes` iperf3's error numbers, `auth` iperf3's authentication, and `secret`
netmeasure's. `decoding` and `reports` read and check the peer's messages; `datagrams` opens UDP
streams. `connection` converts between bytes and messages, and `strangers` names a peer that speaks
another protocol. No module here may import sockets, clocks or asyncio (a test checks this).
"""

from netmeasure.protocol.connection import Closed, Connection, Message, NeedData, Payload
from netmeasure.protocol.datagrams import (
    ANSWER,
    ANSWERS,
    HEADER_BYTES,
    HELLO,
    MAX_HELLO_BYTES,
    Hello,
    make_hello,
    read_hello,
)
from netmeasure.protocol.error_codes import ErrorCode
from netmeasure.protocol.messages import (
    COOKIE_BYTES,
    DEFAULT_LENGTH,
    LATENCY,
    MAX_PROBE_ANSWER,
    PROBE,
    PROBE_NUMBER,
    ROUND_TRIPS,
    STREAM_TAG_BYTES,
    Announcement,
    AskedRoundTrips,
    Challenge,
    Extension,
    Parameters,
    PeerResults,
    PeerStream,
    Proof,
    QueuePlace,
    ServerError,
    can_wait,
    error_text,
    make_probe,
    new_cookie,
    probe_answer_bytes,
    results_limit_bytes,
    stream_ids,
    stream_tag,
    test_name,
)
from netmeasure.protocol.ranges import check_parameters
from netmeasure.protocol.states import GREETING, Kind, Side, State, is_greeting
from netmeasure.protocol.strangers import likely_service

__all__ = [
    "ANSWER",
    "ANSWERS",
    "COOKIE_BYTES",
    "DEFAULT_LENGTH",
    "GREETING",
    "HEADER_BYTES",
    "HELLO",
    "LATENCY",
    "MAX_HELLO_BYTES",
    "MAX_PROBE_ANSWER",
    "PROBE",
    "PROBE_NUMBER",
    "ROUND_TRIPS",
    "STREAM_TAG_BYTES",
    "Announcement",
    "AskedRoundTrips",
    "Challenge",
    "Closed",
    "Connection",
    "ErrorCode",
    "Extension",
    "Hello",
    "Kind",
    "Message",
    "NeedData",
    "Parameters",
    "Payload",
    "PeerResults",
    "PeerStream",
    "Proof",
    "QueuePlace",
    "ServerError",
    "Side",
    "State",
    "can_wait",
    "check_parameters",
    "error_text",
    "is_greeting",
    "likely_service",
    "make_hello",
    "make_probe",
    "new_cookie",
    "probe_answer_bytes",
    "read_hello",
    "results_limit_bytes",
    "stream_ids",
    "stream_tag",
    "test_name",
]
