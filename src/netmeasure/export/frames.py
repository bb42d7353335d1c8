"""Turn results into arrays of numpy, data frames of pandas and tables of Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

import msgspec

from netmeasure.errors import SpecError
from netmeasure.export.fields import Field, fields_of
from netmeasure.export.rows import (
    IntervalRow,
    LatencyRow,
    RunRow,
    SeriesRow,
    TcpInfoRow,
    interval_rows,
    latency_rows,
    run_rows,
    series_rows,
    started,
    tcp_info_rows,
)
from netmeasure.result import Result

if TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow

#: The tables by name: the type of their rows, and the function that makes them.
TABLES: Mapping[
    str, tuple[type[msgspec.Struct], Callable[[Iterable[Result]], Iterator[msgspec.Struct]]]
] = {
    "runs": (RunRow, run_rows),
    "intervals": (IntervalRow, interval_rows),
    "series": (SeriesRow, series_rows),
    "latencies": (LatencyRow, latency_rows),
    "tcp_info": (TcpInfoRow, tcp_info_rows),
}
#: The pandas types of columns; each of them has a missing value.
_PANDAS = {int: "Int64", float: "Float64", bool: "boolean", str: "string"}


class _Column(NamedTuple):
    """Hold a column; a value is None where it is not known."""

    field: Field
    kind: type
    values: list[Any]


def to_arrays(results: Iterable[Result] | Result, table: str = "runs") -> dict[str, numpy.ndarray]:
    """Return the columns of a table as arrays of numpy, by their names.

    The tables are runs, intervals, series, latencies and tcp_info.
    Whole numbers are int64, or float64 with NaN if the column has unknown values. Texts are
    objects, with None if unknown. Times are datetime64 in microseconds (UTC).

    Raises:
        SpecError: There is no such table.
    """
    import numpy as np

    found: dict[str, numpy.ndarray] = {}
    for field, kind, values in _columns(results, table):
        holes = any(value is None for value in values)
        if kind is datetime:
            moments = [None if at is None else at.replace(tzinfo=None) for at in values]
            found[field.name] = np.array(moments, dtype="datetime64[us]")
        elif kind is str or (kind is bool and holes):
            found[field.name] = np.array(values, dtype=object)
        elif kind is float or holes:
            numbers = [np.nan if value is None else value for value in values]
            found[field.name] = np.array(numbers, dtype=np.float64)
        else:
            found[field.name] = np.array(values, dtype=np.bool_ if kind is bool else np.int64)
    return found


def to_dataframe(results: Iterable[Result] | Result, table: str = "runs") -> pandas.DataFrame:
    """Return a table as a data frame of pandas; the types of all columns have a missing value.

    Raises:
        SpecError: There is no such table, or pandas is not installed.
    """
    columns = _columns(results, table)
    pd = _loaded("pandas")
    frame = {
        field.name: pd.Series(
            pd.to_datetime(values, utc=True) if kind is datetime else values,
            dtype="datetime64[us, UTC]" if kind is datetime else _PANDAS[kind],
        )
        for field, kind, values in columns
    }
    return pd.DataFrame(frame)  # type: ignore[no-any-return]  # loaded by its name


def to_arrow(results: Iterable[Result] | Result, table: str = "runs") -> pyarrow.Table:
    """Return a table of Arrow, with the unit and the meaning of each column as metadata.

    Raises:
        SpecError: There is no such table, or pyarrow is not installed.
    """
    columns = _columns(results, table)
    pa = _loaded("pyarrow")
    types = {
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        str: pa.string(),
        datetime: pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema(
        [
            pa.field(field.name, types[kind], metadata={"unit": field.unit, "help": field.help})
            for field, kind, _ in columns
        ]
    )
    arrays = [pa.array(values, type=types[kind]) for _, kind, values in columns]
    return pa.Table.from_arrays(arrays, schema=schema)


def _columns(results: Iterable[Result] | Result, table: str) -> list[_Column]:
    if table not in TABLES:
        raise SpecError(f"no table is named {table!r}", hint=f"choose from {', '.join(TABLES)}")
    kind, make = TABLES[table]
    rows = list(make([results] if isinstance(results, Result) else results))
    hints = get_type_hints(kind)
    found = []
    for name, field in fields_of(kind).items():
        values: list[Any] = [getattr(row, name) for row in rows]
        of = next(one for one in (*get_args(hints[name]), hints[name]) if one is not type(None))
        if name == "started_at":
            of, values = datetime, [_moment(row) for row in rows]
        found.append(_Column(field, of, values))
    return found


def _moment(row: Any) -> datetime | None:
    at = started(row)
    return None if at is None else at.astimezone(UTC)


def _loaded(name: str) -> ModuleType:
    """Import an optional package. Raise SpecError if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise SpecError(
            f"the package {name} is not installed", hint="pip install 'netmeasure[frames]'"
        ) from None
