import builtins
from typing import NamedTuple

from netmeasure._fast.worker import Group, Stream

class UdpCounts(NamedTuple):
    at_ns: int | None
    highest_sequence: int
    received_packets: int
    received_bytes: int
    lost_packets: int
    duplicate_packets: int
    reordered_packets: int
    late_packets: int
    malformed_packets: int
    implausible_packets: int
    handshake_packets: int
    truncated_packets: int
    icmp_errors: int
    host_dropped_packets: int
    coalesced_packets: int
    same_stamp_packets: int
    jitter_samples: int
    jitter_ns: int | None
    jitter_valid: bool
    ipdv_count: int
    ipdv_sum_ns: int
    ipdv_min_ns: int | None
    ipdv_max_ns: int | None
    transit_min_ns: int | None
    transit_max_ns: int | None

class UdpSample(NamedTuple):
    at_ns: int
    highest_sequence: int
    received_packets: int
    duplicate_packets: int
    reordered_packets: int
    host_dropped_packets: int
    jitter_ns: int | None

class UdpSender(Stream):
    def __init__(
        self,
        group: Group,
        fd: int,
        *,
        datagram_bytes: int,
        counters_64bit: bool = False,
        target_bps: int = 0,
        target_pps: int = 0,
        burst_datagrams: int = 0,
        segments: int = 0,
        duration_ns: int = 0,
        omit_ns: int = 0,
        spin_ns: int = 0,
        catch_up_ns: int = ...,
        payload: builtins.bytes | None = None,
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    def run(self) -> None: ...
    @property
    def packets(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def icmp_errors(self) -> int: ...
    @property
    def wakeups(self) -> int: ...
    @property
    def late_wakeups(self) -> int: ...
    @property
    def largest_burst_bytes(self) -> int | None: ...
    @property
    def skipped_ns(self) -> int: ...
    @property
    def quantum_datagrams(self) -> int | None: ...
    @property
    def segments(self) -> int: ...
    @property
    def segmentation(self) -> bool: ...
    @property
    def fallback_errno(self) -> int: ...
    def packet_series(self) -> tuple[int | None, int, list[int]]: ...
    def packets_until(self, moment_ns: int) -> int: ...

class UdpReceiver(Stream):
    def __init__(
        self,
        group: Group,
        fd: int,
        *,
        datagram_bytes: int,
        counters_64bit: bool = False,
        coalesce: bool = False,
        window: int = 4096,
        batch_bytes: int = 0,
        omit_ns: int = 0,
        hello_reply: builtins.bytes = b"",
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    def run(self) -> None: ...
    @property
    def coalescing(self) -> bool: ...
    @property
    def kernel_stamps(self) -> bool: ...
    @property
    def packets(self) -> int: ...
    def snapshot(self) -> UdpCounts: ...
    def omitted(self) -> UdpCounts | None: ...
    def history(self) -> list[UdpSample]: ...
    def packet_series(self) -> tuple[int | None, int, list[int]]: ...
    def packets_until(self, moment_ns: int) -> int: ...
