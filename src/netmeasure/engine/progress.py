"""Report to the followers of a run which phases of its set-up have ended, and what it waits for.

The steps of set-up are taken by functions far below the run. They find the followers in the context
(contextvars) of the run's task, which its subtasks inherit.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from netmeasure.clock import now_ns
from netmeasure.engine import tcpinfo
from netmeasure.result import Phase

_CURRENT: ContextVar[Progress | None] = ContextVar("netmeasure_progress", default=None)


class Step(NamedTuple):
    """Describe a step of set-up in progress. If `over` returns True, the step is over, though the
    function that takes it has not ended yet."""

    name: str
    connection: str
    start_ns: int
    over: Callable[[], bool]


class Connecting(NamedTuple):
    """Describe a socket that is being connected."""

    sock: socket.socket
    address: str
    start_ns: int


class Waiting(NamedTuple):
    """Describe what set-up waits for."""

    step: str
    connection: str
    address: str | None
    waited_ns: int
    unanswered_syns: int | None


class Progress:
    """Keep the steps in progress, and pass completed phases to `on_phase`."""

    def __init__(self, on_phase: Callable[[Phase], None]) -> None:
        self.on_phase = on_phase
        self._steps: list[Step] = []
        self._sockets: list[Connecting] = []

    def follow(self) -> None:
        """Make this object the progress of the current task, and of the tasks that it starts from
        now on."""
        _CURRENT.set(self)

    def end(self) -> None:
        """Drop the reference to the followers. Cancelled timers keep their context, and so this
        object, until the event loop removes them; with the reference, they would also keep the run
        and its result."""
        self.on_phase = _ignored
        self._steps.clear()
        self._sockets.clear()

    def waiting(self) -> Waiting | None:
        """Return the step that has been waited for longest; None: no step."""
        step = next((step for step in self._steps if not step.over()), None)
        if step is None:
            return None
        for connecting in self._sockets:
            if step.name == "connect" and connecting.start_ns >= step.start_ns:
                again = tcpinfo.syn_retransmits(connecting.sock)
                syns = None if again is None else again + 1
                waited = now_ns() - step.start_ns
                return Waiting(step.name, step.connection, connecting.address, waited, syns)
        return Waiting(step.name, step.connection, None, now_ns() - step.start_ns, None)

    @contextmanager
    def step(
        self, name: str, connection: str, over: Callable[[], bool] | None = None
    ) -> Iterator[None]:
        """Count the body as a step in progress, until `over` returns True."""
        one = Step(name, connection, now_ns(), over or _never)
        self._steps.append(one)
        try:
            yield
        finally:
            if one in self._steps:  # unless the run has already ended
                self._steps.remove(one)

    @contextmanager
    def socket(self, sock: socket.socket, address: str) -> Iterator[None]:
        """Count a socket as being connected while the body runs."""
        one = Connecting(sock, address, now_ns())
        self._sockets.append(one)
        try:
            yield
        finally:
            if one in self._sockets:
                self._sockets.remove(one)


def current() -> Progress:
    """Return the progress of this task's run; outside of runs, a progress without followers."""
    return _CURRENT.get() or Progress(_ignored)


def _never() -> bool:
    """Return that a step lasts as long as its body."""
    return False


def _ignored(phase: Phase) -> None:
    """Ignore a phase of a run without followers."""
