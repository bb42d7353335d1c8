"""Test exports: libraries of others read each one, and find the values of the results."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from netmeasure.cli import main
from netmeasure.cli.exits import Exit
from netmeasure.errors import SpecError
from netmeasure.export.fields import fields_of
from netmeasure.export.formats import FORMATS
from netmeasure.export.registry import export_results
from netmeasure.export.rows import IntervalRow, RunRow
from netmeasure.imports.reading import import_results
from netmeasure.result import ErrorRecord, Result
from netmeasure.result.connections import Connections
from netmeasure.result.requests import Requests
from netmeasure.result.resultset import ResultSet
from netmeasure.spec import TcpSpec
from support.full_result import EMPTY, FULL
from support.optional import known
from support.program import netmeasure
from support.recorded import recorded

line_protocol = pytest.importorskip("line_protocol_parser")
openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")

ERROR = ErrorRecord(code="connect_timeout", message="no answer", phase="connect")
FAILED = replace(EMPTY, complete=False, error=ERROR, started_at="2026-11-29T01:02:03.004Z")
RUN = recorded(1e9, set_up_ns=250_000_000, syns=1)
NASTY = replace(RUN, target='a "b",c=d e\\ \n|#{}')


def samples(results: list[Result]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the samples of an exposition, by the names of the metrics."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    text = export_results(results, "openmetrics")
    for family in openmetrics.text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.mark.parametrize("result", [FULL, EMPTY, FAILED, RUN, NASTY], ids=range(5))
@pytest.mark.parametrize("to", FORMATS)
def test_each_format_takes_each_result(to: str, result: Result) -> None:
    text = export_results(result, to)
    assert text == export_results(ResultSet(results=(result,)), to)
    assert text.endswith("\n")


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(export_results([RUN, FAILED, NASTY], "csv"))))
    assert [row["run"] for row in rows] == ["1", "2", "3"]
    steady = known(RUN.steady)
    assert float(rows[0]["steady_bps"]) == steady.goodput_bps
    assert int(rows[0]["set_up_ns"]) == RUN.set_up_ns
    assert int(rows[0]["syn_retransmits"]) == 1
    assert (rows[1]["success"], rows[1]["error"], rows[1]["error_phase"]) == (
        "false",
        "connect_timeout",
        "connect",
    )
    assert rows[1]["steady_bps"] == rows[1]["delivered_bytes"] == rows[1]["syn_retransmits"] == ""
    assert rows[2]["target"] == NASTY.target


def test_csv_of_intervals() -> None:
    rows = list(csv.DictReader(io.StringIO(export_results(FULL, "intervals-csv"))))
    periods = [(flow, period) for flow in FULL.flows for period in flow.intervals]
    assert len(rows) == len(periods)
    for row, (flow, period) in zip(rows, periods, strict=True):
        assert row["direction"] == flow.direction
        assert int(row["transferred_bytes"]) == period.bytes
        assert row["goodput_bps"] == (
            "" if period.measured_bps is None else str(period.measured_bps)
        )


def test_foreign_text_is_no_formula() -> None:
    row = next(csv.DictReader(io.StringIO(export_results(replace(RUN, target="=1+1"), "csv"))))
    assert row["target"] == "'=1+1"


def test_openmetrics_of_a_complete_run() -> None:
    found = samples([RUN])
    labels = {"target": RUN.target, "kind": "tcp", "direction": "upload"}
    assert found["netmeasure_success"] == [(labels, 1.0)]
    steady = known(RUN.steady)
    assert found["netmeasure_steady_bits_per_second"] == [(labels, steady.goodput_bps)]
    assert found["netmeasure_set_up_seconds"] == [(labels, 0.25)]
    assert "netmeasure_error" not in found
    assert "netmeasure_loss_ratio" not in found  # unknown, not 0


@pytest.mark.parametrize("kind", ["fresh connections", "requests"])
def test_openmetrics_of_connections_and_their_errors(kind: str) -> None:
    trips = known(FULL.round_trips)
    opened: Connections | Requests
    if kind == "requests":
        opened = known(FULL.requests)
        found = samples([replace(FULL, latency=None)])
    else:
        opened = known(trips.connections)
        found = samples([replace(FULL, requests=None, latency=None)])
    for percent, ns in ((50, opened.connect_p50_ns), (99, opened.connect_p99_ns)):
        shown = {figure for _, figure in found.get(f"netmeasure_connect_p{percent}_seconds", ())}
        assert shown == (set() if ns is None else {ns / 1e9})
    assert opened.connect_p50_ns is not None
    assert {figure for _, figure in found["netmeasure_error_ratio"]} == {opened.error_ratio}
    assert known(opened.error_ratio) > 0
    bulk = samples([replace(FULL, requests=None, round_trips=None)])
    assert "netmeasure_connect_p50_seconds" not in bulk  # unknown, not 0
    assert "netmeasure_error_ratio" not in bulk


def test_openmetrics_of_a_failure_keep_the_last_success() -> None:
    early = replace(RUN, target=FAILED.target, flows=())
    found = samples([early, FAILED])
    labels = {"target": FAILED.target, "kind": "tcp", "direction": ""}
    assert found["netmeasure_success"] == [(labels, 0.0)]
    assert found["netmeasure_error"] == [({**labels, "code": ERROR.code, "phase": "connect"}, 1.0)]
    ((_, moment),) = found["netmeasure_last_success_timestamp_seconds"]
    assert moment > 1e9
    assert set(found) <= {
        "netmeasure_success",
        "netmeasure_error",
        "netmeasure_last_success_timestamp_seconds",
        "netmeasure_syn_retransmits",
    }


def test_openmetrics_of_foreign_text() -> None:
    ((labels, _),) = samples([NASTY])["netmeasure_success"]
    assert labels["target"] == NASTY.target


def test_line_protocol() -> None:
    lines = export_results([RUN, FAILED, NASTY], "influx").splitlines()
    run, failed, nasty = (line_protocol.parse_line(line) for line in lines)
    assert run["tags"] == {"target": RUN.target, "kind": "tcp", "direction": "upload"}
    assert run["fields"]["steady_bps"] == known(RUN.steady).goodput_bps
    assert run["fields"]["set_up_ns"] == RUN.set_up_ns
    assert run["fields"]["success"] is True
    assert "loss_ratio" not in run["fields"]
    assert failed["fields"] == {
        "success": False,
        "error": "connect_timeout",
        "error_phase": "connect",
    }
    assert failed["time"] == 1_795_914_123_004_000_000
    assert nasty["tags"]["target"] == 'a "b",c=d e\\ |#{}'


def test_markdown() -> None:
    head, rule, *rows = export_results([RUN, FAILED, NASTY], "markdown").splitlines()
    cells = [row.replace("\\|", "").count("|") for row in (head, rule, *rows)]
    assert len(rows) == 3
    assert set(cells) == {head.count("|")}
    assert "1.00 Gbit/s" in rows[0]
    assert "connect timeout (connect)" in rows[1]


@pytest.mark.parametrize("kind", [RunRow, IntervalRow])
def test_every_column_says_what_it_is(kind: type[RunRow | IntervalRow]) -> None:
    fields = fields_of(kind)
    assert list(fields) == list(kind.__struct_fields__)
    assert [name for name, field in fields.items() if not field.help] == []
    assert [n for n in fields if n.endswith(("_ns", "_bps", "_ratio")) and not fields[n].unit] == []


def test_an_unknown_format() -> None:
    with pytest.raises(SpecError, match="no format is named 'xls'"):
        export_results([], "xls")


def test_the_program(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(RUN.to_json())
    ran = netmeasure("export", str(file), "--to", "csv")
    assert ran.returncode == Exit.OK
    assert ran.stdout.splitlines() == export_results(RUN, "csv").splitlines()
    assert netmeasure("export", str(file), "--to", "xls").returncode == Exit.USAGE


@pytest.mark.parametrize("to", FORMATS)
def test_the_program_writes_each_format(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(ResultSet(results=(RUN, FAILED)).to_json())
    assert main(["export", str(file), "--to", to]) == Exit.OK
    output, errors = capsys.readouterr()
    assert (output, errors) == (export_results([RUN, FAILED], to), "")


def test_the_program_writes_a_title_of_any_bytes(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """iperf3 writes a title as it was given, which may be no UTF-8, and so does the export."""
    file = tmp_path / "run.json"
    file.write_bytes(replace(RUN, spec=TcpSpec(title="caf\udce9")).to_json())
    for to in FORMATS:
        assert main(["export", str(file), "--to", to]) == Exit.OK
        output, errors = capsysbinary.readouterr()
        assert (b'"title":\t"caf\xe9"' in output, errors) == (to == "iperf3", b"")


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys, netmeasure as nm; nm.export_results\n"
        "from netmeasure.cli import options; options.parser()\n"
        "heavy = {'numpy', 'prometheus_client', 'pandas', 'pyarrow', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def ends(result: Result) -> list[tuple[str, int, int | None]]:
    """Return what iperf3's documents hold for each direction; they have 0 for what arrived
    unobserved."""
    return [(f.direction, f.delivered_bytes or 0, f.sender.retransmits) for f in result.flows]


SAMPLES = sorted((Path(__file__).parents[1] / "samples" / "iperf3").glob("*.json"))


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_documents_of_iperf3_come_back_as_they_were(file: Path) -> None:
    before = import_results(file.read_bytes()).results
    after = import_results(export_results(before, "iperf3").encode()).results
    assert len(after) == len(before)
    for one, other in zip(before, after, strict=True):
        assert other.complete == one.complete
        assert ends(other) == ends(one)
        for flow, again in zip(one.flows, other.flows, strict=True):
            assert [i.bytes for i in again.intervals] == [i.bytes for i in flow.intervals]
            if flow.loss is not None:
                assert again.loss is not None
                assert again.loss.lost_packets == flow.loss.lost_packets
                assert again.loss.sent_packets == flow.loss.sent_packets


def test_a_failure_as_iperf3() -> None:
    document = json.loads(export_results(FAILED, "iperf3"))
    assert document["error"] == ERROR.message
    assert (document["intervals"], document["end"]) == ([], {})
