"""Specify tests with a server: TCP, UDP, and round trips."""

from __future__ import annotations

from netmeasure.errors import SpecError
from netmeasure.spec.checked import Checked, documented, encoded, within
from netmeasure.spec.parts import Credentials, Deadlines, Link, Secret, SocketOptions, Timing
from netmeasure.spec.words import (
    DEFAULT_BLOCK_BYTES,
    DEFAULT_UDP_BPS,
    MAX_BLOCK_BYTES,
    MAX_BURST,
    MAX_CPU,
    MAX_DATAGRAM_BYTES,
    MAX_IN_FLIGHT,
    MAX_MESSAGE_BYTES,
    MAX_SPIN_US,
    MAX_STREAMS,
    MAX_TEXT,
    MIN_DATAGRAM_BYTES,
    Direction,
    ReceiveMode,
    SendMode,
    Transport,
)


class _PeerSpec(Checked, frozen=True, kw_only=True):
    """Hold the common fields of tests with a server.

    Attributes:
        direction: "upload", "download" or "both", seen from the client.
        streams: Parallel streams in each direction: 1 to 1024, in both directions 1 to 512 each. A
            server permits 128, unless it was told otherwise.
        timing: When the test ends, and which part of it counts.
        title: A text for the results of both ends.
        extra_data: Another text for the results of both ends.
        repeating_payload: Send the digits 0 to 9 repeatedly instead of random bytes.
        cpu: The only CPU that this end's traffic threads run on; None: any.
        server_cpu: The only CPU that the server's traffic threads run on; None: any.
        server_output: Request the server's own output (iperf3's --get-server-output).
        exclusive: Wait until no other test runs on the server, and prevent concurrent tests; only a
            netmeasure server supports this.
        credentials: The credentials for a server that authenticates its clients.
        secret: The secret that the server must know, too. If one end does not know it, the other
            refuses the test.
        tls: Encrypt the control connection; the data connections are not encrypted.
        ca_file: With `tls`: CA certificates (PEM) to trust instead of the system's.
        options: Options of the data sockets.
        deadlines: How long each kind of wait may take.
        link: The known properties of the slowest link on the path.
    """

    direction: Direction = "upload"
    streams: int = 1
    timing: Timing = Timing()
    title: str | None = None
    extra_data: str | None = None
    repeating_payload: bool = False
    cpu: int | None = None
    server_cpu: int | None = None
    server_output: bool = False
    exclusive: bool = False
    credentials: Credentials | None = None
    secret: Secret | None = None
    tls: bool = False
    ca_file: str | None = None
    options: SocketOptions = SocketOptions()
    deadlines: Deadlines = Deadlines()
    link: Link | None = None

    def _check(self) -> None:
        ways = 2 if self.direction == "both" else 1
        within("number of streams", self.streams, 1, MAX_STREAMS // ways, "")
        within("CPU", self.cpu, 0, MAX_CPU, "")
        if self.ca_file is not None and not self.tls:
            raise SpecError("a CA file needs TLS", hint="ask for TLS, too")
        within("the server's CPU", self.server_cpu, 0, MAX_CPU, "")
        for name in ("title", "extra_data"):
            what = name.replace("_", " ")
            size = len(encoded(what, getattr(self, name) or ""))
            within(f"length of {what}", size, 0, MAX_TEXT, "bytes")

    @property
    def over_udp(self) -> bool:
        """Return whether the data are sent by UDP."""
        return False

    def _check_udp_options(self) -> None:
        """Raise SpecError for a socket option that UDP does not have."""
        for name in ("congestion", "mss_bytes", "no_delay", "multipath"):
            if getattr(self.options, name):
                raise SpecError(f"{name} is a socket option of TCP, not of UDP")

    @property
    def limit_s(self) -> float | None:
        """Return the seconds to measure after the omitted ones; None: another limit ends the
        test."""
        return self.timing.limit_s


@documented
class UdpSpec(_PeerSpec, frozen=True, kw_only=True, tag="udp", tag_field="kind"):
    """Specify a UDP test at a set rate.

    Attributes:
        datagram_bytes: Payload of a datagram, 16 to 65507; None: the largest that the path's MTU
            allows without fragments.
        size_by_mss: Let None mean iperf3's default: the MSS of the control connection.
        counters_64bit: Use 64-bit sequence numbers; iperf3's default is 32 bits.
        target_bps: Payload bit/s of each stream; None: as fast as possible.
        target_pps: Datagrams per second of each stream, instead of `target_bps`.
        burst_datagrams: Datagrams sent back to back at each step of the pacing; None: as few as the
            rate allows.
        offload: Let the kernel split and join datagrams if it can (UDP_SEGMENT, UDP_GRO, udp(7)).
        ask_offload: Request offload from an iperf3 server (3.21 or newer), too.
        spin_us: Microseconds of busy waiting before each send, which makes it more exact but uses
            more CPU time.
        latency: Probe the path before and during the test to measure the latency under load; only a
            netmeasure server answers the probe.

    Raises:
        SpecError: A value is out of range, or two of them exclude each other.
    """

    datagram_bytes: int | None = None
    size_by_mss: bool = False
    counters_64bit: bool = True
    target_bps: int | None = DEFAULT_UDP_BPS
    target_pps: int | None = None
    burst_datagrams: int | None = None
    offload: bool = True
    ask_offload: bool = False
    spin_us: int = 0
    latency: bool = True

    def _check(self) -> None:
        super()._check()
        within("datagram size", self.datagram_bytes, MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES, "B")
        within("target bitrate", self.target_bps, 1, 10**13, "bit/s")
        within("packet rate", self.target_pps, 1, 10**9, "packets/s")
        within("spin", self.spin_us, 0, MAX_SPIN_US, "us")
        within("burst", self.burst_datagrams, 1, MAX_BURST, "datagrams")
        if self.target_pps is not None and self.target_bps not in (None, DEFAULT_UDP_BPS):
            raise SpecError("only one of target bitrate and packet rate can be given")
        if self.timing.until is not None and self.direction != "download":
            raise SpecError(
                "only what arrives here can end a UDP test: its sender does not know what arrived",
                hint="measure the download, or give a duration",
            )
        self._check_udp_options()

    @property
    def over_udp(self) -> bool:
        """Return True: the data are sent by UDP."""
        return True

    @property
    def total_bytes(self) -> int | None:
        """Return the byte limit per direction, given in bytes or datagrams.

        None: time ends the test, or the datagrams' size is not known yet.
        """
        if self.timing.total_blocks is not None:
            return self.timing.total_blocks * self.datagram_bytes if self.datagram_bytes else None
        return self.timing.total_bytes


@documented
class TcpSpec(_PeerSpec, frozen=True, kw_only=True, tag="tcp", tag_field="kind"):
    """Specify a bulk TCP test.

    Attributes:
        block_bytes: Bytes of one send call, up to 1 MiB.
        target_bps: Bit/s of each stream; None: as fast as possible.
        burst_blocks: Blocks that an iperf3 server sends back to back at a set rate. A netmeasure
            end leaves the pacing to its kernel, which sends no bursts.
        send_mode: "copy": send(2) from memory. "sendfile": sendfile(2), without copying.
        receive_mode: "copy": recv(2) to memory. "discard": the kernel drops the payload (MSG_TRUNC,
            tcp(7)).
        file: A regular file. Each sending stream of this end sends it, and the test ends at its end
            at the latest; each receiving stream of this end writes to it.
        latency: Probe the path before and during the test to measure the latency under load; only a
            netmeasure server answers the probe.

    Raises:
        SpecError: A value is out of range, or two of them exclude each other.
    """

    block_bytes: int = DEFAULT_BLOCK_BYTES
    target_bps: int | None = None
    burst_blocks: int | None = None
    send_mode: SendMode = "copy"
    receive_mode: ReceiveMode = "copy"
    file: str | None = None
    latency: bool = True

    def _check(self) -> None:
        super()._check()
        within("block size", self.block_bytes, 1, MAX_BLOCK_BYTES, "bytes")
        within("target bitrate", self.target_bps, 1, 10**13, "bit/s")
        within("burst", self.burst_blocks, 1, MAX_BURST, "blocks")
        if self.options.dont_fragment:
            raise SpecError("don't-fragment is an option of UDP, not of TCP")
        if self.file is not None and self.direction == "both":
            raise SpecError(
                "one file can't be sent and written at the same time",
                hint="upload or download it, not both",
            )
        if self.file is not None and self.receive_mode == "discard":
            raise SpecError("a file can't be written with receive mode discard", hint="use copy")

    @property
    def total_bytes(self) -> int | None:
        """Return the byte limit per direction, given in bytes or blocks; None: time ends it."""
        if self.timing.total_blocks is not None:
            return self.timing.total_blocks * self.block_bytes
        return self.timing.total_bytes


@documented
class RrSpec(_PeerSpec, frozen=True, kw_only=True, tag="rr", tag_field="kind"):
    """Specify a test of round trips: requests and responses on persistent TCP connections, on a
    fresh TCP connection each, or in UDP datagrams.

    Both ends must be netmeasure. Each transaction is timed at the client. `direction` is "upload",
    the direction of the requests. `streams` is the number of connections, and `timing.total_blocks`
    a number of transactions over all of them. Nagle's algorithm is always off.

    With fresh connections (netperf's TCP_CRR), `streams` is how many are open at a time. A
    connection, or an answer, that takes longer than `deadlines.connect_s` has failed, and is
    counted as an error.

    Attributes:
        transport: "tcp" or "udp".
        keep_connections: Reuse connections. False: each transaction opens a new TCP connection,
            whose set-up is a part of its time, and which the server closes after its response.
        request_bytes: The length of a request, up to 1 MiB; of a datagram 16 to 65507.
        response_bytes: The length of a response, up to 1 MiB; of a datagram 16 to 65507.
        in_flight: The most requests of a connection without a response at a time.
        target_tps: Transactions per second of each connection, each timed from when it was due;
            None: a request is sent when a response has arrived.
        lost_after_s: UDP: the seconds after which a request without a response is lost. No latency
            includes it, and another request may be sent in its place.

    Raises:
        SpecError: A value is out of range, or two of them exclude each other.
    """

    transport: Transport = "tcp"
    keep_connections: bool = True
    request_bytes: int = 1
    response_bytes: int = 1
    in_flight: int = 1
    target_tps: int | None = None
    lost_after_s: float = 1.0

    def _check(self) -> None:
        super()._check()
        least, most = 1, MAX_MESSAGE_BYTES
        if self.over_udp:
            least, most = MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES
            self._check_udp_options()
        unit = "B" if self.over_udp else "bytes"  # 64.0 KiB would be too much
        within("request size", self.request_bytes, least, most, unit)
        within("response size", self.response_bytes, least, most, unit)
        within("time after which a request is lost", self.lost_after_s, 0.001, 60, "s")
        within("number in flight", self.in_flight, 1, MAX_IN_FLIGHT, "")
        within("target rate", self.target_tps, 1, 10**9, "transactions/s")
        if self.direction != "upload":
            raise SpecError("round trips have no direction", hint="leave it out")
        if self.timing.total_bytes is not None:
            raise SpecError(
                "a test of round trips does not end by bytes",
                hint="give a time, or a number of transactions (total_blocks, -k)",
            )
        if self.options.dont_fragment and not self.over_udp:
            raise SpecError("don't-fragment is an option of UDP, not of TCP")
        if not self.keep_connections:
            self._check_fresh()

    def _check_fresh(self) -> None:
        """Raise SpecError for what fresh connections do not have."""
        if self.over_udp:
            raise SpecError(
                "UDP has no connections: only TCP can open one for each transaction",
                hint="measure TCP, or keep the streams (--rr -u)",
            )
        if self.in_flight > 1:
            raise SpecError(
                "a fresh connection has one request in flight", hint="use more connections (-P)"
            )
        for name in ("flow_label", "multipath", "bind_port"):
            if getattr(self.options, name):
                raise SpecError(f"{name.replace('_', ' ')} is not an option of fresh connections")

    @property
    def over_udp(self) -> bool:
        """Return whether requests and responses are datagrams."""
        return self.transport == "udp"

    @property
    def block_bytes(self) -> int:
        """Return the most bytes of one send call, which is a request."""
        return self.request_bytes

    @property
    def target_bps(self) -> int | None:
        """Return the payload bit/s at the set rate, in both directions together; None: no rate is
        set."""
        if self.target_tps is None:
            return None
        return self.target_tps * (self.request_bytes + self.response_bytes) * 8

    @property
    def total_bytes(self) -> int | None:
        """Return the bytes of all requests; None: time ends the test."""
        blocks = self.timing.total_blocks
        return None if blocks is None else blocks * self.request_bytes
