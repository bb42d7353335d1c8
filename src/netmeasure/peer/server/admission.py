"""Check a client's parameters, and its bitrate during the test. Each refusal has iperf3's error
number. (`access` authenticates the client, `places` limits the number of tests.)"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from netmeasure.clock import nanoseconds, now_ns, seconds
from netmeasure.engine.limits import STREAM_BYTES, TEST_BYTES, descriptors_left, memory_left
from netmeasure.engine.threads import check_cpu
from netmeasure.errors import RefusedTestError, SocketOptionError
from netmeasure.protocol import DEFAULT_LENGTH, ErrorCode, Parameters, check_parameters
from netmeasure.spec import ServerLimits
from netmeasure.workloads.round_trips import shared_threads

#: Descriptors in addition to those of the streams: for a file, and for the next connections.
SPARE_DESCRIPTORS = 4
#: Descriptors of a latency probe: its socket, and the CPU account of its thread. There may be a
#: second probe.
PROBE_DESCRIPTORS = 4


def admit(parameters: Parameters, limits: ServerLimits) -> None:
    """Raise RefusedTestError if this server does not support or permit the test."""
    if (wrong := check_parameters(parameters)) is not None:
        number, sentence = wrong
        raise RefusedTestError(sentence, number=number)
    if parameters.sctp:
        raise RefusedTestError("SCTP tests are not supported", number=ErrorCode.NOT_SUPPORTED)
    if parameters.mptcp and not limits.multipath:
        raise RefusedTestError("this server does not speak MPTCP", number=ErrorCode.NOT_SUPPORTED)
    if parameters.udp and limits.file is not None:
        raise RefusedTestError("a file is not for UDP tests", number=ErrorCode.FILE_WITH_UDP)
    _check_limits(parameters, limits)
    check_descriptors(parameters)
    _check_memory(parameters)
    try:
        check_cpu(parameters.server_affinity)
    except SocketOptionError as exc:
        raise RefusedTestError(str(exc), number=exc.number) from None


def check_descriptors(parameters: Parameters) -> None:
    """Raise RefusedTestError if this process can't open a socket for each stream of a test."""
    left = descriptors_left()
    extension = parameters.netmeasure
    needed = parameters.streams + SPARE_DESCRIPTORS
    if extension is not None and extension.latency:
        needed += PROBE_DESCRIPTORS
    if extension is not None and extension.round_trips is not None:
        needed += shared_threads(parameters.server_affinity)  # each has an epoll set
    if left is not None and left < needed:
        raise RefusedTestError(
            f"the test needs {needed} file descriptors, and {left} are left (ulimit -n)",
            number=ErrorCode.STREAM_ACCEPT,
        )


def _check_memory(parameters: Parameters) -> None:
    """Raise RefusedTestError if this process's container has no memory for a test's streams."""
    left, needed = memory_left(), TEST_BYTES + parameters.streams * STREAM_BYTES
    if left is not None and left < needed:
        raise RefusedTestError(
            f"the test needs {_mib(needed)} MiB of memory, and {_mib(left)} are left (memory.max)",
            number=ErrorCode.STREAM_ACCEPT,
        )


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f}"


def _check_limits(parameters: Parameters, limits: ServerLimits) -> None:
    longest_s, wanted_s = limits.max_duration_s, parameters.omit + parameters.time
    if longest_s is not None and (not parameters.time or wanted_s > longest_s):
        wish = f"{wanted_s} s" if parameters.time else "a test without a duration"
        raise RefusedTestError(
            f"the client asked for {wish}; {longest_s:g} s are allowed",
            number=ErrorCode.DURATION_LIMIT,
        )
    if parameters.parallel > limits.max_streams:
        raise RefusedTestError(
            f"the client asked for {parameters.parallel} streams; {limits.max_streams} are allowed",
            number=ErrorCode.STREAMS,
        )
    asked_bytes = parameters.num or parameters.blockcount * (parameters.len or DEFAULT_LENGTH)
    if limits.max_bytes is not None and asked_bytes > limits.max_bytes:
        raise RefusedTestError(
            f"the client asked for {asked_bytes} bytes; {limits.max_bytes} are allowed",
            number=ErrorCode.BITRATE_LIMIT,
        )
    total_bps = asked_bps(parameters)
    most_bps = limits.max_total_bitrate_bps
    if most_bps is not None and not 0 < total_bps <= most_bps:
        asked = f"{total_bps} bit/s" if total_bps else "a test without a bitrate"
        raise RefusedTestError(
            f"the client asked for {asked}; all tests together may have {most_bps} bit/s",
            number=ErrorCode.BITRATE_LIMIT,
        )
    if limits.max_bitrate_bps is not None and total_bps > limits.max_bitrate_bps:
        raise RefusedTestError(
            f"the client asked for {total_bps} bit/s; {limits.max_bitrate_bps} are allowed",
            number=ErrorCode.BITRATE_LIMIT,
        )


def asked_bps(parameters: Parameters) -> int:
    """Return the bit/s that a test requests for all streams together; 0: not specified."""
    rates = [rate for rate in (parameters.bandwidth, parameters.fqrate) if rate]
    return max(rates, default=0) * parameters.streams


class BitrateLimit:
    """Check whether a test exceeds its bitrate limit, on average over the last `bitrate_over_s`.
    `moved` returns how many bytes have been transferred since the start."""

    def __init__(self, limits: ServerLimits, moved: Callable[[], int]) -> None:
        self._limit_bps = limits.max_bitrate_bps
        self._most_bytes = limits.max_bytes
        self._over_ns = nanoseconds(limits.bitrate_over_s)
        self._moved = moved
        self._seen = deque([(now_ns(), 0)])

    def check(self) -> None:
        """Raise RefusedTestError if the test exceeds its limit of bitrate or bytes. Call this
        several times in `bitrate_over_s`."""
        if self._most_bytes is not None and self._moved() > self._most_bytes:
            raise RefusedTestError(
                f"more than {self._most_bytes} bytes were moved", number=ErrorCode.BITRATE_LIMIT
            )
        if self._limit_bps is None:
            return
        now, moved = now_ns(), self._moved()
        self._seen.append((now, moved))
        while len(self._seen) > 2 and now - self._seen[1][0] >= self._over_ns:
            self._seen.popleft()
        since, before = self._seen[0]
        if now - since < self._over_ns:
            return
        rate_bps = (moved - before) * 8 / seconds(now - since)
        if rate_bps > self._limit_bps:
            raise RefusedTestError(
                f"{rate_bps:.0f} bit/s moved in the last {seconds(now - since):.1f} s;"
                f" {self._limit_bps} are allowed",
                number=ErrorCode.BITRATE_LIMIT,
            )
