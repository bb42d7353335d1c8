"""What specifications are made of."""

from __future__ import annotations

from netmeasure.errors import SpecError
from netmeasure.overhead.sizes import MAX_MTU_BYTES, parse_stack
from netmeasure.spec.checked import Checked, check_device, check_keepalive, within
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
    """When a test ends, and which part of it counts.

    One of `duration_s`, `total_bytes`, `total_blocks` ends the test; with none given it is a
    duration of 10 s, unless it is `endless`: until the user, the end of a file or the peer ends it.
    The first `omit_s` seconds are run in addition, kept in the series, and left out of every rate
    and every byte or block limit. `interval_s` is the period of live intervals.
    `baseline_s` before the first attempt to connect, this host is watched at rest (0: it is not):
    that is part of no other figure.

    `until` ends the test as soon as half the confidence interval of the steady bitrate is narrower
    than this share of it (0.02: +-2 %), in every direction; `duration_s` is then the most that it
    takes, 60 s unless given. See `analysis.sequential`.
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
                "a test that ends when its interval is narrow is limited by time alone",
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
        """The duration that was asked for, or the cap of `until`; None: neither was."""
        return DEFAULT_CAP_S if self.until and self.duration_s is None else self.duration_s

    @property
    def limit_s(self) -> float | None:
        """Seconds to measure after the omitted ones; None where something else ends the test."""
        if self.total_bytes is None and self.total_blocks is None and not self.endless:
            limit_s = self.given_limit_s
            return DEFAULT_DURATION_S if limit_s is None else limit_s
        return None


class SocketOptions(Checked, frozen=True, kw_only=True):
    """Options of the data connections; None leaves the kernel's own choice.

    window_bytes   sets SO_SNDBUF and SO_RCVBUF on both ends and so switches the kernel's
                   autotuning off (tcp(7))
    pacing_bps     the most that is sent, per stream and at both ends: of TCP by the kernel
                   (SO_MAX_PACING_RATE), of UDP by our own schedule
    tos            type of service or traffic class of what is sent, at both ends: 4 times the DSCP
                   (RFC 2474), plus the ECN bits
    flow_label     of IPv6 packets that the client sends (RFC 6437)
    dont_fragment  UDP over IPv4: DF is set, datagrams that are too large are errors
    multipath      MPTCP instead of TCP (RFC 8684), control connection included
    bind_address   the client's own address, bind_port that of its first stream; stream i has
                   port + i
    bind_device    the client's connections use this interface only (SO_BINDTODEVICE, socket(7))
    keepalive      of the control connection: (idle s, interval s, probes); None: as the deadlines
                   need it
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
        if self.congestion is not None and not 0 < len(self.congestion.encode()) < 16:
            raise SpecError(f"{self.congestion!r} is not the name of a congestion control")


class Deadlines(Checked, frozen=True, kw_only=True):
    """How long each kind of wait may take, in seconds. Every wait has one of these. `receive_s`:
    where this end receives, also datagrams, the test is given up when none has come for so long;
    None: only `stall_s` counts, and that no datagrams come is a result."""

    resolve_s: float = 10.0
    connect_s: float = 30.0
    handshake_s: float = 15.0
    stall_s: float = 30.0
    vanished_s: float = 20.0
    drain_s: float = 15.0
    results_s: float = 15.0
    receive_s: float | None = None

    def _check(self) -> None:
        for name in self.__struct_fields__:
            within(name, getattr(self, name), 0.01, MAX_DURATION_S, "s")


class Link(Checked, frozen=True, kw_only=True):
    """What is known of the slowest link on the way. It changes nothing of a test: the result says
    which share of the link's payload ceiling the steady bitrate is.

    rate_bps       None: unknown
    mtu_bytes      the largest IP packet that it takes; None: as large as the path's packets need
    encapsulation  around the packets when they pass this link, from the inside outwards, such as
                   "vxlan,esp:aes-gcm-16" (`headers.parse_stack`)
    framing        what the rate counts. wire: an Ethernet port's, with preamble, check sequence and
                   gap. frame: from the Ethernet header on, as tc's tbf does. ip: IP packets
    """

    rate_bps: int | None = None
    mtu_bytes: int | None = None
    encapsulation: str = ""
    framing: Framing = "wire"

    def _check(self) -> None:
        within("link rate", self.rate_bps, 1, 10**13, "bit/s")
        within("link MTU", self.mtu_bytes, 68, MAX_MTU_BYTES, "bytes")
        parse_stack(self.encapsulation)


class Credentials(Checked, frozen=True, kw_only=True):
    """Who the client is, for a server that asks (iperf3's authentication). The server's public RSA
    key in PEM; `padding` pkcs1 is what iperf3 before 3.17 takes. Never part of a result."""

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
                    "a user or password can't hold blanks",
                    hint="iperf3's protocol ends them there",
                )
        within("public key", len(self.public_key), 1, MAX_PEM, "bytes")

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"
