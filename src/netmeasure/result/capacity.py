"""Define the report of a capacity search."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from netmeasure.result.document import ErrorRecord
from netmeasure.result.encoding import encoded
from netmeasure.result.flows import FlowDirection

#: What ended a search. "precise": the capacity lies between two rates that are close. "sender" and
#: "receiver": that end's host was the limit, not the path. "time": the time was over. "most": the
#: highest permitted rate lost no more than the limit. "nothing": every rate lost more. "error": a
#: test failed. "stopped": the search was stopped.
Ending = Literal["precise", "sender", "receiver", "time", "most", "nothing", "error", "stopped"]
Verdict = Literal["passed", "sender", "lost", "receiver"]


class RateProbe(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one test of a search: datagrams at one rate. Rates are bit/s of payload.

    Attributes:
        asked_bps: The target rate of all streams together.
        sent_bps: The rate at which the sender's kernel took datagrams; None: not known.
        received_bps: The rate at which datagrams arrived.
        second_half_bps: The rate of arrival in the second half of the counted time, when token
            buckets are empty and queues have grown; None: not known.
        sent_packets: Datagrams sent after the omitted time.
        lost_packets: Datagrams sent after the omitted time that never arrived.
        host_dropped_packets: The part of the loss at the receiver's own full socket.
        duration_ns: The duration of the whole test, set-up included.
        verdict: "passed": the loss was within the limit. "sender": the loss was within the limit,
            but the sender's host could not reach the target rate. "lost": the loss exceeded the
            limit. "receiver": the loss exceeded the limit because of the receiver's own host.
    """

    derived: ClassVar[tuple[str, ...]] = ("loss_ratio",)

    asked_bps: int
    sent_bps: float | None
    received_bps: float
    second_half_bps: float | None = None
    sent_packets: int
    lost_packets: int
    host_dropped_packets: int
    duration_ns: int
    verdict: Verdict

    @property
    def loss_ratio(self) -> float | None:
        """Return the datagrams lost over those sent, 0 to 1; None: none were sent."""
        return self.lost_packets / self.sent_packets if self.sent_packets else None


class CapacityReport(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the capacity of a path in one direction.

    Attributes:
        schema_version: The version of this document.
        target: The server, as it was given.
        direction: "upload" or "download", seen from the client.
        started_at: When the search began, ISO 8601 in UTC.
        loss_limit: The share of the datagrams that may be lost.
        streams: Streams that sent at the same time.
        datagram_bytes: Payload of a datagram; None: no test has a result.
        header_bytes: IP and UDP headers of a datagram.
        capacity_bps: The highest rate of payload at which datagrams arrived, in bit/s, when no more
            was lost than `loss_limit`; None: more was lost at every rate.
        ip_capacity_bps: The capacity with the IP and UDP headers: the Maximum IP-Layer Capacity of
            RFC 9097.
        loss_free_bps: The highest rate of payload at which datagrams arrived when none was lost;
            None: some were lost at every rate.
        above_bps: The lowest target rate of payload at which less arrived than was sent, because of
            loss or a growing queue; None: there is none, and the capacity is `capacity_bps` or
            more.
        ended_by: What ended the search: "precise": the capacity lies between two rates that are
            close. "sender", "receiver": that end's host was the limit, not the path. "time": the
            time was over. "most": the highest permitted rate lost no more than the limit.
            "nothing": every rate lost more. "error": a test failed. "stopped": the search was
            stopped.
        duration_ns: The duration of the search.
        probes: The tests, in order.
        error: Why a test failed; None: no test failed.
    """

    schema_version: int = 1
    target: str
    direction: FlowDirection
    started_at: str
    loss_limit: float
    streams: int
    datagram_bytes: int | None
    header_bytes: int | None
    capacity_bps: float | None
    ip_capacity_bps: float | None
    loss_free_bps: float | None
    above_bps: int | None
    ended_by: Ending
    duration_ns: int
    probes: tuple[RateProbe, ...]
    error: ErrorRecord | None = None

    def to_json(self) -> bytes:
        """Return the report as a JSON document."""
        return encoded(self)
