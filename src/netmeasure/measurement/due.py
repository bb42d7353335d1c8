"""Find when the data of a test were due, including data that never arrived."""

from __future__ import annotations

from netmeasure.analysis.pauses import LEAST_NS
from netmeasure.clock import nanoseconds
from netmeasure.result import Series, StreamReport
from netmeasure.spec import MAX_DATAGRAM_BYTES, Spec, TcpSpec, UdpSpec

#: At a low rate, a TCP sender passes this much to its kernel at a time; two such pieces may be sent
#: together.
PIECE_BYTES = 2 * 1460


def due_ns(
    spec: Spec, senders: dict[int, StreamReport], receivers: dict[int, StreamReport]
) -> int | None:
    """Return when the last data were due, on the receivers' clock; None: all data arrived.

    An outage at the end of a test is a part of the test, although no byte was received in it. So is
    the time in which a sender was blocked until its deadline.
    """
    due = [
        moment
        for number, receiver in receivers.items()
        if (sender := senders.get(number)) is not None and receiver.series is not None
        for moment in (
            _last_sent_ns(spec, sender, receiver, receiver.series),
            _planned_end_ns(spec, sender, receiver, receiver.series),
        )
        if moment is not None
    ]
    return max(due, default=None)


def _last_sent_ns(
    spec: Spec, sender: StreamReport, receiver: StreamReport, series: Series
) -> int | None:
    """Return when the last datagrams were sent, on the receiver's clock; None: they arrived."""
    if not isinstance(spec, UdpSpec) or sender.datagrams is None or receiver.datagrams is None:
        return None
    highest = receiver.datagrams.highest_sequence
    if highest is None or sender.datagrams.packets <= highest:
        return None
    if sender.series is not None and sender.last_ns is not None:
        return series.origin_ns + sender.last_ns - sender.series.origin_ns
    if spec.limit_s is not None:  # a plain iperf3 sends for the whole duration
        return series.origin_ns + nanoseconds(spec.timing.omit_s + spec.limit_s)
    return None


def _planned_end_ns(
    spec: Spec, sender: StreamReport, receiver: StreamReport, series: Series
) -> int | None:
    """Return the planned end of a sender whose data stopped arriving long before it; None: there is
    none.

    Its `end_reason` says that the sender stopped at its deadline: it had data left and nothing told
    it to stop, so the silence before the deadline belongs to the test.
    """
    if spec.limit_s is None or sender.end_reason != "deadline" or receiver.last_ns is None:
        return None
    planned = series.origin_ns + nanoseconds(spec.timing.omit_s + spec.limit_s)
    silent_ns = planned - receiver.last_ns
    return planned if silent_ns > LEAST_NS + 3 * spacing_ns(spec) else None


def spacing_ns(spec: Spec) -> int:
    """Return the longest time between two sends of a stream that the target rate asks for."""
    if isinstance(spec, UdpSpec):
        if spec.target_pps:
            return 1_000_000_000 // spec.target_pps
        return _sending_ns(spec.datagram_bytes or MAX_DATAGRAM_BYTES, spec.target_bps)
    if isinstance(spec, TcpSpec):
        return _sending_ns(PIECE_BYTES, spec.target_bps or spec.options.pacing_bps)
    return 0


def _sending_ns(size: int, rate_bps: int | None) -> int:
    return round(size * 8e9 / rate_bps) if rate_bps else 0
