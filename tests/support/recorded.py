"""Make results as runs produce them, with the figures that a test needs and no others."""

from __future__ import annotations

from netmeasure.result import (
    Averages,
    Flow,
    FlowDirection,
    Host,
    Phase,
    Result,
    SideReport,
    SocketFacts,
    Steady,
    StreamReport,
    StreamResult,
    Stretch,
    Totals,
)
from netmeasure.spec import Spec, TcpSpec

SECOND = 10**9
#: The data phase of a recorded run, and the ramp within it.
SPAN_NS, RAMP_NS = 2 * SECOND, SECOND // 10


def recorded(
    rate_bps: float,
    *,
    set_up_ns: int = 1_000_000,
    syns: int = 0,
    direction: FlowDirection = "upload",
    spec: Spec | None = None,
    congestion: str = "cubic",
    mtu: int = 1500,
    kernel: str = "6.18",
    cpu_ns: int = 100_000_000,
    retransmits: int = 0,
    version: str = "0.1.0",
    block_bytes: int = 131_072,
) -> Result:
    """Return a complete TCP run of 2 s at a steady rate after a ramp of 0.1 s at half of it."""
    steady_bytes = round(rate_bps / 8 * (SPAN_NS - RAMP_NS) / SECOND)
    ramp_bytes = round(rate_bps / 16 * RAMP_NS / SECOND)
    moved = steady_bytes + ramp_bytes
    sender = StreamReport(
        id=1,
        role="sender",
        acked_bytes=moved,
        mode="copy",
        block_bytes=block_bytes,
        socket=SocketFacts(
            remote="192.0.2.1:5201",
            congestion=congestion,
            mss_bytes=mtu - 52,
            pmtu_bytes=mtu,
        ),
    )
    receiver = StreamReport(id=1, role="receiver", bytes=moved, mode="copy")
    flow = Flow(
        direction=direction,
        streams=(StreamResult(id=1, sender=sender, receiver=receiver),),
        counted_by="receiver",
        ramp=Stretch(start_ns=0, end_ns=RAMP_NS, bytes=ramp_bytes),
        steady=Steady(
            verdict="steady",
            start_ns=RAMP_NS,
            end_ns=SPAN_NS,
            bytes=steady_bytes,
            goodput_bps=rate_bps,
            batches=190,
            batch_ns=10_000_000,
            confidence_interval=(rate_bps * 0.999, rate_bps * 1.001),
            grade="A",
        ),
        averages=Averages(
            from_first_attempt_bps=moved * 8e9 / (SPAN_NS + set_up_ns),
            from_first_byte_bps=moved * 8e9 / SPAN_NS,
            after_omit_bps=moved * 8e9 / SPAN_NS,
            set_up_ns=set_up_ns,
        ),
        sender=Totals(
            acked_bytes=moved, retransmits=retransmits, cpu_user_ns=0, cpu_system_ns=cpu_ns
        ),
        receiver=Totals(bytes=moved, cpu_user_ns=0, cpu_system_ns=cpu_ns),
    )
    connect = Phase(
        name="connect",
        connection="control",
        start_ns=0,
        duration_ns=set_up_ns,
        syn_retransmits=syns,
    )
    host = Host(program="netmeasure", version=version, hostname="lab1", kernel=kernel)
    return Result(
        spec=spec or TcpSpec(direction=direction),
        complete=True,
        started_at="2026-01-01T00:00:00Z",
        target="lab1:5201",
        setup=(connect,),
        flows=(flow,),
        client=SideReport(host=host),
        server=SideReport(host=host),
        peer_extended=True,
    )
