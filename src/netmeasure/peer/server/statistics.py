"""Count what a server has done since its start, and tell single events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a server writes to its log: a client that was turned away, or trouble of its own.

    Attributes:
        message: A sentence, with the peer's address where there is a peer.
        reason: A word for it that never changes, as in `ServerStatistics.refused`.
        peer: The peer's address and port; None: it is about the server itself.
        test: The first letters of the test's random name (its cookie); None: there was none yet.
    """

    message: str
    reason: str
    peer: str | None = None
    test: str | None = None


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


class Refusals:
    """Count what a server turns away, and tell who runs it."""

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
    ) -> None:
        """Count and tell one refusal, see `ServerEvent`."""
        self._counts[reason] += 1
        if self._on_event is not None:
            self._on_event(ServerEvent(message=sentence, reason=reason, peer=peer, test=test))
        if self._on_refusal is not None:
            self._on_refusal(sentence)
