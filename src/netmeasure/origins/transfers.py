"""Move bodies between the native loops and a socket: counted, watched, and ended at shutdown.

No byte of such a body passes through Python. The socket may be a duplicate of one that an asyncio
transport owns: O_NONBLOCK belongs to the open file, which both share, so it is put back before the
transport may read or write again.
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
from netmeasure.errors import BusyOriginError
from netmeasure.origins.content import Content
from netmeasure.spec import OriginLimits

#: A transfer that moves nothing is looked at so many times before it is given up.
_LOOKS = 4
#: The series of these streams are not read: the least number of buckets.
_BUCKETS = 2

End = Literal["complete", "stalled", "failed"]


class Transfers:
    """Keep the transfers of one server. All of them end when their tasks are cancelled."""

    def __init__(self, limits: OriginLimits) -> None:
        self._limits = limits
        self._running = 0
        self.content = Content()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a place for one transfer. Raises BusyOriginError when there are too many."""
        if self._running >= self._limits.max_transfers:
            raise BusyOriginError(f"{self._running} transfers are going on")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def send(self, sock: socket.socket, offset: int, length: int, *, close: bool) -> End:
        """Send that part of the content. With `close` the end of the data is marked by a FIN, and
        waited for until the peer has it all."""
        if length == 0:  # a budget of 0 would be none at all
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
            # longer than the stall deadline, which ends it first
            drain_ns=round(2 * self._limits.stall_s * SECOND_NS) if close else 0,
            buckets=_BUCKETS,
        )
        end = await self._run(group, sender, sock)
        return "failed" if end == "complete" and sender.bytes != length else end

    async def receive(self, sock: socket.socket, limit_bytes: int = 0) -> tuple[End, int]:
        """Read to the end of the stream, or exactly so many bytes, and throw them away; how many
        that were."""
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
            except RuntimeError:  # as many threads as the system allows
                return "failed"
            group.open()
            ended = await self._watch(thread, loop)
        finally:
            if not ended:
                group.abort()
                with suppress(OSError):  # not connected any more: then nothing blocks on it
                    sock.shutdown(socket.SHUT_RDWR)
            await uninterrupted(thread.join())
            with suppress(OSError):
                sock.setblocking(False)
        if not ended:
            return "stalled"
        return "failed" if loop.reason == "error" else "complete"

    async def _watch(self, thread: TrafficThread, loop: Stream) -> bool:
        """Wait for the end; False when nothing has moved for the stall deadline."""
        moved, quiet = -1, 0
        while quiet < _LOOKS:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.stall_s / _LOOKS):
                    await thread.done.wait()
                return True
            now = loop.bytes + loop.acked_bytes
            quiet = quiet + 1 if now == moved else 0
            moved = now
        return False
