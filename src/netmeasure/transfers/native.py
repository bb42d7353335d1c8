"""Run native loops on the sockets of transfers by URL, and add up what they count."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Group, Stream, Tally
from netmeasure.clock import now_ns
from netmeasure.engine import tcpinfo
from netmeasure.engine.payload import random_bytes
from netmeasure.engine.threads import TrafficThread
from netmeasure.result import TcpInfo
from netmeasure.transfers.first_byte import FirstByte
from netmeasure.transfers.plan import TransferPlan
from netmeasure.workloads.tcp import RECEIVE_BYTES

#: The most samples of TCP_INFO of a stream, over all its transfers.
MAX_SAMPLES = 256


class Leading(NamedTuple):
    """Describe the first bytes of a body, which a library read before the native loop began."""

    bytes: int = 0
    at_ns: int = 0


NOTHING_LEADING = Leading()


class Chunk(NamedTuple):
    """Hold a block to send repeatedly: `data_bytes` of it count, the rest is framing."""

    block: bytes
    data_bytes: int


class _Running(NamedTuple):
    """Hold the running native loop, and the groups that end it."""

    loop: Stream
    group: Group
    sock: socket.socket


class NativeLoops:
    """Run the native loops of one stream, one at a time. The tally adds up the ended loops, and the
    bytes that a library transferred between them."""

    def __init__(self, thread_name: str, plan: TransferPlan, first_byte: FirstByte) -> None:
        self.tally = Tally(Group(), -1, width_ns=plan.bucket_ns)
        #: body bytes transferred by native loops; the tally also has those of a library
        self.moved_bytes = 0
        self.samples: list[tuple[int, bytes]] = []
        self._thread_name = thread_name
        self._plan = plan
        self._first_byte = first_byte
        self._running: _Running | None = None
        self._stopped = False

    # ---- counts ----------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Return whether a loop is running that `stop` ends gracefully."""
        return self._running is not None

    def _loops(self) -> Sequence[Stream]:
        return (self.tally, self._running.loop) if self._running else (self.tally,)

    @property
    def received_bytes(self) -> int:
        return sum(loop.bytes for loop in self._loops())

    @property
    def acked_bytes(self) -> int:
        return sum(loop.acked_bytes for loop in self._loops())

    def counted_until(self, moment_ns: int) -> int:
        return sum(loop.counted_until(moment_ns) for loop in self._loops())

    @property
    def first_ns(self) -> int | None:
        """Return when the stream's first byte was counted."""
        if self.tally.first_ns is not None:
            return self.tally.first_ns
        return self._running.loop.series()[0] if self._running else None

    @property
    def last_ns(self) -> int | None:
        """Return when the stream's last bytes were counted."""
        running = self._running.loop.last_ns if self._running else None
        return running if running is not None else self.tally.last_ns

    def series(self) -> list[tuple[int | None, int, list[int]]]:
        """Return the series of the loops that have ended, and of the running one."""
        return [loop.series() for loop in self._loops()]

    def tcp_info(self, origin_ns: int) -> TcpInfo | None:
        """Return the kernel's present TCP_INFO; None: no loop is running."""
        if self._running is None:
            return None
        return tcpinfo.decode([(now_ns(), tcpinfo.read(self._running.sock))], origin_ns)

    # ---- moving bytes ----------------------------------------------------------------------------

    async def receive(
        self, sock: socket.socket, limit: int | None, leading: Leading = NOTHING_LEADING
    ) -> Stream:
        """Receive the rest of a plain body on a blocking socket, and return the ended loop.

        `limit`: the number of bytes to receive, leading ones included; None: receive until the end
        of the connection.
        """
        group = Group()
        loop = Receiver(
            group,
            sock.fileno(),
            buffer_bytes=RECEIVE_BYTES,
            discard=self._plan.receive_mode == "discard",
            limit_bytes=limit or 0,
            leading_bytes=leading.bytes,
            leading_ns=leading.at_ns,
            width_ns=self._plan.bucket_ns,
        )
        return await self._run(_Running(loop, group, sock))

    async def send(self, sock: socket.socket, limit: int | None, *, half_close: bool) -> Stream:
        """Send `limit` random bytes, or until stopped, and return the ended loop."""
        payload = random_bytes(self._plan.block_bytes)
        with self._sender(sock, Group(limit or 0), payload, half_close=half_close) as running:
            return await self._run(running)

    async def send_chunks(self, sock: socket.socket, chunk: Chunk) -> Stream:
        """Send a chunk repeatedly until stopped, and return the ended loop."""
        with self._sender(sock, Group(), chunk.block, half_close=False) as running:
            return await self._run(running, chunk.data_bytes, len(chunk.block))

    @contextmanager
    def _sender(
        self, sock: socket.socket, group: Group, payload: bytes, *, half_close: bool
    ) -> Iterator[_Running]:
        """Make a sender, and for the mode sendfile the file to read from."""
        source_fd = -1
        if self._plan.send_mode == "sendfile":
            source_fd = os.memfd_create("netmeasure-payload", os.MFD_CLOEXEC)
        try:
            if source_fd >= 0:
                os.write(source_fd, payload)
            loop = Sender(
                group,
                sock.fileno(),
                payload=b"" if source_fd >= 0 else payload,
                block_bytes=len(payload),
                source_fd=source_fd,
                half_close=half_close,
                drain_ns=self._plan.drain_ns,
                width_ns=self._plan.bucket_ns,
            )
            group.open()
            yield _Running(loop, group, sock)
        finally:
            if source_fd >= 0:
                os.close(source_fd)

    async def _run(self, running: _Running, data_bytes: int = 1, block_bytes: int = 1) -> Stream:
        """Run a loop to its end; of each `block_bytes` that it transfers, `data_bytes` are
        counted."""
        loop = running.loop
        thread = TrafficThread(loop, self._thread_name)
        self._running = running
        if self._stopped:
            running.group.stop()
        thread.start()
        try:
            await thread.done.wait()
        except BaseException:
            self.abort()
            raise
        finally:
            await thread.join()
            self._running = None
            before = self.tally.bytes
            self.tally.absorb(loop, data_bytes, block_bytes)
            self.moved_bytes += self.tally.bytes - before
            self._first_byte.counted_by_loop(loop)
            self._keep(loop.samples())
        return loop

    def _keep(self, samples: Sequence[tuple[int, bytes]]) -> None:
        self.samples += samples
        while len(self.samples) > MAX_SAMPLES:
            self.samples = self.samples[::2]

    def stop(self) -> None:
        """End the running loop gracefully, and each later one as it starts."""
        self._stopped = True
        if self._running is not None:
            self._running.group.stop()

    def abort(self) -> None:
        """Make the thread end now, even if it is blocked in a system call."""
        if self._running is not None:
            self._running.group.abort()
            with suppress(OSError):  # no longer connected, so no call on the socket blocks
                self._running.sock.shutdown(socket.SHUT_RDWR)
