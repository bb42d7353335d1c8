"""Convert a specification to iperf3's parameters, and parameters to a specification."""

from __future__ import annotations

import math
from typing import TypedDict

from msgspec.structs import replace

from netmeasure.clock import MICROSECOND_NS
from netmeasure.protocol import (
    FRESH_ROUND_TRIPS,
    ROUND_TRIPS,
    AskedRoundTrips,
    Extension,
    Parameters,
)
from netmeasure.spec import (
    MAX_DATAGRAM_BYTES,
    Direction,
    PeerSpec,
    RrSpec,
    SocketOptions,
    TcpSpec,
    Timing,
    UdpSpec,
)
from netmeasure.version import __version__
from netmeasure.workloads.fresh_trips import FreshTripPlan
from netmeasure.workloads.round_trips import DatagramTripPlan, RoundTripPlan
from netmeasure.workloads.tcp import TcpPlan
from netmeasure.workloads.udp import UdpPlan

#: iperf3's version number in the parameters is only informational; netmeasure's names the program.
CLIENT_VERSION = f"netmeasure {__version__}"

#: Datagrams in one super-datagram, at most (UDP_MAX_SEGMENTS, linux/udp.h).
MAX_SEGMENTS = 128


def stream_count(spec: PeerSpec) -> int:
    """Return how many streams a test has in each direction. Fresh connections are not streams of
    their own: one stream stands for all of them."""
    return spec.streams if not isinstance(spec, RrSpec) or spec.keep_connections else 1


def round_trip_kind(spec: RrSpec) -> str:
    """Return the name of a kind of round trips in a server's announcement."""
    return ROUND_TRIPS[spec.transport] if spec.keep_connections else FRESH_ROUND_TRIPS


def client_parameters(
    spec: PeerSpec, token: str | None = None, *, secret: bool = False
) -> Parameters:
    """Return the client's parameters, with the members of iperf3 and of netmeasure. The datagram
    size of a UDP specification must be known. `token` authenticates the client (`protocol.auth`);
    `secret` means that the client can prove a secret."""
    limit_s, options = spec.limit_s, spec.options
    common = Parameters(
        server_affinity=spec.server_cpu,
        fqrate=options.pacing_bps,
        TOS=options.tos or None,
        flowlabel=options.flow_label,
        title=spec.title,
        extra_data=spec.extra_data,
        get_server_output=spec.server_output,
        repeating_payload=spec.repeating_payload,
        authtoken=token,
        omit=math.ceil(spec.timing.omit_s),
        time=0 if limit_s is None else math.ceil(limit_s),
        num=spec.timing.total_bytes or 0,
        blockcount=spec.timing.total_blocks or 0,
        parallel=spec.streams,
        reverse=spec.direction == "download",
        bidirectional=spec.direction == "both",
        window=options.window_bytes,
        bandwidth=spec.target_bps,
        client_version=CLIENT_VERSION,
        netmeasure=Extension(
            program=CLIENT_VERSION,
            duration_ms=0 if limit_s is None else round(limit_s * 1000),
            omit_ms=round(spec.timing.omit_s * 1000),
            waits=spec.deadlines.queue_s > 0,
            exclusive=spec.exclusive,
            secret=secret,
        ),
    )
    if isinstance(spec, UdpSpec):
        return _udp_parameters(spec, common)
    if isinstance(spec, RrSpec):
        return _round_trip_parameters(spec, common)
    return _tcp_parameters(spec, common)


def _tcp_parameters(spec: TcpSpec, common: Parameters) -> Parameters:
    assert common.netmeasure is not None
    return replace(
        common,
        tcp=True,
        MSS=spec.options.mss_bytes,
        nodelay=spec.options.no_delay,
        len=spec.block_bytes,
        congestion=spec.options.congestion,
        mptcp=spec.options.multipath,
        burst=spec.burst_blocks,
        zerocopy=spec.send_mode == "sendfile",
        skip_rx_copy=spec.receive_mode == "discard",
        netmeasure=replace(
            common.netmeasure,
            receive_mode=spec.receive_mode,
            latency=spec.latency,
            stamps=spec.latency,
        ),
    )


def _round_trip_parameters(spec: RrSpec, common: Parameters) -> Parameters:
    assert common.netmeasure is not None
    asked = AskedRoundTrips(
        response_bytes=spec.response_bytes,
        in_flight=spec.in_flight,
        per_s=spec.target_tps,
        lost_after_ms=round(spec.lost_after_s * 1000),
        fresh=not spec.keep_connections,
    )
    if spec.over_udp:
        return replace(
            common,
            udp=True,
            len=spec.request_bytes,
            dont_fragment=spec.options.dont_fragment,
            netmeasure=replace(common.netmeasure, round_trips=asked),
        )
    return replace(
        common,
        tcp=True,
        MSS=spec.options.mss_bytes,
        nodelay=True,
        len=spec.request_bytes,
        congestion=spec.options.congestion,
        mptcp=spec.options.multipath,
        netmeasure=replace(common.netmeasure, round_trips=asked),
    )


def _udp_parameters(spec: UdpSpec, common: Parameters) -> Parameters:
    assert common.netmeasure is not None
    size = spec.datagram_bytes or 0
    rate = spec.target_bps
    if spec.target_pps is not None:
        rate = spec.target_pps * size * 8
    asked = replace(
        common,
        udp=True,
        len=size,
        bandwidth=rate,
        burst=spec.burst_datagrams,
        dont_fragment=spec.options.dont_fragment,
        udp_counters_64bit=spec.counters_64bit,
        netmeasure=replace(
            common.netmeasure,
            target_pps=spec.target_pps,
            offload=spec.offload,
            spin_us=spec.spin_us,
            latency=spec.latency,
            stamps=spec.latency,
        ),
    )
    return _with_offload(asked, size) if spec.ask_offload else asked


