"""Write results as OpenMetrics: the last run of each target, kind and direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from netmeasure.errors import SpecError
from netmeasure.export.fields import fields_of
from netmeasure.export.rows import RunRow, run_rows, started
from netmeasure.result import Result

if TYPE_CHECKING:
    from prometheus_client.core import Metric

#: The labels of all metrics.
LABELS = ("target", "kind", "direction")
#: The name of a unit in metrics, and how many of netmeasure's units it is.
_UNITS = {
    "nanoseconds": ("seconds", 10**9),
    "bytes": ("bytes", 1),
    "bits per second": ("bits_per_second", 1),
    "ratio": ("ratio", 1),
}
_LEFT_OUT = ("run", "success")


class LabelledRow(NamedTuple):
    """Hold the figures of a run, with the values of its labels."""

    row: RunRow
    labels: tuple[str, ...]


def run_metrics(
    rows: Sequence[LabelledRow], good: Sequence[LabelledRow], names: Sequence[str] = LABELS
) -> Iterator[Metric]:
    """Yield the metrics of runs; unknown values have no sample.

    Args:
        rows: The last runs, no two of them with the same labels.
        good: The last complete runs, no two of them with the same labels.
        names: The names of the labels.
    """
    from prometheus_client.core import GaugeMetricFamily

    success = GaugeMetricFamily(
        "netmeasure_success", "Whether the last run was complete.", labels=names
    )
    failed = GaugeMetricFamily(
        "netmeasure_error",
        "What cut the last run short, and the phase in which it happened.",
        labels=(*names, "code", "phase"),
    )
    for row, labels in rows:
        success.add_metric(labels, float(row.success))
        if not row.success:
            failed.add_metric([*labels, row.error or "stopped", row.error_phase or ""], 1)
    yield success
    yield failed
    last = GaugeMetricFamily(
        "netmeasure_last_success_timestamp_seconds",
        "When the last complete run started.",
        labels=names,
        unit="seconds",
    )
    for row, labels in good:
        if (at := started(row)) is not None:
            last.add_metric(labels, at.timestamp())
    yield last
    for name, field in fields_of(RunRow).items():
        known = [
            (labels, value)
            for row, labels in rows
            if isinstance(value := getattr(row, name), int | float) and not isinstance(value, bool)
        ]
        if not known or name in _LEFT_OUT:
            continue
        shown, unit, scale = metric_name(name, field.unit)
        metric = GaugeMetricFamily(shown, field.help, labels=names, unit=unit)
        for labels, value in known:
            metric.add_metric(labels, value / scale)
        yield metric


def metric_name(name: str, unit: str) -> tuple[str, str, int]:
    """Return the name of the metric of a column, its unit, and how many of the column's units are
    one of it."""
    shown_unit, scale = _UNITS.get(unit, ("", 1))
    name = name.replace("_per_s", "_per_second") if unit == "per second" else name
    base = name.rpartition("_")[0] if shown_unit else name
    shown = f"netmeasure_{base}_{shown_unit}" if shown_unit else f"netmeasure_{base}"
    return shown, shown_unit, scale


class _Collector:
    """Convert rows to metrics."""

    def __init__(self, rows: Sequence[RunRow]) -> None:
        self._rows = [LabelledRow(row, _labels(row)) for row in rows]

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the last run for each set of labels."""
        last = {one.labels: one for one in self._rows}
        good = {one.labels: one for one in self._rows if one.row.success}
        yield from run_metrics(list(last.values()), list(good.values()))


def _labels(row: RunRow) -> tuple[str, str, str]:
    return row.target, row.kind, row.direction or ""


def to_openmetrics(results: Sequence[Result]) -> str:
    """Return the metrics of the last run of each target, kind and direction, as OpenMetrics 1.0.

    Unknown values have no sample. Raises SpecError if prometheus_client is not installed.
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
