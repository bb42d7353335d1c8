"""Make plans for the workload of one end of a test, from its specification or its parameters."""

from __future__ import annotations

from typing import TypedDict

from msgspec import structs

from netmeasure.clock import MICROSECOND_NS, MILLISECOND_NS, nanoseconds
from netmeasure.peer.parameters import stream_count
from netmeasure.protocol import DEFAULT_LENGTH, AskedRoundTrips, Parameters
from netmeasure.spec import MAX_SPIN_US, PeerSpec, RrSpec, ServerLimits, TcpSpec, UdpSpec
from netmeasure.workloads.base import Workload
from netmeasure.workloads.fresh_trips import FreshTripPlan, FreshTripWorkload
from netmeasure.workloads.round_trips import (
    DatagramTripPlan,
    DatagramTripWorkload,
    RoundTripPlan,
    RoundTripWorkload,
)
from netmeasure.workloads.tcp import TcpPlan, TcpWorkload
from netmeasure.workloads.udp import UdpPlan, UdpWorkload

#: In a test of both directions, a plain iperf3 client stops reading when its time is over: the last
#: acknowledgements may never arrive, and they do not concern the time of the test.
PLAIN_DRAIN_NS = 100 * MILLISECOND_NS


class _ClientPart(TypedDict):
    """Hold the common fields of a client's TCP and UDP plans, with the names of `Plan`."""

    streams: int
    duration_ns: int
    omit_ns: int
    send_budget: int
    repeating: bool
    cpu: int | None
    drain_ns: int
    give_up_s: float


class _ServerPart(_ClientPart):
    """Hold the common fields of a server's TCP and UDP plans."""

    sender_window_ns: int
    window_bytes: int | None
    tos: int | None


class _UdpRates(TypedDict):
    """Hold the target rate of a sender of datagrams, in bits or datagrams per second."""

    target_bps: int | None
    target_pps: int | None


# ---- the client -------------------------------------------------------------------------------


def client_plan(spec: PeerSpec, *, extended: bool) -> TcpPlan | UdpPlan:
    """Return the client's plan.

    A plain iperf3 server (not `extended`) ends no stream by itself. The client then applies a byte
    limit to the bytes that it receives.
    """
    if isinstance(spec, UdpSpec):
        return _client_udp_plan(spec)
    if isinstance(spec, RrSpec) and spec.over_udp:
        return _client_datagram_trip_plan(spec)
    if isinstance(spec, RrSpec):
        return _client_round_trip_plan(spec)
    return _client_tcp_plan(spec, extended=extended)


def _client_part(spec: PeerSpec) -> _ClientPart:
    omit_ns, limit_s = nanoseconds(spec.timing.omit_s), spec.limit_s
    return {
        "streams": stream_count(spec) * (2 if spec.direction == "both" else 1),
        "duration_ns": 0 if limit_s is None else omit_ns + nanoseconds(limit_s),
        "omit_ns": omit_ns,
        "send_budget": spec.total_bytes or 0,
        "repeating": spec.repeating_payload,
        "cpu": spec.cpu,
        "drain_ns": nanoseconds(spec.deadlines.drain_s),
        "give_up_s": spec.deadlines.vanished_s,
    }


def _client_tcp_plan(spec: TcpSpec, *, extended: bool) -> TcpPlan:
    return TcpPlan(  # congestion control and window have been set before connect
        **_client_part(spec),
        target_bps=spec.target_bps,
        pacing_bps=spec.options.pacing_bps,
        block_bytes=spec.block_bytes,
        send_mode=spec.send_mode,
        receive_mode=spec.receive_mode,
        file=spec.file,
        receive_budget=0 if extended else spec.total_bytes or 0,
        half_close=extended,
        no_delay=spec.options.no_delay,
    )


def _client_round_trip_plan(spec: RrSpec) -> RoundTripPlan:
    plan = RoundTripPlan(
        **_client_part(spec),
        pacing_bps=spec.options.pacing_bps,
        block_bytes=spec.request_bytes,
        response_bytes=spec.response_bytes,
        in_flight=spec.in_flight,
        per_s=spec.target_tps,
        no_delay=True,
    )
    return plan if spec.keep_connections else _fresh(plan, spec.streams)


def _client_datagram_trip_plan(spec: RrSpec) -> DatagramTripPlan:
    return DatagramTripPlan(
        **_client_part(spec),
        datagram_bytes=spec.request_bytes,
        response_bytes=spec.response_bytes,
        in_flight=spec.in_flight,
        per_s=spec.target_tps,
        lost_after_ns=nanoseconds(spec.lost_after_s),
        window_bytes=spec.options.window_bytes,
    )


def _client_udp_plan(spec: UdpSpec) -> UdpPlan:
    size = spec.datagram_bytes or 0
    wanted: _UdpRates = {"target_bps": spec.target_bps, "target_pps": spec.target_pps}
    return UdpPlan(
        **_client_part(spec),
        **_paced(wanted, spec.options.pacing_bps, size),
        datagram_bytes=size,
        counters_64bit=spec.counters_64bit,
        burst_datagrams=spec.burst_datagrams,
        offload=spec.offload,
        spin_ns=spec.spin_us * MICROSECOND_NS,
        window_bytes=spec.options.window_bytes,
    )


# ---- the server -------------------------------------------------------------------------------


