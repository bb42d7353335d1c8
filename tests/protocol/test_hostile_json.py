"""JSON of the largest legal size that is made to cost memory: it must use little memory, and is
refused."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Callable

import pytest

from netmeasure.errors import RemoteProtocolError
from netmeasure.protocol import Parameters, PeerResults, results_limit_bytes
from netmeasure.result import SideReport

LARGEST = results_limit_bytes(256)
HEAD = json.dumps(
    {
        "cpu_util_total": 0,
        "cpu_util_user": 0,
        "cpu_util_system": 0,
        "sender_has_retransmits": 0,
    }
).encode()[:-1]
STREAM = b',"streams":[],"netmeasure":{"streams":[{"id":1,"role":"sender",'
SERIES = STREAM + b'"series":{"origin_ns":0,"width_ns":1,"bytes":['
AGREED = b'{"id":7,"bytes":1,"retransmits":0,"jitter":0,"errors":0,"packets":0%b}'


def filled(head: bytes, item: bytes, tail: bytes, size: int = LARGEST) -> bytes:
    """Return a head, as many items as fit with commas, and a tail."""
    count = (size - len(head) - len(tail)) // (len(item) + 1)
    return head + b",".join([item] * count) + tail


def keys(size: int) -> bytes:
    """Return an object with as many different keys as fit."""
    pieces: list[bytes] = []
    used, number = 2, 0
    while True:
        piece = b'"%x":0' % number
        used += len(piece) + 1
        if used > size:
            return b"{" + b",".join(pieces) + b"}"
        pieces.append(piece)
        number += 1


#: Made in the test, for each is as large as can be.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "keys": lambda: keys(LARGEST),
    "keys of a stream": lambda: HEAD + b',"streams":[' + keys(LARGEST - 2000) + b"]}",
    "empty lists": lambda: filled(HEAD + b',"streams":[', b"[]", b"]}"),
    "empty objects": lambda: filled(HEAD + b',"streams":[', b"{}", b"]}"),
    "unknown": lambda: filled(HEAD + b',"unknown":[', b"[]", b"]}"),
    "lists in lists": lambda: filled(HEAD + b',"unknown":[', b"[[[[[[[[]]]]]]]]", b"]}"),
    "numbers": lambda: filled(HEAD + SERIES, b"1", b"]}}]}}"),
    "large numbers": lambda: filled(HEAD + SERIES, b"123456789012345678", b"]}}]}}"),
    "streams": lambda: filled(HEAD + b',"streams":[],"netmeasure":{"streams":[', b"{}", b"]}}"),
    "streams of ours": lambda: filled(
        HEAD + b',"streams":[],"netmeasure":{"streams":[', b'{"id":1,"role":"sender"}', b"]}}"
    ),
    "control characters": lambda: (
        HEAD + b',"streams":[],"congestion_used":"' + b"\\u001b" * ((LARGEST - 1000) // 6) + b'"}'
    ),
    "streams never agreed": lambda: filled(HEAD + b',"streams":[', AGREED % b"", b"]}"),
    "texts in 128 streams": lambda: filled(
        HEAD + b',"streams":[', AGREED % (b',"x":"' + b"y" * (LARGEST // 128 - 100) + b'"'), b"]}"
    ).ljust(LARGEST),
    "equal keys": lambda: filled(
        HEAD + b',"streams":[],"netmeasure":null,"title":""', b'"congestion_used":"cubic"', b"}"
    ).replace(b'""', b'"",', 1),
    "a long number": lambda: HEAD.replace(b": 0", b": " + b"9" * (LARGEST - 500), 1) + b"}",
    "unfinished": lambda: filled(HEAD + b',"streams":[', b"{", b""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_largest_results(name: str) -> None:
    """Unused members create no objects, and no column has more items than a test can give."""
    data = HOSTILE[name]()
    assert LARGEST - 2000 < len(data) <= LARGEST
    tracemalloc.start()
    with contextlib.suppress(RemoteProtocolError):
        PeerResults.decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize("name", ["keys", "large numbers", "streams of ours"])
def test_what_was_refused_is_given_back(name: str) -> None:
    data = HOSTILE[name]()
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            PeerResults.decode(data)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2**20


def test_parameters_of_many_keys() -> None:
    tracemalloc.start()
    try:
        assert Parameters.decode(keys(64 * 1024)) == Parameters.decode(b"{}")
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 * 2**20


def test_a_title_that_is_no_utf_8() -> None:
    """iperf3 sends the bytes of its command line as they are."""
    read = Parameters.decode(b'{"title":"caf\xe9","extra_data":"\xff\\n","client_version":"3\xb2"}')
    assert (read.title, read.extra_data) == ("caf\udce9", "\udcff\n")
    assert read.client_version == "3\ufffd"
    assert b'"title":"caf\xe9"' in read.encode()
    assert Parameters.decode(read.encode()) == read


def test_reports_of_ours_keep_their_texts() -> None:
    report = {"host": {"program": "netmeasure", "hostname": "caf\u00e9"}, "streams": []}
    wire = HEAD + b',"streams":[],"netmeasure":' + json.dumps(report).encode() + b"}"
    assert isinstance(PeerResults.decode(wire).netmeasure, SideReport)
