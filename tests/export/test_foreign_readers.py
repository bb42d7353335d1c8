"""Test exports of each kind of test and of each failure with the libraries of others.

What they read is compared with the document of the result.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import netmeasure as nm
from netmeasure import errors
from netmeasure.export.fields import fields_of
from netmeasure.export.openmetrics import metric_name
from netmeasure.export.rows import RunRow
from netmeasure.result import ErrorRecord
from support.full_result import EMPTY, FULL
from support.recorded import recorded
from support.schemas import keeps_to

line_protocol = pytest.importorskip("line_protocol_parser")
openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")
ipc = pytest.importorskip("pyarrow.ipc")

SHORT = nm.Timing(duration_s=0.1)
BOTH = nm.TcpSpec(timing=SHORT, direction="both", streams=2)
OF_HOSTS: dict[str, nm.TcpSpec | nm.UdpSpec | nm.RrSpec] = {
    "tcp": nm.TcpSpec(timing=SHORT),
    "both ways": BOTH,
    "udp": nm.UdpSpec(timing=SHORT, target_bps=1_000_000),
    "round trips": nm.RrSpec(timing=SHORT),
}
KINDS = (*OF_HOSTS, "http", "ftp", "requests")
#: The text columns of a row: labels or tags, not figures.
WORDS = ("target", "kind", "direction")


@pytest.fixture(scope="module")
def measured() -> dict[str, nm.Result]:
    """Make a real run of each kind of test."""

    async def main() -> dict[str, nm.Result]:
        found = {}
        async with (
            nm.serve("127.0.0.1", 0) as server,
            nm.serve_http("127.0.0.1", 0) as http,
            nm.serve_ftp("127.0.0.1", 0) as ftp,
        ):
            for name, spec in OF_HOSTS.items():
                found[name] = await nm.measure(server.address, spec)
            found["http"] = await nm.measure(f"http://{http.address}/1M.dat")
            found["ftp"] = await nm.measure(f"ftp://{ftp.address}/1M.dat")
            found["requests"] = await nm.measure(
                f"http://{http.address}/1K.dat", nm.RequestSpec(timing=SHORT)
            )
        return found

    return asyncio.run(main())


def failures() -> Iterator[type[errors.MeasureError]]:
    """Return all errors that can end a test."""
    waiting = [errors.MeasureError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        yield kind


def readings(results: list[nm.Result]) -> list[dict[str, dict[str, Any]]]:
    """Return the columns of each row, as the reader of each format returns them."""
    tables = list(csv.DictReader(io.StringIO(nm.export_results(results, "csv"))))
    paper = io.BytesIO()
    table = nm.to_arrow(results)
    with ipc.new_file(paper, table.schema, options=ipc.IpcWriteOptions(use_threads=False)) as file:
        file.write_table(table)
    # its threads would outlive the test
    with ipc.open_file(paper.getvalue(), options=ipc.IpcReadOptions(use_threads=False)) as file:
        rows = file.read_all().to_pylist()
    lines = nm.export_results(results, "influx").splitlines()
    influx = [line_protocol.parse_line(line) for line in lines]
    assert len(tables) == len(rows) == len(influx)
    return [
        {"csv": one, "arrow": row, "influx": {**line["tags"], **line["fields"]}}
        for one, row, line in zip(tables, rows, influx, strict=True)
    ]


def check(results: list[nm.Result]) -> list[dict[str, Any]]:
    """Compare every column of every row with those of the other formats; return Arrow's rows."""
    found = readings(results)
    for row in found:
        for name in RunRow.__struct_fields__:
            value, text = row["arrow"][name], row["csv"][name]
            if name in ("run", "started_at"):
                continue
            if value is None:
                assert text == ""
                assert name not in row["influx"]
            elif isinstance(value, bool):
                assert (text, row["influx"][name]) == (str(value).lower(), value)
            elif isinstance(value, int | float):
                assert type(value)(text) == value
                assert row["influx"][name] == value
            else:
                assert (text, row["influx"][name]) == (value, value)
    return [row["arrow"] for row in found]


def check_metrics(result: nm.Result, rows: list[dict[str, Any]]) -> None:
    """Compare the samples that Prometheus's own parser reads with Arrow's rows."""
    text = nm.export_results(result, "openmetrics")
    samples = {
        (sample.name, tuple(sample.labels[name] for name in WORDS)): sample
        for family in openmetrics.text_string_to_metric_families(text)
        for sample in family.samples
    }
    for row in rows:
        labels = tuple(row[name] or "" for name in WORDS)
        assert samples["netmeasure_success", labels].value == row["success"]
        failed = samples.get(("netmeasure_error", labels))
        assert (failed is None) == row["success"]
        if failed is not None:
            assert failed.labels["code"] == row["error"]
            assert failed.labels["phase"] == (row["error_phase"] or "")
        for name, field in fields_of(RunRow).items():
            if name in ("run", "success") or isinstance(row[name], str) or name == "started_at":
                continue
            shown, _, scale = metric_name(name, field.unit)
            sample = samples.get((shown, labels))
            if row[name] is None:
                assert sample is None
            else:
                assert sample is not None, shown
                assert sample.value == row[name] / scale


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_each_kind(measured: dict[str, nm.Result], kind: str) -> None:
    result = measured[kind]
    rows = check([result])
    check_metrics(result, rows)
    keeps_to("result", result.to_json())
    document = json.loads(result.to_json())
    assert len(rows) == len(document["flows"])
    for row, flow in zip(rows, document["flows"], strict=True):
        assert (row["success"], row["error"]) == (True, None)
        assert row["kind"] == document["spec"]["kind"]
        assert row["direction"] == flow["direction"]
        assert row["delivered_bytes"] == flow["delivered_bytes"]
        assert row["set_up_ns"] == flow["averages"]["set_up_ns"]
        assert row["steady_bps"] == (flow["steady"] or {}).get("goodput_bps")
        for name in ("from_first_byte_bps", "from_first_attempt_bps", "after_omit_bps"):
            assert row[name] == flow["averages"][name]
    if trips := document["round_trips"]:
        assert rows[0]["latency_p99_ns"] == trips["p99_ns"]


@pytest.mark.parametrize("kind", list(failures()), ids=lambda kind: str(kind.code))
def test_each_failure(kind: type[errors.MeasureError]) -> None:
    record = ErrorRecord(code=kind.code, message='it "broke", off', phase="connect")
    early = replace(EMPTY, complete=False, error=record)
    late = replace(FULL, complete=False, error=record)
    for result in (early, late):
        keeps_to("result", result.to_json())
        rows = check([result])
        check_metrics(result, rows)
        assert [row["error"] for row in rows] == [kind.code] * len(rows)
        assert not any(row["success"] for row in rows)
    assert all(
        value is None for name, value in check([early])[0].items() if name.endswith(("_bps", "_ns"))
    )


def test_several_runs_in_one_file() -> None:
    rows = check([recorded(1e9, syns=2), EMPTY, recorded(2e9)])
    assert [row["run"] for row in rows] == [1, 2, 3]
    assert [row["syn_retransmits"] for row in rows] == [2, None, 0]
    assert msgspec.json.decode(nm.ResultSet(results=(EMPTY,)).to_json())["results"]
