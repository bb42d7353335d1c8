"""Keep the running tests of a server, and find the test of each data connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from functools import partial

from netmeasure.clock import nanoseconds, now_ns
from netmeasure.engine.hello import ExpectedHello
from netmeasure.peer.server.accept import Arrival
from netmeasure.peer.server.session import Session
from netmeasure.protocol import PROBE_NUMBER, Hello

#: How long a test that waits only for its client's last message may delay the next client.
FAREWELL_S = 0.5
POLL_S = 0.005


class Sessions:
    """Find the session of a connection by its client's cookie, or by its client's address."""

    def __init__(self) -> None:
        self._by_cookie: dict[str, Session] = {}
        #: how many connections have been accepted
        self.accepted = 0

    def __len__(self) -> int:
        return len(self._by_cookie)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_cookie.values())

    def with_cookie(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None: there is none."""
        return self._by_cookie.get(cookie)

    def add(self, cookie: str, session: Session) -> None:
        """Let connections with this cookie find their session."""
        self._by_cookie[cookie] = session

    def remove(self, cookie: str) -> None:
        """Remove a session that has ended."""
        del self._by_cookie[cookie]

    def next_order(self) -> int:
        """Return the number of the next connection in the order of acceptance."""
        self.accepted += 1
        return self.accepted

    async def why_full(self, why: Callable[[], str | None]) -> str | None:
        """Return the result of `why`: the reason why no test may begin now; None: a test may begin.

        A test that only waits for its client's last message gets a moment to end: its client may
        have left before this end notices it, and may have been started again.
        """
        give_up = now_ns() + nanoseconds(FAREWELL_S)
        while (reason := why()) is not None:
            if now_ns() > give_up or not any(session.is_leaving for session in self):
                return reason
            await asyncio.sleep(POLL_S)
        return None

    def expected(self, hello: Hello, peer: tuple[str, int]) -> ExpectedHello | None:
        """Return the handler for the UDP stream of a hello: a test whose control connection comes
        from the same address and, if the hello has a cookie, has this cookie."""
        if hello.number == PROBE_NUMBER:
            return self._expected_probe(hello, peer)
        if hello.cookie is not None:
            named = self.with_cookie(hello.cookie)
            candidates = [named] if named is not None else []
        else:
            candidates = [session for session in self if not session.tags_streams]
        for session in candidates:
            arrivals = session.arrivals
            if session.is_udp and session.client_host == peer[0] and arrivals.missing:
                if arrivals.knows(peer):
                    return None  # a copy of a hello that was just answered
                take = partial(_offer, session, self.next_order(), hello.number)
                return ExpectedHello(session.local_host, take, arrivals.fail)
        return None

    def _expected_probe(self, hello: Hello, peer: tuple[str, int]) -> ExpectedHello | None:
        """Return the handler for a latency probe: the test of the hello's cookie, once."""
        session = self.with_cookie(hello.cookie or "")
        if session is None or session.client_host != peer[0]:
            return None
        if not session.awaits_probe(socket.SOCK_DGRAM):
            return None
        return ExpectedHello(session.local_host, session.take_probe, _ignore)


def _ignore(_: OSError) -> None:
    """Do nothing: a test goes on without its probe, and its client reports this."""


def _offer(session: Session, order: int, number: int | None, sock: socket.socket) -> None:
    if not session.arrivals.offer(Arrival(sock, order, number)):
        sock.close()
