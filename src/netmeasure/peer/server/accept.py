"""Collect the data connections of one test at the server, until all are open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from netmeasure.engine.hello import HelloResponder
from netmeasure.errors import RefusedTestError
from netmeasure.protocol import ErrorCode, stream_ids
from netmeasure.result import FlowDirection


class Arrival(NamedTuple):
    """Describe a data connection that belongs to a test. `order` is the order of acceptance;
    `number` is set if the client named the stream."""

    sock: socket.socket
    order: int
    number: int | None


class Arrivals:
    """Own the accepted connections until `each` passes them on."""

    def __init__(self, directions: Sequence[FlowDirection]) -> None:
        self._directions = tuple(directions)
        self._numbers = tuple(stream_ids(len(directions)))
        self._here: list[Arrival] = []
        self._given = 0
        self._responders: list[HelloResponder] = []
        self._news = asyncio.Event()
        self._error: OSError | None = None

    @property
    def missing(self) -> int:
        return len(self._directions) - len(self._here) - self._given

    def knows(self, peer: tuple[object, ...]) -> bool:
        """Return whether a stream from this address and port was already accepted."""
        return any(arrival.sock.getpeername()[:2] == peer[:2] for arrival in self._here)

    def offer(self, arrival: Arrival) -> bool:
        """Take a connection over and return True. If no such connection is missing, leave it to the
        caller and return False."""
        known = set(self._numbers) - {a.number for a in self._here}
        if not self.missing or (arrival.number is not None and arrival.number not in known):
            return False
        if arrival.sock.type == socket.SOCK_DGRAM:
            self._responders.append(HelloResponder(arrival.sock))
        self._here.append(arrival)
        self._news.set()
        return True

    def fail(self, error: OSError) -> None:
        """Record that this host can't open the socket of a stream; `all` raises this error."""
        self._error = error
        self._news.set()

    async def all(self) -> None:
        """Wait until no connection is missing. Raise RefusedTestError if this host lacks a
        resource."""
        while self.missing:
            if self._error is not None:
                reason = self._error.strerror or str(self._error)
                raise RefusedTestError(
                    f"this host can't open a socket for the client's stream: {reason}",
                    number=ErrorCode.STREAM_ACCEPT,
                    reason=reason,
                )
            self._news.clear()
            await self._news.wait()

    async def each(self, take: Callable[[int, FlowDirection, socket.socket], None]) -> None:
        """Pass every connection, with its stream's number and direction, to `take`, which owns it
        from then on, even if it fails. Between two connections the event loop serves other
        tests."""
        self._end_responders()
        for number, direction, arrival in self._in_order():
            self._here.remove(arrival)
            self._given += 1
            take(number, direction, arrival.sock)
            await asyncio.sleep(0)

    def _in_order(self) -> Iterator[tuple[int, FlowDirection, Arrival]]:
        """Return the connections in the order of the numbers that the client gave or, as in iperf3,
        in the order of acceptance."""
        ordered = sorted(self._here, key=lambda arrival: (arrival.number or 0, arrival.order))
        return zip(self._numbers, self._directions, ordered, strict=True)

    def _end_responders(self) -> None:
        for responder in self._responders:
            responder.leave()
        self._responders.clear()

    def close(self) -> None:
        """Close the connections that `each` has not passed on, and accept no more."""
        self._directions, self._given = (), 0
        self._end_responders()
        for arrival in self._here:
            arrival.sock.close()
        self._here.clear()
