"""Count what a server has done since its start."""

from __future__ import annotations

from collections import Counter

import msgspec


class ServerStatistics(msgspec.Struct):
    """Hold what a server has done since its start, and what it does now.

    Attributes:
        started: Tests that got a place.
        finished: Tests that were complete.
        failed: Tests that were cut short, by the code of the error.
        refused: Clients and other connections that were turned away, by reason.
        payload_bytes: Bytes that receivers have counted, in finished and failed tests.
        handshakes: Clients whose parameters were accepted.
        handshake_ns: What their handshakes took together, from the cookie on.
        active: Tests that are running.
        waiting: Clients in the queue.
        strangers: Connections that have not said yet what they are.
    """

    started: int = 0
    finished: int = 0
    failed: Counter[str] = msgspec.field(default_factory=Counter)
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    payload_bytes: int = 0
    handshakes: int = 0
    handshake_ns: int = 0
    active: int = 0
    waiting: int = 0
    strangers: int = 0
