"""Write a server's events to standard error: one line each, and at most one line a second."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime

import msgspec

from netmeasure.peer.server.statistics import ServerEvent

#: Events that follow sooner are counted, and written as one line.
EVERY_S = 1.0


class EventLog:
    """Write events as text or as JSON lines. The first event is written at once; events within the
    following EVERY_S are counted by kind and written as one line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._held: Counter[tuple[str, str]] = Counter()
        self._last: ServerEvent | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, event: ServerEvent) -> None:
        """Write an event: a refused client, or a problem of the server."""
        if self._timer is not None:
            self._held[_kind(event)] += 1
            self._last = event
            return
        self._write(event, 1)
        self._wait()

    def close(self) -> None:
        """Write the line about the counted events."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write_held()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._held:
            self._write_held()
            self._wait()

    def _write_held(self) -> None:
        count, last = self._held.total(), self._last
        if last is None or not count:
            return
        if count > 1:
            kinds = len(self._held)
            more = f" (and {count - 1} more events in this second" + (
                f" of {kinds} kinds)" if kinds > 1 else " like it)"
            )
            last = msgspec.structs.replace(last, message=last.message + more)
        self._write(last, count)
        self._held.clear()

    def _write(self, event: ServerEvent, events: int) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._as_json:
            facts = {"time": now, "level": "warning", "events": events}
            line = msgspec.json.encode(facts | msgspec.structs.asdict(event)).decode()
        else:
            test = f" [test {event.test}]" if event.test else ""
            line = f"netmeasure: {now} warning: {event.message}{test}"
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _kind(event: ServerEvent) -> tuple[str, str]:
    """Return the kind of an event for counting: its reason, and its message without the peer."""
    message = event.message if event.peer is None else event.message.replace(event.peer, "", 1)
    return event.reason, message
