"""Test the JSON Schema of every kind of document: valid, complete, and met by written documents."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netmeasure.cli.exits import Exit
from netmeasure.comparison.comparison import compare
from netmeasure.comparison.mesh import MeshRun, join_mesh
from netmeasure.comparison.suite import SuiteRun, tabulate
from netmeasure.errors import SpecError
from netmeasure.export.formats import SCHEMAS
from netmeasure.export.schema import document_schema
from netmeasure.result import ErrorRecord, Interval, Result, StreamInterval
from netmeasure.result.capacity import CapacityReport, RateProbe
from netmeasure.result.encoding import encoded
from netmeasure.result.events import (
    EndEvent,
    ErrorEvent,
    Event,
    IntervalEvent,
    PhaseEvent,
    WaitingEvent,
    WarningEvent,
)
from netmeasure.result.node import Counter, NodeUse, ProcessUse
from netmeasure.result.resultset import ResultSet
from netmeasure.result.summary import without_series
from support.full_result import CONNECT, EMPTY, FULL
from support.optional import known
from support.ports import nobody
from support.program import netmeasure
from support.recorded import recorded
from support.schemas import keeps_to

Draft202012Validator = pytest.importorskip("jsonschema").Draft202012Validator

SAMPLES = Path(__file__).parents[1] / "samples"

ERROR = ErrorRecord(code="peer_timeout", message="it is silent", phase="start")
INTERVAL = Interval(
    direction="upload",
    counted_by="sender",
    start_ns=0,
    end_ns=10**9,
    bytes=1,
    streams=(StreamInterval(id=1, bytes=1),),
)
EVENTS: tuple[Event, ...] = (
    PhaseEvent(at_ns=1, phase=CONNECT),
    WaitingEvent(at_ns=1, step="connect", connection="control", waited_ns=5),
    IntervalEvent(at_ns=1, interval=INTERVAL),
    WarningEvent(at_ns=1, message="a note"),
    ErrorEvent(at_ns=1, error=ERROR),
    EndEvent(at_ns=1, result=FULL),
)
PAIR = ResultSet(results=(recorded(1e9), recorded(1.1e9), recorded(0.9e9)))
FAILED = msgspec.structs.replace(EMPTY, complete=False, error=ERROR)
NODE = NodeUse(
    duration_ns=10**9,
    counters=(Counter(source="eth0", name="rx_dropped", grown=3),),
    processes=(ProcessUse(pid=1, name="kubelet", cpu_ns=10**8, system_ns=0, rss_bytes=9),),
)
CAMPAIGN = tabulate(
    [
        *(
            SuiteRun(round=number, test="TCP", target="", variant=variant, result=result, node=NODE)
            for variant in ("old", "new")
            for number, result in enumerate(PAIR, 1)
        ),
        SuiteRun(round=1, test="UDP", target="b", variant="new", error="it is silent"),
    ],
    order=[("TCP", "", "old"), ("TCP", "", "new")],
    runs_planned=8,
    seed=1,
    title="a campaign",
)
MESH = join_mesh(
    [
        MeshRun(round=1, client="a", server="b", begun_ns=0, ended_ns=9, result=recorded(1e9)),
        MeshRun(round=2, client="b", server="a", begun_ns=9, ended_ns=10, error="it is silent"),
    ],
    ("a", "b"),
    at_once=1,
    rounds=2,
)
CAPACITY = CapacityReport(
    target="lab1",
    direction="upload",
    started_at="2026-11-29T09:00:00.000Z",
    loss_limit=0.001,
    streams=1,
    datagram_bytes=1472,
    header_bytes=28,
    capacity_bps=None,
    ip_capacity_bps=None,
    loss_free_bps=None,
    above_bps=50_000_000,
    ended_by="error",
    duration_ns=10**9,
    probes=(
        RateProbe(
            asked_bps=50_000_000,
            sent_bps=None,
            received_bps=1e7,
            sent_packets=10,
            lost_packets=8,
            host_dropped_packets=0,
            duration_ns=10**9,
            verdict="lost",
        ),
    ),
    error=ERROR,
)
DOCUMENTS: list[tuple[str, bytes]] = [
    ("result", FULL.to_json()),
    ("result", EMPTY.to_json()),
    ("result", FAILED.to_json()),
    ("result", encoded(without_series(FULL))),
    ("resultset", ResultSet(results=(FULL, FAILED)).to_json()),
    ("comparison", compare(PAIR, PAIR).to_json()),
    ("suite", CAMPAIGN.to_json()),
    ("mesh", MESH.to_json()),
    ("capacity", CAPACITY.to_json()),
    *(("event", encoded(event, indent=None)) for event in EVENTS),
]


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(document_schema(name))


@pytest.mark.parametrize(("name", "data"), DOCUMENTS)
def test_documents_keep_to_their_schema(name: str, data: bytes) -> None:
    """The schema names each of their members, too."""
    keeps_to(name, data)


@pytest.mark.parametrize(
    "file", sorted((SAMPLES / "terminal").glob("*.json")), ids=lambda file: file.stem
)
def test_results_of_real_runs_keep_to_their_schema(file: Path) -> None:
    result = Result.from_json(file.read_bytes())
    keeps_to("result", result.to_json())
    keeps_to("result", encoded(without_series(result)))
    keeps_to("event", encoded(EndEvent(at_ns=1, result=result), indent=None))


def test_lines_of_events_keep_to_their_schema() -> None:
    ran = netmeasure("loopback", "-t", "0.3", "-i", "0.1", "--json-lines")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    for line in ran.stdout.splitlines():
        keeps_to("event", line)


@pytest.mark.parametrize("target", ["{0}", "http://{0}/file", "ftp://{0}/file"])
def test_what_failures_print_keeps_to_its_schema(target: str) -> None:
    with nobody() as port:
        where = target.format(f"127.0.0.1:{port}")
        document = netmeasure("client", where, "--json")
        lines = netmeasure("client", where, "--json-lines")
    assert document.returncode == lines.returncode == Exit.NO_CONNECTION
    keeps_to("result", document.stdout)
    assert known(Result.from_json(document.stdout).error).code == "refused"
    events = lines.stdout.splitlines()
    for line in events:
        keeps_to("event", line)
    assert [json.loads(line)["event"] for line in events[-2:]] == ["error", "end"]


def wrong() -> Iterator[tuple[str, Any]]:
    saved = json.loads(FULL.to_json())
    for path, value in (
        ("complete", "yes"),
        ("target", None),
        ("set_up_ns", 0.5),
        ("flows.0.direction", "sideways"),
        ("flows.0.delivered_bytes", "many"),
        ("flows.0.series", "nowhere"),
        ("flows.0.streams.0.receiver.series.bytes.count", -1),
        ("client.streams.0", "flows"),
        ("spec.kind", "quic"),
    ):
        document = copy.deepcopy(saved)
        *names, last = (int(name) if name.isdigit() else name for name in path.split("."))
        where = document
        for name in names:
            where = where[name]
        where[last] = value
        yield path, document


@pytest.mark.parametrize("document", [pytest.param(item, id=path) for path, item in wrong()])
def test_a_wrong_document_does_not_pass(document: Any) -> None:
    assert not Draft202012Validator(document_schema("result")).is_valid(document)


@pytest.mark.parametrize("kind", ["result", "suite", "mesh", "capacity"])
def test_every_member_is_described(kind: str) -> None:
    parts = document_schema(kind)["$defs"]
    undescribed = [
        f"{name}.{member}"
        for name, part in parts.items()
        for member, schema in part.get("properties", {}).items()
        if "description" not in schema and member != "kind"
    ]
    assert undescribed == []


def test_an_unknown_schema() -> None:
    with pytest.raises(SpecError, match="no schema is named 'nothing'"):
        document_schema("nothing")


def test_the_program_prints_them() -> None:
    ran = netmeasure("schema", "event")
    assert ran.returncode == Exit.OK
    assert json.loads(ran.stdout) == json.loads(json.dumps(document_schema("event")))
    assert netmeasure("schema", "nothing").returncode == Exit.USAGE


def test_a_saved_result_keeps_to_the_schema_of_the_samples() -> None:
    newest = max((SAMPLES / "netmeasure").iterdir(), key=lambda path: path.name)
    Draft202012Validator(document_schema()).validate(json.loads(newest.read_bytes()))
    assert Result.from_json(newest.read_bytes()) == FULL
