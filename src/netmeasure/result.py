"""What came of a measurement: one frozen Result for every kind of test.

Stored are counts and moments (integer ns on a stated clock); rates are computed from them, by the
analysis (stored, since they are its verdict) or by properties. Unknown is None, never 0.

Clocks. Every moment is CLOCK_MONOTONIC of the host that took it. Moments of a SideReport count from
that side's `origin`, the instant at which it was ready for data; moments of a Phase count from the
client's first attempt to reach the server. Moments of two hosts are never subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

from netmeasure.errors import ResultFormatError
from netmeasure.spec import Framing, Spec
from netmeasure.usage import HostUse, Resources, ThreadCpu

SCHEMA_VERSION = 1

Role = Literal["sender", "receiver"]
FlowDirection = Literal["upload", "download"]


class NetworkInterface(msgspec.Struct, frozen=True, kw_only=True):
    """An interface that data connections went through, as it was at the end of the test.

    offloads   what is switched on: rx-checksum, tx-checksum, sg, tso, gso, gro, lro (ethtool(8));
               None: the kernel does not say
    """

    name: str
    mtu_bytes: int | None = None
    offloads: tuple[str, ...] | None = None


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One end of the test. A plain iperf3 peer tells little of this.

    interfaces  of this end's data connections; none where they are not known
    """

    program: str | None = None
    version: str | None = None
    hostname: str | None = None
    system: str | None = None
    kernel: str | None = None
    machine: str | None = None
    cpu_count: int | None = None
    python: str | None = None
    interfaces: tuple[NetworkInterface, ...] = ()


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A named part of set-up. `start_ns` counts from the client's first attempt.

    name            resolve | connect | control | hello | first_byte; by URL: resolve | connect |
                    tls | request | first_byte | redirect, and of FTP greeting | auth | login |
                    size | passive | transfer_start | final_reply
    connection      "control", "stream N"; by FTP "stream N control", "stream N data"
    syn_retransmits SYNs sent again, from TCP_INFO right after connect (tcpi_total_retrans); None
                    where there is no connect or the kernel does not say
    """

    name: str
    connection: str
    start_ns: int
    duration_ns: int
    side: Literal["client", "server"] = "client"
    syn_retransmits: int | None = None
    address: str | None = None
    detail: str | None = None

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns


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


class DatagramHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A UDP receiver's counts in the course of the run, in columns: item i of every list is what
    held at `at_ns[i]` (from this side's origin), cumulative since the start; the last item is the
    end. Missing up to then: highest_sequence - packets. `jitter_ns` is RFC 3550's running value."""

    at_ns: tuple[int, ...]
    packets: tuple[int, ...]
    highest_sequence: tuple[int, ...]
    duplicate_packets: tuple[int, ...]
    reordered_packets: tuple[int, ...]
    host_dropped_packets: tuple[int, ...]
    jitter_ns: tuple[int | None, ...]


