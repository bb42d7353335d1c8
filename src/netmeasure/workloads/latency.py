"""Probe a path beside a load, and answer the probes at the other end."""

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

#: An answer is waited for twice as long as the longest one took, but within these bounds.
LEAST_PATIENCE_NS, MOST_PATIENCE_NS = 250 * MILLISECOND_NS, 3000 * MILLISECOND_NS

#: The series of latencies. A reflector's own series is not used.
WIDTH_NS, BUCKETS, FEW_BUCKETS = 100 * MILLISECOND_NS, 1024, 2


class _End:
    """Own a probe's socket at one end, and its thread."""

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
        """End the thread, then close the socket. A second call changes nothing."""
        self._group.stop()
        with suppress(OSError):  # the thread may wait in a call
            self._sock.shutdown(socket.SHUT_RDWR)
        await self._thread.join()
        self._sock.close()


class Reflection(_End):
    """Answer the probes that come to a connected socket of UDP or TCP, which it owns.

    Raises HostLimitError if this host has no thread left for that.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)  # the native loop blocks, with time-outs
        group, stream = Group(), _is_stream(sock)
        self._loop = Reflector(
            group,
            sock.fileno(),
            hello=HELLO,
            hello_bytes=MAX_HELLO_BYTES,
            hello_reply=ANSWER,
            stream=stream,
            buckets=FEW_BUCKETS,
        )
        super().__init__(sock, self._loop, group)

    def loaded(self) -> None:
        """Cost a load that begins now as little as can be."""
        self._loop.loaded()


class Probe(_End):
    """Send probes on a connected socket of UDP or TCP, which it owns, and time their answers.

    Raises HostLimitError if this host has no thread left for that.
    """

    def __init__(self, sock: socket.socket) -> None:
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
        """End the thread, then close the socket. A second call changes nothing."""
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
        """Send no more probes for now."""
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
        """Return whether all answers have come since `pause`, or have been waited for."""
        loop = self._loop
        if self.is_broken:
            return True
        if loop.sending:
            return False
        patience_ns = min(max(2 * loop.longest_ns, LEAST_PATIENCE_NS), MOST_PATIENCE_NS)
        return not loop.unanswered or now_ns() - self._paused_ns > patience_ns

    def latency(self, origin_ns: int) -> Latency:
        """Return what was measured; moments count from `origin_ns`."""
        loop = self._loop
        loaded = loop.part("loaded")
        return Latency(
            transport="tcp" if self._is_stream else "udp",
            idle=_figures(loop.part("idle"), origin_ns),
            loaded=_figures(loaded, origin_ns) if loaded.sent else None,
            late_answers=loop.late,
            invalid_answers=loop.invalid,
        )


def _is_stream(sock: socket.socket) -> bool:
    """Return whether a socket is one of TCP, after switching Nagle's algorithm off."""
    if sock.type != socket.SOCK_STREAM:
        return False
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return True


def _figures(part: ProbePart, origin_ns: int) -> ProbeFigures:
    host_sum_ns, host_max_ns = part.host_ns
    return ProbeFigures(
        latency=stored(part.latency),
        series=latency_series([part], origin_ns, 1),
        sent=part.sent,
        skipped=part.skipped,
        refused=part.refused,
        host_sum_ns=host_sum_ns,
        host_max_ns=host_max_ns,
    )
