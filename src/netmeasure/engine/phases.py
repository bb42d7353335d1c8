"""Record the times of a run's set-up phases, counted from the first attempt.

On the critical path to the first payload byte, phases follow each other without gaps and without
overlap. The time between two phases was lost on this host: the event loop was busy or blocked, or
its thread waited for a CPU. It is a separate phase, "host".
"""

from __future__ import annotations

import copy
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from msgspec.structs import replace

from netmeasure.clock import MILLISECOND_NS, now_ns, wall_now
from netmeasure.engine import progress
from netmeasure.engine.addresses import Address
from netmeasure.engine.sockets import Connected, Found
from netmeasure.engine.watch import NOTED_NS, Watch, Watched, arrival, kept_waiting, stretches
from netmeasure.errors import ConnectError
from netmeasure.result import Phase

HOST = "host"
#: The least time between two readings of the scheduler's account of the event loop's thread.
LOOK_NS = MILLISECOND_NS // 2
WAITED, BUSY, BLOCKED = "waited for a CPU", "event loop busy", "event loop blocked"


class LoopAccount:
    """Read the scheduler's account of the event loop's thread: CPU time, and time without a CPU."""

    def __init__(self) -> None:
        self._path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self._looks: list[tuple[int, int, int]] = []
        self._left_out = (0, 0)

    def look(self) -> None:
        """Read the account, unless it has just been read."""
        now = now_ns()
        if self._looks and now - self._looks[-1][0] < LOOK_NS:
            return
        if (times := self._times()) is not None:
            ran, waited = times
            self._looks.append((now, ran - self._left_out[0], waited - self._left_out[1]))

    def _times(self) -> tuple[int, int] | None:
        """Return the CPU time so far and the time without a CPU; None: this kernel keeps no
        account."""
        try:
            with open(self._path, "rb", buffering=0) as account:
                ran, waited = account.read(64).split()[:2]
                return int(ran), int(waited)
        except (OSError, ValueError):
            return None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the body from the account, and move earlier readings to its end."""
        start, before = now_ns(), self._times()
        try:
            yield
        finally:
            after, taken_ns = self._times(), now_ns() - start
            self._looks = [(at + taken_ns, ran, waited) for at, ran, waited in self._looks]
            if before is not None and after is not None:
                ran, waited = self._left_out
                self._left_out = (ran + after[0] - before[0], waited + after[1] - before[1])

    def cause(self, start_ns: int, end_ns: int) -> str | None:
        """Return what delayed the event loop between two moments."""
        before = next((one for one in reversed(self._looks) if one[0] <= start_ns), None)
        after = next((one for one in self._looks if one[0] >= end_ns - LOOK_NS), None)
        if before is None or after is None or after[0] <= before[0]:
            return None
        half = (end_ns - start_ns) / 2
        if after[2] - before[2] >= half:
            return WAITED
        return BUSY if after[1] - before[1] >= half else BLOCKED


class PhaseLog:
    """Collect phases. `origin_ns` is the client's first attempt to reach the server, `started_at`
    its date. Without a `watch`, the arrival times of bytes are those at which the program read
    them.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch
        self.started_at = wall_now()
        self.origin_ns = now_ns()
        self._phases: list[Phase] = []
        self._suffix = ""
        self._progress = progress.current()
        self._loop = LoopAccount()
        self._loop.look()

    def repeated(self, number: int) -> PhaseLog:
        """Return the same log for the steps of transfer `number` of a stream, with this number on
        its connections."""
        view = copy.copy(self)
        view._suffix = f" #{number}"
        return view

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock of set-up during the body, which is no part of set-up. Completed phases
        keep their times."""
        with self._loop.paused():
            start = now_ns()
            try:
                yield
            finally:
                self.origin_ns += now_ns() - start

    def watch(self, sock: socket.socket) -> Watched | None:
        """Watch a connected TCP socket, for phases that end with bytes from the peer. Call `remove`
        before payload is transferred, and before the connection is closed. None: the socket can't
        be watched."""
        return self._watch.add(sock) if self._watch is not None else None

    def add(
        self,
        name: str,
        connection: str,
        start_ns: int,
        end_ns: int,
        *,
        address: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Record a phase from its two moments on CLOCK_MONOTONIC.

        If a kernel's time stamp shows that the phase ended before the program began to wait for it,
        its duration is 0.
        """
        phase = self._timed(name, connection, start_ns, end_ns)
        self._keep(replace(phase, address=address, detail=detail))

    def _keep(self, phase: Phase) -> None:
        """Record a phase, and report it to the followers of the run."""
        self._phases.append(phase)
        self._progress.on_phase(phase)

    def _timed(self, name: str, connection: str, start_ns: int, end_ns: int) -> Phase:
        self._loop.look()
        start_ns = min(start_ns, end_ns)
        return Phase(
            name=name,
            connection=connection + self._suffix,
            start_ns=start_ns - self.origin_ns,
            duration_ns=end_ns - start_ns,
        )

    def add_answered(
        self,
        name: str,
        connection: str,
        start_ns: int,
        noticed_ns: int,
        watched: Watched | None,
        *,
        detail: str | None = None,
    ) -> None:
        """Record a phase that ended with bytes from the peer, which the program read at a given
        time. The phase ends when the bytes arrived; periods in which earlier bytes waited are
        excluded."""
        seen = stretches(watched)
        end = arrival(seen, start_ns, noticed_ns)
        at = start_ns
        for arrived, taken in kept_waiting(seen, start_ns, end):
            self.add(name, connection, at, arrived, detail=detail)
            at = taken
        self.add(name, connection, at, end, detail=detail)

    def add_connected(self, connection: str, made: Connected) -> None:
        """Record a connect, and the earlier attempts at other addresses."""
        for one in made.before:
            address, outcome = str(one.address), one.outcome
            self.add(
                "connect", connection, one.start_ns, one.end_ns, address=address, detail=outcome
            )
        phase = self._timed("connect", connection, made.start_ns, made.end_ns)
        address = str(made.address)
        self._keep(replace(phase, syn_retransmits=made.syn_retransmits, address=address))

    async def connected(
        self, connection: str, connecting: Coroutine[Any, Any, Connected]
    ) -> Connected:
        """Connect, and record the phase, even if the connect fails: `detail` is then the error's
        code."""
        start = now_ns()
        self._loop.look()
        try:
            with self._progress.step("connect", connection + self._suffix):
                made = await connecting
        except ConnectError as exc:
            self.add("connect", connection, start, now_ns(), detail=exc.code)
            raise
        self.add_connected(connection, made)
        return made

    async def looked_up(
        self, connection: str, looking: Coroutine[Any, Any, Found]
    ) -> list[Address]:
        """Look a host up, and record the phase, even if the look-up fails: `detail` then names the
        error."""
        start = now_ns()
        self._loop.look()
        try:
            with self._progress.step("resolve", connection + self._suffix):
                found = await looking
        except BaseException as exc:
            self.add("resolve", connection, start, now_ns(), detail=type(exc).__name__)
            raise
        self.add("resolve", connection, found.start_ns, found.end_ns, detail=found.detail)
        return found.addresses

    @contextmanager
    def measure(self, name: str, connection: str, watched: Watched | None = None) -> Iterator[None]:
        """Record the body as a phase, even if it fails: `detail` then names the error."""
        start = now_ns()
        self._loop.look()
        try:
            with self._progress.step(name, connection + self._suffix):
                yield
        except BaseException as exc:
            self.add(name, connection, start, now_ns(), detail=type(exc).__name__)
            raise
        self.add_answered(name, connection, start, now_ns(), watched)

    def awaiting(
        self, name: str, connection: str, over: Callable[[], bool] | None = None
    ) -> AbstractContextManager[None]:
        """Tell the followers of the run that the body, until `over` returns True, waits in a step
        of set-up. No phase is recorded: that is for the caller, who knows its moments later."""
        return self._progress.step(name, connection + self._suffix, over)

    def collected(
        self,
        first_byte_ns: int | None = None,
        connection: str | None = None,
        *,
        by_thread: bool = False,
    ) -> tuple[Phase, ...]:
        """Return all phases in the order of their starts. Given the time of the first payload byte,
        counted from the first attempt, the phases on the critical path to it are marked, and the
        delays of this host between them are added. `connection`: only the phases of this connection
        and its parts can be on the critical path. `by_thread`: a native thread that was ready
        counted the first byte."""
        phases = _joined(sorted(self._phases, key=lambda phase: phase.start_ns))
        if first_byte_ns is None:
            return tuple(phases)
        way = deciding_way(_of(phases, connection), first_byte_ns)
        rest = [phase for phase in phases if not any(phase is step for step in way)]
        filled = self._filled(way, first_byte_ns, by_thread=by_thread)
        return tuple(sorted([*rest, *filled], key=lambda phase: phase.start_ns))

    def _filled(self, way: Sequence[Phase], first_byte_ns: int, *, by_thread: bool) -> list[Phase]:
        """Return the phases of the critical path with the delays of this host between them."""
        found: list[Phase] = []
        at = 0
        ends = [step.start_ns for step in way] + [first_byte_ns]
        for index, end in enumerate(ends):
            if end > at:
                nearest = way[min(index, len(way) - 1)] if way else None
                found.append(
                    Phase(
                        name=HOST,
                        connection=nearest.connection if nearest else "",
                        start_ns=at,
                        duration_ns=end - at,
                        decides=True,
                        detail=self._cause(at, end, by_thread=by_thread and index == len(way)),
                    )
                )
            if index < len(way):
                found.append(replace(way[index], decides=True))
                at = way[index].end_ns
        return found

    def _cause(self, start_ns: int, end_ns: int, *, by_thread: bool) -> str | None:
        if end_ns - start_ns < NOTED_NS:
            return None
        if by_thread:
            return WAITED
        return self._loop.cause(start_ns + self.origin_ns, end_ns + self.origin_ns)


