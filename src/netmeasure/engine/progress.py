"""Tell the followers of a run which phases of its set-up are over, and what it waits for.

The steps of set-up are taken deep below the run that is followed. The context (contextvars) of the
run's task, which its subtasks inherit, says who follows.
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
    """Describe a step of set-up that is under way."""

    name: str
    connection: str
    start_ns: int


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
    """Keep the steps that are under way, and give finished phases to `on_phase`."""

    def __init__(self, on_phase: Callable[[Phase], None]) -> None:
        self.on_phase = on_phase
        self._steps: list[Step] = []
        self._sockets: list[Connecting] = []

    def follow(self) -> None:
        """Become the progress of this task, and of those that it starts from now on."""
        _CURRENT.set(self)

    def end(self) -> None:
        """Let go of who follows. Timers that were cancelled keep their context, and so this, until
        the event loop sweeps them: without it they would keep the run and its result."""
        self.on_phase = _ignored
        self._steps.clear()
        self._sockets.clear()

    def waiting(self) -> Waiting | None:
        """Return what is being waited for longest; None: nothing."""
        if not self._steps:
            return None
        step = self._steps[0]
        for connecting in self._sockets:
            if step.name == "connect" and connecting.start_ns >= step.start_ns:
                again = tcpinfo.syn_retransmits(connecting.sock)
                syns = None if again is None else again + 1
                waited = now_ns() - step.start_ns
                return Waiting(step.name, step.connection, connecting.address, waited, syns)
        return Waiting(step.name, step.connection, None, now_ns() - step.start_ns, None)

    @contextmanager
    def step(self, name: str, connection: str) -> Iterator[None]:
        """Count the body as a step that is under way."""
        one = Step(name, connection, now_ns())
        self._steps.append(one)
        try:
            yield
        finally:
            if one in self._steps:  # unless the run has ended meanwhile
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
    """Return the progress of the run that this task belongs to; outside of runs, one for none."""
    return _CURRENT.get() or Progress(_ignored)


def _ignored(phase: Phase) -> None:
    """Do nothing with a phase that nobody follows."""
