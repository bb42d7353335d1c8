"""Define what a search of the capacity has found."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from netmeasure.result.document import ErrorRecord
from netmeasure.result.encoding import encoded
from netmeasure.result.flows import FlowDirection

#: What ended a search. "precise": the capacity lies between two rates that are close. "sender" and
#: "receiver": that end's host was the limit, not the path. "time": the time was over. "most": no
#: more than the limit was lost at the highest rate that was allowed. "nothing": more was lost at
#: every rate. "error": a test broke off. "stopped": the search was stopped.
Ending = Literal["precise", "sender", "receiver", "time", "most", "nothing", "error", "stopped"]
Verdict = Literal["passed", "sender", "lost", "receiver"]


class RateProbe(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one test of a search: datagrams at one rate. Rates are bit/s of payload.

    Attributes:
        asked_bps: The rate that was asked for, of all streams together.
        sent_bps: The rate at which the sender's kernel took datagrams; None: not known.
        received_bps: The rate at which they arrived.
        second_half_bps: The same in the second half of the counted time, when token buckets are
            empty and queues have grown; None: not known.
        sent_packets: Datagrams sent after the omitted time.
        lost_packets: Those of them that never came.
        host_dropped_packets: The part of the loss at the receiver's own full socket.
        duration_ns: What the whole test took, set-up included.
        verdict: "passed": no more was lost than the limit allows. "sender": the same, but its host
            could not send as fast as was asked. "lost": more was lost. "receiver": more was lost,
            by the receiver's own host.
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
        datagram_bytes: Payload of a datagram; None: no test came so far.
        header_bytes: IP and UDP headers of a datagram.
        capacity_bps: The highest rate of payload at which datagrams arrived, in bit/s, when no more
            was lost than `loss_limit`; None: more was lost at every rate.
        ip_capacity_bps: The same with the IP and UDP headers: the Maximum IP-Layer Capacity of RFC
            9097.
        loss_free_bps: The highest rate of payload at which datagrams arrived when none was lost;
            None: some were lost at every rate.
        above_bps: The lowest rate of payload, as it was asked for, of which less arrived than was
            sent, by loss or by a queue that grew; None: there is none, and the capacity is
            `capacity_bps` or more.
        ended_by: What ended the search: "precise": the capacity lies between two rates that are
            close. "sender", "receiver": that end's host was the limit, not the path. "time": the
            time was over. "most": no more than the limit was lost at the highest rate that was
            allowed. "nothing": more was lost at every rate. "error": a test broke off. "stopped":
            the search was stopped.
        duration_ns: What the search took.
        probes: The tests, in their order.
        error: Why a test broke off; None: none did.
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
