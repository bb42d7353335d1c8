"""What to measure: frozen, validated specifications. A wrong value raises SpecError at once."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import ClassVar, Literal, get_args, get_origin
from urllib.parse import unquote, urlsplit

import msgspec

from netmeasure.errors import SpecError
from netmeasure.headers import MAX_MTU_BYTES, parse_stack

Direction = Literal["upload", "download", "both"]
SendMode = Literal["copy", "sendfile"]
ReceiveMode = Literal["copy", "discard"]
Family = Literal["any", "ipv4", "ipv6"]
FetchDirection = Literal["download", "upload"]
Padding = Literal["oaep", "pkcs1"]
PassiveMode = Literal["auto", "epsv", "pasv"]
Framing = Literal["wire", "frame", "ip"]

DEFAULT_PORT = 5201
#: Bitrates that differ by less are the same, unless told.
DEFAULT_MARGIN = 0.02
DEFAULT_DURATION_S = 10.0
#: The most that a test takes which ends by itself (`Timing.until`).
DEFAULT_CAP_S = 60.0
MIN_UNTIL, MAX_UNTIL = 0.001, 0.5
DEFAULT_BLOCK_BYTES = 512 * 1024
MAX_BLOCK_BYTES = 1024 * 1024  # iperf3's limit; both ends of a test use the same block size
MAX_STREAMS = 128
MAX_DURATION_S = 86_400
MAX_OMIT_S = 600
MIN_BASELINE_S = 0.2
MAX_WINDOW_BYTES = 512 * 1024 * 1024
MAX_MSS_BYTES = 32_767
MAX_COUNT = 2**63 - 1
DEFAULT_UDP_BPS = 1024 * 1024  # iperf3's: a test that nobody thought about must not hurt
MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES = 16, 65_507
MAX_BURST = 1000
MAX_SPIN_US = 1000
MAX_CPU = 1024
MAX_FLOW_LABEL = 0xFFFFF
MAX_DEVICE_NAME = 15  # IFNAMSIZ - 1
MAX_TEXT = 4096  # an iperf3 server refuses parameters of more than 8192 bytes
MAX_PEM = 16_384
#: What these headers say is for one server, and for no file.
SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization")


def _within(name: str, value: float | None, low: float, high: float, unit: str) -> None:
    # `not (low <= value)` also refuses NaN
    if value is not None and not low <= value <= high:
        value = max(min(value, 1e300), -1e300)  # a whole number may be too long to be shown
        raise SpecError(f"{name} is {value:.12g}: it must be {low:g} to {high:g} {unit}".rstrip())


def check_device(name: str | None) -> None:
    """Raise SpecError for what can't be the name of a network interface."""
    if name is not None and not (
        0 < len(name.encode()) <= MAX_DEVICE_NAME and not any(c.isspace() or c == "/" for c in name)
    ):
        raise SpecError(f"{name!r} is not the name of a network interface")


def check_keepalive(keepalive: tuple[int, int, int] | None) -> None:
    """Raise SpecError for (idle s, interval s, probes) that the kernel would not take."""
    if keepalive is not None:
        idle_s, interval_s, probes = keepalive
        _within("keepalive's idle time", idle_s, 1, 32_767, "s")
        _within("keepalive's interval", interval_s, 1, 32_767, "s")
        _within("keepalive's number of probes", probes, 1, 127, "")


class _Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Checks its fields' types, then their values, however it was made."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(type(self)):
            value = getattr(self, field.name)
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as exc:
                name = field.name.removesuffix("_s").replace("_", " ")
                choices = get_args(field.type)
                kind = "one of " + ", ".join(map(str, choices))
                if get_origin(field.type) is not Literal:
                    kind = str(exc).removeprefix("Expected ").partition(",")[0].replace("`", "")
                raise SpecError(f"{name} is {value!r}: it must be {kind}") from None
        self._check()

    def _check(self) -> None:
        """Raise SpecError for a value out of range."""


