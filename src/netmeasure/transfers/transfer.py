"""Move and count the bodies of transfers by URL: a stream moves one after the other, in one series.

Plain bodies go through the native loops of the TCP tests, all others through a library that tells
how many bytes came; the counts, the series and the report are the same.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec

from netmeasure import analysis
from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Group, Stream, Tally
from netmeasure.clock import now_ns
from netmeasure.engine import sockets, sockopts, tcpinfo
from netmeasure.engine.payload import random_bytes
from netmeasure.engine.threads import TrafficThread
from netmeasure.engine.watch import Watched, arrival, stretches
from netmeasure.errors import StreamError
from netmeasure.result import (
    Role,
    SocketFacts,
    Spread,
    StreamInterval,
    StreamReport,
    TcpInfo,
    Transfer,
)
from netmeasure.spec import ReceiveMode, SendMode
from netmeasure.workloads.base import (
    BUCKET_NS,
    FINE_BUCKET_NS,
    FINE_UP_TO_NS,
    relative,
    stream_report,
    stretch,
)
from netmeasure.workloads.tcp import RECEIVE_BYTES

#: Samples of TCP_INFO that are kept of a stream, over all its transfers.
MAX_SAMPLES = 256


class TransferPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what all streams of a run share. `span_ns`: how long it is to last, 0 where bytes
    decide."""

    span_ns: int = 0
    omit_ns: int = 0
    receive_mode: ReceiveMode = "copy"
    send_mode: SendMode = "copy"
    block_bytes: int = 512 * 1024
    drain_ns: int = 10_000_000_000

    @property
    def bucket_ns(self) -> int:
        return BUCKET_NS if self.span_ns > FINE_UP_TO_NS else FINE_BUCKET_NS