class Datagrams(msgspec.Struct, frozen=True, kw_only=True):
    """UDP: what one side counted on one stream, from its start (the omitted part included).

    packets          sender: taken by its kernel. receiver: received, each number once
    omitted_packets  those of the omitted time; None: it was not over (receiver)
    lost_packets     missing below the highest number received: highest - packets, never negative
                     (what was lost at the very end only the sender's count can tell: see Loss)
    late_packets     older than the window in which new and duplicate can be told apart
    invalid_packets  too short, too long, or with a number that can't be
    host_dropped_packets  dropped at the receiver's own full socket (SO_RXQ_OVFL): part of the loss
                     that is not the network's; a lower bound where trains are coalesced
    jitter_ns        RFC 3550 6.4.1; `jitter_valid` False: says nothing, datagrams went in trains
    mean_ipdv_ns     mean |delay difference| of neighbours (RFC 3393)
    delay_variation_ns    largest minus smallest one-way delay: needs no synchronised clocks
    largest_burst_bytes   most payload that left together; None: not paced
    skipped_ns       of the schedule, given up after stalls rather than sent as a burst
    refused_packets  not taken by the sender's kernel at first; sent again under the same number
    offload          sender: UDP_SEGMENT in use; receiver: UDP_GRO
    """

    datagram_bytes: int | None = None
    packets: int
    omitted_packets: int | None = 0
    highest_sequence: int | None = None
    omitted_highest_sequence: int | None = None
    lost_packets: int | None = None
    duplicate_packets: int | None = None
    reordered_packets: int | None = None
    late_packets: int | None = None
    invalid_packets: int | None = None
    host_dropped_packets: int | None = None
    icmp_errors: int | None = None
    jitter_ns: int | None = None
    jitter_valid: bool | None = None
    mean_ipdv_ns: int | None = None
    delay_variation_ns: int | None = None
    target_bps: int | None = None
    largest_burst_bytes: int | None = None
    wakeups: int | None = None
    late_wakeups: int | None = None
    skipped_ns: int | None = None
    refused_packets: int | None = None
    offload: bool | None = None
    offload_error: str | None = None
    history: DatagramHistory | None = None


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of durations; nearest-rank percentiles."""

    count: int
    min_ns: int
    median_ns: int
    p95_ns: int
    max_ns: int

    @classmethod
    def of(cls, durations_ns: Sequence[int]) -> Spread | None:
        """None of nothing."""
        if not durations_ns:
            return None
        ranked = sorted(durations_ns)

        def rank(percent: int) -> int:
            return ranked[-(-percent * len(ranked) // 100) - 1]

        return cls(
            count=len(ranked),
            min_ns=ranked[0],
            median_ns=rank(50),
            p95_ns=rank(95),
            max_ns=ranked[-1],
        )


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
        return _s_per_gb(used.process_cpu_ns if used else None, self.payload_bytes)

    @property
    def host_s_per_gb(self) -> float | None:
        """CPU time of the whole host, whoever used it, per 10^9 bytes of payload."""
        used = self.resources.whole if self.resources is not None else None
        return _s_per_gb(used.host_cpu_ns if used else None, self.payload_bytes)

    @property
    def own_host_s_per_gb(self) -> float | None:
        """The run's own share of the host's CPU time (under load less the idle baseline), per 10^9
        bytes of payload; None without a baseline."""
        used = self.resources.whole if self.resources is not None else None
        if used is None or self.resources is None or self.resources.own is None:
            return None
        return _s_per_gb(self.resources.own.busy_ratio * used.duration_ns, self.payload_bytes)


def _s_per_gb(cpu_ns: float | None, count: int | None) -> float | None:
    """CPU-seconds per 10^9 bytes: ns per byte, which is the same."""
    return cpu_ns / count if cpu_ns is not None and count else None


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a transfer: the ramp before the steady state, the tail after it, a stall or a
    level within it."""

    start_ns: int
    end_ns: int
    bytes: int

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def goodput_bps(self) -> float:
        """0.0 for an empty one."""
        return self.bytes * 8e9 / self.duration_ns if self.duration_ns > 0 else 0.0


class Steady(msgspec.Struct, frozen=True, kw_only=True):
    """The steady state. Moments count from the counting side's origin.

    verdict               steady | shifted (from one level to another: see `levels`) |
                          not_steady (no plateau was found) | too_short (too few data to tell). But
                          for the first, the rate is a best effort
    goodput_bps           the mean over the whole stretch, with its stalls, and over all levels
    confidence_interval   (low, high) in bit/s, 95 %, of the mean that this path in this state has;
                          None: not estimated
    grade                 of the interval: A (covers the truth as often as it says), B (nearly so),
                          C (rather too narrow: it says "at least +-"; also of all but `steady`)
    autocorrelation_ns    the run is worth `duration_ns` / this independent samples
    stalls                stretches of 0.2 s or longer in which nothing came at all
    levels                one after the other, where the verdict is `shifted`
    """

    verdict: Literal["steady", "shifted", "not_steady", "too_short"]
    start_ns: int
    end_ns: int
    bytes: int
    goodput_bps: float
    batches: int
    batch_ns: int
    confidence_interval: tuple[float, float] | None = None
    grade: Literal["A", "B", "C"] | None = None
    autocorrelation_ns: int | None = None
    stalls: tuple[Stretch, ...] = ()
    levels: tuple[Stretch, ...] = ()

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def stalled_ns(self) -> int:
        return sum(stall.duration_ns for stall in self.stalls)

    @property
    def between_stalls_bps(self) -> float:
        """The rate of the time in which something came."""
        moving_ns = self.duration_ns - self.stalled_ns
        return self.bytes * 8e9 / moving_ns if moving_ns > 0 else 0.0

    @property
    def margin(self) -> float | None:
        """Half the interval's width as a share of the rate: 0.01 is +-1 %."""
        if self.confidence_interval is None or self.goodput_bps <= 0:
            return None
        return (self.confidence_interval[1] - self.goodput_bps) / self.goodput_bps


