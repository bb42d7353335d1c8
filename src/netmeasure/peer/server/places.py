"""Assign a server's places to tests: at once, after a wait in the queue, or not at all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from netmeasure.errors import RefusedTestError
from netmeasure.protocol import ErrorCode
from netmeasure.spec import ServerLimits

#: The most clients in the queue, in all and from one network.
MAX_WAITING, MAX_WAITING_EACH = 256, 16
#: How often a waiting client is told its position.
TELL_EVERY_S = 5.0


class Wish(NamedTuple):
    """Hold the needs of a test: the network whose share it uses, whether it must run alone, and its
    bit/s for all streams together (0: unknown)."""

    network: str
    exclusive: bool = False
    bps: int = 0


class Places:
    """Count the running tests, in all and from each network, and keep a queue for further tests.

    The queue is served in order, except that tests which wait only for their network's share are
    skipped.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._running: Counter[str] = Counter()
        self._ending = 0
        self._alone = False
        self._bps = 0
        self._queue: list[_Ticket] = []

    @property
    def running(self) -> int:
        """Return the number of tests that hold a place."""
        return self._running.total()

    @property
    def measuring(self) -> int:
        """Return the number of tests that hold a place and may affect others. Tests that have all
        their data only wait for messages of their clients, and are excluded."""
        return self.running - self._ending

    def has_all_data(self) -> None:
        """Stop counting one of the tests as active; it holds its place until `give_back`."""
        self._ending += 1

    @property
    def waiting(self) -> int:
        """Return the number of clients in the queue."""
        return len(self._queue)

    def why_full(self, network: str) -> str | None:
        """Return why a test from a network can't begin now; None: it can begin."""
        if self._alone:
            return "a test is running that must be alone"
        if self.running >= self._limits.max_tests or self._queue:
            waiting = f", and {self.waiting} are waiting" if self._queue else ""
            return f"{self.running} tests are running{waiting}"
        if self._running[network] >= self._limits.tests_per_address:
            return f"{self._running[network]} tests from its address are running"
        return None

    def try_take(self, wish: Wish) -> bool:
        """Take a place for this test if one is free; return whether one was free."""
        if self._queue or not self._fits(wish):
            return False
        self._take(wish)
        return True

    async def wait(self, wish: Wish, tell: Callable[[int], Awaitable[None]]) -> None:
        """Wait in the queue for a place, and take it. `tell` is called with the position in the
        queue when it changes, and every TELL_EVERY_S. Raise RefusedTestError if the queue is
        full."""
        mine = sum(ticket.wish.network == wish.network for ticket in self._queue)
        if len(self._queue) >= MAX_WAITING or mine >= MAX_WAITING_EACH:
            raise RefusedTestError(
                f"{len(self._queue)} clients are waiting, {mine} of them from its address",
                number=ErrorCode.BUSY,
            )
        ticket = _Ticket(wish)
        self._queue.append(ticket)
        try:
            self._serve_queue()
            told = 0
            while not ticket.admitted:
                ticket.moved.clear()
                position = self._queue.index(ticket) + 1
                if position != told:
                    await tell(position)
                    told = position
                if not ticket.admitted:
                    try:
                        async with asyncio.timeout(TELL_EVERY_S):
                            await ticket.moved.wait()
                    except TimeoutError:
                        told = 0  # report the position again
        except BaseException:
            if ticket.admitted:
                self.give_back(wish)
            raise
        finally:
            if ticket in self._queue:
                self._queue.remove(ticket)
                self._serve_queue()

    def give_back(self, wish: Wish, *, has_all_data: bool = False) -> None:
        """Give a place back to the queue. `has_all_data` says whether the test had already reported
        that it has all its data."""
        network = wish.network
        self._ending -= has_all_data
        self._bps -= wish.bps
        self._running[network] -= 1
        if self._running[network] <= 0:
            del self._running[network]
        self._alone = False  # a test that runs alone is the only running test
        self._serve_queue()

    def _fits(self, wish: Wish) -> bool:
        if self._alone or (wish.exclusive and self.running):
            return False
        total_bps = self._limits.max_total_bitrate_bps
        if total_bps is not None and self._bps + wish.bps > total_bps:
            return False
        here = self._running[wish.network] < self._limits.tests_per_address
        return here and self.running < self._limits.max_tests

    def _take(self, wish: Wish) -> None:
        self._running[wish.network] += 1
        self._bps += wish.bps
        self._alone = wish.exclusive

    def _serve_queue(self) -> None:
        for ticket in tuple(self._queue):
            if self._fits(ticket.wish):
                self._queue.remove(ticket)
                self._take(ticket.wish)
                ticket.admitted = True
                ticket.moved.set()
            elif self._running[ticket.wish.network] < self._limits.tests_per_address:
                break  # this test is next, and no other may overtake it
        for ticket in self._queue:
            ticket.moved.set()


class _Ticket:
    """Hold one waiting client. `moved` is set when its position may have changed."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.admitted = False
        self.moved = asyncio.Event()
