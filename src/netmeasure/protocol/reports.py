"""Check that a peer's report can be the result of clocks and counters.

msgspec has checked the types. This module checks the properties on which the analysis relies:
numbers of 64 bits, columns of the same length as their times, and times in ascending order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import gt

import msgspec

from netmeasure.errors import RemoteProtocolError
from netmeasure.result import Host, Series, SideReport, SocketFacts, StreamReport, TcpInfo
from netmeasure.result.resources import HostUse, Resources, ThreadCpu

MAX_MOMENT_NS = 10 * 86_400 * 10**9  # ten days: no test is that long
#: In both directions together.
MAX_STREAMS = 1024
#: The most numbers in the columns of a report, since each uses memory (`peer.exchange` observes
#: this limit).
MAX_NUMBERS = 400_000
_LOW, _HIGH = -(2**63), 2**63
#: Members that can't be negative: counters, sizes and times that a kernel counts. A result computed
#: from a negative number could be saved, but not be read again.
NEVER_NEGATIVE: dict[type, tuple[str, ...]] = {
    SideReport: ("duration_ns", "cpu_user_ns", "cpu_system_ns"),
    StreamReport: (
        *("retransmits", "syn_retransmits", "block_bytes"),
        *("cpu_user_ns", "cpu_system_ns"),
    ),
    SocketFacts: ("mss_bytes", "sndbuf_bytes", "rcvbuf_bytes", "pacing_bps", "pmtu_bytes", "tos"),
    TcpInfo: tuple(name for name in TcpInfo.__struct_fields__ if name != "at_ns"),
    ThreadCpu: ("cpu_ns", "wait_ns"),
    Resources: tuple(name for name in Resources.__struct_fields__ if name != "at_ns"),
    HostUse: HostUse.__struct_fields__,
}
#: Members that are at least 1.
POSITIVE: dict[type, tuple[str, ...]] = {Resources: ("cpus",), HostUse: ("cpus", "duration_ns")}


#: The most facts of one kind about a host: interfaces, settings, queues.
MAX_FACTS = 256
#: The most objects within a stream's report.
_OBJECTS_PER_STREAM = 16


def check_object_count(report: bytes) -> None:
    """Raise RemoteProtocolError if a report's JSON has more objects than the streams of any test.
    This is checked before the objects are decoded, because decoding many objects takes long."""
    count = report.count(b"{")
    if count > MAX_STREAMS * _OBJECTS_PER_STREAM:
        raise RemoteProtocolError(f"the peer's results hold {count} objects")


def check_report(report: SideReport) -> None:
    """Raise RemoteProtocolError if a report can't be the result of clocks and counters."""
    if _check(report) > MAX_NUMBERS:
        raise RemoteProtocolError(f"the peer's results hold more than {MAX_NUMBERS} numbers")
    check_host(report.host)
    for stream in report.streams:
        moments = (stream.first_ns, stream.last_ns, stream.counted_from_ns, stream.counted_to_ns)
        if any(moment is not None and abs(moment) > MAX_MOMENT_NS for moment in moments):
            raise RemoteProtocolError("the peer's results hold an impossible time")
        if stream.series is not None:
            _check_series(stream.series)


def check_host(host: Host) -> None:
    """Raise RemoteProtocolError if a report has too many facts about its host."""
    told = [host.interfaces, host.governors, host.sysctls]
    told += [found for one in host.interfaces for found in (one.qdiscs, one.offloads or ())]
    if any(len(one) > MAX_FACTS for one in told):
        raise RemoteProtocolError(f"the peer reports more than {MAX_FACTS} facts about its host")


def _check(value: object) -> int:
    """Raise RemoteProtocolError if a value, or a value in it, is impossible. Return how many
    numbers its columns have."""
    if isinstance(value, msgspec.Struct):
        fields = [getattr(value, name) for name in value.__struct_fields__]
        at_ns = getattr(value, "at_ns", None)
        if isinstance(at_ns, tuple):
            _check_columns(at_ns, fields)
        _check_signs(value)
        return sum(map(_check, fields))
    if isinstance(value, tuple):
        if value and isinstance(value[0], msgspec.Struct):
            return sum(map(_check, value))
        numbers: Sequence[int] = value  # most columns have nothing else
        if set(map(type, value)) != {int}:
            numbers = [number for number in value if isinstance(number, int)]
        if numbers:
            _check(min(numbers))
            _check(max(numbers))
        return len(value)
    if isinstance(value, int):
        if not _LOW <= value < _HIGH:
            raise RemoteProtocolError("the peer's results hold a number beyond 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RemoteProtocolError("the peer's results hold a value that is not a number")
    return 0


def _check_signs(value: msgspec.Struct) -> None:
    for least, names in (
        (0, NEVER_NEGATIVE.get(type(value), ())),
        (1, POSITIVE.get(type(value), ())),
    ):
        for name in names:
            item = getattr(value, name)
            lowest = min(item, default=least) if isinstance(item, tuple) else item
            if isinstance(lowest, int) and lowest < least:
                raise RemoteProtocolError(f"the peer's results hold a {name} of {lowest}")


def _check_columns(at_ns: tuple[int, ...], columns: list[object]) -> None:
    same_length = all(len(c) == len(at_ns) for c in columns if isinstance(c, tuple))
    if not at_ns or not same_length:
        raise RemoteProtocolError("the peer's results hold columns of unequal lengths")
    if any(map(gt, at_ns, at_ns[1:])) or (max(-at_ns[0], at_ns[-1]) > MAX_MOMENT_NS):
        raise RemoteProtocolError("the peer's results hold times that are out of order")


def _check_series(series: Series) -> None:
    if not (
        abs(series.origin_ns) <= MAX_MOMENT_NS
        and 0 < series.width_ns <= MAX_MOMENT_NS
        and len(series.bytes) * series.width_ns <= MAX_MOMENT_NS
        and min(series.bytes, default=0) >= 0
        and sum(series.bytes) < _HIGH
    ):
        raise RemoteProtocolError("the peer's results hold an impossible time series")
