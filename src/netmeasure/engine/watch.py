"""Record when bytes arrive during set-up, by a native thread, so that a busy event loop does not
shift the times.

Without such a thread (no free descriptor or no thread), the times are those at which the event loop
read the bytes; nothing else changes.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NamedTuple

from netmeasure._fast.watch import Watched as Watched, Watcher
from netmeasure.clock import MILLISECOND_NS
from netmeasure.engine.threads import TrafficThread
from netmeasure.errors import HostLimitError

#: Two periods of waiting bytes with a shorter gap are joined: the program reads in several calls.
CONTINUOUS_NS = MILLISECOND_NS // 2
#: A wait of this length becomes a separate phase.
NOTED_NS = MILLISECOND_NS


class Stretch(NamedTuple):
    """Hold the period between the arrival of bytes and their reading by the program; None as its
    end: not read yet."""

    arrived_ns: int
    taken_ns: int | None


class Watch:
    """Watch the sockets of one run from `start` to `close`."""

    def __init__(self) -> None:
        self._watcher: Watcher | None = None
        self._thread: TrafficThread | None = None

    def start(self) -> None:
        """Start the thread, before any set-up is timed."""
        try:
            watcher = Watcher()
            thread = TrafficThread(watcher, "netmeasure-watch")
            thread.start()
        except (OSError, HostLimitError):
            return
        self._watcher, self._thread = watcher, thread

    def add(self, sock: socket.socket) -> Watched | None:
        """Watch a connected TCP socket until `Watched.remove` or its end. None: the socket can't be
        watched."""
        if self._watcher is None:
            return None
        try:
            return self._watcher.add(sock.fileno())
        except OSError:
            return None

    async def close(self) -> None:
        """Join the thread. Its observations remain readable."""
        if self._watcher is not None and self._thread is not None:
            self._watcher.stop()
            await self._thread.join()
            self._watcher.close()
            self._watcher = self._thread = None


def stretches(watched: Watched | None) -> list[Stretch]:
    """Return the latest observations of a socket."""
    return [Stretch(*one) for one in watched.stretches()] if watched is not None else []


def arrival(seen: Sequence[Stretch], after_ns: int, noticed_ns: int) -> int:
    """Return when the bytes arrived that the program read at a given time, not before
    `after_ns`."""
    found: Stretch | None = None
    for one in reversed(seen):
        if one.arrived_ns > noticed_ns:
            if one.arrived_ns == one.taken_ns:
                return noticed_ns  # the program was faster than the watching thread
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
    """Return the periods between two moments in which bytes waited for this program for a
    significant time."""
    return [
        (one.arrived_ns, one.taken_ns)
        for one in seen
        if one.taken_ns is not None
        and after_ns <= one.arrived_ns
        and one.taken_ns <= until_ns
        and one.taken_ns - one.arrived_ns >= NOTED_NS
    ]