def _with_offload(asked: Parameters, size: int) -> Parameters:
    """Return the parameters with iperf3's members (3.21) for segmentation offload, and the sizes
    that its own client sends."""
    segments = max(1, min(MAX_SEGMENTS, MAX_DATAGRAM_BYTES // max(1, size)))
    return replace(
        asked,
        gso=1,
        gso_dg_size=size,
        gso_bf_size=size * segments,
        gro=1,
        gro_bf_size=MAX_DATAGRAM_BYTES,
    )


def server_time_limit_s(parameters: Parameters) -> float | None:
    """Return how long the data phase lasts by the client's parameters; None: a byte limit ends
    it."""
    extension = parameters.netmeasure
    if extension is not None and extension.duration_ms:
        return (extension.omit_ms + extension.duration_ms) / 1000
    return float(parameters.omit + parameters.time) if parameters.time else None


def server_spec(parameters: Parameters, plan: TcpPlan | UdpPlan) -> PeerSpec:
    """Return the client's parameters as a specification, for the server's own Result."""
    if isinstance(plan, DatagramTripPlan):
        return RrSpec(
            **_common(parameters, plan),
            transport="udp",
            request_bytes=plan.datagram_bytes,
            response_bytes=plan.response_bytes,
            in_flight=plan.in_flight,
            target_tps=plan.per_s,
            lost_after_s=plan.lost_after_ns / 1e9,
            options=_udp_options(parameters),
        )
    if isinstance(plan, UdpPlan):
        return UdpSpec(
            **_common(parameters, plan),
            target_bps=parameters.bandwidth or None,
            datagram_bytes=plan.datagram_bytes,
            counters_64bit=plan.counters_64bit,
            burst_datagrams=plan.burst_datagrams,
            offload=plan.offload,
            spin_us=plan.spin_ns // MICROSECOND_NS,
            latency=_asks_latency(parameters),
            options=_udp_options(parameters),
        )
    if isinstance(plan, RoundTripPlan):
        return RrSpec(
            **_common(parameters, plan),
            keep_connections=not isinstance(plan, FreshTripPlan),
            request_bytes=plan.request_bytes,
            response_bytes=plan.response_bytes,
            in_flight=plan.in_flight,
            target_tps=plan.per_s,
            options=_tcp_options(parameters),
        )
    return TcpSpec(
        **_common(parameters, plan),
        target_bps=parameters.bandwidth or None,
        burst_blocks=parameters.burst,
        block_bytes=plan.block_bytes,
        send_mode=plan.send_mode,
        receive_mode=plan.receive_mode,
        latency=_asks_latency(parameters),
        options=_tcp_options(parameters),
    )


def _asks_latency(parameters: Parameters) -> bool:
    return parameters.netmeasure is not None and parameters.netmeasure.latency


def _udp_options(parameters: Parameters) -> SocketOptions:
    return SocketOptions(**_common_options(parameters), dont_fragment=parameters.dont_fragment)


def _tcp_options(parameters: Parameters) -> SocketOptions:
    return SocketOptions(
        **_common_options(parameters),
        congestion=parameters.congestion,
        mss_bytes=parameters.MSS or None,
        no_delay=parameters.nodelay,
        multipath=parameters.mptcp,
    )


class _Common(TypedDict):
    """Hold the common fields of all specifications."""

    direction: Direction
    streams: int
    timing: Timing
    title: str | None
    extra_data: str | None
    repeating_payload: bool
    server_cpu: int | None
    server_output: bool
    exclusive: bool


def _common(parameters: Parameters, plan: TcpPlan | UdpPlan) -> _Common:
    one_way: Direction = "download" if parameters.reverse else "upload"
    return {
        "direction": "both" if parameters.bidirectional else one_way,
        "streams": parameters.parallel,
        "timing": _timing(parameters, plan),
        "title": parameters.title,
        "extra_data": parameters.extra_data,
        "repeating_payload": parameters.repeating_payload,
        "server_cpu": parameters.server_affinity,
        "server_output": parameters.get_server_output,
        "exclusive": parameters.netmeasure is not None and parameters.netmeasure.exclusive,
    }


def _timing(parameters: Parameters, plan: TcpPlan | UdpPlan) -> Timing:
    extension = parameters.netmeasure
    duration_s: float = parameters.time
    if extension is not None and extension.duration_ms:
        duration_s = extension.duration_ms / 1000
    limited = bool(parameters.num or parameters.blockcount)
    return Timing(
        duration_s=None if limited else duration_s or None,
        endless=not limited and not duration_s,
        total_bytes=parameters.num or None,
        total_blocks=None if parameters.num else parameters.blockcount or None,
        omit_s=plan.omit_ns / 1e9,
    )


class _CommonOptions(TypedDict):
    """Hold the socket options of TCP and UDP, with the names of SocketOptions."""

    window_bytes: int | None
    pacing_bps: int | None
    tos: int | None
    flow_label: int | None


def _common_options(parameters: Parameters) -> _CommonOptions:
    return {
        "window_bytes": parameters.window or None,
        "pacing_bps": parameters.fqrate or None,
        "tos": parameters.TOS or None,
        "flow_label": parameters.flowlabel,
    }