class Timing(_Checked, frozen=True, kw_only=True):
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
        _within("until", self.until, MIN_UNTIL, MAX_UNTIL, "of the bitrate")
        if self.until is not None and (self.total_bytes or self.total_blocks or self.endless):
            raise SpecError(
                "a test that ends when its interval is narrow is limited by time alone",
                hint="give the most that it may take as a duration",
            )
        _within("duration", self.duration_s, 0.001, MAX_DURATION_S, "s")
        _within("bytes", self.total_bytes, 1, MAX_COUNT, "bytes")
        _within("blocks", self.total_blocks, 1, MAX_COUNT // MAX_BLOCK_BYTES, "blocks")
        _within("omit", self.omit_s, 0, MAX_OMIT_S, "s")
        _within("interval", self.interval_s, 0.01, MAX_DURATION_S, "s")
        if self.baseline_s != 0:  # the kernel's clock ticks can't resolve less
            _within("baseline", self.baseline_s, MIN_BASELINE_S, MAX_OMIT_S, "s")

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


class SocketOptions(_Checked, frozen=True, kw_only=True):
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
        _within("MSS", self.mss_bytes, 88, MAX_MSS_BYTES, "bytes")
        _within("window", self.window_bytes, 1, MAX_WINDOW_BYTES, "bytes")
        _within("bind port", self.bind_port, 1, 65_535, "")
        _within("pacing rate", self.pacing_bps, 1, 10**13, "bit/s")
        _within("TOS", self.tos, 0, 255, "")
        _within("flow label", self.flow_label, 1, MAX_FLOW_LABEL, "")
        check_device(self.bind_device)
        check_keepalive(self.keepalive)
        if self.flow_label is not None and self.family == "ipv4":
            raise SpecError("only IPv6 has flow labels", hint="ask for IPv6")
        if self.congestion is not None and not 0 < len(self.congestion.encode()) < 16:
            raise SpecError(f"{self.congestion!r} is not the name of a congestion control")


class Deadlines(_Checked, frozen=True, kw_only=True):
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
            _within(name, getattr(self, name), 0.01, MAX_DURATION_S, "s")


class Link(_Checked, frozen=True, kw_only=True):
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
        _within("link rate", self.rate_bps, 1, 10**13, "bit/s")
        _within("link MTU", self.mtu_bytes, 68, MAX_MTU_BYTES, "bytes")
        parse_stack(self.encapsulation)


class Credentials(_Checked, frozen=True, kw_only=True):
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
        _within("public key", len(self.public_key), 1, MAX_PEM, "bytes")

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"


class _PeerSpec(_Checked, frozen=True, kw_only=True):
    """What tests with a server have in common. `direction` is seen from the client.

    title, extra_data   texts for the results of both ends
    repeating_payload   the digits 0 to 9 again and again instead of random bytes
    cpu, server_cpu     the traffic threads of this end, or of the server, run on this CPU only
    server_output       ask the server for its own output (iperf3's --get-server-output)
    credentials         for a server that wants to know who asks
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
    credentials: Credentials | None = None
    options: SocketOptions = SocketOptions()
    deadlines: Deadlines = Deadlines()
    link: Link | None = None

    def _check(self) -> None:
        _within("number of streams", self.streams, 1, MAX_STREAMS, "")
        _within("CPU", self.cpu, 0, MAX_CPU, "")
        _within("the server's CPU", self.server_cpu, 0, MAX_CPU, "")
        for name in ("title", "extra_data"):
            text = getattr(self, name) or ""
            _within(f"length of {name.replace('_', ' ')}", len(text.encode()), 0, MAX_TEXT, "bytes")

    @property
    def limit_s(self) -> float | None:
        """Seconds to measure after the omitted ones; None where something else ends the test."""
        return self.timing.limit_s


class UdpSpec(_PeerSpec, frozen=True, kw_only=True, tag="udp", tag_field="kind"):
    """A UDP test at a set rate.

    datagram_bytes  payload of a datagram; None: what the path's MTU takes without fragments
    size_by_mss     None then means iperf3's default: the MSS of the control connection
    counters_64bit  numbers of datagrams have 64 bits; iperf3's default is 32
    target_bps      payload bits per second and stream; None: as fast as possible
    target_pps      instead of target_bps: datagrams per second and stream
    burst_datagrams sent back to back at each step of the pacing; None: as few as the rate allows
    offload         let the kernel cut and join datagrams (UDP_SEGMENT, UDP_GRO) where it can
    ask_offload     ask an iperf3 server (3.21 or newer) for that, too
    spin_us         the sender stays awake so long before each send: more exact, more CPU
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

    def _check(self) -> None:
        super()._check()
        _within(
            "datagram size", self.datagram_bytes, MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES, "bytes"
        )
        _within("target bitrate", self.target_bps, 1, 10**13, "bit/s")
        _within("packet rate", self.target_pps, 1, 10**9, "packets/s")
        _within("spin", self.spin_us, 0, MAX_SPIN_US, "us")
        _within("burst", self.burst_datagrams, 1, MAX_BURST, "datagrams")
        if self.target_pps is not None and self.target_bps not in (None, DEFAULT_UDP_BPS):
            raise SpecError("only one of target bitrate and packet rate can be given")
        if self.timing.until is not None and self.direction != "download":
            raise SpecError(
                "only what arrives here can end a UDP test: its sender does not know what arrived",
                hint="measure the download, or give a duration",
            )
        for name in ("congestion", "mss_bytes", "no_delay", "multipath"):
            if getattr(self.options, name):
                raise SpecError(f"{name.removesuffix('_bytes')} is an option of TCP, not of UDP")

    @property
    def total_bytes(self) -> int | None:
        """The byte limit per direction, given in bytes or datagrams; None when time ends the test,
        and for datagrams whose size is not known yet."""
        if self.timing.total_blocks is not None:
            return self.timing.total_blocks * self.datagram_bytes if self.datagram_bytes else None
        return self.timing.total_bytes


class TcpSpec(_PeerSpec, frozen=True, kw_only=True, tag="tcp", tag_field="kind"):
    """A bulk TCP test.

    target_bps    per stream; None: as fast as possible
    burst_blocks  blocks that an iperf3 server sends back to back at a set rate; a netmeasure's
                  rate is paced by its kernel, which sends no bursts
    file          each stream this end sends on sends the file, and the test is over at its end at
                  the latest; each that it receives on writes what comes to it
    """

    block_bytes: int = DEFAULT_BLOCK_BYTES
    target_bps: int | None = None
    burst_blocks: int | None = None
    send_mode: SendMode = "copy"
    receive_mode: ReceiveMode = "copy"
    file: str | None = None

    def _check(self) -> None:
        super()._check()
        _within("block size", self.block_bytes, 1, MAX_BLOCK_BYTES, "bytes")
        _within("target bitrate", self.target_bps, 1, 10**13, "bit/s")
        _within("burst", self.burst_blocks, 1, MAX_BURST, "blocks")
        if self.options.dont_fragment:
            raise SpecError("don't-fragment is an option of UDP, not of TCP")
        if self.file is not None and self.direction == "both":
            raise SpecError("one file can't be sent and written at the same time")
        if self.file is not None and self.receive_mode == "discard":
            raise SpecError("what is discarded can't be written to a file")

    @property
    def total_bytes(self) -> int | None:
        """The byte limit per direction, given in bytes or blocks; None when time ends the test."""
        if self.timing.total_blocks is not None:
            return self.timing.total_blocks * self.block_bytes
        return self.timing.total_bytes


class _FetchSpec(_Checked, frozen=True, kw_only=True):
    """What downloads and uploads by URL have in common.

    url              http, https, ftp or ftps; a user and a password in it win over the fields
    direction        download, or upload: bytes that mean nothing, to that name
    timing           duration: ended after so long from the first byte on; bytes: after so many over
                     all streams; neither: the whole file once. Blocks mean nothing here.
    repeat           again and again until time or bytes are over, each time with a new connection
    keep_connections with `repeat`: on the connection that is there, if it can be used again
    first_byte, last_byte   ask for this part of the file only (inclusive, as HTTP counts)
    receive_mode     discard: the kernel drops a plain body instead of copying it
    pins             "HOST:PORT:ADDRESS": connect there instead of looking the name up
    ca_file          trusted certificates, PEM; None: the system's
    insecure         TLS without checking the server's certificate
    """

    url: str = ""
    direction: FetchDirection = "download"
    streams: int = 1
    timing: Timing = Timing()
    repeat: bool = False
    keep_connections: bool = False
    first_byte: int | None = None
    last_byte: int | None = None
    receive_mode: ReceiveMode = "copy"
    send_mode: SendMode = "copy"
    block_bytes: int = DEFAULT_BLOCK_BYTES
    user: str | None = None
    password: str | None = None
    pins: tuple[str, ...] = ()
    ca_file: str | None = None
    insecure: bool = False
    options: SocketOptions = SocketOptions()
    deadlines: Deadlines = Deadlines()
    link: Link | None = None

    schemes: ClassVar[tuple[str, ...]] = ()

    def _check(self) -> None:
        _within("number of streams", self.streams, 1, MAX_STREAMS, "")
        _within("block size", self.block_bytes, 1024, MAX_BLOCK_BYTES, "bytes")
        _within("first byte", self.first_byte, 0, MAX_COUNT, "")
        _within("last byte", self.last_byte, self.first_byte or 0, MAX_COUNT, "")
        if self.url:
            _check_url(self.url, self.schemes)
        for pin in self.pins:
            parse_pin(pin)
        timing, upload = self.timing, self.direction == "upload"
        if timing.endless:
            raise SpecError("a transfer by URL is not endless", hint="give a time or bytes")
        for name in ("flow_label", "multipath", "keepalive", "dont_fragment"):
            if getattr(self.options, name):
                raise SpecError(f"{name.replace('_', ' ')} is no option of transfers by URL")
        if timing.total_blocks is not None:
            raise SpecError("a transfer by URL has no blocks", hint="give bytes or a time")
        if self.repeat and self.limit_s is None and timing.total_bytes is None:
            raise SpecError("to repeat needs an end", hint="give a time or bytes")
        if timing.omit_s and timing.total_bytes is not None:
            raise SpecError("time can't be omitted from a transfer that bytes end")
        if self.keep_connections and not self.repeat:
            raise SpecError("connections are kept only where the transfer is repeated")
        if upload and self.limit_s is None and timing.total_bytes is None:
            raise SpecError("an upload needs an end", hint="give a time or bytes")
        if upload and (self.repeat or self.first_byte is not None or self.last_byte is not None):
            raise SpecError("an upload can't be repeated, nor be a part of a file")

    @property
    def kind(self) -> str:
        """The scheme, in capitals."""
        return self.url.partition(":")[0].upper()

    @property
    def limit_s(self) -> float | None:
        """Seconds to measure after the omitted ones; None where bytes or the file's end decide."""
        return self.timing.given_limit_s

    @property
    def total_bytes(self) -> int | None:
        return self.timing.total_bytes


class HttpSpec(_FetchSpec, frozen=True, kw_only=True, tag="http", tag_field="kind"):
    """A download or an upload (PUT, or `method`) by HTTP/1.1.

    headers    more of them, "Name: value"
    proxy      use the proxy that the environment names (http_proxy, https_proxy, no_proxy)
    """

    method: str | None = None
    headers: tuple[str, ...] = ()
    max_redirects: int = 10
    proxy: bool = False

    schemes: ClassVar[tuple[str, ...]] = ("http", "https")

    def _check(self) -> None:
        super()._check()
        _within("number of redirects", self.max_redirects, 0, 100, "")
        if self.method is not None and not self.method.isalpha():
            raise SpecError(f"{self.method!r} is not an HTTP method")
        for header in self.headers:
            name, colon, _ = header.partition(":")
            if not colon or not name.strip() or any(c in header for c in "\r\n\0"):
                raise SpecError(f"{header!r} is not a header", hint='write "Name: value"')


class FtpSpec(_FetchSpec, frozen=True, kw_only=True, tag="ftp", tag_field="kind"):
    """A download (RETR) or an upload (STOR) by FTP, in passive mode; anonymous without a user.

    ftps: URLs mean TLS from the first byte (port 990); `explicit_tls` asks for it on an ftp: URL
    after the greeting (RFC 4217). Both protect the data connections as well.
    """

    explicit_tls: bool = False
    passive: PassiveMode = "auto"

    schemes: ClassVar[tuple[str, ...]] = ("ftp", "ftps")

    def _check(self) -> None:
        super()._check()
        for text in (self.user, self.password):
            if text is not None and any(c in text for c in "\r\n\0"):
                raise SpecError("a user or password of FTP has no line breaks")
        # they would be commands of their own
        if any(c in unquote(self.url) for c in "\r\n\0"):
            raise SpecError("a name of FTP has no line breaks", hint="take %0D, %0A and %00 out")


PeerSpec = TcpSpec | UdpSpec
FetchSpec = HttpSpec | FtpSpec
Spec = TcpSpec | UdpSpec | HttpSpec | FtpSpec


def _check_url(url: str, schemes: Sequence[str]) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise SpecError(f"{url!r} is not a URL: {exc}") from None
    if parts.scheme not in schemes:
        raise SpecError(f"{url!r} is not a URL of {' or '.join(schemes)}")
    if not parts.hostname or any(c.isspace() or ord(c) < 32 for c in url) or port == 0:
        raise SpecError(f"{url!r} is not a URL", hint="write scheme://host/path, %20 for a space")


def parse_pin(pin: str) -> tuple[str, int, str]:
    """("HOST", port, "address") from "HOST:PORT:ADDRESS"; an IPv6 address may stand in brackets.
    Raises SpecError."""
    host, _, rest = pin.partition(":")
    port, _, address = rest.partition(":")
    try:
        ip_address(address.strip("[]"))
    except ValueError:
        address = ""
    if not host or not address or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise SpecError(f"{pin!r} is not HOST:PORT:ADDRESS")
    return host.lower(), int(port), address.strip("[]")


class ServerLimits(_Checked, frozen=True, kw_only=True):
    """What a server grants, and how long it waits for each step of a client, in seconds.

    max_bitrate_bps  of all streams of a test in both directions together: as it is asked for, and
                     as it is on average over `bitrate_over_s`; None: any
    max_duration_s   of a test, omitted time included; then none without a duration is served
    receive_s        as in Deadlines
    keepalive        of control connections, as in SocketOptions
    multipath        MPTCP is served as well (RFC 8684)
    file             data are written to it and read from it, see TcpSpec; not by UDP tests
    """

    max_tests: int = 64
    max_bitrate_bps: int | None = None
    bitrate_over_s: float = 5.0
    max_duration_s: float | None = None
    receive_s: float | None = None
    keepalive: tuple[int, int, int] | None = None
    multipath: bool = False
    file: str | None = None
    cookie_s: float = 10.0
    handshake_s: float = 15.0
    streams_s: float = 60.0
    stall_s: float = 60.0
    drain_s: float = 15.0
    results_s: float = 30.0
    vanished_s: float = 20.0

    def _check(self) -> None:
        for name in self.__struct_fields__:
            if name.endswith("_s"):
                _within(name, getattr(self, name), 0.01, MAX_DURATION_S, "s")
        _within("max_tests", self.max_tests, 1, 100_000, "")
        _within("bitrate limit", self.max_bitrate_bps, 1, 10**15, "bit/s")
        check_keepalive(self.keepalive)


class OriginLimits(_Checked, frozen=True, kw_only=True):
    """What an embedded HTTP or FTP server grants, and how long it waits, in seconds.

    max_bytes        the largest file there is
    max_transfers    bodies on their way at the same time; more are told to come back later
    max_connections  more are turned away
    idle_s           for a request or a command
    stall_s          for the next byte of a body
    connect_s        for an FTP client's data connection
    """

    max_bytes: int = 2**50
    max_transfers: int = 64
    max_connections: int = 1000
    idle_s: float = 60.0
    stall_s: float = 30.0
    connect_s: float = 15.0

    def _check(self) -> None:
        for name in ("idle_s", "stall_s", "connect_s"):
            _within(name, getattr(self, name), 0.01, MAX_DURATION_S, "s")
        _within("max_bytes", self.max_bytes, 0, MAX_COUNT, "bytes")
        _within("max_transfers", self.max_transfers, 1, 10_000, "")
        _within("max_connections", self.max_connections, 1, 100_000, "")
