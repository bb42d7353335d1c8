"""From iperf3's options to netmeasure's own specifications."""

from __future__ import annotations

from typing import Any

from netmeasure.cli.iperf3.settings import DEFAULT_RECEIVE_TIMEOUT_MS, Settings
from netmeasure.errors import SpecError
from netmeasure.spec import (
    DEFAULT_UDP_BPS,
    MAX_DURATION_S,
    Deadlines,
    Direction,
    Family,
    PeerSpec,
    ServerLimits,
    SocketOptions,
    TcpSpec,
    Timing,
    UdpSpec,
)

#: iperf3's, where -l is not given; netmeasure's own is larger.
BLOCK_BYTES = 128 * 1024
#: The system's own patience with a connection that nobody answers (tcp(7), tcp_syn_retries: 6).
CONNECT_S = 130.0
#: iperf3 sits out an outage of the network for as long as TCP does; so does this, within reason.
PATIENCE_S = 120.0


def family(settings: Settings) -> Family:
    return "ipv4" if settings.ipv4 else "ipv6" if settings.ipv6 else "any"


def client_spec(settings: Settings) -> PeerSpec:
    """What to measure. Raises SpecError where netmeasure has no such thing."""
    _refuse_unsupported(settings)
    return _udp_spec(settings) if settings.udp else _tcp_spec(settings)


def server_limits(settings: Settings) -> ServerLimits:
    """One test at a time, as iperf3; what a server grants. Raises SpecError."""
    _refuse_unsupported(settings)
    timeout_ms = settings.rcv_timeout or DEFAULT_RECEIVE_TIMEOUT_MS
    return ServerLimits(max_tests=1, stall_s=timeout_ms / 1000, vanished_s=PATIENCE_S)


def _refuse_unsupported(settings: Settings) -> None:
    for name in ("sctp", "nstreams", "xbind"):
        if getattr(settings, name):
            raise SpecError(f"SCTP (--{name}) is not supported by netmeasure")
    for name in _NOT_YET:
        if getattr(settings, name):
            option = name.replace("_", "-")
            raise SpecError(f"--{option} is not supported by netmeasure yet")


_NOT_YET = (
    "mptcp",
    "tos",
    "flowlabel",
    "fq_rate",
    "dont_fragment",
    "repeating_payload",
    "file",
    "bind_dev",
    "device",
    "extra_data",
    "get_server_output",
    "snd_timeout",
    "cntl_ka",
    "server_bitrate_limit",
    "server_max_duration",
    "username",
    "rsa_private_key_path",
    "udp_counters_64bit",
)


def _common(settings: Settings) -> dict[str, Any]:
    direction: Direction = (
        "both" if settings.bidir else "download" if settings.reverse else "upload"
    )
    by_size = settings.bytes or settings.blockcount
    receives = direction != "upload"
    timeout_ms = (receives and settings.rcv_timeout) or DEFAULT_RECEIVE_TIMEOUT_MS
    return {
        "direction": direction,
        "streams": settings.parallel,
        "timing": Timing(
            duration_s=None if by_size else _duration_s(settings),
            total_bytes=settings.bytes or None,
            total_blocks=settings.blockcount or None,
            omit_s=settings.omit,
            interval_s=settings.interval or 1.0,
        ),
        "options": SocketOptions(
            congestion=None if settings.udp else settings.congestion,
            mss_bytes=None if settings.udp else settings.set_mss or None,
            no_delay=settings.no_delay and not settings.udp,
            window_bytes=settings.window or None,
            bind_address=settings.bind.host or None if settings.bind else None,
            bind_port=settings.cport,
            family=family(settings),
        ),
        "deadlines": Deadlines(
            connect_s=settings.connect_timeout / 1000 if settings.connect_timeout else CONNECT_S,
            stall_s=timeout_ms / 1000,
            vanished_s=PATIENCE_S,
        ),
    }


def _duration_s(settings: Settings) -> float:
    """0 is for as long as it takes somebody to interrupt it."""
    if settings.time is None:
        return 10.0
    return float(settings.time or MAX_DURATION_S)


def _tcp_spec(settings: Settings) -> TcpSpec:
    return TcpSpec(
        **_common(settings),
        block_bytes=settings.length or BLOCK_BYTES,
        target_bps=settings.bitrate.bps or None if settings.bitrate else None,
        send_mode="sendfile" if settings.zerocopy else "copy",
        receive_mode="discard" if settings.skip_rx_copy else "copy",
    )


def _udp_spec(settings: Settings) -> UdpSpec:
    rate = settings.bitrate
    return UdpSpec(
        **_common(settings),
        datagram_bytes=settings.length or None,
        target_bps=(rate.bps or None) if rate else DEFAULT_UDP_BPS,
        burst_datagrams=rate.burst if rate else None,
        offload=settings.gsro,
    )
