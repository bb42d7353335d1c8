"""Build the member "netmeasure" of iperf3's document: figures that iperf3 does not measure."""

from __future__ import annotations

from netmeasure.export.iperf3.cjson import Object
from netmeasure.result import Flow, Phase, Result, Steady


def knowledge(result: Result) -> Object:
    """Return the member "netmeasure". All rates are in bit/s; unknown values are null.

    set_up_seconds: from the client's first attempt to the first payload byte.
    set_up: its phases, in seconds from that attempt.
    flows: for each direction the steady state with its confidence interval, grade and verdict; the
    averages that other tools print; the bottleneck; losses.
    complete, notes: as in the Result.
    """
    set_up_ns = result.set_up_ns
    return {
        "complete": result.complete,
        "set_up_seconds": None if set_up_ns is None else set_up_ns / 1e9,
        "set_up": [_phase(phase) for phase in result.setup],
        "flows": [_flow(flow) for flow in result.flows],
        "notes": list(result.notes),
    }


def _phase(phase: Phase) -> Object:
    return {
        "name": phase.name,
        "connection": phase.connection,
        "start": phase.start_ns / 1e9,
        "seconds": phase.duration_ns / 1e9,
        "syn_retransmits": phase.syn_retransmits,
    }


def _flow(flow: Flow) -> Object:
    limits, averages, loss = flow.limits, flow.averages, flow.loss
    return {
        "direction": flow.direction,
        "counted_by": flow.counted_by,
        "steady": None if flow.steady is None else _steady(flow.steady),
        "averages": {
            "from_first_attempt_bits_per_second": averages.from_first_attempt_bps,
            "from_first_byte_bits_per_second": averages.from_first_byte_bps,
            "after_omit_bits_per_second": averages.after_omit_bps,
        },
        "limits": None
        if limits is None
        else {
            "limited_by": limits.limited_by,
            "sender_cpu_ratio": limits.sender_cpu_ratio,
            "receiver_cpu_ratio": limits.receiver_cpu_ratio,
            "rwnd_limited_ratio": limits.rwnd_limited_ratio,
            "sndbuf_limited_ratio": limits.sndbuf_limited_ratio,
        },
        "loss": None
        if loss is None
        else {
            "sent_packets": loss.sent_packets,
            "received_packets": loss.received_packets,
            "lost_packets": loss.lost_packets,
            "duplicate_packets": loss.duplicate_packets,
            "reordered_packets": loss.reordered_packets,
            "host_dropped_packets": loss.host_dropped_packets,
        },
    }


def _steady(steady: Steady) -> Object:
    interval = steady.confidence_interval
    return {
        "verdict": steady.verdict,
        "grade": steady.grade,
        "start": steady.start_ns / 1e9,
        "end": steady.end_ns / 1e9,
        "bytes": steady.bytes,
        "bits_per_second": steady.goodput_bps,
        "confidence_interval": None if interval is None else list(interval),
        "stalls": len(steady.stalls),
    }
