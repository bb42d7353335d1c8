"""Check a client's parameters, its authentication, and its bitrate while the test runs. Each
refusal has iperf3's number. (`server` limits the number of tests.)"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from netmeasure.clock import nanoseconds, now_ns, seconds, unix_s
from netmeasure.engine.threads import check_cpu
from netmeasure.errors import RefusedTestError, SocketOptionError
from netmeasure.protocol import ErrorCode, Parameters, check_parameters
from netmeasure.protocol.auth import Gatekeeper
from netmeasure.spec import ServerLimits


def admit(parameters: Parameters, limits: ServerLimits, gatekeeper: Gatekeeper | None) -> None:
    """Raise RefusedTestError if this server does not serve such a test, or not to this client."""
    if gatekeeper is not None:
        gatekeeper.check(parameters.authtoken, unix_s())
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
    try:
        check_cpu(parameters.server_affinity)
    except SocketOptionError as exc:
        raise RefusedTestError(str(exc), number=exc.number) from None


def _check_limits(parameters: Parameters, limits: ServerLimits) -> None:
    longest_s, wanted_s = limits.max_duration_s, parameters.omit + parameters.time
    if longest_s is not None and (not parameters.time or wanted_s > longest_s):
        wish = f"{wanted_s} s" if parameters.time else "a test without a duration"
        raise RefusedTestError(
            f"the client asked for {wish}; {longest_s:g} s are allowed",
            number=ErrorCode.DURATION_LIMIT,
        )
    rates = [rate for rate in (parameters.bandwidth, parameters.fqrate) if rate]
    ways = 2 if parameters.bidirectional else 1
    total_bps = max(rates, default=0) * parameters.parallel * ways
    if limits.max_bitrate_bps is not None and total_bps > limits.max_bitrate_bps:
        raise RefusedTestError(
            f"the client asked for {total_bps} bit/s; {limits.max_bitrate_bps} are allowed",
            number=ErrorCode.BITRATE_LIMIT,
        )


class BitrateLimit:
    """Check whether a test moves more than it may, on average over the last `bitrate_over_s`.
    `moved` returns how many bytes have been moved since the start."""

    def __init__(self, limits: ServerLimits, moved: Callable[[], int]) -> None:
        self._limit_bps = limits.max_bitrate_bps
        self._over_ns = nanoseconds(limits.bitrate_over_s)
        self._moved = moved
        self._seen = deque([(now_ns(), 0)])

    def check(self) -> None:
        """Raise RefusedTestError above the limit. Call it several times in `bitrate_over_s`."""
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
