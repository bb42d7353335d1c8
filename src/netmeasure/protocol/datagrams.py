"""Encode what opens a UDP stream: a hello from the client's socket, an answer from the server's.

iperf3's hello is four bytes and says nothing of the test it belongs to. Between two netmeasure ends
the cookie and the stream's number follow it, so tests of clients behind one address do not mix.
"""

from __future__ import annotations

import msgspec

from netmeasure.protocol.messages import COOKIE_BYTES, STREAM_TAG_BYTES

HELLO = b"9876"
ANSWER = b"6789"
#: What old versions wrote: the numbers 123456789 and 987654321 of a little-endian host.
_LEGACY = {bytes.fromhex("15cd5b07"): bytes.fromhex("b168de3a")}
ANSWERS = frozenset({ANSWER, *_LEGACY.values()})
#: A datagram of data is no shorter than its header.
HEADER_BYTES = 12
MAX_HELLO_BYTES = len(HELLO) + COOKIE_BYTES + STREAM_TAG_BYTES


class Hello(msgspec.Struct, frozen=True):
    """Hold a hello as it was received; `cookie` and `number` are None in a plain one."""

    answer: bytes
    cookie: str | None = None
    number: int | None = None


def make_hello(cookie: str, number: int, *, extended: bool) -> bytes:
    if not extended:
        return HELLO
    return HELLO + cookie.encode() + b"\0" + number.to_bytes(STREAM_TAG_BYTES, "big")


def read_hello(data: bytes) -> Hello | None:
    """Return the hello that a datagram holds, None if it holds none."""
    if data == HELLO or data in _LEGACY:
        return Hello(_LEGACY.get(data, ANSWER))
    if len(data) != MAX_HELLO_BYTES or not data.startswith(HELLO):
        return None
    cookie = data[len(HELLO) : len(HELLO) + COOKIE_BYTES]
    if cookie[-1] != 0 or not cookie[:-1].isascii():
        return None
    number = int.from_bytes(data[-STREAM_TAG_BYTES:], "big")
    return Hello(ANSWER, cookie[:-1].decode(), number)
