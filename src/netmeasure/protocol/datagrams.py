"""Encode the datagrams that open a UDP stream: a hello from the client, an answer from the server.

iperf3's hello has four bytes and does not identify its test. Between two netmeasure ends, the
cookie and the stream's number follow, so that tests of clients behind the same address are not
confused.
"""

from __future__ import annotations

import msgspec

from netmeasure.protocol.messages import COOKIE_BYTES, STREAM_TAG_BYTES

HELLO = b"9876"
ANSWER = b"6789"
#: The answer to each hello without a cookie. Old versions send the numbers 123456789 and 987654321
#: in the byte order of their host, and versions before 3.17 on big-endian hosts send today's bytes
#: in reverse order.
_ANSWERS = {
    HELLO: ANSWER,
    HELLO[::-1]: ANSWER[::-1],
    bytes.fromhex("15cd5b07"): bytes.fromhex("b168de3a"),
    bytes.fromhex("075bcd15"): bytes.fromhex("3ade68b1"),
}
HELLOS = frozenset(_ANSWERS)
ANSWERS = frozenset(_ANSWERS.values())
#: A datagram of data is no shorter than its header.
HEADER_BYTES = 12
MAX_HELLO_BYTES = len(HELLO) + COOKIE_BYTES + STREAM_TAG_BYTES


class Hello(msgspec.Struct, frozen=True):
    """Hold a received hello; `cookie` and `number` are None in a plain iperf3's hello."""

    answer: bytes
    cookie: str | None = None
    number: int | None = None


def make_hello(cookie: str, number: int, *, extended: bool) -> bytes:
    if not extended:
        return HELLO
    return HELLO + cookie.encode() + b"\0" + number.to_bytes(STREAM_TAG_BYTES, "big")


def read_hello(data: bytes) -> Hello | None:
    """Return the hello in a datagram; None: it is not a hello."""
    if data in _ANSWERS:
        return Hello(_ANSWERS[data])
    if len(data) != MAX_HELLO_BYTES or not data.startswith(HELLO):
        return None
    cookie = data[len(HELLO) : len(HELLO) + COOKIE_BYTES]
    if cookie[-1] != 0 or not cookie[:-1].isascii():
        return None
    number = int.from_bytes(data[-STREAM_TAG_BYTES:], "big")
    return Hello(ANSWER, cookie[:-1].decode(), number)
