"""Define the counts of each end of a UDP test, and the losses between the two ends."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from netmeasure.result.brief import Brief


class DatagramHistory(Brief, frozen=True, kw_only=True):
    """Hold a UDP receiver's counts over time, in columns of equal length.

    Item i of every column is the value at `at_ns[i]`, counted since the start; the last item is for
    the end. The datagrams missing up to that moment are `highest_sequence[i] - packets[i]`.

    Attributes:
        at_ns: Moments from this side's origin.
        packets: Datagrams received, each sequence number once.
        highest_sequence: The highest sequence number received.
        duplicate_packets: Datagrams received again.
        reordered_packets: Datagrams that came after one with a higher number (RFC 4737).
        host_dropped_packets: Datagrams dropped at the receiver's full socket (SO_RXQ_OVFL).
        jitter_ns: The running jitter of RFC 3550 section 6.4.1; None: not known yet.
    """

    at_ns: tuple[int, ...]
    packets: tuple[int, ...]
    highest_sequence: tuple[int, ...]
    duplicate_packets: tuple[int, ...]
    reordered_packets: tuple[int, ...]
    host_dropped_packets: tuple[int, ...]
    jitter_ns: tuple[int | None, ...]


class Datagrams(Brief, frozen=True, kw_only=True):
    """Hold the counts of one side of a UDP test on one stream since its start.

    The omitted time is included.

    Attributes:
        datagram_bytes: Payload of a datagram.
        packets: Sender: datagrams taken by its kernel. Receiver: datagrams received, each sequence
            number once.
        omitted_packets: The datagrams of the omitted time; None: the omitted time had not ended
            (receiver).
        highest_sequence: The highest sequence number received; None: not a receiver.
        omitted_highest_sequence: The highest sequence number received in the omitted time.
        lost_packets: Missing below the highest number received: `highest_sequence - packets`, never
            negative. Only the sender's count tells what was lost at the very end: see `Loss`.
        duplicate_packets: Datagrams received again.
        reordered_packets: Datagrams that came after one with a higher number (RFC 4737).
        late_packets: Datagrams older than the window: new or duplicate is unknown.
        invalid_packets: Datagrams that are too short or too long, or whose number is impossible.
        host_dropped_packets: Datagrams dropped at the receiver's own full socket (SO_RXQ_OVFL,
            socket(7)): the part of the loss that is not the network's; a lower bound where the
            kernel coalesces trains of datagrams.
        icmp_errors: ICMP errors that the sender's socket reported.
        jitter_ns: Smoothed interarrival jitter (RFC 3550 section 6.4.1).
        jitter_valid: False: the jitter is meaningless, since datagrams were sent in trains.
        mean_ipdv_ns: Mean absolute difference of the delays of neighbours (RFC 3393).
        delay_variation_ns: Largest minus smallest one-way delay; the clocks need not be
            synchronised.
        target_bps: The target rate, in bit/s of payload.
        largest_burst_bytes: The largest burst of payload as a policer sees it: the depth that a
            token bucket, filled at the target rate, needs to let all datagrams pass (RFC 2697);
            None: the sender was not paced.
        wakeups: How often the paced sender slept and woke up.
        late_wakeups: How often it woke up later than the schedule allows.
        skipped_ns: Time of the schedule whose datagrams were not sent: after a stall, to avoid a
            burst, or at the end of the time.
        refused_packets: Datagrams that the sender's kernel refused at first; they were sent again
            under the same number.
        offload: Sender: whether UDP_SEGMENT was in use. Receiver: whether UDP_GRO was (udp(7)).
        offload_error: Why it was not in use although it was requested.
        history: A receiver's counts over time.
    """

    datagram_bytes: int | None = None
    packets: int
    omitted_packets: int | None = 0
    highest_sequence: int | None = None
    omitted_highest_sequence: int | None = None
    lost_packets: int | None = None
    duplicate_packets: int | None = None
    reordered_packets: int | None = None
    late_packets: int | None = None
    invalid_packets: int | None = None
    host_dropped_packets: int | None = None
    icmp_errors: int | None = None
    jitter_ns: int | None = None
    jitter_valid: bool | None = None
    mean_ipdv_ns: int | None = None
    delay_variation_ns: int | None = None
    target_bps: int | None = None
    largest_burst_bytes: int | None = None
    wakeups: int | None = None
    late_wakeups: int | None = None
    skipped_ns: int | None = None
    refused_packets: int | None = None
    offload: bool | None = None
    offload_error: str | None = None
    history: DatagramHistory | None = None


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """Hold how many datagrams of a flow were lost, from the counts of both ends.

    Covers all streams after the omitted time. `sent_packets` is exactly `received_packets` plus
    `lost_packets`. A count is None where one end's count is not known.

    Attributes:
        sent_packets: Datagrams sent.
        received_packets: Datagrams received, each sequence number once.
        lost_packets: Datagrams that never arrived (RFC 7680); late datagrams are not lost.
        duplicate_packets: Datagrams received again.
        reordered_packets: Datagrams that came after one with a higher number (RFC 4737).
        host_dropped_packets: The part of the loss at the receiver's own full socket.
        jitter_ns: Smoothed interarrival jitter (RFC 3550 section 6.4.1), mean over the streams.
        jitter_valid: False: the jitter is meaningless, since datagrams were sent in trains.
    """

    derived: ClassVar[tuple[str, ...]] = ("loss_ratio",)

    sent_packets: int | None = None
    received_packets: int | None = None
    lost_packets: int | None = None
    duplicate_packets: int | None = None
    reordered_packets: int | None = None
    host_dropped_packets: int | None = None
    jitter_ns: int | None = None
    jitter_valid: bool | None = None

    @property
    def loss_ratio(self) -> float | None:
        """Return the datagrams lost over those sent, 0 to 1; None: unknown, or none were sent."""
        if self.lost_packets is None or not self.sent_packets:
            return None
        return self.lost_packets / self.sent_packets
