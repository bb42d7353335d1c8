"""Measure the latency of a path during a load by probes, and answer the other end's probes."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Literal

from netmeasure._fast.probe import ProbePart, Prober, Reflector
from netmeasure._fast.worker import Group
from netmeasure.clock import MILLISECOND_NS, now_ns
from netmeasure.engine.threads import TrafficThread
from netmeasure.errors import HostLimitError
from netmeasure.protocol import ANSWER, HELLO, MAX_HELLO_BYTES
from netmeasure.result.latency import Latency, ProbeFigures
from netmeasure.workloads.round_trips import latency_series, stored

Part = Literal["idle", "loaded"]

#: The wait for an answer is twice the longest latency so far, within these bounds.
LEAST_PATIENCE_NS, MOST_PATIENCE_NS = 250 * MILLISECOND_NS, 3000 * MILLISECOND_NS

#: How far two clocks drift apart in a time: 50 ppm each, as of a quartz that nothing steers.
DRIFT = 1e-4

#: The series of latencies. A reflector's own series is not used.
WIDTH_NS, BUCKETS, FEW_BUCKETS = 100 * MILLISECOND_NS, 1024, 2


class _End:
    """Own the socket and the thread of a probe at one end."""

    def __init__(self, sock: socket.socket, loop: Prober | Reflector, group: Group) -> None:
        self._sock = sock
        self._group = group
        self._thread = TrafficThread(loop, "netmeasure-latency")
        try:
            self._thread.start()
        except BaseException:
            sock.close()
            raise

    async def close(self) -> None:
        """End the thread, then close the socket. A second call has no effect."""
        self._group.stop()
        with suppress(OSError):  # the thread may be blocked in a call
            self._sock.shutdown(socket.SHUT_RDWR)
        await self._thread.join()
        self._sock.close()


class Reflection(_End):
    """Answer the probes that arrive at a connected UDP or TCP socket, which this object owns; stamp
    the answers if the client has asked for that.

    Raises HostLimitError if this host can't start another thread.
    """

    def __init__(self, sock: socket.socket, *, stamped: bool) -> None:
        sock.setblocking(True)  # the native loop uses blocking calls with timeouts
        group, stream = Group(), _is_stream(sock)
        self._loop = Reflector(
            group,
            sock.fileno(),
            hello=HELLO,
            hello_bytes=MAX_HELLO_BYTES,
            hello_reply=ANSWER,
            stream=stream,
            stamped=stamped,
            buckets=FEW_BUCKETS,
        )
        super().__init__(sock, self._loop, group)

    def loaded(self) -> None:
        """Switch the kernel's time stamps off now that a load begins, since they cost CPU time."""
        self._loop.loaded()


class Probe(_End):
    """Send probes on a connected UDP or TCP socket, which this object owns, and time their answers.
    If the server stamps these, the two directions are told apart.

    Raises HostLimitError if this host can't start another thread.
    """

    def __init__(self, sock: socket.socket, *, stamped: bool) -> None:
        group = Group()
        self._is_stream = _is_stream(sock)
        try:
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError as exc:
            sock.close()
            raise HostLimitError(
                f"this host has no descriptor left: {exc.strerror}",
                phase="connect",
                reason=exc.strerror,
            ) from None
        self._loop = Prober(
            group,
            sock.fileno(),
            stream=self._is_stream,
            stamped=stamped,
            wake=self._wake,
            width_ns=WIDTH_NS,
            buckets=BUCKETS,
        )
        self._paused_ns = 0
        try:
            super().__init__(sock, self._loop, group)
        except BaseException:
            os.close(self._wake)
            raise

    async def close(self) -> None:
        """End the thread, then close the socket. A second call has no effect."""
        await super().close()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def send(self, part: Part, per_s: float, most: int = 0) -> None:
        """Send probes for a part of the test at a set rate, `most` of them (0: any number)."""
        if self._wake < 0:
            return  # it was closed
        self._paused_ns = 0
        self._loop.send(part, per_s=per_s, most=most)

    def pause(self) -> None:
        """Stop sending probes until `send` is called again."""
        if not self._paused_ns and self._wake >= 0:
            self._loop.pause()
            self._paused_ns = now_ns()

    @property
    def sent_idle(self) -> int:
        """Return the number of probes that were sent before the load."""
        return self._loop.part("idle").sent

    @property
    def is_broken(self) -> bool:
        """Return whether the peer or an error has ended the probe."""
        return self._loop.reason in ("eof", "error")

    def is_quiet(self) -> bool:
        """Return whether all answers have arrived since `pause`, or the wait for them is over."""
        loop = self._loop
        if self.is_broken:
            return True
        if loop.sending:
            return False
        patience_ns = min(max(2 * loop.longest_ns, LEAST_PATIENCE_NS), MOST_PATIENCE_NS)
        return not loop.unanswered or now_ns() - self._paused_ns > patience_ns

    def latency(self, origin_ns: int) -> Latency:
        """Return what was measured. Times count from `origin_ns`."""
        loop = self._loop
        loaded = loop.part("loaded")
        apart_ns = loop.apart_ns
        return Latency(
            transport="tcp" if self._is_stream else "udp",
            idle=_figures(loop.part("idle"), origin_ns, apart_ns),
            loaded=_figures(loaded, origin_ns, apart_ns) if loaded.sent else None,
            pdv_error_ns=None if apart_ns is None else round(apart_ns * DRIFT),
            late_answers=loop.late,
            invalid_answers=loop.invalid,
        )


def _is_stream(sock: socket.socket) -> bool:
    """Switch Nagle's algorithm off if a socket is a TCP socket; return whether it is one."""
    if sock.type != socket.SOCK_STREAM:
        return False
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return True


def _figures(part: ProbePart, origin_ns: int, apart_ns: int | None) -> ProbeFigures:
    host_sum_ns, host_max_ns = part.host_ns
    return ProbeFigures(
        latency=stored(part.latency),
        upload_pdv=None if apart_ns is None else stored(part.there),
        download_pdv=None if apart_ns is None else stored(part.back),
        series=latency_series([part], origin_ns, 1),
        sent=part.sent,
        skipped=part.skipped,
        refused=part.refused,
        host_sum_ns=host_sum_ns,
        host_max_ns=host_max_ns,
    )