class TransferStream:
    """Move the bodies of one stream: one native loop at a time, and a tally of those that have
    ended."""

    def __init__(self, stream_id: int, role: Role, plan: TransferPlan) -> None:
        self.id = stream_id
        self.role: Role = role
        self.plan = plan
        self.loop = Tally(Group(), -1, width_ns=plan.bucket_ns)
        self.syn_retransmits: int | None = None
        self.facts: SocketFacts | None = None
        self.transfer: Transfer | None = None
        #: from the first step of each complete transfer to its first body byte
        self.set_ups_ns: list[int] = []
        #: the run is over for this stream: what is under way stops in good order
        self.stopped = asyncio.Event()
        #: between the head of a body and its end: bytes are expected to move
        self.in_body = False
        self.native_bytes = 0
        self.library_bytes = 0
        self._samples: list[tuple[int, bytes]] = []
        self._running: tuple[Stream, Group, socket.socket] | None = None
        self._first_of_transfer_ns: int | None = None
        self._arrived_of_transfer_ns: int | None = None
        self._expected: tuple[Watched | None, int] = (None, 0)

    @property
    def stopping(self) -> bool:
        return self.stopped.is_set()

    @property
    def remote(self) -> str:
        return (self.facts.remote if self.facts else None) or "the server"

    @property
    def error(self) -> str | None:
        return os.strerror(self.loop.errno) if self.loop.errno else None

    @property
    def moved_bytes(self) -> int:
        """Return the bytes received, or acknowledged where this stream sends."""
        current = self._running[0] if self._running else None
        if self.role == "sender":
            return self.loop.acked_bytes + (current.acked_bytes if current else 0)
        return self.loop.bytes + (current.bytes if current else 0)

    def counted_until(self, moment_ns: int) -> int:
        current = self._running[0] if self._running else None
        running = current.counted_until(moment_ns) if current else 0
        return self.loop.counted_until(moment_ns) + running

    @property
    def first_ns(self) -> int | None:
        if self.loop.first_ns is not None:
            return self.loop.first_ns
        return self._running[0].series()[0] if self._running else None

    @property
    def last_ns(self) -> int | None:
        running = self._running[0].last_ns if self._running else None
        return running if running is not None else self.loop.last_ns

    def so_far(self, origin_ns: int) -> StreamReport:
        """Return what an analysis needs, while the transfer goes on."""
        parts, info = [self.loop.series()], None
        if self._running is not None:
            loop, _, sock = self._running
            parts.append(loop.series())
            info = tcpinfo.decode([(now_ns(), tcpinfo.read(sock))], origin_ns)
        known = [one for part in parts if (one := relative(part, origin_ns)) is not None]
        return StreamReport(
            id=self.id, role=self.role, series=analysis.series.total(known), tcp_info=info
        )

    def count(self, count: int) -> None:
        """Count bytes that a library has just received, or sent and flushed."""
        self.library_bytes += count
        self._add(count)

    async def count_read(self, read: Callable[[], Awaitable[bytes]], limit: int | None) -> None:
        """Count what a library reads, to its end (an empty read), or up to `limit` bytes."""
        left = limit
        while left != 0 and (piece := await read()):
            count = len(piece) if left is None else min(left, len(piece))
            self.count(count)
            left = None if left is None else left - count

    def count_rest(self, count: int) -> None:
        """Count the last bytes of a native transfer, completed by a library."""
        self.native_bytes += count
        self._add(count)

    def _add(self, count: int) -> None:
        if count:
            moment = now_ns()
            self.loop.add(count, moment)
            if self._first_of_transfer_ns is None:
                self._first_of_transfer_ns = moment
                self._arrived_of_transfer_ns = self._arrived(moment)

    def expect(self, watched: Watched | None, since_ns: int) -> None:
        """Note that the first byte of the transfer under way comes later than `since_ns`, on a
        socket that is watched until it is counted."""
        self._expected = (watched, since_ns)

    def _arrived(self, counted_ns: int) -> int:
        watched, since_ns = self._expected
        self._expected = (None, 0)
        if watched is None:
            return counted_ns
        seen = stretches(watched)
        watched.remove()
        return arrival(seen, since_ns, counted_ns)

    @property
    def arrived_of_transfer_ns(self) -> int | None:
        """Return when the first body byte of the transfer under way reached this host, or was
        acknowledged; None: not yet."""
        return self._arrived_of_transfer_ns

    @property
    def first_of_transfer_ns(self) -> int | None:
        """Return when the first body byte of the transfer under way was counted; None: not yet."""
        return self._first_of_transfer_ns

    def note_transfer(self, transfer: Transfer, tls: ssl.SSLObject | None) -> None:
        """Note what the transfer under way is; of TLS, what its connection has agreed on."""
        if tls is not None:
            cipher = tls.cipher()
            transfer = msgspec.structs.replace(
                transfer,
                tls=tls.version(),
                cipher=cipher[0] if cipher else None,
                tls_resumed=tls.session_reused,
            )
        self.transfer = transfer

    def final_status(self, status: int) -> None:
        if self.transfer is not None:
            self.transfer = msgspec.structs.replace(self.transfer, status=status)

    def completed(self, started_ns: int) -> None:
        """Note the end of a transfer whose first step was at `started_ns`."""
        first = self._first_of_transfer_ns or now_ns()  # a body may be empty
        self.set_ups_ns.append(first - started_ns)
        self.in_body = False
        self._first_of_transfer_ns = None

    def begin_transfer(self) -> None:
        """Forget the moments of the transfer before."""
        self._first_of_transfer_ns = self._arrived_of_transfer_ns = None

    async def receive(
        self, sock: socket.socket, *, limit: int | None, leading: int = 0, leading_ns: int = 0
    ) -> None:
        """Receive the rest of a plain body natively, on a blocking socket: up to `limit` bytes
        (leading ones included), else to the end of the stream. StreamError where it breaks."""
        group = Group()
        loop = Receiver(
            group,
            sock.fileno(),
            buffer_bytes=RECEIVE_BYTES,
            discard=self.plan.receive_mode == "discard",
            limit_bytes=limit or 0,
            leading_bytes=leading,
            leading_ns=leading_ns,
            width_ns=self.plan.bucket_ns,
        )
        ended = await self._run(loop, group, sock)
        if ended.reason == "error":
            raise StreamError(f"receiving from {self.remote} failed: {self.error}", phase="data")

    async def send(
        self,
        sock: socket.socket,
        *,
        limit: int | None,
        half_close: bool,
        block: bytes = b"",
        payload_bytes: int | None = None,
    ) -> Stream:
        """Send natively: `limit` bytes, or until stopped. `block` instead of random bytes: of that,
        `payload_bytes` count, and the rest is framing."""
        group = Group(limit or 0)
        size = len(block) or self.plan.block_bytes
        source_fd = -1
        payload = block or random_bytes(size)
        if self.plan.send_mode == "sendfile":
            source_fd = os.memfd_create("netmeasure-payload", os.MFD_CLOEXEC)
        try:
            if source_fd >= 0:
                os.write(source_fd, payload)
            loop = Sender(
                group,
                sock.fileno(),
                payload=b"" if source_fd >= 0 else payload,
                block_bytes=size,
                source_fd=source_fd,
                half_close=half_close,
                drain_ns=self.plan.drain_ns,
                width_ns=self.plan.bucket_ns,
            )
            group.open()
            return await self._run(loop, group, sock, payload_bytes or 1, size if block else 1)
        finally:
            if source_fd >= 0:
                os.close(source_fd)

    async def _run(
        self, loop: Stream, group: Group, sock: socket.socket, payload: int = 1, whole: int = 1
    ) -> Stream:
        thread = TrafficThread(loop, f"netmeasure-{self.role}-{self.id}")
        self._running = (loop, group, sock)
        if self.stopping:
            group.stop()
        thread.start()
        try:
            await thread.done.wait()
        except BaseException:
            self.abort_running()
            raise
        finally:
            await thread.join()
            self._running = None
            before = self.loop.bytes
            self.loop.absorb(loop, payload, whole)
            self.native_bytes += self.loop.bytes - before
            self._note_first(loop)
            self._keep(loop.samples())
        return loop

    def _note_first(self, loop: Stream) -> None:
        """Take over when a native loop's first byte came, if it is the transfer's first."""
        first_ns = loop.series()[0]
        if self._first_of_transfer_ns is None and first_ns is not None:
            arrived_ns = loop.arrived_ns if isinstance(loop, Receiver) else None
            self._first_of_transfer_ns = first_ns
            self._arrived_of_transfer_ns = min(arrived_ns or first_ns, first_ns)

    def _keep(self, samples: Sequence[tuple[int, bytes]]) -> None:
        self._samples += samples
        while len(self._samples) > MAX_SAMPLES:
            self._samples = self._samples[::2]

    def note_socket(self, sock: socket.socket, syn_retransmits: int | None) -> None:
        """Note what the socket of the body really got, while it is open."""
        remote = None
        with suppress(OSError):  # it has been reset already: the next step will say so
            remote = sockets.address_text(sock.getpeername())
        self.facts = SocketFacts(
            local=sockets.address_text(sock.getsockname()),
            remote=remote,
            congestion=sockopts.congestion(sock),
            mss_bytes=sockopts.known(sock, socket.IPPROTO_TCP, socket.TCP_MAXSEG),
            sndbuf_bytes=sockopts.known(sock, socket.SOL_SOCKET, socket.SO_SNDBUF),
            rcvbuf_bytes=sockopts.known(sock, socket.SOL_SOCKET, socket.SO_RCVBUF),
            no_delay=sockopts.no_delay(sock),
            pmtu_bytes=sockets.path_mtu(sock),
        )
        if syn_retransmits is not None:
            self.syn_retransmits = (self.syn_retransmits or 0) + syn_retransmits

    def stop(self) -> None:
        """End what is under way in good order."""
        self.stopped.set()
        if self._running is not None:
            self._running[1].stop()

    @property
    def draining(self) -> bool:
        """Return whether a native loop is running, which `stop` ends in good order."""
        return self._running is not None

    def abort_running(self) -> None:
        """Make the thread leave now, also one that is blocked in a system call."""
        if self._running is not None:
            _, group, sock = self._running
            group.abort()
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # not connected any more: then nothing blocks on it

    def report(self, origin_ns: int, window: tuple[int, int] | None) -> StreamReport:
        """Call when nothing is under way."""
        plain = stream_report(self, origin_ns, window)
        info = tcpinfo.decode(self._samples, origin_ns)
        sends = self.role == "sender"
        return msgspec.structs.replace(
            plain,
            acked_bytes=self.loop.acked_bytes if sends else None,
            retransmits=self._retransmits(info) if info and sends else None,
            mode=self.plan.send_mode if sends else self.plan.receive_mode,
            block_bytes=self.plan.block_bytes if sends else None,
            tcp_info=info,
            transfer=self._facts(),
            # Python's own time belongs to no traffic thread: no figure is better than half of one
            cpu_user_ns=None if self.library_bytes else plain.cpu_user_ns,
            cpu_system_ns=None if self.library_bytes else plain.cpu_system_ns,
            thread=None if self.library_bytes else plain.thread,
        )

    def _retransmits(self, info: TcpInfo) -> int | None:
        if not info.retransmits:
            return None
        return info.retransmits[-1] - (self.syn_retransmits or 0)

    def _facts(self) -> Transfer | None:
        if self.transfer is None:
            return None
        drained = "both" if self.native_bytes and self.library_bytes else None
        if drained is None and (self.native_bytes or self.library_bytes):
            drained = "native" if self.native_bytes else "library"
        return msgspec.structs.replace(
            self.transfer,
            drained_by=drained,
            native_bytes=self.native_bytes,
            transfers=len(self.set_ups_ns),
            set_up=Spread.of(self.set_ups_ns),
        )


