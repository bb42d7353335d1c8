"""Keep one stream of a run by URL: its successive transfers, counted in one time series.

Native loops transfer plain bodies, and a library all others. Both are counted in the same tally and
the same report.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

import msgspec

from netmeasure import analysis
from netmeasure._fast.worker import Stream, Tally
from netmeasure.clock import now_ns
from netmeasure.engine import socket_facts, tcpinfo
from netmeasure.engine.addresses import Address
from netmeasure.result import Role, SocketFacts, Spread, StreamReport, TcpInfo, Transfer
from netmeasure.transfers.first_byte import FirstByte
from netmeasure.transfers.native import NativeLoops
from netmeasure.transfers.plan import TransferPlan
from netmeasure.workloads.stream_report import relative, stream_report


class TransferStream:
    """Count the bodies of one stream, and describe its transfers.

    Attributes:
        stopped: Set when the run ends for this stream; the current transfer then stops gracefully.
        in_body: Whether a transfer is between the head of its body and its end, so that bytes are
            expected.
        set_ups_ns: For each complete transfer, how long it took from its first step to its first
            body byte.
        server: The address of the server that accepts requests; None: not connected yet.
    """

    def __init__(self, stream_id: int, role: Role, plan: TransferPlan) -> None:
        self.id = stream_id
        self.role: Role = role
        self.plan = plan
        self.first_byte = FirstByte()
        self.native = NativeLoops(f"netmeasure-{role}-{stream_id}", plan, self.first_byte)
        self.stopped = asyncio.Event()
        self.in_body = False
        self.set_ups_ns: list[int] = []
        self.library_bytes = 0
        self.syn_retransmits: int | None = None
        self.facts: SocketFacts | None = None
        self.transfer: Transfer | None = None
        self.server: Address | None = None

    @property
    def loop(self) -> Tally:
        """Return the sum of the bytes transferred by ended native loops and by a library."""
        return self.native.tally

    # ---- counting --------------------------------------------------------------------------------

    @property
    def moved_bytes(self) -> int:
        """Return the bytes received, or acknowledged where this stream sends."""
        return self.native.acked_bytes if self.role == "sender" else self.native.received_bytes

    def counted_until(self, moment_ns: int) -> int:
        return self.native.counted_until(moment_ns)

    @property
    def first_ns(self) -> int | None:
        return self.native.first_ns

    def has_begun(self) -> bool:
        """Return whether any byte of this stream has been counted."""
        return self.first_ns is not None

    @property
    def last_ns(self) -> int | None:
        return self.native.last_ns

    def so_far(self, origin_ns: int) -> StreamReport:
        """Return a report for an analysis during the transfer."""
        parts = [relative(part, origin_ns) for part in self.native.series()]
        return StreamReport(
            id=self.id,
            role=self.role,
            series=analysis.series.total([part for part in parts if part is not None]),
            tcp_info=self.native.tcp_info(origin_ns),
        )

    def count(self, count: int) -> None:
        """Count bytes that a library has just received, or sent and flushed."""
        self.library_bytes += count
        self._add(count)

    def count_rest(self, count: int) -> None:
        """Count the last bytes of a native transfer, which a library has completed."""
        self.native.moved_bytes += count
        self._add(count)

    def _add(self, count: int) -> None:
        if count:
            moment = now_ns()
            self.loop.add(count, moment)
            self.first_byte.counted_by_library(moment)

    # ---- the current transfer --------------------------------------------------------------------

    def note_socket(
        self, sock: socket.socket, syn_retransmits: int | None, server: Address
    ) -> None:
        """Record the actual options of the body's socket, while it is open, and the address of the
        server that accepts requests."""
        self.server = server
        self.facts = socket_facts.read(sock)
        if syn_retransmits is not None:
            self.syn_retransmits = (self.syn_retransmits or 0) + syn_retransmits

    def note_transfer(self, transfer: Transfer, tls: ssl.SSLObject | None) -> None:
        """Record the facts of the current transfer, and the parameters of its TLS session."""
        if tls is not None:
            cipher = tls.cipher()
            transfer = msgspec.structs.replace(
                transfer,
                tls=tls.version(),
                cipher=cipher[0] if cipher else None,
                tls_resumed=tls.session_reused,
            )
        self.transfer = transfer

    def end_body(self) -> None:
        """Note that no more bytes of the current body are expected, though the server may still
        have to confirm them."""
        self.in_body = False

    def note_final_status(self, status: int) -> None:
        """Record the server's status after the body."""
        if self.transfer is not None:
            self.transfer = msgspec.structs.replace(self.transfer, status=status)

    def failure(self, loop: Stream) -> str | None:
        """Return the error of an ended native loop; None: it had none."""
        if loop.reason != "error":
            return None
        doing = "sending to" if self.role == "sender" else "receiving from"
        remote = (self.facts.remote if self.facts else None) or "the server"
        return f"{doing} {remote} failed: {os.strerror(loop.errno)}"

    def completed(self, started_ns: int) -> None:
        """Record the end of a transfer whose first step was at `started_ns`."""
        first_ns = self.first_byte.counted_ns or now_ns()  # since a body may be empty
        self.set_ups_ns.append(first_ns - started_ns)
        self.in_body = False

    # ---- the end ---------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        return self.stopped.is_set()

    def stop(self) -> None:
        """End the current transfer gracefully."""
        self.stopped.set()
        self.native.stop()

    @property
    def error(self) -> str | None:
        """Return the system's text for the error that ended the stream; None if there was none."""
        return os.strerror(self.loop.errno) if self.loop.errno else None

    def report(self, origin_ns: int, window: tuple[int, int] | None) -> StreamReport:
        """Return this stream's report. Call this when no transfer is in progress."""
        plain = stream_report(self, origin_ns, window)
        info = tcpinfo.decode(self.native.samples, origin_ns)
        sends = self.role == "sender"
        return msgspec.structs.replace(
            plain,
            acked_bytes=self.loop.acked_bytes if sends else None,
            retransmits=self._retransmits(info) if info and sends else None,
            mode=self.plan.send_mode if sends else self.plan.receive_mode,
            block_bytes=self.plan.block_bytes if sends else None,
            tcp_info=info,
            transfer=self._described(),
            # the library runs in the event loop's thread, whose time is not this stream's alone:
            # the native loops' time would be only a part of what the stream cost
            cpu_user_ns=None if self.library_bytes else plain.cpu_user_ns,
            cpu_system_ns=None if self.library_bytes else plain.cpu_system_ns,
            thread=None if self.library_bytes else plain.thread,
        )

    def _retransmits(self, info: TcpInfo) -> int | None:
        if not info.retransmits:
            return None
        return info.retransmits[-1] - (self.syn_retransmits or 0)

    def _described(self) -> Transfer | None:
        """Return the last transfer's facts, with the sums over all transfers."""
        if self.transfer is None:
            return None
        native, library = self.native.moved_bytes, self.library_bytes
        drained = "both" if native and library else None
        if drained is None and (native or library):
            drained = "native" if native else "library"
        return msgspec.structs.replace(
            self.transfer,
            drained_by=drained,
            native_bytes=native,
            transfers=len(self.set_ups_ns),
            set_up=Spread.of(self.set_ups_ns),
        )