def server_plan(parameters: Parameters, limits: ServerLimits) -> TcpPlan | UdpPlan:
    """Return the server's plan for these parameters.

    A plain iperf3 client tells the server when its time is over, so senders have their own deadline
    only for a netmeasure client.
    """
    asked = parameters.netmeasure.round_trips if parameters.netmeasure else None
    if asked is not None and parameters.udp:
        return _server_datagram_trip_plan(parameters, asked, limits)
    if parameters.udp:
        return _server_udp_plan(parameters, limits)
    if asked is not None:
        return _server_round_trip_plan(parameters, asked, limits)
    return _server_tcp_plan(parameters, limits)


def _server_part(parameters: Parameters, limits: ServerLimits) -> _ServerPart:
    extension = parameters.netmeasure
    omit_ns, duration_ns = nanoseconds(parameters.omit), 0
    if extension is not None:
        omit_ns = extension.omit_ms * MILLISECOND_NS
        if extension.duration_ms:
            duration_ns = omit_ns + extension.duration_ms * MILLISECOND_NS
    # datagrams do not wait in a send buffer until after the test, so all sent datagrams count
    window_ns = nanoseconds(parameters.time) if extension is None and not parameters.udp else 0
    return {
        "streams": parameters.streams,
        "duration_ns": duration_ns,
        "omit_ns": omit_ns,
        "sender_window_ns": window_ns,
        "send_budget": parameters.num or parameters.blockcount * _block_bytes(parameters),
        "repeating": parameters.repeating_payload,
        "cpu": parameters.server_affinity,
        "drain_ns": PLAIN_DRAIN_NS if extension is None else nanoseconds(limits.drain_s),
        "window_bytes": parameters.window or None,
        "tos": parameters.TOS,
        "give_up_s": limits.vanished_s,
    }


def _block_bytes(parameters: Parameters) -> int:
    return parameters.len or DEFAULT_LENGTH


def _server_tcp_plan(parameters: Parameters, limits: ServerLimits) -> TcpPlan:
    extension = parameters.netmeasure
    discard = parameters.skip_rx_copy
    if extension is not None and extension.receive_mode == "discard":
        discard = True
    return TcpPlan(
        **_server_part(parameters, limits),
        target_bps=parameters.bandwidth or None,
        pacing_bps=parameters.fqrate or None,
        file=limits.file,
        lenient=extension is None,
        block_bytes=_block_bytes(parameters),
        send_mode="sendfile" if parameters.zerocopy else "copy",
        receive_mode="discard" if discard else "copy",
        half_close=extension is not None,
        congestion=parameters.congestion,
        no_delay=parameters.nodelay,
    )


def _server_round_trip_plan(
    parameters: Parameters, asked: AskedRoundTrips, limits: ServerLimits
) -> RoundTripPlan:
    plan = RoundTripPlan(
        **_server_part(parameters, limits),
        pacing_bps=parameters.fqrate or None,
        block_bytes=_block_bytes(parameters),
        response_bytes=asked.response_bytes,
        in_flight=asked.in_flight,
        per_s=asked.per_s,
        congestion=parameters.congestion,
        no_delay=True,
    )
    return _fresh(plan, parameters.parallel) if asked.fresh else plan


def _server_datagram_trip_plan(
    parameters: Parameters, asked: AskedRoundTrips, limits: ServerLimits
) -> DatagramTripPlan:
    return DatagramTripPlan(
        **_server_part(parameters, limits),
        datagram_bytes=_block_bytes(parameters),
        response_bytes=asked.response_bytes,
        in_flight=asked.in_flight,
        per_s=asked.per_s,
        lost_after_ns=asked.lost_after_ms * MILLISECOND_NS,
        dont_fragment=parameters.dont_fragment,
    )


def _server_udp_plan(parameters: Parameters, limits: ServerLimits) -> UdpPlan:
    extension, size = parameters.netmeasure, _block_bytes(parameters)
    wanted: _UdpRates = {
        "target_bps": parameters.bandwidth or None,
        "target_pps": extension.target_pps if extension else None,
    }
    return UdpPlan(
        **_server_part(parameters, limits),
        **_paced(wanted, parameters.fqrate or None, size),
        datagram_bytes=size,
        counters_64bit=parameters.udp_counters_64bit,
        dont_fragment=parameters.dont_fragment,
        burst_datagrams=parameters.burst,
        offload=extension.offload if extension else bool(parameters.gso or parameters.gro),
        spin_ns=min(extension.spin_us, MAX_SPIN_US) * MICROSECOND_NS if extension else 0,
    )


# ---- both -------------------------------------------------------------------------------------


def _paced(wanted: _UdpRates, pacing_bps: int | None, size: int) -> _UdpRates:
    """Return the target rates, limited by the pacing rate: the kernel paces datagrams only with the
    queueing discipline fq, so the sender's own schedule must do it."""
    target_pps = wanted["target_pps"]
    rate_bps = target_pps * size * 8 if target_pps else wanted["target_bps"]
    if pacing_bps is not None and (not rate_bps or pacing_bps < rate_bps):
        return {"target_bps": pacing_bps, "target_pps": None}
    return wanted


def _fresh(plan: RoundTripPlan, connections: int) -> FreshTripPlan:
    """Return the plan for fresh connections, whose addresses are not known yet."""
    return FreshTripPlan(
        **structs.asdict(structs.replace(plan, streams=1)), connections=connections
    )


def build_workload(plan: TcpPlan | UdpPlan) -> Workload:
    """Return the workload for a plan."""
    if isinstance(plan, DatagramTripPlan):
        return DatagramTripWorkload(plan)
    if isinstance(plan, FreshTripPlan):
        return FreshTripWorkload(plan)
    if isinstance(plan, RoundTripPlan):
        return RoundTripWorkload(plan)
    return UdpWorkload(plan) if isinstance(plan, UdpPlan) else TcpWorkload(plan)
