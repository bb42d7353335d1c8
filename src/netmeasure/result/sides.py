"""Define the report of one end of a test: its streams, their series and sockets, and its host."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from netmeasure.result.brief import Brief
from netmeasure.result.datagrams import Datagrams
from netmeasure.result.hosts import Host
from netmeasure.result.resources import Resources, ThreadCpu
from netmeasure.result.setup import Spread

Role = Literal["sender", "receiver"]


class Series(Brief, frozen=True, kw_only=True):
    """Hold the bytes per time bucket, kept by the thread that counted them.

    Bucket i covers the time from `origin_ns + i * width_ns` up to, and without, the start of the
    next bucket.

    Attributes:
        origin_ns: Where the first bucket starts, from this side's origin.
        width_ns: The length of a bucket.
        bytes: The payload bytes of each bucket.
    """

    packed: ClassVar[tuple[str, ...]] = ("bytes",)

    origin_ns: int
    width_ns: int
    bytes: tuple[int, ...]

    @property
    def total_bytes(self) -> int:
        """Return the bytes of all buckets."""
        return sum(self.bytes)


class TcpInfo(Brief, frozen=True, kw_only=True):
    """Hold the kernel's figures of a TCP connection (TCP_INFO, tcp(7)), in columns of equal length.

    Item i of every column was read at `at_ns[i]`. A column is None if this kernel does not supply
    it. Counts and times spent limited are cumulative since the connection's start.

    Attributes:
        at_ns: Moments from this side's origin.
        retransmits: Segments sent again, SYNs included (tcpi_total_retrans).
        rtt_ns: Smoothed round trip (RFC 6298).
        rttvar_ns: Its variation (RFC 6298).
        min_rtt_ns: The shortest round trip in the kernel's own window.
        cwnd_bytes: Congestion window (RFC 5681).
        snd_wnd_bytes: The receiver's window (RFC 9293).
        unsent_bytes: Bytes in the sender's buffer that have not been sent for the first time.
        mss_bytes: Maximum segment size for sending.
        pmtu_bytes: Path MTU.
        delivery_bps: The kernel's own estimate of the delivery rate, in bit/s.
        pacing_bps: The congestion control's pacing rate, in bit/s.
        acked_bytes: Bytes acknowledged (tcpi_bytes_acked).
        sent_bytes: Bytes sent, those sent again included (tcpi_bytes_sent).
        retransmitted_bytes: Bytes sent again (tcpi_bytes_retrans).
        reordering_seen: How often reordering was seen (tcpi_reord_seen).
        busy_ns: Time with data to send or unacknowledged data (tcpi_busy_time).
        rwnd_limited_ns: Time stopped by the receiver's window (tcpi_rwnd_limited).
        sndbuf_limited_ns: Time stopped by the send buffer (tcpi_sndbuf_limited).
    """

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
    """Hold the actual properties of a data socket, read from the kernel on this side; None:
    unknown.

    Attributes:
        local: This end's address, such as "192.0.2.1:5201" or "[2001:db8::1]:5201".
        remote: The other end's address.
        congestion: The congestion control's name (TCP_CONGESTION).
        mss_bytes: Maximum segment size (TCP_MAXSEG).
        sndbuf_bytes: Send buffer (SO_SNDBUF).
        rcvbuf_bytes: Receive buffer (SO_RCVBUF).
        no_delay: Whether Nagle's algorithm is off (TCP_NODELAY).
        pacing_bps: The most that the kernel sends, in bit/s (SO_MAX_PACING_RATE).
        pmtu_bytes: Path MTU (IP_MTU, IPV6_MTU).
        tos: Type of service or traffic class (IP_TOS, IPV6_TCLASS).
    """

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
        """Return whether the socket is connected to this host itself, as far as the addresses
        show."""
        here, there = (
            (self.local or "").rpartition(":")[0],
            (self.remote or "").rpartition(":")[0],
        )
        return bool(there) and (here == there or there.startswith("127.") or there == "[::1]")


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the facts about a stream's transfers by HTTP or FTP.

    If the transfer was repeated, the facts are those of the last one.

    Attributes:
        url: The URL after all redirects.
        protocol: Such as "HTTP/1.1" or "FTP".
        server: The server's name for itself; None: it sends none.
        tls: The TLS version, such as "TLSv1.3"; None: plain text.
        cipher: The TLS cipher suite.
        tls_resumed: Whether the TLS session was resumed (RFC 8446 section 2.2).
        status: HTTP's status, or FTP's final reply.
        content_bytes: The announced length of the body; None: it was not announced.
        encoding: The coding of the received body, whose bytes are counted: identity, chunked, gzip
            and so on.
        drained_by: What transferred the body. "native": the native loop, which got the socket.
            "library": Python (TLS, chunked bodies, kept connections, and bodies that arrived with
            their head). "both": some transfers by each.
        native_bytes: The bytes that native loops transferred.
        transfers: The number of complete transfers.
        redirects: The redirects of all transfers.
        set_up: How long set-up took, from each transfer's first step to its first body byte.
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


class StreamReport(Brief, frozen=True, kw_only=True):
    """Hold one side's report of one stream. Times count from this side's origin; None: unknown.

    Attributes:
        id: The stream's number, as in `StreamResult`.
        role: This side's role: "sender" or "receiver".
        bytes: Receiver: bytes read. Sender: bytes handed to its kernel.
        acked_bytes: Sender: bytes that the receiver's kernel acknowledged.
        counted_bytes: The bytes of the counted period.
        counted_from_ns: The start of the counted period: after the omitted time.
        counted_to_ns: The end of the counted period: at the end of the duration, or with the last
            byte.
        first_ns: When the first byte was counted.
        last_ns: When the last byte was counted.
        retransmits: Segments sent again, SYNs not counted.
        syn_retransmits: SYNs sent again.
        mode: How the bytes were transferred: copy, sendfile or discard.
        block_bytes: The size of one send or receive call.
        end_reason: deadline, budget, stopped, aborted, eof or error.
        error: The error that ended the stream.
        cpu_user_ns: User time of the stream's thread; an equal part of it where streams share one.
        cpu_system_ns: System time, likewise.
        thread: The thread's CPU time, sampled during the run. None: unknown, or it is with the
            first of the streams that share the thread.
        series: Bytes per time bucket.
        tcp_info: TCP_INFO, sampled during the run.
        datagrams: Counts of a UDP stream.
        transfer: Facts of an HTTP or FTP stream.
        socket: The data socket.
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
        """Return the bytes known to have reached the other side; None: unknown."""
        return self.bytes if self.role == "receiver" else self.acked_bytes

    @property
    def counted_ns(self) -> int | None:
        """Return how long the counted period lasts; None: unknown."""
        if self.counted_from_ns is None or self.counted_to_ns is None:
            return None
        return self.counted_to_ns - self.counted_from_ns


