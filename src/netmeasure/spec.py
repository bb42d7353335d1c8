"""What to measure: frozen, validated specifications. A wrong value raises SpecError at once."""

from __future__ import annotations

from typing import Literal, get_args, get_origin

import msgspec

from netmeasure.errors import SpecError

Direction = Literal["upload", "download", "both"]
SendMode = Literal["copy", "sendfile"]
ReceiveMode = Literal["copy", "discard"]
Family = Literal["any", "ipv4", "ipv6"]

DEFAULT_PORT = 5201
DEFAULT_DURATION_S = 10.0
DEFAULT_BLOCK_BYTES = 512 * 1024
MAX_BLOCK_BYTES = 1024 * 1024  # iperf3's limit; both ends of a test use the same block size
MAX_STREAMS = 128
MAX_DURATION_S = 86_400
MAX_OMIT_S = 600
MAX_WINDOW_BYTES = 512 * 1024 * 1024
MAX_MSS_BYTES = 32_767
MAX_COUNT = 2**63 - 1
DEFAULT_UDP_BPS = 1024 * 1024  # iperf3's: a test that nobody thought about must not hurt
MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES = 16, 65_507
MAX_BURST = 1000
MAX_SPIN_US = 1000


def _within(name: str, value: float | None, low: float, high: float, unit: str) -> None:
    # `not (low <= value)` also refuses NaN
    if value is not None and not low <= value <= high:
        raise SpecError(f"{name} is {value:g}: it must be {low:g} to {high:g} {unit}".rstrip())


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
    duration of 10 s. The first `omit_s` seconds are run in addition, kept in the series, and left
    out of every rate and every byte or block limit. `interval_s` is the period of live intervals.
    """

    duration_s: float | None = None
    total_bytes: int | None = None
    total_blocks: int | None = None
    omit_s: float = 0.0
    interval_s: float = 1.0

    def _check(self) -> None:
        ends = [self.duration_s, self.total_bytes, self.total_blocks]
        if sum(end is not None for end in ends) > 1:
            raise SpecError("only one of duration, bytes and blocks can end a test")
        _within("duration", self.duration_s, 0.001, MAX_DURATION_S, "s")
        _within("bytes", self.total_bytes, 1, MAX_COUNT, "bytes")
        _within("blocks", self.total_blocks, 1, MAX_COUNT // MAX_BLOCK_BYTES, "blocks")
        _within("omit", self.omit_s, 0, MAX_OMIT_S, "s")
        _within("interval", self.interval_s, 0.01, MAX_DURATION_S, "s")

    @property
    def limit_s(self) -> float | None:
        """Seconds to measure after the omitted ones; None when bytes or blocks end the test."""
        if self.total_bytes is None and self.total_blocks is None:
            return DEFAULT_DURATION_S if self.duration_s is None else self.duration_s
        return None


class SocketOptions(_Checked, frozen=True, kw_only=True):
    """Options of the data connections; None leaves the kernel's own choice.

    `window_bytes` sets SO_SNDBUF and SO_RCVBUF on both ends and so switches the kernel's
    autotuning off (tcp(7)).
    """

    congestion: str | None = None
    mss_bytes: int | None = None
    no_delay: bool = False
    window_bytes: int | None = None
    bind_address: str | None = None
    bind_port: int | None = None
    family: Family = "any"

    def _check(self) -> None:
        _within("MSS", self.mss_bytes, 88, MAX_MSS_BYTES, "bytes")
        _within("window", self.window_bytes, 1, MAX_WINDOW_BYTES, "bytes")
        _within("bind port", self.bind_port, 1, 65_535, "")
        if self.congestion is not None and not 0 < len(self.congestion.encode()) < 16:
            raise SpecError(f"{self.congestion!r} is not the name of a congestion control")


class Deadlines(_Checked, frozen=True, kw_only=True):
    """How long each kind of wait may take, in seconds. Every wait has one of these."""

    resolve_s: float = 10.0
    connect_s: float = 30.0
    handshake_s: float = 15.0
    stall_s: float = 30.0
    vanished_s: float = 20.0
    drain_s: float = 15.0
    results_s: float = 15.0

    def _check(self) -> None:
        for name in self.__struct_fields__:
            _within(name, getattr(self, name), 0.01, MAX_DURATION_S, "s")


class UdpSpec(_Checked, frozen=True, kw_only=True, tag="udp", tag_field="kind"):
    """A UDP test at a set rate. `direction` is seen from the client.

    datagram_bytes  payload of a datagram; None: what the path's MTU takes without fragments
    target_bps      payload bits per second and stream; None: as fast as possible
    target_pps      instead of target_bps: datagrams per second and stream
    burst_datagrams sent back to back at each step of the pacing; None: as few as the rate allows
    offload         let the kernel cut and join datagrams (UDP_SEGMENT, UDP_GRO) where it can
    spin_us         the sender stays awake so long before each send: more exact, more CPU
    """

    direction: Direction = "upload"
    streams: int = 1
    timing: Timing = Timing()
    datagram_bytes: int | None = None
    target_bps: int | None = DEFAULT_UDP_BPS
    target_pps: int | None = None
    burst_datagrams: int | None = None
    offload: bool = True
    spin_us: int = 0
    options: SocketOptions = SocketOptions()
    deadlines: Deadlines = Deadlines()

    def _check(self) -> None:
        _within("number of streams", self.streams, 1, MAX_STREAMS, "")
        _within(
            "datagram size", self.datagram_bytes, MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES, "bytes"
        )
        _within("target bitrate", self.target_bps, 1, 10**13, "bit/s")
        _within("packet rate", self.target_pps, 1, 10**9, "packets/s")
        _within("spin", self.spin_us, 0, MAX_SPIN_US, "us")
        _within("burst", self.burst_datagrams, 1, MAX_BURST, "datagrams")
        if self.target_pps is not None and self.target_bps not in (None, DEFAULT_UDP_BPS):
            raise SpecError("only one of target bitrate and packet rate can be given")
        for name in ("congestion", "mss_bytes", "no_delay"):
            if getattr(self.options, name):
                raise SpecError(f"{name.removesuffix('_bytes')} is an option of TCP, not of UDP")

    @property
    def total_bytes(self) -> int | None:
        """The byte limit per direction, given in bytes or datagrams; None when time ends the test,
        and for datagrams whose size is not known yet."""
        if self.timing.total_blocks is not None:
            return self.timing.total_blocks * self.datagram_bytes if self.datagram_bytes else None
        return self.timing.total_bytes


class TcpSpec(_Checked, frozen=True, kw_only=True, tag="tcp", tag_field="kind"):
    """A bulk TCP test. `direction` is seen from the client; `target_bps` is per stream."""

    direction: Direction = "upload"
    streams: int = 1
    timing: Timing = Timing()
    block_bytes: int = DEFAULT_BLOCK_BYTES
    target_bps: int | None = None
    send_mode: SendMode = "copy"
    receive_mode: ReceiveMode = "copy"
    options: SocketOptions = SocketOptions()
    deadlines: Deadlines = Deadlines()

    def _check(self) -> None:
        _within("number of streams", self.streams, 1, MAX_STREAMS, "")
        _within("block size", self.block_bytes, 1, MAX_BLOCK_BYTES, "bytes")
        _within("target bitrate", self.target_bps, 1, 10**13, "bit/s")

    @property
    def total_bytes(self) -> int | None:
        """The byte limit per direction, given in bytes or blocks; None when time ends the test."""
        if self.timing.total_blocks is not None:
            return self.timing.total_blocks * self.block_bytes
        return self.timing.total_bytes


Spec = TcpSpec | UdpSpec


class ServerLimits(_Checked, frozen=True, kw_only=True):
    """What a server grants, and how long it waits for each step of a client, in seconds."""

    max_tests: int = 64
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
