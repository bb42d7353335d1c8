"""Define the base class of workloads: the data streams of one test at one end.

A subclass for each kind of test prepares the sockets, chooses the native loop and completes the
reports. Starting, stopping, counting and joining are the same for all kinds.
"""

from __future__ import annotations

import asyncio
import bisect
import errno
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import suppress

import msgspec

from netmeasure._fast.tcp import Receiver
from netmeasure._fast.worker import Group, Stream
from netmeasure.clock import MILLISECOND_NS, SECOND_NS, Quiet, now_ns
from netmeasure.engine import socket_facts
from netmeasure.engine.payload import random_bytes
from netmeasure.engine.sockets import host_limit
from netmeasure.engine.threads import TrafficThread, join_all, start_all
from netmeasure.errors import MeasureError, StreamError
from netmeasure.result import Role, SocketFacts, StreamInterval, StreamReport, TcpInfo
from netmeasure.workloads.stream_report import relative, stream_report, stretch

FINE_BUCKET_NS = MILLISECOND_NS
BUCKET_NS = 10 * MILLISECOND_NS
#: Runs of up to this length use fine buckets, so that even short runs have enough buckets.
FINE_UP_TO_NS = 5 * SECOND_NS
#: All streams of such a run have this many buckets together; more streams have wider ones.
MAX_FINE_BUCKETS = 100_000
SILENCE_POLL_S = 0.25
DIGITS = b"0123456789"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Describe what this end does with its streams. Both ends derive their plans from the same
    parameters.

    streams           data streams of the test, in both directions together
    duration_ns       senders stop this long after the start, omitted time included; 0: another
                      event ends them
    sender_window_ns  a sender counts for this long after the omitted time: a plain iperf3 client
                      reads for a while after the end of its time, until the data in flight have
                      arrived; 0: no limit
    pacing_bps        TCP: SO_MAX_PACING_RATE, whatever `target_bps` is
    repeating         send the digits 0 to 9 repeatedly instead of random bytes
    cpu               the CPU of the traffic threads; None: any
    send_budget       bytes that all senders together send after omit_ns; 0: no limit
    receive_budget    bytes after which receivers stop; 0: they wait for the end of the stream
    """

    streams: int = 1
    duration_ns: int = 0
    omit_ns: int = 0
    sender_window_ns: int = 0
    send_budget: int = 0
    receive_budget: int = 0
    target_bps: int | None = None
    drain_ns: int = 10 * SECOND_NS
    window_bytes: int | None = None
    pacing_bps: int | None = None
    tos: int | None = None
    repeating: bool = False
    cpu: int | None = None
    give_up_s: float = 30.0

    @property
    def bucket_ns(self) -> int:
        return bucket_ns(self.duration_ns, self.streams)

    def payload(self, size: int) -> bytes:
        """Return the block that a stream sends repeatedly."""
        return (DIGITS * (size // len(DIGITS) + 1))[:size] if self.repeating else random_bytes(size)


def bucket_ns(duration_ns: int, streams: int) -> int:
    """Return the width of the buckets of each stream's time series, by the planned duration (0: it
    is not known) and the number of streams."""
    if duration_ns > FINE_UP_TO_NS:
        return BUCKET_NS
    fine = -(-duration_ns * streams // (MAX_FINE_BUCKETS * FINE_BUCKET_NS))
    return min(BUCKET_NS, max(1, fine) * FINE_BUCKET_NS)


class DataStream(msgspec.Struct, frozen=True, eq=False):
    """Hold one data connection: its socket, its native loop, its thread."""

    id: int
    role: Role
    sock: socket.socket
    loop: Stream
    thread: TrafficThread
    facts: SocketFacts
    syn_retransmits: int | None

    @property
    def counted_bytes(self) -> int:
        """Return the number of bytes that are known to have arrived so far."""
        return self.loop.acked_bytes if self.role == "sender" else self.loop.bytes

    @property
    def error(self) -> str | None:
        """Return the system's text for the error that ended the stream; None if there was none."""
        return os.strerror(self.loop.errno) if self.loop.errno else None


