"""What one end saw: its streams, their series and sockets, its host."""

from __future__ import annotations

from typing import Literal

import msgspec

from netmeasure.result.datagrams import Datagrams
from netmeasure.result.hosts import Host
from netmeasure.result.resources import Resources, ThreadCpu
from netmeasure.result.setup import Spread

Role = Literal["sender", "receiver"]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes per time bucket, kept by the thread that counted them. Bucket i covers
    [origin_ns + i*width_ns, origin_ns + (i+1)*width_ns)."""

    origin_ns: int
    width_ns: int
    bytes: tuple[int, ...]

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes)


class TcpInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel says of a connection (TCP_INFO, tcp(7)), in columns: item i of every list
    was read at `at_ns[i]`. A column is None where this kernel does not supply it. Times spent
    limited are cumulative; counts are cumulative since the connection's start. `unsent_bytes` are
    in the sender's buffer and have not been sent for the first time."""

    at_ns: tuple[int, ...]
    retransmits: tuple[int, ...] | None = None
    rtt_ns: tuple[int, ...] | None = None
    rttvar_ns: tuple[int, ...] | None = None
    min_rtt_ns: tuple[int, ...] | None = None
    cwnd_bytes: tuple[int, ...] | None = None
    snd_wnd_bytes: tuple[int, ...] | None = None
    unsent_bytes: tuple[int, ...] | None = None
    mss_bytes: tuple[int, ...] | None = None
    pmtu_bytes: tuple[int, ...] | None = None
    delivery_bps: tuple[int, ...] | None = None
    pacing_bps: tuple[int, ...] | None = None
    acked_bytes: tuple[int, ...] | None = None
    sent_bytes: tuple[int, ...] | None = None
    retransmitted_bytes: tuple[int, ...] | None = None
    reordering_seen: tuple[int, ...] | None = None
    busy_ns: tuple[int, ...] | None = None
    rwnd_limited_ns: tuple[int, ...] | None = None
    sndbuf_limited_ns: tuple[int, ...] | None = None


class SocketFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the data socket really got, read back from the kernel on this side."""

    local: str | None = None
    remote: str | None = None
    congestion: str | None = None
    mss_bytes: int | None = None
    sndbuf_bytes: int | None = None
    rcvbuf_bytes: int | None = None
    no_delay: bool | None = None
    pacing_bps: int | None = None
    pmtu_bytes: int | None = None
    tos: int | None = None

    @property
    def within_host(self) -> bool:
        """It leads to this host itself, as far as the addresses tell."""
        here, there = (
            (self.local or "").rpartition(":")[0],
            (self.remote or "").rpartition(":")[0],
        )
        return bool(there) and (here == there or there.startswith("127.") or there == "[::1]")


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """HTTP and FTP: what a stream transferred, and how. Where repeated, the last one's facts.

    url            after redirects
    protocol       "HTTP/1.1", "FTP"; `tls` "TLSv1.3" or None for plain text
    status         of HTTP, or FTP's final reply
    content_bytes  the body's length as it was announced, None where it was not
    encoding       identity, chunked, gzip...: of the body as it came, which is what is counted
    drained_by     native: the socket was handed to the native loop. library: every byte passed
                   through Python (TLS, chunked bodies, kept connections, bodies that came whole
                   with their head). both: some transfers so, some so
    native_bytes   of them, by native loops
    transfers      how many there were, complete ones; `redirects` of all of them
    set_up         from each transfer's first step to its first body byte
    """

    url: str
    protocol: str
    server: str | None = None
    tls: str | None = None
    cipher: str | None = None
    tls_resumed: bool | None = None
    status: int | None = None
    content_bytes: int | None = None
    encoding: str | None = None
    drained_by: Literal["native", "library", "both"] | None = None
    native_bytes: int = 0
    transfers: int = 0
    redirects: int = 0
    set_up: Spread | None = None


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """One stream as one side saw it. Moments count from this side's origin.

    bytes       receiver: bytes read. sender: bytes handed to its kernel
    acked_bytes sender: bytes that the receiver's kernel acknowledged
    counted_from_ns, counted_to_ns
                the stretch that `counted_bytes` belongs to: after the omitted time, up to the end
                of the duration or the last byte
    mode        how the bytes were moved: copy, sendfile, discard
    end_reason  deadline | budget | stopped | aborted | eof | error
    thread      its thread's CPU time in the course of the run; `cpu_*` is the whole of it
    """

    id: int
    role: Role
    bytes: int | None = None
    acked_bytes: int | None = None
    counted_bytes: int | None = None
    counted_from_ns: int | None = None
    counted_to_ns: int | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    retransmits: int | None = None
    syn_retransmits: int | None = None
    mode: str | None = None
    block_bytes: int | None = None
    end_reason: str | None = None
    error: str | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    thread: ThreadCpu | None = None
    series: Series | None = None
    tcp_info: TcpInfo | None = None
    datagrams: Datagrams | None = None
    transfer: Transfer | None = None
    socket: SocketFacts | None = None

    @property
    def delivered_bytes(self) -> int | None:
        """Bytes known to have reached the other side."""
        return self.bytes if self.role == "receiver" else self.acked_bytes

    @property
    def counted_ns(self) -> int | None:
        if self.counted_from_ns is None or self.counted_to_ns is None:
            return None
        return self.counted_to_ns - self.counted_from_ns


class SideReport(msgspec.Struct, frozen=True, kw_only=True):
    """All streams as one end saw them; the far end's comes with the results of the protocol."""

    host: Host = Host()
    streams: tuple[StreamReport, ...] = ()
    duration_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    concurrent_tests: int | None = None
    resources: Resources | None = None

    @property
    def payload_bytes(self) -> int | None:
        """Received and acknowledged here, over all streams and both directions."""
        known = [stream.delivered_bytes for stream in self.streams]
        return sum(n or 0 for n in known) if known and None not in known else None

    @property
    def process_s_per_gb(self) -> float | None:
        """CPU time of the whole process, per 10^9 bytes of payload."""
        used = self.resources.whole if self.resources is not None else None
        return s_per_gb(used.process_cpu_ns if used else None, self.payload_bytes)

    @property
    def host_s_per_gb(self) -> float | None:
        """CPU time of the whole host, whoever used it, per 10^9 bytes of payload."""
        used = self.resources.whole if self.resources is not None else None
        return s_per_gb(used.host_cpu_ns if used else None, self.payload_bytes)

    @property
    def own_host_s_per_gb(self) -> float | None:
        """The run's own share of the host's CPU time (under load less the idle baseline), per 10^9
        bytes of payload; None without a baseline, and where that share is lost in what else went on
        (`Resources.own_is_lost`)."""
        used = self.resources.whole if self.resources is not None else None
        if used is None or self.resources is None or self.resources.own is None:
            return None
        if self.resources.own_is_lost:
            return None
        return s_per_gb(self.resources.own.busy_ratio * used.duration_ns, self.payload_bytes)


def s_per_gb(cpu_ns: float | None, count: int | None) -> float | None:
    """CPU-seconds per 10^9 bytes: ns per byte, which is the same."""
    return cpu_ns / count if cpu_ns is not None and count else None
