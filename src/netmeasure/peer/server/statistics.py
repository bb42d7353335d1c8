"""Count a server's tests and refusals since its start, and report single events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Hold an event for a server's log: a refused client, or a problem of the server itself.

    Attributes:
        message: A sentence, with the peer's address if there is a peer.
        reason: A stable code of the reason, as in `ServerStatistics.refused`.
        peer: The peer's address and port; None: the event concerns the server itself.
        test: The first letters of the test's random name (its cookie); None: the test has no name
            yet.
    """

    message: str
    reason: str
    peer: str | None = None
    test: str | None = None


class ServerStatistics(msgspec.Struct):
    """Hold a server's counts since its start, and its present state.

    Attributes:
        started: Tests that got a place.
        finished: Tests that were complete.
        failed: Tests that ended early, by the code of the error.
        refused: Refused clients and other connections, by reason.
        payload_bytes: Bytes that receivers have counted, in finished and failed tests.
        handshakes: Clients whose parameters were accepted.
        handshake_ns: The total time of their handshakes, from the cookie on.
        active: Running tests.
        waiting: Clients in the queue.
        strangers: Connections that are not identified yet.
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


class Refusals:
    """Count a server's refusals, and report them to its callbacks."""

    def __init__(
        self,
        counts: Counter[str],
        on_event: Callable[[ServerEvent], None] | None,
        on_refusal: Callable[[str], None] | None,
    ) -> None:
        self._counts = counts
        self._on_event = on_event
        self._on_refusal = on_refusal

    def __call__(
        self,
        sentence: str,
        reason: str = "nonsense",
        peer: str | None = None,
        test: str | None = None,
        *,
        count: int = 1,
    ) -> None:
        """Count refusals of one kind, and report them as one event, see `ServerEvent`."""
        self._counts[reason] += count
        if self._on_event is not None:
            self._on_event(ServerEvent(message=sentence, reason=reason, peer=peer, test=test))
        if self._on_refusal is not None:
            self._on_refusal(sentence)