class Workload(ABC):
    """Own the data sockets of a test at one end.

    The methods are called in this order: add, begin, start, stop (or abort), join, report, close.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.begun_ns: int | None = None
        self.origin_ns: int | None = None
        self._streams: list[DataStream] = []
        self._senders = Group(plan.send_budget)
        self._receivers = Group(plan.receive_budget)

    # ---- differs by kind of test ----------------------------------------------------------------

    @abstractmethod
    def _make_ready(self, sock: socket.socket, role: Role) -> Stream:
        """Set the socket's options and make the native loop for it."""

    @abstractmethod
    def _complete(self, stream: DataStream, report: StreamReport) -> StreamReport:
        """Add the figures that only this kind of test has to a stream's report."""

    @abstractmethod
    def finish_senders(self) -> None:
        """Mark the end of the data for a plain iperf3 client, where the transport can."""

    def _thread(self, loop: Stream, role: Role, stream_id: int) -> TrafficThread:
        """Return the thread that runs the loop: one of its own."""
        return TrafficThread(loop, f"netmeasure-{role}-{stream_id}", self.plan.cpu)

    @property
    def bucket_ns(self) -> int:
        return self.plan.bucket_ns

    # ---- set-up -------------------------------------------------------------------------------

    def add(
        self, stream_id: int, role: Role, sock: socket.socket, syn_retransmits: int | None
    ) -> None:
        """Take over a connected socket; the order of the streams does not matter. Raises
        SocketOptionError if the kernel refuses an option; the socket is closed in that case."""
        try:
            loop = self._make_ready(sock, role)
            sock.getpeername()  # raises if the peer has already reset the connection
            stream = DataStream(
                id=stream_id,
                role=role,
                sock=sock,
                loop=loop,
                thread=self._thread(loop, role, stream_id),
                facts=socket_facts.read(sock),
                syn_retransmits=syn_retransmits,
            )
        except OSError as exc:
            sock.close()
            raise StreamError(
                f"stream {stream_id} failed before any data: {exc.strerror}",
                phase="connect",
                reason=exc.strerror,
                sending=True,
            ) from None
        except BaseException:
            sock.close()
            raise
        bisect.insort(self._streams, stream, key=lambda stream: stream.id)

    async def begin(self) -> None:
        """Record that all streams are open and start their threads. Receivers read from now on;
        senders wait for `start`."""
        self.begun_ns = now_ns()
        await start_all(self._threads())

    def start(self) -> None:
        """Release all senders at once. This moment is the origin of this end's times."""
        self.origin_ns = self._senders.open()

    # ---- the run ------------------------------------------------------------------------------

    @property
    def first_ns(self) -> int | None:
        """Return when the first bytes were received, or sent where this end only sends."""
        roles: tuple[Role, ...] = ("receiver", "sender")
        for role in roles:
            moments = [s.loop.first_ns for s in self._streams if s.role == role]
            known = [moment for moment in moments if moment is not None]
            if moments:
                return min(known, default=None)
        return None

    @property
    def last_ns(self) -> int | None:
        """Return when the last bytes were counted, on any stream."""
        known = [s.loop.last_ns for s in self._streams if s.loop.last_ns is not None]
        return max(known, default=None)

    async def silence(self, limit_s: float | None) -> float:
        """Wait until nothing has been received for `limit_s`, and return it. Waits for ever if
        there is no limit or this end has no receivers."""
        receivers = [stream for stream in self._streams if stream.role == "receiver"]
        if limit_s is None or not receivers:
            return await asyncio.Future()
        quiet = Quiet(limit_s)
        while True:
            await asyncio.sleep(min(SILENCE_POLL_S, limit_s / 4))
            if quiet.since_change(sum(stream.loop.bytes for stream in receivers)):
                return limit_s

    def ended(self) -> bool:
        """Return whether all threads have ended."""
        return all(stream.thread.done.is_set() for stream in self._streams)

    def moved_bytes(self, role: Role | None = None) -> int:
        """Return the bytes counted so far, by the streams of one role or by all of them."""
        return sum(s.counted_bytes for s in self._streams if role in (None, s.role))

    def unacknowledged_bytes(self) -> int:
        """Return the bytes that TCP senders passed to the kernel and the peer has not
        acknowledged."""
        senders = [s.loop for s in self._streams if s.role == "sender"]
        return sum(loop.bytes - loop.acked_bytes for loop in senders)

    def received(self, stream_id: int) -> int:
        """Return how much a stream has received so far, in the unit of the peer's report: bytes for
        TCP, datagrams for UDP."""
        return next(s.loop.bytes for s in self._streams if s.id == stream_id)

    def arrived_ns(self, stream_id: int) -> int | None:
        """Return when the first bytes of a stream reached this host, by the kernel's time stamp;
        None: this end sends, nothing has arrived, or the kernel gives no time stamp."""
        loop = next(s.loop for s in self._streams if s.id == stream_id)
        return loop.arrived_ns if isinstance(loop, Receiver) else None

    def ids(self, role: Role) -> tuple[int, ...]:
        return tuple(stream.id for stream in self._streams if stream.role == role)

    def opened(self) -> tuple[tuple[int, Role, SocketFacts], ...]:
        """Return (number, role, socket) of every stream, in order of creation."""
        return tuple((stream.id, stream.role, stream.facts) for stream in self._streams)

    def levels(self, role: Role, until_ns: int) -> tuple[StreamInterval, ...]:
        """Return what each stream of a role had counted from its start to a moment
        (CLOCK_MONOTONIC). Bytes and datagrams are read from the time series, so that an interval's
        end does not depend on the time of the call. The other members have their present values."""
        return tuple(self._level(s, until_ns) for s in self._streams if s.role == role)

    def so_far(self) -> tuple[StreamReport, ...]:
        """Return a report of each stream for an analysis during the test, while the threads go on
        counting."""
        origin = self.origin_ns or 0
        return tuple(
            StreamReport(
                id=stream.id,
                role=stream.role,
                series=relative(stream.loop.series(), origin),
                tcp_info=self._path(stream.sock, origin),
            )
            for stream in self._streams
        )

    def _path(self, sock: socket.socket, origin_ns: int) -> TcpInfo | None:
        """Return the kernel's present TCP_INFO; None: the transport has none."""
        return None

    def _level(self, stream: DataStream, until_ns: int) -> StreamInterval:
        return StreamInterval(id=stream.id, bytes=stream.loop.counted_until(until_ns))

    def failed(self) -> MeasureError | None:
        """Return the error of the first stream that failed; None: no stream has failed."""
        for stream in self._streams:
            if stream.loop.reason == "error":
                if stream.loop.errno in (errno.EMFILE, errno.ENFILE):  # no socket call returns them
                    return host_limit(OSError(stream.loop.errno, stream.error), "data")
                sending = stream.role == "sender"
                verb = "sending" if sending else "receiving"
                return StreamError(
                    f"{verb} on stream {stream.id} ({stream.facts.remote}) failed: {stream.error}",
                    phase="data",
                    reason=stream.error,
                    sending=sending,
                )
        return None

    # ---- the end ------------------------------------------------------------------------------

    def stop_senders(self) -> None:
        """Let senders finish their call, send FIN if planned, and wait for the acknowledgements."""
        self._senders.stop()

    def stop_receivers(self) -> None:
        """Let receivers read what has already arrived, and end."""
        self._receivers.stop()

    def abort(self) -> None:
        """Make every thread end now, even one that is blocked in a system call."""
        self._senders.abort()
        self._receivers.abort()
        for stream in self._streams:
            with suppress(OSError):  # no longer connected, so nothing blocks on it
                stream.sock.shutdown(socket.SHUT_RDWR)

    async def join(self, role: Role | None = None) -> None:
        """Wait until the threads (of one role) have ended. They were told to stop, or their plan
        ends them."""
        await join_all(self._threads(role))

    def _threads(self, role: Role | None = None) -> list[TrafficThread]:
        """Return the threads of the streams (of one role). Streams may share one."""
        return list(dict.fromkeys(s.thread for s in self._streams if role in (None, s.role)))

    async def drain(self, over: Awaitable[None], limit_s: float) -> None:
        """Let receivers read the data in flight until `over` returns, for `limit_s` at most, and
        stop them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await over
        self.stop_receivers()
        await self.join("receiver")

    async def first_error(self) -> MeasureError:
        """Wait until a stream fails, and return its error. Waits for ever if none fails."""
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
        """Return this end's report of each stream. Call after join."""
        origin = self.origin_ns
        if origin is None:
            return ()
        windows = {role: self._window(role, origin) for role in ("sender", "receiver")}
        return tuple(
            self._complete(stream, stream_report(stream, origin, windows[stream.role]))
            for stream in self._streams
        )

    def _window(self, role: Role, origin_ns: int) -> tuple[int, int] | None:
        window = stretch((s.loop for s in self._streams if s.role == role), self.plan.omit_ns)
        if window is None:
            return None
        start, end = window
        if role == "sender" and self.plan.sender_window_ns:
            end = min(end, start + self.plan.sender_window_ns)
        return start - origin_ns, end - origin_ns

    def close(self) -> None:
        """Close the sockets. Call only after join: another file may reuse the number of a closed
        socket."""
        for stream in self._streams:
            stream.sock.close()
