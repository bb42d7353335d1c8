"""Bulk TCP: streams that send as fast as they may, or receive to the end of the stream."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from msgspec.structs import replace

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure.engine import sockets, tcpinfo
from netmeasure.result import Role, SocketFacts, StreamInterval, StreamReport
from netmeasure.spec import ReceiveMode, SendMode
from netmeasure.workloads.base import DataStream, Plan, Workload

#: One receive at the most. A larger buffer falls out of the L2 cache between two receives: copying
#: into 512 KiB was measured to be some percent slower than into this.
RECEIVE_BYTES = 128 * 1024


class TcpPlan(Plan, frozen=True, kw_only=True):
    """`half_close`: senders end with FIN; both ends are netmeasure, so the far one waits for it."""

    block_bytes: int
    send_mode: SendMode = "copy"
    receive_mode: ReceiveMode = "copy"
    half_close: bool = True
    congestion: str | None = None
    no_delay: bool = False


class TcpWorkload(Workload):
    """The data connections of one TCP test at one end."""

    plan: TcpPlan

    def __init__(self, plan: TcpPlan) -> None:
        super().__init__(plan)
        self._source_fd = -1

    def _make_ready(self, sock: socket.socket, role: Role) -> Sender | Receiver:
        self._configure(sock, role)
        return self._sender(sock) if role == "sender" else self._receiver(sock)

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
            buffer_bytes=min(self.plan.block_bytes, RECEIVE_BYTES),
            discard=self.plan.receive_mode == "discard",
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

    def finish_senders(self) -> None:
        """Say FIN on the streams that have been sent on. Where both ends are netmeasure the senders
        did so themselves; a plain iperf3 client that has said TEST_END reads until it comes."""
        for stream in self._streams:
            if stream.role == "sender":
                with suppress(OSError):
                    stream.sock.shutdown(socket.SHUT_WR)

    def _facts(self, sock: socket.socket) -> SocketFacts:
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

    def _complete(self, stream: DataStream, report: StreamReport) -> StreamReport:
        sends = stream.role == "sender"
        info = tcpinfo.decode(stream.loop.samples(), self.origin_ns or 0)
        retransmits = info.retransmits[-1] if sends and info and info.retransmits else None
        if retransmits is not None and stream.syn_retransmits:
            retransmits -= stream.syn_retransmits  # the kernel counts SYNs in the same field
        return replace(
            report,
            acked_bytes=stream.loop.acked_bytes if sends else None,
            retransmits=retransmits,
            mode=self.plan.send_mode if sends else self.plan.receive_mode,
            block_bytes=self.plan.block_bytes,
            tcp_info=info,
        )

    def close(self) -> None:
        super().close()
        if self._source_fd >= 0:
            os.close(self._source_fd)
            self._source_fd = -1
