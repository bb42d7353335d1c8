"""Convert iperf3's options to netmeasure's own specification of a test."""

from __future__ import annotations

import os
from typing import Any

from netmeasure.cli.iperf3.command_line import DEFAULT_RECEIVE_TIMEOUT_MS, CommandLine
from netmeasure.cli.iperf3.credentials import credentials
from netmeasure.cli.iperf3.values import Keepalive
from netmeasure.errors import SpecError
from netmeasure.spec import (
    DEFAULT_UDP_BPS,
    Deadlines,
    Direction,
    Family,
    PeerSpec,
    SocketOptions,
    TcpSpec,
    Timing,
    UdpSpec,
)
from netmeasure.spec.target import check_family

#: iperf3's default block size; netmeasure's own is larger.
BLOCK_BYTES = 128 * 1024
#: How long the kernel waits for an answer to its SYNs (tcp(7), tcp_syn_retries: 6).
CONNECT_S = 130.0
#: The same limit for UDP tests, after which iperf3 stops sending its opening datagrams.
UDP_CONNECT_S = 30.0
#: iperf3 waits during an outage of the network for as long as TCP does; this is an upper bound.
PATIENCE_S = 120.0
#: Linux's default keepalive for numbers that --cntl-ka leaves out (tcp(7)): seconds, seconds,
#: probes.
KEEPALIVE = (7200, 75, 9)


def client_spec(settings: CommandLine) -> PeerSpec:
    """Return the specification of the test. Raises SpecError if netmeasure does not support it."""
    refuse_sctp(settings)
    return _udp_spec(settings) if settings.udp else _tcp_spec(settings)


def refuse_sctp(settings: CommandLine) -> None:
    """Raise SpecError for the options of SCTP."""
    for name in ("sctp", "nstreams", "xbind"):
        if getattr(settings, name):
            raise SpecError(f"SCTP (--{name}) is not supported by netmeasure")


def has_wrong_family(settings: CommandLine) -> bool:
    """Return whether -c or -B has an address of the IP version that -4 or -6 excludes.

    iperf3 finds that when it resolves the address, and ends as for a host without a connection.
    """
    try:
        for place in (settings.client, settings.bind):
            check_family(place.host if place else None, family(settings))
    except SpecError:
        return True
    return False


def family(settings: CommandLine) -> Family:
    """Return the IP version that -4 or -6 asks for."""
    return "ipv4" if settings.ipv4 else "ipv6" if settings.ipv6 else "any"


def keepalive(asked: Keepalive | None) -> tuple[int, int, int] | None:
    """Return keepalive's numbers; None: netmeasure's own, which are always in use."""
    if asked is None or not any(asked):
        return None
    idle_s, interval_s, probes = (
        given or default for given, default in zip(asked, KEEPALIVE, strict=True)
    )
    return idle_s, interval_s, probes


def receive_s(settings: CommandLine) -> float:
    """Return how long an end that receives nothing waits, in seconds."""
    return (settings.rcv_timeout or DEFAULT_RECEIVE_TIMEOUT_MS) / 1000


def vanished_s(settings: CommandLine) -> float:
    """Return how long an end waits for a peer that acknowledges nothing, in seconds."""
    return settings.snd_timeout / 1000 if settings.snd_timeout else PATIENCE_S


def _direction(settings: CommandLine) -> Direction:
    return "both" if settings.bidir else "download" if settings.reverse else "upload"


def _tcp_spec(settings: CommandLine) -> TcpSpec:
    rate = settings.bitrate
    return TcpSpec(
        **_common(settings),
        options=_options(
            settings,
            congestion=settings.congestion,
            mss_bytes=settings.set_mss or None,
            no_delay=settings.no_delay,
            multipath=settings.mptcp,
        ),
        block_bytes=settings.length or BLOCK_BYTES,
        target_bps=(rate.bps or None) if rate else None,
        burst_blocks=rate.burst if rate else None,
        send_mode="sendfile" if settings.zerocopy else "copy",
        receive_mode="discard" if settings.skip_rx_copy else "copy",
        latency=False,
        file=settings.file,
    )


def _udp_spec(settings: CommandLine) -> UdpSpec:
    rate = settings.bitrate
    return UdpSpec(
        **_common(settings),
        options=_options(settings, dont_fragment=settings.dont_fragment),
        datagram_bytes=settings.length or None,
        size_by_mss=not settings.length,
        target_bps=(rate.bps or None) if rate else DEFAULT_UDP_BPS,
        burst_datagrams=rate.burst if rate else None,
        offload=settings.gsro,
        ask_offload=settings.gsro,
        latency=False,
    )


def _common(settings: CommandLine) -> dict[str, Any]:
    default_s = UDP_CONNECT_S if settings.udp else CONNECT_S
    return {
        "direction": _direction(settings),
        "streams": settings.parallel,
        "timing": _timing(settings),
        "title": settings.title,
        "extra_data": settings.extra_data,
        "repeating_payload": settings.repeating_payload,
        "server_cpu": settings.affinity.server if settings.affinity else None,
        "server_output": settings.get_server_output,
        "credentials": credentials(settings),
        "deadlines": Deadlines(
            connect_s=settings.connect_timeout / 1000 if settings.connect_timeout else default_s,
            stall_s=max(PATIENCE_S, receive_s(settings)),
            vanished_s=vanished_s(settings),
            receive_s=receive_s(settings),
            queue_s=0,  # a server that is full is an error at once
        ),
    }


def _timing(settings: CommandLine) -> Timing:
    """Return when the test ends: with -t 0 by interruption, with -F at the end of the file."""
    asked = settings.time is not None or settings.bytes or settings.blockcount
    total_bytes = settings.bytes or None
    if settings.file is not None:
        size = _file_bytes(settings)
        if not asked and not settings.reverse:
            total_bytes = size or None
    duration_s = None
    if settings.time and not total_bytes:
        duration_s = float(settings.time)
    return Timing(
        duration_s=duration_s,
        total_bytes=total_bytes,
        total_blocks=settings.blockcount or None,
        endless=settings.time == 0,
        omit_s=settings.omit,
        interval_s=settings.interval or 1.0,
    )


def _file_bytes(settings: CommandLine) -> int:
    """Return the size of -F's file, which need not exist yet where the client receives."""
    path = settings.file or ""
    try:
        return os.stat(path).st_size
    except OSError as exc:
        if settings.reverse and isinstance(exc, FileNotFoundError):
            return 0
        raise SpecError(f"can't open {path}: {exc.strerror}") from None


def _options(settings: CommandLine, **more: Any) -> SocketOptions:
    return SocketOptions(
        **more,
        window_bytes=settings.window or None,
        pacing_bps=settings.fq_rate or None,
        tos=settings.tos or None,
        flow_label=settings.flowlabel,
        bind_address=_bind_address(settings),
        bind_port=settings.cport,
        bind_device=settings.device,
        keepalive=keepalive(settings.cntl_ka),
        family=family(settings),
    )


def _bind_address(settings: CommandLine) -> str | None:
    """Return -B's address, unless the test can't start since it has the wrong IP version."""
    if settings.bind is None or has_wrong_family(settings):
        return None
    return settings.bind.host or None