class Averages(msgspec.Struct, frozen=True, kw_only=True):
    """The figures that other tools would have printed for the same transfer, in bit/s.

    from_first_attempt_bps  all bytes over the time since the client first tried to connect (curl's)
    from_first_byte_bps     all bytes over the time from the first to the last byte
    after_omit_bps          bytes after the omitted time over that time (iperf3's summary)
    set_up_ns               what the first of these counts and the second does not
    """

    from_first_attempt_bps: float | None = None
    from_first_byte_bps: float | None = None
    after_omit_bps: float | None = None
    set_up_ns: int | None = None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the streams of one side of a flow."""

    bytes: int | None = None
    acked_bytes: int | None = None
    retransmits: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None

    @property
    def threads_s_per_gb(self) -> float | None:
        """CPU time of the traffic threads, per 10^9 bytes of payload."""
        if self.cpu_user_ns is None or self.cpu_system_ns is None:
            return None
        moved = self.bytes if self.acked_bytes is None else self.acked_bytes
        return _s_per_gb(self.cpu_user_ns + self.cpu_system_ns, moved)


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """UDP: what became of a flow's datagrams after the omitted time, over all streams, from both
    ends' counts: `sent_packets` = `received_packets` + `lost_packets`, exactly. None: one end's
    count is not known."""

    sent_packets: int | None = None
    received_packets: int | None = None
    lost_packets: int | None = None
    duplicate_packets: int | None = None
    reordered_packets: int | None = None
    host_dropped_packets: int | None = None
    jitter_ns: int | None = None
    jitter_valid: bool | None = None

    @property
    def loss_ratio(self) -> float | None:
        if self.lost_packets is None or not self.sent_packets:
            return None
        return self.lost_packets / self.sent_packets


Limit = Literal[
    "pacing",
    "sender_cpu",
    "receiver_cpu",
    "receive_window",
    "send_buffer",
    "congestion_window",
    "link",
    "network",
    "application",
]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What held a flow back, over its whole transfer or one interval of it, and the figures that
    say so: `analysis.verdict` has the rules. Ratios are 0 to 1 and more; None: not known.

    limited_by       link: data queued on the way. congestion_window: they did not, the path could
                     have carried more than the sender's congestion control let through. network:
                     one of the two. application: the sender often had nothing to send
    target_ratio     the rate over the target that was asked for
    sender_cpu_ratio, receiver_cpu_ratio
                     of the time, the busiest traffic thread was on a CPU
    sender_wait_ratio, receiver_wait_ratio
                     of the time, that thread was ready to run and others had its CPU
    busy_ratio       of the time the sender had data to send or unacknowledged (TCP_INFO)
    rwnd_limited_ratio, sndbuf_limited_ratio
                     of that busy time, stopped by the receiver's window, by its own send buffer
    cwnd_used_ratio, rwnd_used_ratio
                     data on the way (rate times round trip) over the congestion window and over the
                     receiver's
    unsent_ratio     of the samples, those in which data waited in the sender's socket to be sent
    pacing_ratio     the congestion control's own pacing rate over the rate
    queue_delay_ns   how much longer the round trip was under load than at best
    buffer_delay_ratio  the same as a share of the best (RFC 6349)
    rate_variation   standard deviation of the rate between parts of the stretch, over its mean
    tcp_efficiency   bytes sent less those sent again, of those sent (RFC 6349)
    window_needed_bytes each stream's bandwidth-delay product, at its rate and the least round trip
    """

    limited_by: Limit | None = None
    target_ratio: float | None = None
    sender_cpu_ratio: float | None = None
    sender_wait_ratio: float | None = None
    receiver_cpu_ratio: float | None = None
    receiver_wait_ratio: float | None = None
    busy_ratio: float | None = None
    rwnd_limited_ratio: float | None = None
    sndbuf_limited_ratio: float | None = None
    cwnd_used_ratio: float | None = None
    rwnd_used_ratio: float | None = None
    unsent_ratio: float | None = None
    pacing_ratio: float | None = None
    queue_delay_ns: int | None = None
    buffer_delay_ratio: float | None = None
    rate_variation: float | None = None
    tcp_efficiency: float | None = None
    window_needed_bytes: int | None = None


