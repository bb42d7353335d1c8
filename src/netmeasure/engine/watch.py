"""See when bytes arrive during set-up, by a native thread that no busy event loop can hold up.

Without such a thread (no descriptor or no thread was left) moments are those at which the event
loop noticed: nothing else changes.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NamedTuple

from netmeasure._fast.watch import Watched as Watched, Watcher
from netmeasure.clock import MILLISECOND_NS
from netmeasure.engine.threads import TrafficThread
from netmeasure.errors import HostLimitError

#: Two stretches of waiting bytes that follow so closely are one: the program reads piece by piece.
CONTINUOUS_NS = MILLISECOND_NS // 2
#: Bytes that wait for so long are worth a phase of their own.
NOTED_NS = MILLISECOND_NS


class Stretch(NamedTuple):
    """Hold how long bytes were there before the program read them; None: they still are."""

    arrived_ns: int
    taken_ns: int | None


class Watch:
    """Watch the sockets of one run from `start` to `close`."""

    def __init__(self) -> None:
        self._watcher: Watcher | None = None
        self._thread: TrafficThread | None = None

    def start(self) -> None:
        """Start the thread, before any clock of set-up runs."""
        try:
            watcher = Watcher()
            thread = TrafficThread(watcher, "netmeasure-watch")
            thread.start()
        except (OSError, HostLimitError):
            return
        self._watcher, self._thread = watcher, thread

    def add(self, sock: socket.socket) -> Watched | None:
        """Watch a connected TCP socket until `Watched.remove`, or its end. None: it can't be."""
        if self._watcher is None:
            return None
        try:
            return self._watcher.add(sock.fileno())
        except OSError:
            return None

    async def close(self) -> None:
        """Join the thread. What was seen stays readable."""
        if self._watcher is not None and self._thread is not None:
            self._watcher.stop()
            await self._thread.join()
            self._watcher.close()
            self._watcher = self._thread = None


def stretches(watched: Watched | None) -> list[Stretch]:
    """Return what was seen of a socket so far, the latest stretches."""
    return [Stretch(*one) for one in watched.stretches()] if watched is not None else []


def arrival(seen: Sequence[Stretch], after_ns: int, noticed_ns: int) -> int:
    """Return when the bytes came that the program noticed at a moment, not before `after_ns`."""
    found: Stretch | None = None
    for one in reversed(seen):
        if one.arrived_ns > noticed_ns:
            if one.arrived_ns == one.taken_ns:
                return noticed_ns  # the program was faster than the thread that looks
            continue
        if one.arrived_ns <= after_ns:
            break
        if found is not None and (
            one.taken_ns is None or found.arrived_ns - one.taken_ns > CONTINUOUS_NS
        ):
            break
        found = one
    return noticed_ns if found is None else found.arrived_ns


def kept_waiting(seen: Sequence[Stretch], after_ns: int, until_ns: int) -> list[tuple[int, int]]:
    """Return the stretches between two moments in which bytes waited for this program for so long
    that it is worth saying."""
    return [
        (one.arrived_ns, one.taken_ns)
        for one in seen
        if one.taken_ns is not None
        and after_ns <= one.arrived_ns
        and one.taken_ns <= until_ns
        and one.taken_ns - one.arrived_ns >= NOTED_NS
    ]
