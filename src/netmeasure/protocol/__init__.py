"""iperf3's control protocol and our extension of it, without any input or output.

`states` holds the one table of what may follow what, `messages` the payloads, `connection` turns
bytes into messages and back. Sockets, clocks and asyncio are forbidden here (a test holds that).
"""

from netmeasure.protocol.connection import Closed, Connection, Message, NeedData, Payload
from netmeasure.protocol.datagrams import (
    ANSWER,
    ANSWERS,
    HEADER_BYTES,
    MAX_HELLO_BYTES,
    Hello,
    make_hello,
    read_hello,
)
from netmeasure.protocol.messages import (
    COOKIE_BYTES,
    DEFAULT_LENGTH,
    PROBE,
    STREAM_TAG_BYTES,
    Announcement,
    Extension,
    Parameters,
    PeerResults,
    PeerStream,
    ServerErrorCode,
    check_parameters,
    error_text,
    new_cookie,
    stream_ids,
    stream_tag,
)
from netmeasure.protocol.states import GREETING, Kind, Phase, Side, is_greeting

__all__ = [
    "ANSWER",
    "ANSWERS",
    "COOKIE_BYTES",
    "DEFAULT_LENGTH",
    "GREETING",
    "HEADER_BYTES",
    "MAX_HELLO_BYTES",
    "PROBE",
    "STREAM_TAG_BYTES",
    "Announcement",
    "Closed",
    "Connection",
    "Extension",
    "Hello",
    "Kind",
    "Message",
    "NeedData",
    "Parameters",
    "Payload",
    "PeerResults",
    "PeerStream",
    "Phase",
    "ServerErrorCode",
    "Side",
    "check_parameters",
    "error_text",
    "is_greeting",
    "make_hello",
    "new_cookie",
    "read_hello",
    "stream_ids",
    "stream_tag",
]
