"""Keep the events of a run for all its followers, each of which reads at its own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from netmeasure.result.events import EndEvent, Event, WarningEvent

#: The number of events that are kept for slow followers. A follower further behind is told how many
#: events it missed.
MOST_KEPT = 4096


class EventLog:
    """Keep the latest events. Adding one never waits, however slowly others read."""

    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=MOST_KEPT)
        self._count = 0
        self._over = False
        self._readers: set[asyncio.Event] = set()

    def add(self, event: Event) -> None:
        """Add an event and wake the followers that wait for one."""
        self._kept.append(event)
        self._count += 1
        self._wake()

    def close(self) -> None:
        """Let all followers end once they have read every event."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.set()

    async def follow(self) -> AsyncIterator[Event]:
        """Yield every event from the first one on, until the log is closed."""
        reader, read = asyncio.Event(), 0
        self._readers.add(reader)
        try:
            while True:
                oldest = self._count - len(self._kept)
                if read < oldest:
                    message = f"{oldest - read} events were skipped: they were read too slowly"
                    yield WarningEvent(at_ns=self._kept[0].at_ns, message=message)
                    read = max(read, self._count - len(self._kept))
                while read < self._count and read >= self._count - len(self._kept):
                    event = self._kept[read - self._count]
                    read += 1
                    yield event
                    if isinstance(event, EndEvent):
                        return
                if read >= self._count:
                    if self._over:
                        return
                    reader.clear()
                    await reader.wait()
        finally:
            self._readers.discard(reader)
