"""Test results as arrays, data frames and Arrow: pandas and pyarrow read the values of the JSON."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

import netmeasure as nm
from netmeasure.errors import SpecError
from netmeasure.export.fields import fields_of
from netmeasure.export.frames import TABLES
from netmeasure.export.rows import LatencyRow, RunRow, SeriesRow, TcpInfoRow
from netmeasure.result import ErrorRecord
from netmeasure.result.round_trips import LatencySeries, RoundTrips
from support.full_result import EMPTY, FULL
from support.optional import known
from support.recorded import recorded

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
ipc = pytest.importorskip("pyarrow.ipc")

FAILED = replace(
    EMPTY, complete=False, error=ErrorRecord(code="connect_timeout", message="no", phase="connect")
)
TRIPS = RoundTrips(
    series=LatencySeries(origin_ns=5, width_ns=10, transactions=(2, 0), sum_ns=(7, 0))
)
RUNS = nm.ResultSet(results=(recorded(1e9, syns=1), FAILED, replace(FULL, round_trips=TRIPS)))


def rows_of(table: str) -> list[dict[str, Any]]:
    """Return the rows of a table, written to Arrow's file format and read from it."""
    paper = io.BytesIO()
    written = nm.to_arrow(RUNS, table)
    with ipc.new_file(paper, written.schema, options=ipc.IpcWriteOptions(use_threads=False)) as it:
        it.write_table(written)
    options = ipc.IpcReadOptions(use_threads=False)  # its threads would outlive the test
    with ipc.open_file(paper.getvalue(), options=options) as it:
        found: list[dict[str, Any]] = it.read_all().to_pylist()
    return found


def test_the_series_are_those_of_the_document() -> None:
    rows = rows_of("series")
    for number, result in enumerate(nm.ResultSet.from_json(RUNS.to_json()), start=1):
        for flow in result.flows:
            mine = [
                row for row in rows if (row["run"], row["direction"]) == (number, flow.direction)
            ]
            if (series := flow.series) is None:
                assert mine == []
                continue
            assert tuple(row["transferred_bytes"] for row in mine) == series.bytes
            for at, row in enumerate(mine):
                assert row["start_ns"] == series.origin_ns + at * series.width_ns
                assert row["end_ns"] == row["start_ns"] + series.width_ns
    assert rows


def test_runs_are_those_of_the_results() -> None:
    good, failed, *_ = rows_of("runs")
    result = RUNS.results[0]
    assert good["steady_bps"] == known(result.steady).goodput_bps
    assert good["set_up_ns"] == result.set_up_ns
    assert good["syn_retransmits"] == 1
    assert good["started_at"].isoformat() == result.started_at.replace("Z", "+00:00")
    assert (failed["success"], failed["error"]) == (False, "connect_timeout")
    assert failed["steady_bps"] is failed["delivered_bytes"] is failed["direction"] is None


def test_latencies_and_tcp_info() -> None:
    first, second = rows_of("latencies")
    assert first == {
        "run": 3,
        "start_ns": 5,
        "end_ns": 15,
        "transactions": 2,
        "latency_sum_ns": 7,
        "latency_mean_ns": 3.5,
    }
    assert second["latency_mean_ns"] is None
    told = [
        (side, stream.id, stream.role, info)
        for side, report in (("client", FULL.client), ("server", FULL.server))
        for stream in report.streams
        if (info := stream.tcp_info) is not None
    ]
    rows = [row for row in rows_of("tcp_info") if row["run"] == 3]
    assert len(rows) == sum(len(info.at_ns) for *_, info in told) > 0
    for *key, info in told:
        mine = [row for row in rows if [row["side"], row["stream"], row["role"]] == key]
        for name in TcpInfoRow.__struct_fields__[4:]:
            column = getattr(info, name)
            shown = [row[name] for row in mine]
            assert shown == (list(column) if column else [None] * len(mine)), name


@pytest.mark.parametrize("table", TABLES)
def test_numpy_pandas_and_arrow_say_the_same(table: str) -> None:
    frame, arrays, rows = nm.to_dataframe(RUNS, table), nm.to_arrays(RUNS, table), rows_of(table)
    assert list(frame.columns) == list(arrays) == list(nm.to_arrow(RUNS, table).column_names)
    for name in frame.columns:
        expected = [row[name] for row in rows]
        assert [None if pd.isna(one) else one for one in frame[name]] == expected
        assert len(arrays[name]) == len(rows)
        for one, other in zip(arrays[name].tolist(), expected, strict=True):
            if other is None:
                assert one is None or one != one  # NaN
            elif name == "started_at":
                assert one == other.replace(tzinfo=None)
            else:
                assert one == other


def test_the_types_do_not_depend_on_what_is_known() -> None:
    for table in TABLES:
        assert nm.to_arrow([], table).schema.equals(nm.to_arrow(RUNS, table).schema)
        empty, full = nm.to_dataframe([], table), nm.to_dataframe(RUNS, table)
        assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert nm.to_arrays(FULL, "series")["transferred_bytes"].dtype == np.int64


@pytest.mark.parametrize("kind", [RunRow, SeriesRow, LatencyRow, TcpInfoRow])
def test_every_column_says_what_it_is(kind: type[RunRow]) -> None:
    for name, field in fields_of(kind).items():
        assert field.help, name
    metadata = nm.to_arrow(FULL).schema.field("set_up_ns").metadata
    assert metadata[b"unit"] == b"nanoseconds"
    assert metadata[b"help"] == fields_of(RunRow)["set_up_ns"].help.encode()


def test_an_unknown_table() -> None:
    with pytest.raises(SpecError, match="no table is named 'rows'") as caught:
        nm.to_arrays(FULL, "rows")
    assert "tcp_info" in (caught.value.hint or "")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, convert in (("pandas", nm.to_dataframe), ("pyarrow", nm.to_arrow)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(SpecError, match=f"{name} is not installed") as caught:
            convert(FULL)
        assert "netmeasure[frames]" in (caught.value.hint or "")


def test_pandas_and_pyarrow_are_not_loaded_before_their_use() -> None:
    code = (
        "import sys, netmeasure as nm; nm.to_dataframe, nm.to_arrow, nm.to_arrays;"
        "print(sorted({'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
