"""Define the parts that specifications have in common."""

from __future__ import annotations

from netmeasure.errors import SpecError
from netmeasure.overhead.encapsulation import parse_stack
from netmeasure.overhead.sizes import MAX_MTU_BYTES
from netmeasure.spec.checked import Checked, check_device, check_keepalive, is_utf8, within
from netmeasure.spec.target import check_family
from netmeasure.spec.words import (
    DEFAULT_CAP_S,
    DEFAULT_DURATION_S,
    MAX_BLOCK_BYTES,
    MAX_COUNT,
    MAX_DURATION_S,
    MAX_FLOW_LABEL,
    MAX_MSS_BYTES,
    MAX_OMIT_S,
    MAX_PEM,
    MAX_UNTIL,
    MAX_WINDOW_BYTES,
    MIN_BASELINE_S,
    MIN_UNTIL,
    Family,
    Framing,
    Padding,
)


class Timing(Checked, frozen=True, kw_only=True):
    """Define when a test ends, and which part of it counts.

    One of `duration_s`, `total_bytes` and `total_blocks` ends the test. With none of them it lasts
    10 s, unless it is `endless`.

    Attributes:
        duration_s: Seconds to measure, 0.001 to 86400.
        total_bytes: Bytes per direction.
        total_blocks: Blocks, or datagrams, per direction.
        endless: The test runs until the user, the end of a file or the peer ends it.
        omit_s: Seconds of additional warm-up, 0 to 600. The time series include them; rates and
            limits of bytes or blocks exclude them.
        interval_s: The period of live intervals in seconds.
        baseline_s: Seconds to observe this host at rest before the first attempt to connect, which
            shows the test's own share of CPU time; 0: do not observe.
        until: The test ends as soon as half the confidence interval of the steady bitrate is
            narrower than this share of it (0.02: +-2 %), in every direction. `duration_s` is then
            the longest time to measure, by default 60 s. None: the test does not end automatically.

    Raises:
        SpecError: A value is out of range, or two of them exclude each other.
    """

    duration_s: float | None = None
    total_bytes: int | None = None
    total_blocks: int | None = None
    endless: bool = False
    omit_s: float = 0.0
    interval_s: float = 1.0
    baseline_s: float = 0.0
    until: float | None = None

    def _check(self) -> None:
        ends = [self.duration_s, self.total_bytes, self.total_blocks]
        if sum(end is not None for end in ends) > 1:
            raise SpecError("only one of duration, bytes and blocks can end a test")
        if self.endless and any(end is not None for end in ends):
            raise SpecError("an endless test has no limit of time, bytes or blocks")
        within("until", self.until, MIN_UNTIL, MAX_UNTIL, "of the bitrate")
        if self.until is not None and (self.total_bytes or self.total_blocks or self.endless):
            raise SpecError(
                "a test that ends at a given precision (until) can be limited by time only",
                hint="give the most that it may take as a duration",
            )
        within("duration", self.duration_s, 0.001, MAX_DURATION_S, "s")
        within("bytes", self.total_bytes, 1, MAX_COUNT, "bytes")
        within("blocks", self.total_blocks, 1, MAX_COUNT // MAX_BLOCK_BYTES, "blocks")
        within("omit", self.omit_s, 0, MAX_OMIT_S, "s")
        within("interval", self.interval_s, 0.01, MAX_DURATION_S, "s")
        if self.baseline_s != 0:  # the kernel's clock ticks can't resolve less
            within("baseline", self.baseline_s, MIN_BASELINE_S, MAX_OMIT_S, "s")

    @property
    def given_limit_s(self) -> float | None:
        """Return the duration, or the longest time with `until`; None: the specification has
        neither."""
        return DEFAULT_CAP_S if self.until and self.duration_s is None else self.duration_s

    @property
    def limit_s(self) -> float | None:
        """Return the seconds to measure after the omitted ones; None: another limit ends the
        test."""
        if self.total_bytes is None and self.total_blocks is None and not self.endless:
            limit_s = self.given_limit_s
            return DEFAULT_DURATION_S if limit_s is None else limit_s
        return None


class SocketOptions(Checked, frozen=True, kw_only=True):
    """Set options of the data connections; None leaves the kernel's own choice.

    Attributes:
        congestion: Congestion control at both ends (TCP_CONGESTION, tcp(7)).
        mss_bytes: Maximum segment size, 88 to 32767 (TCP_MAXSEG, tcp(7)).
        no_delay: Switch Nagle's algorithm off (TCP_NODELAY, tcp(7)).
        window_bytes: Socket buffers at both ends (SO_SNDBUF, SO_RCVBUF, socket(7)). This switches
            the kernel's autotuning off.
        pacing_bps: The highest rate of each stream in bit/s, at both ends: for TCP it is enforced
            by the kernel (SO_MAX_PACING_RATE, socket(7)), for UDP by the sender's schedule.
        tos: Type of service or traffic class of all packets of both ends: 4 times the DSCP (RFC
            2474) plus the ECN bits.
        flow_label: Flow label of the IPv6 packets that the client sends (RFC 6437).
        dont_fragment: UDP over IPv4: set DF, so that too large datagrams cause errors.
        multipath: Use MPTCP instead of TCP (RFC 8684), on the control connection, too.
        bind_address: The local address of the client.
        bind_port: The local port of the first stream; stream i has `bind_port` + i.
        bind_device: The only interface that the client's connections use (SO_BINDTODEVICE,
            socket(7)).
        keepalive: (idle s, interval s, probes) of the control connection (tcp(7)); None: chosen to
            suit the deadlines.
        family: "ipv4", "ipv6" or "any".

    Raises:
        SpecError: A value is out of range, or does not fit the IP version.
    """

    congestion: str | None = None
    mss_bytes: int | None = None
    no_delay: bool = False
    window_bytes: int | None = None
    pacing_bps: int | None = None
    tos: int | None = None
    flow_label: int | None = None
    dont_fragment: bool = False
    multipath: bool = False
    bind_address: str | None = None
    bind_port: int | None = None
    bind_device: str | None = None
    keepalive: tuple[int, int, int] | None = None
    family: Family = "any"

    def _check(self) -> None:
        within("MSS", self.mss_bytes, 88, MAX_MSS_BYTES, "bytes")
        within("window", self.window_bytes, 1, MAX_WINDOW_BYTES, "bytes")
        within("bind port", self.bind_port, 1, 65_535, "")
        within("pacing rate", self.pacing_bps, 1, 10**13, "bit/s")
        within("TOS", self.tos, 0, 255, "")
        within("flow label", self.flow_label, 1, MAX_FLOW_LABEL, "")
        check_device(self.bind_device)
        check_keepalive(self.keepalive)
        if self.flow_label is not None and self.family == "ipv4":
            raise SpecError("only IPv6 has flow labels", hint="ask for IPv6")
        name = self.congestion
        if name is not None and not (is_utf8(name) and 0 < len(name.encode()) < 16):
            raise SpecError(f"{self.congestion!r} is not the name of a congestion control")
        check_family(self.bind_address, self.family)


class Deadlines(Checked, frozen=True, kw_only=True):
    """Set how long each kind of wait may take, in seconds. Every wait has one of these limits.

    Attributes:
        resolve_s: Time limit of the look-up of a name. A resolver that fails at once, as it does
            without a network, is asked again until then, but for at most `connect_s`.
        connect_s: Time limit of a connect.
        queue_s: Time limit in the queue of a server that is full; 0: do not wait.
        handshake_s: Time limit of each step of the control protocol, of TLS or of FTP's login.
        stall_s: Longest time without any transferred byte during the test.
        vanished_s: Longest time without any acknowledgement of sent data (TCP_USER_TIMEOUT,
            tcp(7)).
        drain_s: Time limit for the data in flight after the end of the test.
        results_s: Time limit for the results of the other end.
        receive_s: Longest time without data if this end receives, datagrams included; None: only
            `stall_s` applies, and a test in which no datagram arrives is a result.

    Raises:
        SpecError: A value is not within 0.01 to 86400 s.
    """

    resolve_s: float = 30.0
    connect_s: float = 30.0
    queue_s: float = 60.0
    handshake_s: float = 15.0
    stall_s: float = 30.0
    vanished_s: float = 20.0
    drain_s: float = 15.0
    results_s: float = 15.0
    receive_s: float | None = None

    def _check(self) -> None:
        for name in self.__struct_fields__:
            least = 0 if name == "queue_s" else 0.01
            within(name, getattr(self, name), least, MAX_DURATION_S, "s")


class Link(Checked, frozen=True, kw_only=True):
    """Describe the slowest link on the path, as far as it is known.

    The link does not affect the test. The result has the steady bitrate as a share of the link's
    payload ceiling.

    Attributes:
        rate_bps: Its rate in bit/s; None: unknown.
        mtu_bytes: The largest IP packet that the link carries; None: the size of the path's
            packets.
        encapsulation: The layers around the packets on this link, from the inside outwards, such as
            "vxlan,esp:aes-gcm-16" (docs/reference/ceiling.md has all of them).
        framing: What the rate counts. "wire": the bits of an Ethernet port, with preamble, check
            sequence and gap. "frame": frames from the Ethernet header on, as tc-tbf(8) counts.
            "ip": IP packets.

    Raises:
        SpecError: A value is out of range, or the encapsulation can't be read.
    """

    rate_bps: int | None = None
    mtu_bytes: int | None = None
    encapsulation: str = ""
    framing: Framing = "wire"

    def _check(self) -> None:
        within("link rate", self.rate_bps, 1, 10**13, "bit/s")
        within("link MTU", self.mtu_bytes, 68, MAX_MTU_BYTES, "bytes")
        parse_stack(self.encapsulation)


class ServerTls(Checked, frozen=True, kw_only=True):
    """Define how a server uses TLS on its control connections.

    Attributes:
        certificate: A file with its certificate in PEM, followed by the certificates of
            intermediate CAs if necessary.
        key: A file of its private key in PEM, without a passphrase; None: it is in `certificate`.
        required: Refuse clients without TLS, including all iperf3 clients.
    """

    certificate: str
    key: str | None = None
    required: bool = False


class Secret(Checked, frozen=True, kw_only=True):
    """Hold the secret that both ends know and prove to each other before a test, without sending
    it.

    Only netmeasure supports this. A secret is never saved, and never part of a message.

    Attributes:
        key: The bytes of the secret, such as the output of `openssl rand -hex 32`.

    Raises:
        SpecError: It is empty, or too long.
    """

    key: bytes

    def _check(self) -> None:
        within("length of the secret", len(self.key), 1, MAX_PEM, "bytes")

    def __repr__(self) -> str:
        return "Secret()"


class Credentials(Checked, frozen=True, kw_only=True):
    """Authenticate the client to a server that requires it, by iperf3's method. Credentials are
    never saved.

    Attributes:
        user: The user's name, without blanks.
        password: The password, without blanks.
        public_key: The server's public RSA key in PEM.
        padding: "oaep", or "pkcs1" for iperf3 before 3.17.

    Raises:
        SpecError: A text is empty or has blanks, or the key is too long.
    """

    user: str
    password: str
    public_key: bytes
    padding: Padding = "oaep"

    def _check(self) -> None:
        if not self.user or not self.password:
            raise SpecError("credentials need a user and a password")
        for text in (self.user, self.password):
            if any(c.isspace() for c in text):
                raise SpecError(
                    "a user or password can't have blanks",
                    hint="iperf3's protocol separates fields by them",
                )
        within("public key", len(self.public_key), 1, MAX_PEM, "bytes")

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"
