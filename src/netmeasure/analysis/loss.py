"""Compute the loss of datagrams from the counts of both ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netmeasure.result import Datagrams, Loss, StreamReport
from netmeasure.spec import UdpSpec


def combine(
    spec: UdpSpec,
    senders: Mapping[int, StreamReport],
    receivers: Mapping[int, StreamReport],
) -> Loss:
    """Return the loss of a flow after its omitted time.

    The omitted part ends at the highest sequence number that the receiver had received at the end
    of the omitted time. Every later datagram that did not arrive is lost, up to the last one, which
    the sender's count gives. Without this count, the highest number received is the last one.
    """
    parts = [
        _stream(spec, _counts(senders.get(number)), counts)
        for number, report in receivers.items()
        if (counts := report.datagrams) is not None
    ]
    if not parts:
        sent = _sum(s.datagrams.packets for s in senders.values() if s.datagrams)
        return Loss(sent_packets=None if spec.timing.omit_s else sent)
    jitters = [part.jitter_ns for part in parts if part.jitter_ns is not None]
    valid = [part.jitter_valid for part in parts if part.jitter_valid is not None]
    return Loss(
        sent_packets=_sum(part.sent_packets for part in parts),
        received_packets=_sum(part.received_packets for part in parts),
        lost_packets=_sum(part.lost_packets for part in parts),
        duplicate_packets=_sum(part.duplicate_packets for part in parts),
        reordered_packets=_sum(part.reordered_packets for part in parts),
        host_dropped_packets=_sum(part.host_dropped_packets for part in parts),
        jitter_ns=round(sum(jitters) / len(jitters)) if jitters else None,
        jitter_valid=all(valid) if valid else None,
    )


def _stream(spec: UdpSpec, sent: Datagrams | None, received: Datagrams) -> Loss:
    nothing_came = not received.highest_sequence
    cut = 0 if nothing_came else received.omitted_highest_sequence
    before = 0 if nothing_came else received.omitted_packets
    if cut is None or before is None:
        # the receiver's omitted time never ended, or an old iperf3 does not report it: if datagrams
        # were omitted, their share of the loss is unknown
        if spec.timing.omit_s:
            return Loss(jitter_ns=received.jitter_ns, jitter_valid=received.jitter_valid)
        cut = before = 0
    highest = received.highest_sequence or 0
    end = max(highest, sent.packets) if sent is not None else highest
    came = received.packets - before
    return Loss(
        sent_packets=end - cut,
        received_packets=came,
        lost_packets=end - cut - came,
        duplicate_packets=received.duplicate_packets,
        reordered_packets=received.reordered_packets,
        host_dropped_packets=received.host_dropped_packets,
        jitter_ns=received.jitter_ns,
        jitter_valid=received.jitter_valid,
    )


def _counts(report: StreamReport | None) -> Datagrams | None:
    return None if report is None else report.datagrams


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Return the sum, None if any is unknown."""
    known = list(numbers)
    if not known or None in known:
        return None
    return sum(number for number in known if number is not None)