class TransferWorkload:
    """Own all streams of a run by URL. `origin_ns`: when the first body was about to come or go."""

    def __init__(self, plan: TransferPlan, role: Role, streams: int) -> None:
        self.plan = plan
        self.role: Role = role
        self.streams = [TransferStream(1 + index, role, plan) for index in range(streams)]
        self.origin_ns: int | None = None

    @property
    def bucket_ns(self) -> int:
        return self.plan.bucket_ns

    def begin(self, stream: TransferStream) -> None:
        """Note that a body is about to come or go on a stream."""
        stream.in_body = True
        if self.origin_ns is None:
            self.origin_ns = now_ns()

    @property
    def first_ns(self) -> int | None:
        known = [s.first_ns for s in self.streams if s.first_ns is not None]
        return min(known, default=None)

    @property
    def last_ns(self) -> int | None:
        known = [s.last_ns for s in self.streams if s.last_ns is not None]
        return max(known, default=None)

    def moved_bytes(self) -> int:
        return sum(stream.moved_bytes for stream in self.streams)

    def ids(self, role: Role) -> tuple[int, ...]:
        return tuple(stream.id for stream in self.streams if stream.role == role)

    def levels(self, role: Role, until_ns: int) -> tuple[StreamInterval, ...]:
        """Return what each stream of a role had counted at a moment."""
        return tuple(
            StreamInterval(id=s.id, bytes=s.counted_until(until_ns))
            for s in self.streams
            if s.role == role
        )

    def so_far(self) -> tuple[StreamReport, ...]:
        return tuple(stream.so_far(self.origin_ns or 0) for stream in self.streams)

    def stop(self) -> None:
        for stream in self.streams:
            stream.stop()

    def report(self) -> tuple[StreamReport, ...]:
        """Return what this end saw. Call when nothing is under way."""
        if self.origin_ns is None:
            return ()
        found = stretch((stream.loop for stream in self.streams), self.plan.omit_ns)
        window = None
        if found is not None:
            start, end = found
            window = (start - self.origin_ns, end - self.origin_ns)
        return tuple(stream.report(self.origin_ns, window) for stream in self.streams)
