"""Pair each name of a format with the function that writes it, and write results by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from netmeasure.errors import SpecError
from netmeasure.export.formats import FORMATS
from netmeasure.export.iperf3.saved import to_iperf3
from netmeasure.export.openmetrics import to_openmetrics
from netmeasure.export.tables import to_csv, to_influx, to_interval_csv, to_markdown
from netmeasure.result import Result

_WRITERS: dict[str, Callable[[Sequence[Result]], str]] = dict(
    zip(
        FORMATS,
        (to_csv, to_interval_csv, to_markdown, to_iperf3, to_influx, to_openmetrics),
        strict=True,
    )
)


def export_results(results: Iterable[Result] | Result, to: str) -> str:
    """Return results in the format of another tool.

    Args:
        results: One result, or several, such as a `ResultSet`.
        to: The name of the format: csv, intervals-csv, markdown, iperf3, influx or
            openmetrics.

    Raises:
        SpecError: There is no such format, or it needs a package that is not installed.
    """
    if to not in FORMATS:
        raise SpecError(f"no format is named {to!r}", hint=f"choose from {', '.join(FORMATS)}")
    return _WRITERS[to]([results] if isinstance(results, Result) else list(results))
