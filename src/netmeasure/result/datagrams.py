"""UDP: what each end counted, and what became of the datagrams between them."""

from __future__ import annotations

import msgspec


class DatagramHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A UDP receiver's counts in the course of the run, in columns: item i of every list is what
    held at `at_ns[i]` (from this side's origin), cumulative since the start; the last item is the
    end. Missing up to then: highest_sequence - packets. `jitter_ns` is RFC 3550's running value."""

    at_ns: tuple[int, ...]
    packets: tuple[int, ...]
    highest_sequence: tuple[int, ...]
    duplicate_packets: tuple[int, ...]
    reordered_packets: tuple[int, ...]
    host_dropped_packets: tuple[int, ...]
    jitter_ns: tuple[int | None, ...]


class Datagrams(msgspec.Struct, frozen=True, kw_only=True):
    """UDP: what one side counted on one stream, from its start (the omitted part included).

    packets          sender: taken by its kernel. receiver: received, each number once
    omitted_packets  those of the omitted time; None: it was not over (receiver)
    lost_packets     missing below the highest number received: highest - packets, never negative
                     (what was lost at the very end only the sender's count can tell: see Loss)
    late_packets     older than the window in which new and duplicate can be told apart
    invalid_packets  too short, too long, or with a number that can't be
    host_dropped_packets  dropped at the receiver's own full socket (SO_RXQ_OVFL): part of the loss
                     that is not the network's; a lower bound where trains are coalesced
    jitter_ns        RFC 3550 6.4.1; `jitter_valid` False: says nothing, datagrams went in trains
    mean_ipdv_ns     mean |delay difference| of neighbours (RFC 3393)
    delay_variation_ns    largest minus smallest one-way delay: needs no synchronised clocks
    largest_burst_bytes   largest burst of payload as a policer sees it: the depth that a token
                     bucket, filled at the target rate, needs to let all pass; None: not paced
    skipped_ns       of the schedule, given up after stalls rather than sent as a burst
    refused_packets  not taken by the sender's kernel at first; sent again under the same number
    offload          sender: UDP_SEGMENT in use; receiver: UDP_GRO
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
    """UDP: what became of a flow's datagrams after the omitted time, over all streams, from both
    ends' counts: `sent_packets` = `received_packets` + `lost_packets`, exactly. None: one end's
    count is not known."""

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
        if self.lost_packets is None or not self.sent_packets:
            return None
        return self.lost_packets / self.sent_packets
