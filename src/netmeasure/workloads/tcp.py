"""Send bulk data by TCP as fast as allowed, or receive data until the end of the stream."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from msgspec.structs import replace

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Stream
from netmeasure.clock import now_ns
from netmeasure.engine import sockopts, tcpinfo
from netmeasure.errors import SocketOptionError, SpecError
from netmeasure.result import Role, StreamInterval, StreamReport, TcpInfo
from netmeasure.spec import ReceiveMode, SendMode
from netmeasure.workloads.base import DataStream, Plan, Workload

#: The largest buffer of one receive. A larger buffer does not stay in the L2 cache between two
#: receives: with 512 KiB, copying was measured to be a few percent slower.
RECEIVE_BYTES = 128 * 1024
#: Reports of so many streams have all samples of TCP_INFO, those of more streams every second one,
#: every third one and so on, up to this distance.
FULL_SAMPLES, RAREST_SAMPLES = 64, 5


def check_file(path: str, *, writing: bool) -> None:
    """Raise SpecError, before a test begins, if a file can't be sent or written."""
    try:
        os.close(_open_file(path, os.O_WRONLY | os.O_CREAT if writing else os.O_RDONLY))
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise SpecError(f"can't {'write' if writing else 'read'} {path}: {reason}") from None


def check_file_kind(path: str) -> None:
    """Raise SpecError, before a server listens, if its file is of a kind that tests can't use.
    Whether the file can be read or written is checked by each test that opens it."""
    try:
        _refuse_pipes(path)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise SpecError(f"can't use {path}: {reason}") from None


def _refuse_pipes(path: str) -> None:
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            raise OSError(errno.ESPIPE, "it is a FIFO or a socket, not a regular file")
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, "it is a directory")


def _open_file(path: str, flags: int) -> int:
    """Open a file to send it or to write to it.

    Raises OSError, also for a FIFO or a socket: each stream reads the file at its own offset, and
    opening a FIFO blocks until its other end is opened.
    """
    _refuse_pipes(path)
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)


class TcpPlan(Plan, frozen=True, kw_only=True):
    """Describe what this end does with its TCP streams, see Plan.

    half_close  senders end with FIN; both ends are netmeasure, so the peer waits for it
    lenient     ignore a congestion control that this host lacks, as an iperf3 server does
    file        senders send it, receivers write it
    """

    block_bytes: int
    send_mode: SendMode = "copy"
    receive_mode: ReceiveMode = "copy"
    half_close: bool = True
    congestion: str | None = None
    no_delay: bool = False
    lenient: bool = False
    file: str | None = None

    @property
    def rate_bps(self) -> int | None:
        """Return the rate of a sender; None: as fast as possible."""
        return min((rate for rate in (self.target_bps, self.pacing_bps) if rate), default=None)