class FlowInterval(msgspec.Struct, frozen=True, kw_only=True):
    """One reporting period of a flow, or several neighbours of them in a long run: what came, what
    held it back, what it cost each end.

    Moments and bytes are of the counting side (`Flow.counted_by`). The other side's figures are of
    the same stretch counted from its own start signal: half a round trip earlier or later.
    """

    start_ns: int
    end_ns: int
    bytes: int
    omitted: bool = False
    limits: Limits | None = None
    sender: HostUse | None = None
    receiver: HostUse | None = None

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def goodput_bps(self) -> float:
        """0.0 for an empty one."""
        return self.bytes * 8e9 / self.duration_ns if self.duration_ns > 0 else 0.0


class CeilingLayer(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of header takes of a full packet, all fragments together."""

    name: str
    bytes: int
    source: str = ""


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The theoretical payload maximum of a link, from the bytes of a full packet on it.

    payload_bps     what is left of `link_bps`; None: the link's rate is unknown
    payload_bytes   of a full packet; `link_bytes` what the link's rate counts for it
    layers          from the payload outwards; their sum is `link_bytes`
    mtu_bytes       of the (inner) packets that carry the payload; `link_mtu_bytes` of the link
    packet_bytes    the IP packets that one of them becomes on the link; more than one: fragments
    right_*         the largest MTU that needs no fragments, its MSS (without TCP's options, as it
                    is announced; None for UDP), and the figures of a full packet with it
    """

    link_bps: int | None = None
    payload_bps: float | None = None
    transport: Literal["tcp", "udp"]
    ip_version: Literal[4, 6]
    timestamps: bool = False
    encapsulation: str = ""
    framing: Framing
    link_mtu_bytes: int
    mtu_bytes: int
    mss_bytes: int | None = None
    payload_bytes: int
    link_bytes: int
    packet_bytes: tuple[int, ...]
    layers: tuple[CeilingLayer, ...]
    right_mtu_bytes: int
    right_mss_bytes: int | None = None
    right_payload_bytes: int
    right_link_bytes: int

    @property
    def share(self) -> float:
        """Of the link's rate."""
        return self.payload_bytes / self.link_bytes

    @property
    def right_share(self) -> float:
        """The share with the right MTU."""
        return self.right_payload_bytes / self.right_link_bytes

    @property
    def packets_per_second(self) -> float | None:
        """IP packets on the link, fragments included."""
        if self.link_bps is None:
            return None
        return self.link_bps / 8 / self.link_bytes * len(self.packet_bytes)


class PathFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What this host's kernel knows of the way to another. Unknown is None.

    path_mtu_bytes  of the route, or learned from ICMP (ip(7), IP_MTU)
    interface_kind  as the kernel names it (vxlan, wireguard, vlan...); Ethernet and veth have none
    speed_bps       the interface's own word; `speed_is_real` False: nothing physical is below it
                    (a veth says 10 Gbit/s, always)
    """

    address: str
    ip_version: Literal[4, 6]
    path_mtu_bytes: int | None = None
    interface: str | None = None
    interface_kind: str | None = None
    interface_mtu_bytes: int | None = None
    speed_bps: int | None = None
    speed_is_real: bool | None = None


class StreamResult(msgspec.Struct, frozen=True, kw_only=True):
    """One stream from both ends. `steady` is its part of the flow's steady state: over the same
    stretch of time, with a verdict and an interval of its own."""

    id: int
    sender: StreamReport | None = None
    receiver: StreamReport | None = None
    steady: Steady | None = None


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """All data that went in one direction.

    `counted_by` says which side's series the analysis used, and so whose clock `steady`, `ramp`,
    `tail` and `series` are on: the receiver's bytes where its series is known, else the bytes that
    the sender saw acknowledged. `ceiling` is there where the spec knows the link's rate.
    """

    direction: FlowDirection
    streams: tuple[StreamResult, ...]
    counted_by: Role | None = None
    series: Series | None = None
    ramp: Stretch | None = None
    steady: Steady | None = None
    tail: Stretch | None = None
    averages: Averages = Averages()
    sender: Totals = Totals()
    receiver: Totals = Totals()
    loss: Loss | None = None
    limits: Limits | None = None
    intervals: tuple[FlowInterval, ...] = ()
    ceiling: Ceiling | None = None

    @property
    def ceiling_share(self) -> float | None:
        """The steady bitrate over the link's payload ceiling; None where either is unknown."""
        if self.steady is None or self.ceiling is None or not self.ceiling.payload_bps:
            return None
        return self.steady.goodput_bps / self.ceiling.payload_bps


Ending = Literal["narrow", "cap", "ended", "stopped"]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the client knew of one direction while the test went on: its steady state over the first
    `at_ns` after the omitted time, of the bytes received, or acknowledged where it sends. All but
    the moment is None where nothing had come yet."""

    direction: FlowDirection
    at_ns: int
    verdict: str | None = None
    goodput_bps: float | None = None
    margin: float | None = None
    grade: str | None = None


class AutoStop(msgspec.Struct, frozen=True, kw_only=True):
    """How a test ended that was to end when its interval is narrow (`spec.timing.until`).

    reason      narrow: by itself. cap: it went on for all of `cap_ns`. ended: what was transferred
                came to its end before. stopped: by the user, or an error
    counted_ns  of a test that ended by itself, the measured time at the look that decided it: the
                flows' analysis ends there, too, and what came later is their tail
    looks       all of them, in their order, one per direction
    """

    target: float
    reason: Ending
    cap_ns: int
    counted_ns: int | None = None
    looks: tuple[Look, ...] = ()

    @property
    def saved_ns(self) -> int:
        """Against the cap."""
        return 0 if self.counted_ns is None else self.cap_ns - self.counted_ns


class ErrorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Why a result is incomplete. `number` is iperf3's of the error, where one end told it to the
    other (SERVER_ERROR)."""

    code: str
    message: str
    phase: str | None = None
    hint: str | None = None
    number: int | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. `complete` is False when it was cut short; what was measured is still here.

    `notes` are sentences about what was asked for and could not be had, or could not be learned.
    `server_output` is what the server itself printed of the test, where it was asked for that: text
    or, of one that writes JSON, an object as JSON.
    `auto_stop` is there where the spec says `until`.
    """

    schema_version: int = SCHEMA_VERSION
    spec: Spec
    complete: bool
    error: ErrorRecord | None = None
    started_at: str
    target: str
    setup: tuple[Phase, ...] = ()
    flows: tuple[Flow, ...] = ()
    client: SideReport = SideReport()
    server: SideReport = SideReport()
    peer_extended: bool = False
    server_output: str | None = None
    auto_stop: AutoStop | None = None
    notes: tuple[str, ...] = ()

    @property
    def upload(self) -> Flow | None:
        return next((flow for flow in self.flows if flow.direction == "upload"), None)

    @property
    def download(self) -> Flow | None:
        return next((flow for flow in self.flows if flow.direction == "download"), None)

    @property
    def flow(self) -> Flow:
        """The only flow of a one-way test; the upload of a two-way test. ResultFormatError where
        nothing was measured."""
        if not self.flows:
            raise ResultFormatError("nothing was measured: the test did not get that far")
        return self.flows[0]

    @property
    def steady(self) -> Steady | None:
        return self.flows[0].steady if self.flows else None

    @property
    def sender(self) -> Totals:
        return self.flows[0].sender if self.flows else Totals()

    @property
    def receiver(self) -> Totals:
        return self.flows[0].receiver if self.flows else Totals()

    @property
    def set_up_ns(self) -> int | None:
        """From the client's first attempt to the first payload byte."""
        return self.flows[0].averages.set_up_ns if self.flows else None

    @property
    def syn_retransmits(self) -> int | None:
        """SYNs sent again, over all connections of the run; None if no connect was measured."""
        known = [p.syn_retransmits for p in self.setup if p.syn_retransmits is not None]
        return sum(known) if known else None

    def to_json(self, *, indent: int = 2) -> bytes:
        """This result as UTF-8 JSON; `from_json` gives an equal one back."""
        return msgspec.json.format(msgspec.json.encode(self), indent=indent)

    @classmethod
    def from_json(cls, data: bytes | str) -> Result:
        """Read a saved result. Raises ResultFormatError."""
        return read_json(data, cls)


T = TypeVar("T", bound=msgspec.Struct)


def read_json(data: bytes | str, kind: type[T]) -> T:
    """A saved document of this schema version. Raises ResultFormatError."""
    try:
        version = msgspec.json.decode(data, type=_Versioned).schema_version
        if version != SCHEMA_VERSION:
            raise ResultFormatError(
                f"the result has schema version {version}; this netmeasure reads version"
                f" {SCHEMA_VERSION}",
                hint="read it with the netmeasure that wrote it",
            )
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ResultFormatError(f"not a netmeasure result: {exc}") from None


class _Versioned(msgspec.Struct):
    schema_version: int


class StreamInterval(msgspec.Struct, frozen=True, kw_only=True):
    """One stream's part of an Interval. Counts are new ones of the period.

    bytes              as in Interval
    retransmits        segments sent again, SYNs not counted (TCP, where this side sends)
    cwnd_bytes to reordering_seen
                       of TCP_INFO, read at the period's end (TCP, where this side sends);
                       `reordering_seen` counts since the connection's start
    packets            UDP: sent or received
    lost_packets, reordered_packets   UDP, where this side receives; a datagram that comes late
                       after all makes the first negative
    jitter_ns          the running value (RFC 3550) at the period's end
    """

    id: int
    bytes: int
    retransmits: int | None = None
    cwnd_bytes: int | None = None
    snd_wnd_bytes: int | None = None
    rtt_ns: int | None = None
    rttvar_ns: int | None = None
    pmtu_bytes: int | None = None
    reordering_seen: int | None = None
    packets: int | None = None
    lost_packets: int | None = None
    reordered_packets: int | None = None
    jitter_ns: int | None = None


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """One live reporting period of one direction. Its ends are read, not assumed.

    Counted at this side: bytes received, or bytes acknowledged where this side sends. Moments count
    from this side's origin; `retransmits` is of the streams that this side sends on. UDP: `packets`
    sent or received; `lost_packets` (new ones, less those that came late after all) and `jitter_ns`
    (RFC 3550, at the interval's end) only where this side receives: the course of the losses at
    the far side is in the result, as its `DatagramHistory`. `streams` in order of creation.
    """

    direction: FlowDirection
    counted_by: Role
    start_ns: int
    end_ns: int
    bytes: int
    streams: tuple[StreamInterval, ...]
    omitted: bool = False
    retransmits: int | None = None
    packets: int | None = None
    lost_packets: int | None = None
    jitter_ns: int | None = None

    @property
    def stream_bytes(self) -> tuple[int, ...]:
        return tuple(stream.bytes for stream in self.streams)

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def goodput_bps(self) -> float:
        """Bits per second over the interval; 0.0 for an empty one."""
        return self.bytes * 8e9 / self.duration_ns if self.duration_ns > 0 else 0.0
