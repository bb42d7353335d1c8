"""Serve small files by HTTP from a native thread, which hands connections over at their first other
request.

The native loop answers only requests that aiohttp would surely answer with a small file, and in the
same words. It only peeks at a request before it knows. A connection that is handed over has all its
bytes unread, so that aiohttp begins with them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from aiohttp.http import SERVER_SOFTWARE

from netmeasure._fast.small_files import SmallFiles
from netmeasure.clock import SECOND_NS
from netmeasure.engine.threads import TrafficThread
from netmeasure.errors import HostLimitError
from netmeasure.origins.content import Content
from netmeasure.spec import OriginLimits

#: The fields of each response with a file, in aiohttp's order.
FILE_FIELDS = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}


def _head() -> tuple[bytes, bytes, bytes]:
    """Return a response's head as aiohttp writes it, around the length and the date."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in FILE_FIELDS.items())
    before = f"HTTP/1.1 200 OK\r\n{fields}Content-Length: "
    return before.encode(), b"\r\nDate: ", f"\r\nServer: {SERVER_SOFTWARE}\r\n\r\n".encode()


class SmallFileServer:
    """Serve connections by one native thread, which starts with the first of them.

    Args:
        content: The content of the files.
        largest: The size of the largest file that is served here.
        limits: How long to wait for clients.
        hand_over: Takes a connection that is not served here any more.
    """

    def __init__(
        self,
        content: Content,
        largest: int,
        limits: OriginLimits,
        hand_over: Callable[[socket.socket], None],
    ) -> None:
        self._content = content
        self._largest = largest
        self._limits = limits
        self._hand_over = hand_over
        self._files: SmallFiles | None = None
        self._thread: TrafficThread | None = None

    @property
    def connections(self) -> int:
        """The number of connections that are served here or wait to be handed over."""
        return 0 if self._files is None else self._files.connections

    @property
    def answered(self) -> int:
        """The number of responses."""
        return 0 if self._files is None else self._files.answered

    def take(self, sock: socket.socket) -> bool:
        """Serve a connection, whose socket is detached. Return False if there is no thread or
        memory for that."""
        try:
            if self._files is None:
                self._start()
            assert self._files is not None
            self._files.add(sock.fileno())
        except (OSError, HostLimitError):
            return False
        sock.detach()
        return True

    def _start(self) -> None:
        files = SmallFiles(
            bytes(self._content.view(0, self._largest)),
            most=self._largest,
            head=_head(),
            idle_ns=round(self._limits.idle_s * SECOND_NS),
            stall_ns=round(self._limits.stall_s * SECOND_NS),
        )
        thread = TrafficThread(files, "netmeasure-files")
        try:
            thread.start()
        except HostLimitError:
            files.close()
            raise
        asyncio.get_running_loop().add_reader(files.fileno(), self._take_back)
        self._files, self._thread = files, thread

    def _take_back(self) -> None:
        assert self._files is not None
        for fd in self._files.handed_over():
            self._hand_over(socket.socket(fileno=fd))

    async def close(self) -> None:
        """Close all connections, and join the thread."""
        if self._files is None or self._thread is None:
            return
        asyncio.get_running_loop().remove_reader(self._files.fileno())
        self._files.stop()
        await self._thread.join()
        self._files.close()
        self._files = self._thread = None