def deciding_way(phases: Sequence[Phase], first_byte_ns: int) -> list[Phase]:
    """Return, in order, the phases of the critical path to the first payload byte: backwards in
    time, the predecessor of each phase is the one that ended last before it."""
    way: list[Phase] = []
    at = first_byte_ns
    # the later start first, so that the shorter of two phases with the same end is taken
    for phase in sorted(phases, key=lambda p: (p.end_ns, p.start_ns), reverse=True):
        if phase.end_ns <= at and phase.start_ns >= 0:
            way.append(phase)
            at = phase.start_ns
    return way[::-1]


def _of(phases: Sequence[Phase], connection: str | None) -> list[Phase]:
    if connection is None:
        return list(phases)
    return [p for p in phases if p.connection == connection or _part_of(p.connection, connection)]


def _part_of(name: str, connection: str) -> bool:
    return name.startswith(f"{connection} ") and "#" not in name


def _joined(phases: Sequence[Phase]) -> list[Phase]:
    """Join consecutive phases of one name on a connection if the pause between them is
    negligible."""
    found: list[Phase] = []
    last: dict[str, int] = {}
    for phase in phases:
        index = last.get(phase.connection)
        before = found[index] if index is not None else None
        if (
            before is not None
            and index is not None
            and before.name == phase.name
            and before.detail in (None, phase.detail)
            and before.syn_retransmits is None
            and 0 <= phase.start_ns - before.end_ns < NOTED_NS
        ):
            joined_ns = phase.end_ns - before.start_ns
            found[index] = replace(before, duration_ns=joined_ns, detail=phase.detail)
            continue
        last[phase.connection] = len(found)
        found.append(phase)
    return found
