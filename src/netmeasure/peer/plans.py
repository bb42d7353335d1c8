"""Plan the workload of one end of a test, from its specification or its parameters."""

from __future__ import annotations

from typing import Any

from netmeasure.clock import MICROSECOND_NS, MILLISECOND_NS, nanoseconds
from netmeasure.protocol import DEFAULT_LENGTH, Parameters
from netmeasure.spec import (
    MAX_SPIN_US,
    PeerSpec,
    ServerLimits,
    UdpSpec,
)
from netmeasure.workloads.base import Workload
from netmeasure.workloads.tcp import TcpPlan, TcpWorkload
from netmeasure.workloads.udp import UdpPlan, UdpWorkload

#: A plain iperf3 client in both directions stops reading when its time is over: the last
#: acknowledgements may never come, and nothing of its time is in them.
PLAIN_DRAIN_NS = 100 * MILLISECOND_NS


def client_plan(spec: PeerSpec, *, extended: bool) -> TcpPlan | UdpPlan:
    """What the client does. A plain iperf3 server (not `extended`) never ends a stream by itself,
    so there the client counts a byte limit on what it receives."""
    limit_s = spec.limit_s
    omit_ns = nanoseconds(spec.timing.omit_s)
    budget = spec.total_bytes or 0
    common: dict[str, Any] = {
        "duration_ns": 0 if limit_s is None else omit_ns + nanoseconds(limit_s),
        "omit_ns": omit_ns,
        "send_budget": budget,
        "repeating": spec.repeating_payload,
        "cpu": spec.cpu,
        "drain_ns": nanoseconds(spec.deadlines.drain_s),
        "give_up_s": spec.deadlines.vanished_s,
    }
    if isinstance(spec, UdpSpec):
        return UdpPlan(
            **common,
            **_udp_rates(
                spec.target_bps,
                spec.target_pps,
                spec.options.pacing_bps,
                spec.datagram_bytes or 0,
            ),
            datagram_bytes=spec.datagram_bytes or 0,
            counters_64bit=spec.counters_64bit,
            burst_datagrams=spec.burst_datagrams,
            offload=spec.offload,
            spin_ns=spec.spin_us * MICROSECOND_NS,
            window_bytes=spec.options.window_bytes,
        )
    return TcpPlan(  # congestion control and window are set before connect
        **common,
        target_bps=spec.target_bps,
        pacing_bps=spec.options.pacing_bps,
        block_bytes=spec.block_bytes,
        send_mode=spec.send_mode,
        receive_mode=spec.receive_mode,
        file=spec.file,
        receive_budget=0 if extended else budget,
        half_close=extended,
        no_delay=spec.options.no_delay,
    )


def server_plan(parameters: Parameters, limits: ServerLimits) -> TcpPlan | UdpPlan:
    """What the server does for these parameters. A plain iperf3 client says when its time is over,
    so senders have a deadline of their own only for a netmeasure client."""
    extension = parameters.netmeasure
    omit_ns = nanoseconds(parameters.omit)
    duration_ns = 0
    if extension is not None:
        omit_ns = extension.omit_ms * MILLISECOND_NS
        duration_ns = (
            omit_ns + extension.duration_ms * MILLISECOND_NS if extension.duration_ms else 0
        )
    block_bytes = parameters.len or DEFAULT_LENGTH
    common: dict[str, Any] = {
        "duration_ns": duration_ns,
        "omit_ns": omit_ns,
        # of datagrams nothing lingers: what was sent is what counts, to the last one
        "sender_window_ns": 0
        if extension is not None or parameters.udp
        else nanoseconds(parameters.time),
        "send_budget": parameters.num or parameters.blockcount * block_bytes,
        "repeating": parameters.repeating_payload,
        "cpu": parameters.server_affinity,
        "drain_ns": PLAIN_DRAIN_NS if extension is None else nanoseconds(limits.drain_s),
        "window_bytes": parameters.window or None,
        "tos": parameters.TOS,
        "give_up_s": limits.vanished_s,
    }
    if parameters.udp:
        return UdpPlan(
            **common,
            **_udp_rates(
                parameters.bandwidth or None,
                extension.target_pps if extension else None,
                parameters.fqrate or None,
                block_bytes,
            ),
            datagram_bytes=block_bytes,
            counters_64bit=parameters.udp_counters_64bit,
            dont_fragment=parameters.dont_fragment,
            burst_datagrams=parameters.burst,
            offload=extension.offload if extension else bool(parameters.gso or parameters.gro),
            spin_ns=min(extension.spin_us, MAX_SPIN_US) * MICROSECOND_NS if extension else 0,
        )
    discard = parameters.skip_rx_copy or (
        extension is not None and extension.receive_mode == "discard"
    )
    return TcpPlan(
        **common,
        target_bps=parameters.bandwidth or None,
        pacing_bps=parameters.fqrate or None,
        file=limits.file,
        lenient=extension is None,
        block_bytes=block_bytes,
        send_mode="sendfile" if parameters.zerocopy else "copy",
        receive_mode="discard" if discard else "copy",
        half_close=extension is not None,
        congestion=parameters.congestion,
        no_delay=parameters.nodelay,
    )


def _udp_rates(
    target_bps: int | None, target_pps: int | None, pacing_bps: int | None, size: int
) -> dict[str, Any]:
    """Our schedule keeps the pacing rate, too: the kernel paces datagrams only below fq."""
    wanted = target_pps * size * 8 if target_pps else target_bps
    if pacing_bps is not None and (not wanted or pacing_bps < wanted):
        return {"target_bps": pacing_bps, "target_pps": None}
    return {"target_bps": target_bps, "target_pps": target_pps}


def build_workload(plan: TcpPlan | UdpPlan) -> Workload:
    """The workload that carries a plan out."""
    return UdpWorkload(plan) if isinstance(plan, UdpPlan) else TcpWorkload(plan)
