"""Encode the datagrams with which a client finds the longest datagrams of a path.

The client requests a token first, which only the holder of its address receives. The server answers
other queries only if they have this token, so nobody can make it send long datagrams to a third
party. No answer is longer than its query but the one that was requested with a token, and an answer
is never taken for a query, so two servers never answer each other.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from netmeasure.protocol.messages import MAX_PROBE_ANSWER

#: How a query begins, and how an answer does.
PATH_QUERY, _ANSWER = b"nm-pathq", b"nm-patha"
_HEAD = struct.Struct("!8sB16sIH")
#: The length of a query, without the zeros that fill it.
PATH_QUERY_BYTES = _HEAD.size
PATH_TOKEN_BYTES = 16
NO_PATH_TOKEN = bytes(PATH_TOKEN_BYTES)
#: The longest UDP payload in a jumbo frame.
MOST_PAYLOAD_BYTES = MAX_PROBE_ANSWER - 28


class PathKind(enum.IntEnum):
    """Name the kinds of queries, and of answers to them."""

    #: a request for the token, which is in the answer
    TOKEN = 0
    #: a datagram filled to some length; `size` of the answer is the length that arrived
    UPLOAD = 1
    #: a request for an answer that is filled to `size`
    DOWNLOAD = 2
    #: the answer to DOWNLOAD if the server's own interface can't send this length
    TOO_LONG = 3
    #: a request for the path MTU to the client that the server's kernel knows: `size` of the answer
    KNOWN_MTU = 4


class PathProbe(NamedTuple):
    """Hold a query or an answer; its `number` is the same in both."""

    kind: PathKind
    number: int
    size: int = 0
    token: bytes = NO_PATH_TOKEN


def is_path_query(data: bytes) -> bool:
    """Return whether a datagram begins as a query does."""
    return data.startswith(PATH_QUERY)


def make_path_query(probe: PathProbe) -> bytes:
    """Return a query; zeros may follow it."""
    return _HEAD.pack(PATH_QUERY, probe.kind, probe.token, probe.number, probe.size)


def make_path_answer(probe: PathProbe) -> bytes:
    """Return an answer; the answer to DOWNLOAD is filled to its `size`."""
    head = _HEAD.pack(_ANSWER, probe.kind, probe.token, probe.number, probe.size)
    return head.ljust(probe.size, b"\0") if probe.kind == PathKind.DOWNLOAD else head


def read_path_query(data: bytes) -> PathProbe | None:
    """Return the query at the start of a datagram; None: it is none."""
    found = _read(data, PATH_QUERY)
    if found is None or found.kind == PathKind.TOO_LONG:
        return None
    if found.kind == PathKind.DOWNLOAD and not PATH_QUERY_BYTES <= found.size <= MOST_PAYLOAD_BYTES:
        return None
    return found


def read_path_answer(data: bytes) -> PathProbe | None:
    """Return the answer at the start of a datagram; None: it is none."""
    return _read(data, _ANSWER)


def _read(data: bytes, begin: bytes) -> PathProbe | None:
    if len(data) < PATH_QUERY_BYTES:
        return None
    magic, number, token, count, size = _HEAD.unpack_from(data)
    if magic != begin or number > max(PathKind):
        return None
    return PathProbe(PathKind(number), count, size, token)