class SideReport(Brief, frozen=True, kw_only=True):
    """Hold one end's report of all streams.

    The peer's report arrives in the results message of iperf3's protocol; None: unknown.

    Attributes:
        host: The end's host and program.
        streams: The streams in order of creation.
        duration_ns: How long this end's data phase lasted.
        cpu_user_ns: User time of the traffic threads, or of an iperf3 process.
        cpu_system_ns: System time of the traffic threads, or of an iperf3 process.
        concurrent_tests: The number of tests that the server ran at the same time, including this
            one.
        concurrent_tests_mean: The mean number of tests that transferred data on the server while
            this one did, including this one.
        resources: The resources that the test used on the host.
    """

    derived: ClassVar[tuple[str, ...]] = ("payload_bytes", "process_s_per_gb", "host_s_per_gb")

    host: Host = Host()
    streams: tuple[StreamReport, ...] = ()
    duration_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    concurrent_tests: int | None = None
    concurrent_tests_mean: float | None = None
    resources: Resources | None = None

    @property
    def payload_bytes(self) -> int | None:
        """Return the bytes received and acknowledged at this end, over all streams and
        directions."""
        known = [stream.delivered_bytes for stream in self.streams]
        return sum(n or 0 for n in known) if known and None not in known else None

    @property
    def process_s_per_gb(self) -> float | None:
        """Return the CPU seconds of the whole process per 10^9 bytes of payload."""
        used = self.resources.whole if self.resources is not None else None
        return s_per_gb(used.process_cpu_ns if used else None, self.payload_bytes)

    @property
    def host_s_per_gb(self) -> float | None:
        """Return the CPU seconds of the whole host, all processes, per 10^9 bytes of payload."""
        used = self.resources.whole if self.resources is not None else None
        return s_per_gb(used.host_cpu_ns if used else None, self.payload_bytes)

    @property
    def own_host_s_per_gb(self) -> float | None:
        """Return the CPU seconds that the test cost the host per 10^9 bytes of payload.

        This is the host's use under load less its idle baseline. None: there is no baseline, or the
        difference can't be separated from other load of the host (`Resources.own_is_lost`).
        """
        used = self.resources.whole if self.resources is not None else None
        if used is None or self.resources is None or self.resources.own is None:
            return None
        if self.resources.own_is_lost:
            return None
        return s_per_gb(self.resources.own.busy_ratio * used.duration_ns, self.payload_bytes)


def s_per_gb(cpu_ns: float | None, count: int | None) -> float | None:
    """Return CPU seconds per 10^9 bytes, which is the same as ns per byte; None: unknown."""
    return cpu_ns / count if cpu_ns is not None and count else None
