"""Provide an exporter's figures and state as OpenMetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from netmeasure.errors import SpecError
from netmeasure.export.openmetrics import LABELS, LabelledRow, run_metrics
from netmeasure.export.rows import RunRow
from netmeasure.exporter.config import shown
from netmeasure.exporter.exporter import Exporter, Kept, Outcome
from netmeasure.version import __version__

if TYPE_CHECKING:
    from prometheus_client.core import Metric

#: The labels of every scheduled test; its entry may add more.
_SCHEDULED = ("target", "module")

_Collect = Callable[[], Iterator["Metric"]]


def load() -> None:
    """Load prometheus_client. Raise SpecError without it."""
    try:
        import prometheus_client.openmetrics.exposition  # noqa: F401
    except ImportError:
        raise SpecError(
            "an exporter needs prometheus_client", hint="pip install 'netmeasure[metrics]'"
        ) from None


def exposition(collect: _Collect) -> bytes:
    """Return metrics as OpenMetrics 1.0."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest

    class Collector:
        def collect(self) -> Iterator[Metric]:
            return collect()

    write: Callable[[CollectorRegistry], bytes] = generate_latest
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return write(registry)


def of_probe(outcome: Outcome) -> Iterator[Metric]:
    """Yield the metrics of a probe."""
    from prometheus_client.core import GaugeMetricFamily

    rows = list({_labels(row): LabelledRow(row, _labels(row)) for row in outcome.rows}.values())
    yield from run_metrics(rows, [one for one in rows if one.row.success])
    for name, words, value in (
        ("run_duration", "How long the run took, waiting included.", outcome.took_s),
        ("run_waited", "How long it waited for other tests on its path.", outcome.waited_s),
    ):
        yield GaugeMetricFamily(f"netmeasure_{name}_seconds", words, value=value, unit="seconds")


def of_exporter(exporter: Exporter) -> Iterator[Metric]:
    """Yield the metrics of all scheduled tests, and of the exporter itself."""
    extra = tuple(sorted({name for kept in exporter.kept for name in kept.scheduled.labels}))
    names = (*LABELS, "module", *extra)

    def rows(pick: Callable[[Kept], Outcome | None]) -> list[LabelledRow]:
        return [
            LabelledRow(row, (*_labels(row), kept.scheduled.module.name, *_values(kept, extra)))
            for kept in exporter.kept
            if (outcome := pick(kept)) is not None
            for row in outcome.rows
        ]

    yield from run_metrics(rows(lambda kept: kept.last), rows(lambda kept: kept.good), names)
    yield from _of_schedule(exporter, extra)
    yield from _of_itself(exporter)


def _of_schedule(exporter: Exporter, extra: tuple[str, ...]) -> Iterator[Metric]:
    """Yield how often and when each scheduled test ran; `extra` are the labels of all tests."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    of_test = (*_SCHEDULED, *extra)
    runs = CounterMetricFamily(
        "netmeasure_runs", "Scheduled runs by outcome.", labels=(*of_test, "outcome")
    )
    every = GaugeMetricFamily(
        "netmeasure_schedule_interval_seconds",
        "Time from one scheduled start to the next.",
        labels=of_test,
        unit="seconds",
    )
    began, took, waited = (
        GaugeMetricFamily(f"netmeasure_{name}_seconds", words, labels=of_test, unit="seconds")
        for name, words in (
            ("last_run_timestamp", "When the last scheduled run was to begin."),
            ("run_duration", "How long the run took, waiting included."),
            ("run_waited", "How long it waited for other tests on its path."),
        )
    )
    for kept in exporter.kept:
        one = kept.scheduled
        labels = (shown(one.target), one.module.name, *_values(kept, extra))
        for outcome, count in sorted(kept.counts.items()):
            runs.add_metric((*labels, outcome), count)
        every.add_metric(labels, one.every_s)
        if kept.last is not None:
            began.add_metric(labels, kept.last.started_s)
            took.add_metric(labels, kept.last.took_s)
            waited.add_metric(labels, kept.last.waited_s)
    yield from (runs, every, began, took, waited)


def _of_itself(exporter: Exporter) -> Iterator[Metric]:
    """Yield the counts of probes, and the version."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    probes = CounterMetricFamily("netmeasure_probes", "Probes by outcome.", labels=("outcome",))
    for outcome, count in sorted(exporter.probes.items()):
        probes.add_metric((outcome,), count)
    yield probes
    yield GaugeMetricFamily(
        "netmeasure_probes_active", "Probes that run or wait.", value=exporter.probing
    )
    yield InfoMetricFamily("netmeasure_build", "The program.", value={"version": __version__})


def _labels(row: RunRow) -> tuple[str, str, str]:
    return row.target, row.kind, row.direction or ""


def _values(kept: Kept, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kept.scheduled.labels.get(name, "") for name in names)
