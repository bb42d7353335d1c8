"""From a specification to iperf3's parameters, and from either to what an end has to do."""

from __future__ import annotations

import math

from netmeasure.clock import nanoseconds
from netmeasure.protocol import DEFAULT_LENGTH, Extension, Parameters
from netmeasure.result import FlowDirection, Role
from netmeasure.spec import (
    MAX_BLOCK_BYTES,
    MAX_DURATION_S,
    ServerLimits,
    SocketOptions,
    TcpSpec,
    Timing,
)
from netmeasure.version import __version__
from netmeasure.workloads.tcp import TcpPlan

#: iperf3's version number in the parameters is informational; ours says who we are.
CLIENT_VERSION = f"netmeasure {__version__}"


def client_parameters(spec: TcpSpec) -> Parameters:
    """What the client asks the server for, in iperf3's words and ours."""
    limit_s = spec.timing.limit_s
    options = spec.options
    return Parameters(
        tcp=True,
        omit=math.ceil(spec.timing.omit_s),
        time=0 if limit_s is None else math.ceil(limit_s),
        num=spec.timing.total_bytes or 0,
        blockcount=spec.timing.total_blocks or 0,
        parallel=spec.streams,
        reverse=spec.direction == "download",
        bidirectional=spec.direction == "both",
        MSS=options.mss_bytes,
        nodelay=options.no_delay,
        window=options.window_bytes,
        len=spec.block_bytes,
        bandwidth=spec.target_bps,
        congestion=options.congestion,
        zerocopy=spec.send_mode == "sendfile",
        skip_rx_copy=spec.receive_mode == "discard",
        client_version=CLIENT_VERSION,
        netmeasure=Extension(
            program=CLIENT_VERSION,
            duration_ms=0 if limit_s is None else round(limit_s * 1000),
            omit_ms=round(spec.timing.omit_s * 1000),
            receive_mode=spec.receive_mode,
        ),
    )


def client_plan(spec: TcpSpec, *, extended: bool) -> TcpPlan:
    """What the client does. A plain iperf3 server (not `extended`) never ends a stream by itself,
    so there the client counts a byte limit on what it receives."""
    limit_s = spec.timing.limit_s
    omit_ns = nanoseconds(spec.timing.omit_s)
    budget = spec.total_bytes or 0
    return TcpPlan(
        block_bytes=spec.block_bytes,
        send_mode=spec.send_mode,
        receive_mode=spec.receive_mode,
        duration_ns=0 if limit_s is None else omit_ns + nanoseconds(limit_s),
        omit_ns=omit_ns,
        send_budget=budget,
        receive_budget=0 if extended else budget,
        target_bps=spec.target_bps,
        half_close=extended,
        drain_ns=nanoseconds(spec.deadlines.drain_s),
        congestion=None,  # set before connect
        no_delay=spec.options.no_delay,
        window_bytes=None,  # set before connect
        give_up_s=spec.deadlines.vanished_s,
    )


def server_plan(parameters: Parameters, limits: ServerLimits) -> TcpPlan:
    """What the server does for these parameters. A plain iperf3 client says when its time is over,
    so senders have a deadline of their own only for a netmeasure client."""
    extension = parameters.netmeasure
    omit_ns = nanoseconds(parameters.omit)
    duration_ns = 0
    discard = parameters.skip_rx_copy
    if extension is not None:
        omit_ns = extension.omit_ms * 1_000_000
        duration_ns = omit_ns + extension.duration_ms * 1_000_000 if extension.duration_ms else 0
        discard = extension.receive_mode == "discard"
    block_bytes = min(parameters.len or DEFAULT_LENGTH, MAX_BLOCK_BYTES)
    rates = [rate for rate in (parameters.bandwidth, parameters.fqrate) if rate]
    return TcpPlan(
        block_bytes=block_bytes,
        send_mode="sendfile" if parameters.zerocopy else "copy",
        receive_mode="discard" if discard else "copy",
        duration_ns=duration_ns,
        omit_ns=omit_ns,
        send_budget=parameters.num or parameters.blockcount * block_bytes,
        target_bps=min(rates, default=None),
        half_close=extension is not None,
        drain_ns=nanoseconds(limits.drain_s),
        congestion=parameters.congestion,
        no_delay=parameters.nodelay,
        window_bytes=parameters.window or None,
        tos=parameters.TOS,
        give_up_s=limits.vanished_s,
    )


def server_time_limit_s(parameters: Parameters) -> float | None:
    """How long the data phase can last if the client keeps its word; None: bytes end it."""
    extension = parameters.netmeasure
    if extension is not None and extension.duration_ms:
        return (extension.omit_ms + extension.duration_ms) / 1000
    return float(parameters.omit + parameters.time) if parameters.time else None


def directions(parameters: Parameters) -> tuple[FlowDirection, ...]:
    """The direction of each stream in order of creation: those that the client sends on first."""
    up: list[FlowDirection] = ["upload"] * parameters.parallel
    down: list[FlowDirection] = ["download"] * parameters.parallel
    if parameters.bidirectional:
        return (*up, *down)
    return tuple(down if parameters.reverse else up)


def client_role(direction: FlowDirection) -> Role:
    return "sender" if direction == "upload" else "receiver"


def server_role(direction: FlowDirection) -> Role:
    return "receiver" if direction == "upload" else "sender"


def server_spec(parameters: Parameters, plan: TcpPlan) -> TcpSpec:
    """The client's wishes as a specification, for the server's own result."""
    extension = parameters.netmeasure
    seconds: float = parameters.time
    if extension is not None and extension.duration_ms:
        seconds = extension.duration_ms / 1000
    limited = bool(parameters.num or parameters.blockcount)
    return TcpSpec(
        direction="both"
        if parameters.bidirectional
        else "download"
        if parameters.reverse
        else "upload",
        streams=parameters.parallel,
        timing=Timing(
            duration_s=None if limited else seconds or MAX_DURATION_S,
            total_bytes=parameters.num or None,
            total_blocks=None if parameters.num else parameters.blockcount or None,
            omit_s=plan.omit_ns / 1e9,
        ),
        block_bytes=plan.block_bytes,
        target_bps=plan.target_bps,
        send_mode=plan.send_mode,
        receive_mode=plan.receive_mode,
        options=SocketOptions(
            congestion=parameters.congestion,
            mss_bytes=parameters.MSS or None,
            no_delay=parameters.nodelay,
            window_bytes=parameters.window or None,
        ),
    )
