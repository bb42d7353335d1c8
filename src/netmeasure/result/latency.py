"""Define the latency of a path while it is idle and while a bulk test loads it."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from netmeasure.result.brief import Brief
from netmeasure.result.histogram import Histogram, bucket_width_ns
from netmeasure.result.round_trips import LatencySeries

#: The share of the round trips, from the shortest on, whose mean gives RPM: the trimmed mean of
#: draft-ietf-ippm-responsiveness.
TRIMMED = 0.95
MINUTE_NS = 60 * 10**9


class ProbeFigures(Brief, frozen=True, kw_only=True):
    """Hold the round trips of the probe in one part of a test, on the client's clock.

    The packet delay variation of a direction (PDV; RFC 5481, section 4.2) is by how much longer a
    probe took in it than the fastest one so far. It shows the queues of that direction. The delay
    that all probes have in common is not in it: to know that, both hosts would need one clock.

    A round trip is timed from just before a probe is passed to the client's kernel until the client
    has read its answer. Delays of the two hosts are excluded: the time that a thread was ready but
    had no CPU, and the time that the server kept the probe.

    Attributes:
        latency: The round trips whose answer has arrived.
        upload_pdv: The delay variation from the client to the server; None: the server does not
            stamp its answers, or the two hosts' clocks do not run alike.
        download_pdv: The delay variation from the server to the client; None as above.
        series: Their time series; None: no answer has arrived.
        sent: Probes sent.
        skipped: Probes that were due while the client's thread had no CPU, and were not sent.
        refused: Probes that the client's kernel refused, and ICMP errors for probes.
        host_sum_ns: The sum of the hosts' delays that were excluded from all round trips.
        host_max_ns: The longest delay that was excluded from one round trip.
    """

    derived: ClassVar[tuple[str, ...]] = (
        "count",
        "lost",
        "loss_ratio",
        "min_ns",
        "mean_ns",
        "p50_ns",
        "p90_ns",
        "p99_ns",
        "max_ns",
        "upload_pdv_p50_ns",
        "upload_pdv_p99_ns",
        "download_pdv_p50_ns",
        "download_pdv_p99_ns",
    )

    latency: Histogram = Histogram()
    upload_pdv: Histogram | None = None
    download_pdv: Histogram | None = None
    series: LatencySeries | None = None
    sent: int = 0
    skipped: int = 0
    refused: int = 0
    host_sum_ns: int = 0
    host_max_ns: int = 0

    @property
    def count(self) -> int:
        """Return the number of probes whose answer has arrived."""
        return self.latency.count

    @property
    def lost(self) -> int:
        """Return the number of probes without an answer, which no latency includes."""
        return max(self.sent - self.count, 0)

    @property
    def loss_ratio(self) -> float | None:
        """Return the share of the probes that had no answer; None: none was sent."""
        return self.lost / self.sent if self.sent else None

    @property
    def min_ns(self) -> int | None:
        """Return the shortest round trip; None: unknown."""
        return self.latency.min_ns

    @property
    def mean_ns(self) -> float | None:
        """Return the mean round trip; None: unknown."""
        return self.latency.mean_ns

    @property
    def p50_ns(self) -> int | None:
        """Return the median round trip; None: unknown."""
        return self.latency.percentile_ns(50)

    @property
    def p90_ns(self) -> int | None:
        """Return the round trip that 90 % do not exceed; None: unknown."""
        return self.latency.percentile_ns(90)

    @property
    def p99_ns(self) -> int | None:
        """Return the round trip that 99 % do not exceed; None: unknown."""
        return self.latency.percentile_ns(99)

    @property
    def max_ns(self) -> int | None:
        """Return the longest round trip; None: unknown."""
        return self.latency.max_ns

    @property
    def upload_pdv_p50_ns(self) -> int | None:
        """Return the median delay variation from client to server; None: unknown."""
        return None if self.upload_pdv is None else self.upload_pdv.percentile_ns(50)

    @property
    def upload_pdv_p99_ns(self) -> int | None:
        """Return what 99 % of these do not exceed; None: unknown."""
        return None if self.upload_pdv is None else self.upload_pdv.percentile_ns(99)

    @property
    def download_pdv_p50_ns(self) -> int | None:
        """Return the median delay variation from server to client; None: unknown."""
        return None if self.download_pdv is None else self.download_pdv.percentile_ns(50)

    @property
    def download_pdv_p99_ns(self) -> int | None:
        """Return what 99 % of these do not exceed; None: unknown."""
        return None if self.download_pdv is None else self.download_pdv.percentile_ns(99)


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the latency beside a bulk test: the round trips of a separate probe.

    Attributes:
        transport: The transport of the probe: "udp", or "tcp" if UDP does not get through. TCP
            loses no probes: lost packets are retransmitted, which delays them and the probes after
            them.
        idle: Before the streams were opened.
        loaded: While the streams carried data, after the omitted time; None: the test did not come
            to that.
        late_answers: Answers that arrived a second time, or so late that their probe was no longer
            stored.
        invalid_answers: Datagrams that were no answer to a probe.
        pdv_error_ns: How wrong a delay variation may be because the two hosts' clocks drift apart
            during the test, by 100 ppm at most; None: the delay variations are unknown.
    """

    derived: ClassVar[tuple[str, ...]] = ("added_p50_ns", "rpm")

    transport: str = "udp"
    idle: ProbeFigures = ProbeFigures()
    loaded: ProbeFigures | None = None
    late_answers: int = 0
    invalid_answers: int = 0
    pdv_error_ns: int | None = None

    @property
    def added_p50_ns(self) -> int | None:
        """Return by how much the load raised the median round trip; None: unknown."""
        loaded = None if self.loaded is None else self.loaded.p50_ns
        return None if loaded is None or self.idle.p50_ns is None else loaded - self.idle.p50_ns

    @property
    def rpm(self) -> float | None:
        """Return the number of consecutive round trips per minute under load; None: unknown.

        It is a minute over the mean of the shortest 95 % of the round trips under load, as in
        draft-ietf-ippm-responsiveness. That draft averages over handshakes of TCP and TLS and
        requests by HTTP, and this probe has none: figures of other tools are lower. It is unknown
        where the median is, from too few round trips.
        """
        if self.loaded is None or self.loaded.p50_ns is None:
            return None
        mean_ns = trimmed_mean_ns(self.loaded.latency)
        return MINUTE_NS / mean_ns if mean_ns else None


def trimmed_mean_ns(found: Histogram) -> float | None:
    """Return the mean of the shortest 95 % of the durations; None: there are none."""
    wanted = found.count * TRIMMED
    left, total = wanted, 0.0
    for start, number in zip(found.from_ns, found.counts, strict=True):
        taken = min(number, left)
        total += taken * (start + (bucket_width_ns(start) - 1) / 2)
        left -= taken
        if left <= 0:
            break
    return total / wanted if wanted else None
