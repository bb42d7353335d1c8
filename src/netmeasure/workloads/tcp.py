"""The data streams of one TCP test at one end, sending or receiving, client or server."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Group
from netmeasure.analysis.series import curve
from netmeasure.clock import MILLISECOND_NS, SECOND_NS
from netmeasure.engine import sockets, tcpinfo
from netmeasure.engine.threads import TrafficThread
from netmeasure.errors import StreamError
from netmeasure.result import Role, Series, SocketFacts, StreamReport
from netmeasure.spec import ReceiveMode, SendMode

FINE_BUCKET_NS = MILLISECOND_NS
BUCKET_NS = 10 * MILLISECOND_NS
#: Up to this length a run is kept in fine buckets, so that it still has enough of them.
FINE_UP_TO_NS = 5 * SECOND_NS


class TcpPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What this end does with its streams; both ends derive theirs from the same parameters.

    duration_ns       senders stop this long after the start, omit included; 0: something else ends
    send_budget       bytes that all senders together send after omit_ns; 0: no limit
    receive_budget    bytes after which receivers leave; 0: they wait for the end of the stream
    half_close        senders end with FIN; both ends are netmeasure, so the far one waits for it
    """

    block_bytes: int
    send_mode: SendMode = "copy"
    receive_mode: ReceiveMode = "copy"
    duration_ns: int = 0
    omit_ns: int = 0
    send_budget: int = 0
    receive_budget: int = 0
    target_bps: int | None = None
    half_close: bool = True
    drain_ns: int = 10 * SECOND_NS
    congestion: str | None = None
    no_delay: bool = False
    window_bytes: int | None = None
    tos: int | None = None
    give_up_s: float = 30.0

    @property
    def bucket_ns(self) -> int:
        known = 0 < self.duration_ns <= FINE_UP_TO_NS
        return FINE_BUCKET_NS if known or not self.duration_ns else BUCKET_NS


class _DataStream:
    """One data connection: its socket, its native loop, its thread."""

    def __init__(
        self,
        stream_id: int,
        role: Role,
        sock: socket.socket,
        loop: Sender | Receiver,
        syn_retransmits: int | None,
    ) -> None:
        self.id = stream_id
        self.role = role
        self.sock = sock
        self.loop = loop
        self.syn_retransmits = syn_retransmits
        self.thread = TrafficThread(loop, f"netmeasure-{role}-{stream_id}")
        self.facts = _facts(sock)

    @property
    def counted_bytes(self) -> int:
        """Bytes known to have arrived, so far."""
        return self.loop.acked_bytes if self.role == "sender" else self.loop.bytes

    @property
    def error(self) -> str | None:
        return os.strerror(self.loop.errno) if self.loop.errno else None


