"""Write a server's events to standard error: one line each, and at most one line a second."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime

import msgspec

#: Lines that come sooner after the last one are counted, and told together.
EVERY_S = 1.0


class EventLog:
    """Write events as text or as JSON lines. The first one is written at once; what follows within
    EVERY_S is counted by its kind and written as one line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._held: Counter[str] = Counter()
        self._last = ""
        self._timer: asyncio.TimerHandle | None = None

    def refused(self, sentence: str) -> None:
        """Write that a client was refused, or that the server has trouble."""
        if self._timer is not None:
            self._held[_kind(sentence)] += 1
            self._last = sentence
            return
        self._write(sentence, 1)
        self._wait()

    def close(self) -> None:
        """Write what was counted."""
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
        count = self._held.total()
        if count > 1:
            kinds = len(self._held)
            more = f" (and {count - 1} more events in this second" + (
                f" of {kinds} kinds)" if kinds > 1 else " like it)"
            )
            self._write(self._last + more, count)
        elif count:
            self._write(self._last, 1)
        self._held.clear()

    def _write(self, sentence: str, events: int) -> None:
        if self._as_json:
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            line = msgspec.json.encode(
                {"time": now, "level": "warning", "events": events, "message": sentence}
            ).decode()
        else:
            line = f"netmeasure: {sentence}"
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _kind(sentence: str) -> str:
    """Return a sentence without the client's address, by which events are counted."""
    _, found, rest = sentence.partition(": ")
    return rest if found else sentence
