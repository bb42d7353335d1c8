"""Serve a server's statistics for Prometheus (OpenMetrics) on a separate port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from netmeasure.errors import ServeError, SpecError
from netmeasure.peer.server.statistics import ServerStatistics

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class _Collector:
    """Convert statistics to metrics at each request."""

    def __init__(self, read: Callable[[], ServerStatistics]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            SummaryMetricFamily,
        )

        now = self._read()
        for name, words, value in (
            ("tests_started", "Tests that were admitted", now.started),
            ("tests_finished", "Tests that were complete", now.finished),
            ("payload_bytes", "Bytes that receivers have counted", now.payload_bytes),
        ):
            yield CounterMetricFamily(f"netmeasure_{name}", words, value=value)
        for name, words, counts in (
            ("tests_failed", "Tests that were cut short", now.failed),
            ("refused", "Connections that were turned away", now.refused),
        ):
            by_reason = CounterMetricFamily(f"netmeasure_{name}", words, labels=["reason"])
            for reason, count in sorted(counts.items()):
                by_reason.add_metric([reason], count)
            yield by_reason
        for name, words, value in (
            ("tests_active", "Tests that are running", now.active),
            ("clients_waiting", "Clients in the queue", now.waiting),
            ("strangers", "Connections that have not identified themselves yet", now.strangers),
        ):
            yield GaugeMetricFamily(f"netmeasure_{name}", words, value=value)
        yield SummaryMetricFamily(
            "netmeasure_handshake_seconds",
            "From the cookie to the accepted parameters",
            count_value=now.handshakes,
            sum_value=now.handshake_ns / 1e9,
        )


@contextmanager
def served_metrics(
    read: Callable[[], ServerStatistics], host: str | None, port: int
) -> Iterator[int]:
    """Serve /metrics within the block, in a thread; yield the port. Raise SpecError if the package
    is missing, and ServeError if the port can't be used."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise SpecError(
            "--metrics needs the package `prometheus-client`",
            hint="pip install 'netmeasure[metrics]'",
        ) from None
    registry = CollectorRegistry()
    registry.register(_Collector(read))
    try:
        server, thread = start_http_server(port, host or "0.0.0.0", registry)
    except OSError as exc:
        raise ServeError(
            f"can't listen on port {port} for metrics: {exc.strerror}", reason=exc.strerror
        ) from None
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