class TcpWorkload:
    """Owns the data sockets it is given. Verbs in their order: add, begin, start, then one of
    stop or abort, join, report, close."""

    def __init__(self, plan: TcpPlan) -> None:
        self.plan = plan
        self.origin_ns: int | None = None
        self._streams: list[_DataStream] = []
        self._senders = Group(plan.send_budget)
        self._receivers = Group(plan.receive_budget)
        self._source_fd = -1

    # ---- set-up -------------------------------------------------------------------------------

    def add(
        self, stream_id: int, role: Role, sock: socket.socket, syn_retransmits: int | None
    ) -> None:
        """Take over a connected socket, in any order of streams. SocketOptionError if an option
        can't be had; the socket is closed in that case."""
        try:
            self._configure(sock, role)
            loop = self._sender(sock) if role == "sender" else self._receiver(sock)
            stream = _DataStream(stream_id, role, sock, loop, syn_retransmits)
        except OSError as exc:
            sock.close()
            raise StreamError(
                f"stream {stream_id} failed before any data: {exc.strerror}", phase="connect"
            ) from None
        except BaseException:
            sock.close()
            raise
        self._streams.append(stream)

    def _configure(self, sock: socket.socket, role: Role) -> None:
        plan = self.plan
        sock.setblocking(True)  # the native loops block, with time-outs
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, plan.no_delay)
        sockets.watch_peer(sock, plan.give_up_s)
        if plan.window_bytes is not None:
            sockets.set_window(sock, plan.window_bytes)
        if plan.congestion is not None:
            sockets.set_congestion(sock, plan.congestion)
        if plan.tos:
            sockets.set_tos(sock, plan.tos)
        if role == "sender" and plan.target_bps is not None:
            sockets.set_pacing(sock, plan.target_bps)

    def _sender(self, sock: socket.socket) -> Sender:
        plan = self.plan
        copy = plan.send_mode == "copy"
        if not copy and self._source_fd < 0:
            self._source_fd = os.memfd_create("netmeasure-payload", os.MFD_CLOEXEC)
            os.write(self._source_fd, os.urandom(plan.block_bytes))
        return Sender(
            self._senders,
            sock.fileno(),
            payload=os.urandom(plan.block_bytes) if copy else b"",
            block_bytes=plan.block_bytes,
            source_fd=-1 if copy else self._source_fd,
            duration_ns=plan.duration_ns,
            omit_ns=plan.omit_ns,
            half_close=plan.half_close,
            drain_ns=plan.drain_ns,
            width_ns=plan.bucket_ns,
        )

    def _receiver(self, sock: socket.socket) -> Receiver:
        return Receiver(
            self._receivers,
            sock.fileno(),
            buffer_bytes=self.plan.block_bytes,
            discard=self.plan.receive_mode == "discard",
            omit_ns=self.plan.omit_ns,
            width_ns=self.plan.bucket_ns,
        )

    def begin(self) -> None:
        """All streams are there: from now on data can come. Senders wait for `start`."""
        for stream in self._streams:
            stream.thread.start()

    def start(self) -> None:
        """Let the senders go, all at once. This moment is the side's origin."""
        self.origin_ns = self._senders.open()

    # ---- the run ------------------------------------------------------------------------------

    @property
    def first_ns(self) -> int | None:
        """When the first bytes were received, or sent where this end only sends."""
        roles: tuple[Role, ...] = ("receiver", "sender")
        for role in roles:
            moments = [s.loop.first_ns for s in self._streams if s.role == role]
            known = [moment for moment in moments if moment is not None]
            if moments:
                return min(known, default=None)
        return None

    @property
    def last_ns(self) -> int | None:
        """When the last bytes were counted, on any stream."""
        known = [s.loop.last_ns for s in self._streams if s.loop.last_ns is not None]
        return max(known, default=None)

    def moved_bytes(self) -> int:
        """Everything counted so far, in either direction: it grows as long as data flow."""
        return sum(stream.counted_bytes for stream in self._streams)

    def received(self, stream_id: int) -> int:
        return next(s.loop.bytes for s in self._streams if s.id == stream_id)

    def ids(self, role: Role) -> tuple[int, ...]:
        return tuple(stream.id for stream in self._streams if stream.role == role)

    def counts(self, role: Role, until_ns: int) -> tuple[int, ...]:
        """Bytes that each stream of a role had counted at a moment (CLOCK_MONOTONIC), read from
        the series: so an interval's end does not depend on when somebody looks."""
        return tuple(
            stream.loop.counted_until(until_ns) for stream in self._streams if stream.role == role
        )

    def retransmits(self) -> int | None:
        """Segments sent again so far on the streams that this end sends on."""
        senders = [stream for stream in self._streams if stream.role == "sender"]
        known = [tcpinfo.field(tcpinfo.read(stream.sock), "total_retrans") for stream in senders]
        numbers = [number for number in known if number is not None]
        if not numbers or len(numbers) < len(known):
            return None
        return sum(numbers) - sum(stream.syn_retransmits or 0 for stream in senders)

    def failed(self) -> StreamError | None:
        """The first stream that an error ended."""
        for stream in self._streams:
            if stream.loop.reason == "error":
                verb = "sending" if stream.role == "sender" else "receiving"
                return StreamError(
                    f"{verb} on stream {stream.id} ({stream.facts.remote}) failed: {stream.error}",
                    phase="data",
                )
        return None

    # ---- the end ------------------------------------------------------------------------------

    def stop_senders(self) -> None:
        """Senders finish their call, say FIN if planned, and wait for the acknowledgements."""
        self._senders.stop()

    def finish_senders(self) -> None:
        """Say FIN on the streams that have been sent on. Where both ends are netmeasure the senders
        did so themselves; a plain iperf3 client that has said TEST_END reads until it comes."""
        for stream in self._streams:
            if stream.role == "sender":
                with suppress(OSError):
                    stream.sock.shutdown(socket.SHUT_WR)

    def stop_receivers(self) -> None:
        """Receivers take what has already arrived, and end."""
        self._receivers.stop()

    def abort(self) -> None:
        """Make every thread leave now, also one that is blocked in a system call."""
        self._senders.abort()
        self._receivers.abort()
        for stream in self._streams:
            with suppress(OSError):  # not connected any more: then nothing blocks on it
                stream.sock.shutdown(socket.SHUT_RDWR)

    async def join(self, role: Role | None = None) -> None:
        """Wait until the threads (of one role) have ended; they were told to, or end by plan."""
        for stream in self._streams:
            if role is None or stream.role == role:
                await stream.thread.join()

    async def first_error(self) -> StreamError:
        """Wait for a stream to fail; for ever if none does."""
        pending = {asyncio.create_task(s.thread.done.wait()) for s in self._streams}
        try:
            while pending:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if error := self.failed():
                    return error
        finally:
            for task in pending:
                task.cancel()
        return await asyncio.Future()

    def report(self) -> tuple[StreamReport, ...]:
        """What this end saw. Call after join."""
        origin = self.origin_ns
        if origin is None:
            return ()
        windows = {role: self._window(role, origin) for role in ("sender", "receiver")}
        return tuple(
            _report(stream, origin, self.plan, windows[stream.role])
            for stream in sorted(self._streams, key=lambda stream: stream.id)
        )

    def _window(self, role: Role, origin_ns: int) -> tuple[int, int] | None:
        """The stretch that counts, common to all streams of a role so that their sums are sums:
        from the first byte plus the omitted time to the last byte."""
        moments = [
            (stream.loop.series()[0], stream.loop.last_ns)
            for stream in self._streams
            if stream.role == role
        ]
        starts = [start for start, _ in moments if start is not None]
        ends = [end for _, end in moments if end is not None]
        if not starts or not ends:
            return None
        start = min(starts) + self.plan.omit_ns
        return start - origin_ns, max(start, *ends) - origin_ns

    def close(self) -> None:
        """Close the sockets. Only after join: a closed number could be somebody else's."""
        for stream in self._streams:
            stream.sock.close()
        if self._source_fd >= 0:
            os.close(self._source_fd)
            self._source_fd = -1


