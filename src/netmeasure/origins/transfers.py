"""Send and receive the bodies of the embedded servers by native loops.

Such a body does not pass through Python. The socket may be a duplicate of one that an asyncio
transport owns. The two share O_NONBLOCK, so it is set again before the transport may read or write.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Group, Stream
from netmeasure.clock import SECOND_NS
from netmeasure.engine.tasks import uninterrupted
from netmeasure.engine.threads import TrafficThread
from netmeasure.errors import BusyOriginError, HostLimitError
from netmeasure.origins.content import Content
from netmeasure.spec import OriginLimits

#: A transfer has stalled if this many successive checks found no new bytes.
_LOOKS = 4
#: A slower transfer counts as stalled, since it blocks a slot.
MIN_BYTES_PER_S = 100
#: The least number of buckets, since the series of these streams is not used.
_BUCKETS = 2

End = Literal["complete", "stalled", "failed"]


class Transfers:
    """Run the transfers of one server. A transfer ends when its task is cancelled."""

    def __init__(self, limits: OriginLimits) -> None:
        self._limits = limits
        self._running = 0
        self.content = Content()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Count one transfer as running. Raises BusyOriginError if the limit is reached."""
        if self._running >= self._limits.max_transfers:
            raise BusyOriginError(f"{self._running} transfers are running, which is the limit")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def send(self, sock: socket.socket, offset: int, length: int, *, close: bool) -> End:
        """Send a part of the content. With `close`, send a FIN at its end, and wait until the peer
        has acknowledged everything."""
        if length == 0:  # for the native sender, 0 means no limit
            if close:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
            return "complete"
        group = Group(length)
        sender = Sender(
            group,
            sock.fileno(),
            payload=self.content.cycle(offset),
            half_close=close,
            # longer than the stall deadline, so that the latter decides
            drain_ns=round(2 * self._limits.stall_s * SECOND_NS) if close else 0,
            buckets=_BUCKETS,
        )
        end = await self._run(group, sender, sock)
        return "failed" if end == "complete" and sender.bytes != length else end

    async def receive(self, sock: socket.socket, limit_bytes: int = 0) -> tuple[End, int]:
        """Receive and discard bytes to the end of the stream, or exactly `limit_bytes`. Return how
        the transfer ended and the number of bytes."""
        group = Group()
        receiver = Receiver(group, sock.fileno(), limit_bytes=limit_bytes, buckets=_BUCKETS)
        end = await self._run(group, receiver, sock)
        if end == "complete" and limit_bytes and receiver.bytes != limit_bytes:
            end = "failed"
        return end, receiver.bytes

    async def _run(self, group: Group, loop: Stream, sock: socket.socket) -> End:
        thread = TrafficThread(loop, "netmeasure-origin")
        sock.setblocking(True)
        ended = False
        try:
            try:
                thread.start()
            except HostLimitError:  # the system allows no more threads
                return "failed"
            group.open()
            ended = await self._watch(thread, loop)
        finally:
            if not ended:
                group.abort()
                with suppress(OSError):  # already disconnected: then no thread blocks on it
                    sock.shutdown(socket.SHUT_RDWR)
            await uninterrupted(thread.join())
            with suppress(OSError):
                sock.setblocking(False)
        if not ended:
            return "stalled"
        return "failed" if loop.reason == "error" else "complete"

    async def _watch(self, thread: TrafficThread, loop: Stream) -> bool:
        """Wait for the end of a transfer. Return False if (almost) no bytes were transferred within
        the stall deadline."""
        moved, quiet = -1, 0
        least = max(1, round(MIN_BYTES_PER_S * self._limits.stall_s / _LOOKS))
        while quiet < _LOOKS:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.stall_s / _LOOKS):
                    await thread.done.wait()
                return True
            now = loop.bytes + loop.acked_bytes
            quiet = quiet + 1 if moved >= 0 and now - moved < least else 0
            moved = now
        return False