class TcpWorkload(Workload):
    """Own the data connections of one TCP test at one end."""

    plan: TcpPlan

    def __init__(self, plan: TcpPlan) -> None:
        super().__init__(plan)
        self._source_fd = -1
        self._sink_fds: list[int] = []

    def _make_ready(self, sock: socket.socket, role: Role) -> Stream:
        self._configure(sock, role)
        return self._sender(sock) if role == "sender" else self._receiver(sock)

    def _configure(self, sock: socket.socket, role: Role) -> None:
        plan = self.plan
        sock.setblocking(True)  # the native loops use blocking calls with timeouts
        # the client has set this option before connecting; the server's socket does not inherit it
        if plan.no_delay:
            sockopts.set_no_delay(sock, asked=True)
        sockopts.watch_peer(sock, plan.give_up_s)
        if plan.window_bytes is not None:
            sockopts.set_window(sock, plan.window_bytes)
        if plan.congestion is not None:
            self._set_congestion(sock, plan.congestion)
        if plan.tos:
            sockopts.set_tos(sock, plan.tos)
        if role == "sender" and (rate_bps := plan.rate_bps):
            try:
                sockopts.set_pacing(sock, rate_bps)
            except SocketOptionError:
                if plan.pacing_bps is not None:  # asked for; else the sender paces itself
                    raise
            sockopts.keep_little_unsent(sock, rate_bps)

    def _set_congestion(self, sock: socket.socket, name: str) -> None:
        try:
            sockopts.set_congestion(sock, name)
        except SocketOptionError:
            if not self.plan.lenient:
                raise

    def _sender(self, sock: socket.socket) -> Sender:
        plan = self.plan
        copy = plan.send_mode == "copy" and plan.file is None
        if not copy and self._source_fd < 0:
            self._source_fd = self._source()
        return Sender(
            self._senders,
            sock.fileno(),
            payload=plan.payload(plan.block_bytes) if copy else b"",
            block_bytes=plan.block_bytes,
            source_fd=-1 if copy else self._source_fd,
            duration_ns=plan.duration_ns,
            omit_ns=plan.omit_ns,
            half_close=plan.half_close,
            drain_ns=plan.drain_ns,
            whole_file=plan.file is not None,
            rate_bps=plan.rate_bps or 0,
            width_ns=plan.bucket_ns,
        )

    def _source(self) -> int:
        """Return the descriptor from which sendfile() sends: of the file, or of memory that holds
        one block."""
        plan = self.plan
        if plan.file is not None:
            return _open_file(plan.file, os.O_RDONLY)
        descriptor = os.memfd_create("netmeasure-payload", os.MFD_CLOEXEC)
        os.write(descriptor, plan.payload(plan.block_bytes))
        return descriptor

    def _sink(self) -> int:
        """Return the descriptor to which a receiver writes; every stream writes from the beginning
        of the file."""
        if self.plan.file is None:
            return -1
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._sink_fds.append(_open_file(self.plan.file, flags))
        return self._sink_fds[-1]

    def _receiver(self, sock: socket.socket) -> Receiver:
        return Receiver(
            self._receivers,
            sock.fileno(),
            buffer_bytes=min(self.plan.block_bytes, RECEIVE_BYTES),
            discard=self.plan.receive_mode == "discard" and self.plan.file is None,
            sink_fd=self._sink(),
            omit_ns=self.plan.omit_ns,
            width_ns=self.plan.bucket_ns,
        )

    def _level(self, stream: DataStream, until_ns: int) -> StreamInterval:
        level = super()._level(stream, until_ns)
        if stream.role == "receiver":
            return level
        raw = tcpinfo.read(stream.sock)
        retransmits = tcpinfo.field(raw, "total_retrans")
        if retransmits is not None and stream.syn_retransmits:
            retransmits -= stream.syn_retransmits
        return replace(level, retransmits=retransmits, **tcpinfo.state(raw))

    def _path(self, sock: socket.socket, origin_ns: int) -> TcpInfo | None:
        return tcpinfo.decode([(now_ns(), tcpinfo.read(sock))], origin_ns)

    def finish_senders(self) -> None:
        """Send FIN on the streams of senders. If both ends are netmeasure, the senders have already
        done so; a plain iperf3 client that has sent TEST_END reads until the FIN arrives."""
        for stream in self._streams:
            if stream.role == "sender":
                with suppress(OSError):
                    stream.sock.shutdown(socket.SHUT_WR)

    def _complete(self, stream: DataStream, report: StreamReport) -> StreamReport:
        sends = stream.role == "sender"
        info = tcpinfo.decode(self._rarer(stream.loop.samples()), self.origin_ns or 0)
        retransmits = info.retransmits[-1] if sends and info and info.retransmits else None
        if retransmits is not None and stream.syn_retransmits:
            retransmits -= stream.syn_retransmits  # the kernel's field includes retransmitted SYNs
        return replace(
            report,
            acked_bytes=stream.loop.acked_bytes if sends else None,
            retransmits=retransmits,
            mode=self._mode(stream.role),
            block_bytes=self.plan.block_bytes,
            tcp_info=info,
        )

    def _rarer(self, samples: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Return the samples for the report: with many streams only every second one, or even
        fewer, and the last one."""
        every = min(-(-len(self._streams) // FULL_SAMPLES), RAREST_SAMPLES)
        return samples if every == 1 else [*samples[:-1:every], *samples[-1:]]

    def _mode(self, role: Role) -> str:
        if role == "sender":
            return "sendfile" if self.plan.file is not None else self.plan.send_mode
        return "copy" if self.plan.file is not None else self.plan.receive_mode

    def close(self) -> None:
        super().close()
        if self._source_fd >= 0:
            os.close(self._source_fd)
            self._source_fd = -1
        while self._sink_fds:
            os.close(self._sink_fds.pop())