def _facts(sock: socket.socket) -> SocketFacts:
    congestion = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    pacing = int.from_bytes(
        sock.getsockopt(socket.SOL_SOCKET, sockets.SO_MAX_PACING_RATE, 8), "little"
    )
    return SocketFacts(
        local=sockets.address_text(sock.getsockname()),
        remote=sockets.address_text(sock.getpeername()),
        congestion=congestion.split(b"\0")[0].decode(),
        mss_bytes=sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
        sndbuf_bytes=sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        rcvbuf_bytes=sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        no_delay=bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
        pacing_bps=None if pacing in (2**32 - 1, 2**64 - 1) else pacing * 8,
    )


def _report(
    stream: _DataStream, origin_ns: int, plan: TcpPlan, window: tuple[int, int] | None
) -> StreamReport:
    loop = stream.loop
    series_origin, width, counts = loop.series()
    series = None
    counted = None
    if series_origin is not None:
        series = Series(origin_ns=series_origin - origin_ns, width_ns=width, bytes=tuple(counts))
        if window is not None:
            last = None if loop.last_ns is None else loop.last_ns - origin_ns
            counted = curve(series, last).between(*window)
    sender = stream.role == "sender"
    info = tcpinfo.decode(loop.samples(), origin_ns)
    retransmits = info.retransmits[-1] if sender and info and info.retransmits else None
    if retransmits is not None and stream.syn_retransmits:
        retransmits -= stream.syn_retransmits  # the kernel counts SYNs in the same field
    user_ns, system_ns = loop.cpu_ns
    return StreamReport(
        id=stream.id,
        role=stream.role,
        bytes=loop.bytes,
        acked_bytes=loop.acked_bytes if sender else None,
        counted_bytes=counted,
        counted_from_ns=window[0] if window else None,
        counted_to_ns=window[1] if window else None,
        first_ns=_relative(loop.first_ns, origin_ns),
        last_ns=_relative(loop.last_ns, origin_ns),
        retransmits=retransmits,
        syn_retransmits=stream.syn_retransmits,
        mode=plan.send_mode if sender else plan.receive_mode,
        block_bytes=plan.block_bytes,
        end_reason=loop.reason,
        error=stream.error,
        cpu_user_ns=user_ns,
        cpu_system_ns=system_ns,
        series=series,
        tcp_info=info,
        socket=stream.facts,
    )


def _relative(moment_ns: int | None, origin_ns: int) -> int | None:
    return None if moment_ns is None else moment_ns - origin_ns


def sum_cpu(streams: Iterable[StreamReport]) -> tuple[int, int]:
    """(user, system) CPU time of the traffic threads, in ns."""
    known: Sequence[StreamReport] = [s for s in streams if s.cpu_user_ns is not None]
    return sum(s.cpu_user_ns or 0 for s in known), sum(s.cpu_system_ns or 0 for s in known)
