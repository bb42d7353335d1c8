"""Write results as OpenMetrics: the last run of each target, kind and direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from netmeasure.errors import SpecError
from netmeasure.export.fields import fields_of
from netmeasure.export.rows import RunRow, run_rows, started
from netmeasure.result import Result

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_LABELS = ("target", "kind", "direction")
#: What a unit is called in the name of a metric, and how many of ours are one.
_UNITS = {
    "nanoseconds": ("seconds", 10**9),
    "bytes": ("bytes", 1),
    "bits per second": ("bits_per_second", 1),
    "ratio": ("ratio", 1),
}
_LEFT_OUT = ("run", "success")


class _Collector:
    """Convert rows to metrics."""

    def __init__(self, rows: Sequence[RunRow]) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that at least one row has; what is unknown has no sample."""
        from prometheus_client.core import GaugeMetricFamily

        rows = list({_labels(row): row for row in self._rows}.values())
        success = GaugeMetricFamily(
            "netmeasure_success", "Whether the last run was complete.", labels=_LABELS
        )
        for row in rows:
            success.add_metric(_labels(row), float(row.success))
        yield success
        failed = GaugeMetricFamily(
            "netmeasure_error",
            "What cut the last run short, and the phase in which it happened.",
            labels=(*_LABELS, "code", "phase"),
        )
        for row in rows:
            if not row.success:
                code = row.error or "stopped"
                failed.add_metric([*_labels(row), code, row.error_phase or ""], 1)
        yield failed
        good = {_labels(row): row for row in self._rows if row.success}
        last = GaugeMetricFamily(
            "netmeasure_last_success_timestamp_seconds",
            "When the last complete run started.",
            labels=_LABELS,
            unit="seconds",
        )
        for labels, row in good.items():
            if (at := started(row)) is not None:
                last.add_metric(labels, at.timestamp())
        yield last
        for name, field in fields_of(RunRow).items():
            values = [(row, getattr(row, name)) for row in rows]
            known = [
                (row, value)
                for row, value in values
                if isinstance(value, int | float) and not isinstance(value, bool)
            ]
            if not known or name in _LEFT_OUT:
                continue
            unit, scale = _UNITS.get(field.unit, ("", 1))
            base = name.rpartition("_")[0] if field.unit else name
            shown = f"netmeasure_{base}_{unit}" if unit else f"netmeasure_{base}"
            metric = GaugeMetricFamily(shown, field.help, labels=_LABELS, unit=unit)
            for row, value in known:
                metric.add_metric(_labels(row), value / scale)
            yield metric


def _labels(row: RunRow) -> tuple[str, str, str]:
    return row.target, row.kind, row.direction or ""


def to_openmetrics(results: Sequence[Result]) -> str:
    """Return the metrics of the last run of each target, kind and direction, as OpenMetrics 1.0.

    What is not known has no sample. Raises SpecError without prometheus_client.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.openmetrics.exposition import generate_latest
    except ImportError:
        raise SpecError(
            "metrics need prometheus_client", hint="pip install 'netmeasure[metrics]'"
        ) from None
    write: Callable[[CollectorRegistry], bytes] = generate_latest
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(run_rows(results))))
    return write(registry).decode()
