"""Test documents: each value is stored once and is readable, and old documents load."""

from __future__ import annotations

import copy
import json
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from netmeasure.errors import ResultFormatError
from netmeasure.result import SCHEMA_VERSION, Result, Series, StreamReport, StreamResult
from netmeasure.result.packing import packed, unpacked
from netmeasure.result.resultset import ResultSet
from support.full_result import FULL, RECEIVER, SENDER

SAMPLES = Path(__file__).parents[1] / "samples" / "netmeasure"
SAVED = json.loads(FULL.to_json())
COLUMN = SAVED["flows"][0]["streams"][0]["receiver"]["series"]["bytes"]
#: Members that the sample of version 1 lacks, as it is older than they are.
OLD_HOST = replace(
    FULL.client.host,
    interfaces=tuple(replace(one, driver=None, qdiscs=()) for one in FULL.client.host.interfaces),
    cpu_model=None,
    governors=(),
    sysctls=(),
    pod=None,
    node=None,
)
OLD = replace(
    FULL,
    round_trips=None,
    requests=None,
    latency=None,
    spec=replace(FULL.spec, tls=False, ca_file=None, file="/tmp/data", latency=True),
    client=replace(FULL.client, host=OLD_HOST, concurrent_tests_mean=None),
    server=replace(FULL.server, host=OLD_HOST, concurrent_tests_mean=None),
)
INT64 = st.integers(-(2**63), 2**63 - 1)


def test_samples_of_every_version_are_kept() -> None:
    assert {path.name.split("-")[0] for path in SAMPLES.iterdir()} == {
        f"v{version}" for version in range(1, SCHEMA_VERSION + 1)
    }


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_a_sample_of_any_version_is_the_same_result(path: Path) -> None:
    held = OLD if path.name.startswith("v1-") else FULL
    assert Result.from_json(path.read_bytes()) == held
    assert ResultSet.from_json(path.read_bytes()) == ResultSet(results=(held,))


def test_a_set_of_old_results_is_read_and_written_anew() -> None:
    old = json.loads((SAMPLES / "v1-full.json").read_bytes())
    found = ResultSet.from_json(json.dumps({"schema_version": 1, "results": [old, old]}))
    assert found == ResultSet(results=(OLD, OLD))
    assert ResultSet.from_json(found.to_json()) == found


def test_each_report_and_each_series_is_written_once() -> None:
    (flow, *_), own = FULL.flows, FULL.client
    stream = StreamResult(id=1, sender=SENDER, receiver=RECEIVER)
    flow = replace(flow, streams=(stream,), counted_by="receiver", series=RECEIVER.series)
    result = replace(
        FULL,
        flows=(flow,),
        client=replace(own, streams=(SENDER,)),
        server=replace(own, streams=(RECEIVER,)),
    )
    saved = json.loads(result.to_json())
    assert saved["client"]["streams"] == ["flows[0].streams[0].sender"]
    assert saved["server"]["streams"] == ["flows[0].streams[0].receiver"]
    assert saved["flows"][0]["series"] == "flows[0].streams[0].receiver.series"
    assert Result.from_json(result.to_json()) == result


def test_what_differs_is_written_where_it_stands() -> None:
    other = replace(SENDER, bytes=1)
    result = replace(FULL, client=replace(FULL.client, streams=(other,)))
    assert json.loads(result.to_json())["client"]["streams"][0]["bytes"] == 1
    assert Result.from_json(result.to_json()) == result


def test_numbers_of_a_column_stand_on_one_line() -> None:
    lines = FULL.to_json().decode().splitlines()
    assert not [line for line in lines if line.strip(" ,").lstrip("-").isdigit()]
    assert sum('"rtt_ns": [' in line and "]" in line for line in lines) == 2 * len(FULL.flows)


def test_numbers_above_64_bits_stay_plain() -> None:
    large = Series(origin_ns=0, width_ns=1, bytes=(2**63,))
    result = replace(FULL, flows=(replace(FULL.flows[0], series=large),))
    assert json.loads(result.to_json())["flows"][0]["series"]["bytes"] == [2**63]
    assert Result.from_json(result.to_json()) == result


@given(st.lists(INT64, max_size=50))
def test_a_packed_column_is_the_same(column: list[int]) -> None:
    assert unpacked(packed(column), len(column)) == column


def test_a_column_may_be_no_longer_than_is_allowed() -> None:
    with pytest.raises(ValueError, match="count"):
        unpacked(packed([1, 2, 3]), 2)


DAMAGE: dict[str, dict[str, Any]] = {
    "encoding": {"encoding": "rot13"},
    "count": {"count": 2},
    "too many": {"count": 10**12},
    "negative": {"count": -1},
    "no number": {"count": True},
    "no base64": {"data": "€"},
    "no zlib": {"data": "AAAA"},
    "cut": {"data": COLUMN["data"][:12]},
    "no text": {"data": 7},
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_column_is_refused_with_its_place(change: dict[str, Any]) -> None:
    document = copy.deepcopy(SAVED)
    document["flows"][0]["streams"][0]["receiver"]["series"]["bytes"].update(change)
    place = r"flows\[0\]\.streams\[0\]\.receiver\.series\.bytes: "
    with pytest.raises(ResultFormatError, match=place):
        Result.from_json(json.dumps(document))


@pytest.mark.parametrize(
    "place",
    ["", "flows[9].streams[0].sender", "flows[0].streams[0].series", "error", "flows[0].streams"],
)
def test_a_place_that_is_not_there_is_refused(place: str) -> None:
    document = copy.deepcopy(SAVED)
    document["client"]["streams"] = [place]
    with pytest.raises(ResultFormatError, match=r"client\.streams\[0\]: "):
        Result.from_json(json.dumps(document))


def test_a_small_document_unpacks_to_little() -> None:
    """Whatever a column claims, the document's bytes bound how many numbers it may have."""
    zeros = packed(array("q", bytes(8 * 600_000)))
    assert len(zeros["data"]) < 10_000
    series = {"origin_ns": 0, "width_ns": 1, "bytes": zeros}
    reports = [
        json.loads(json.dumps({"id": number, "role": "sender", "series": series}))
        for number in range(4)  # the whole document has room for three numbers
    ]
    document = copy.deepcopy(SAVED)
    document["client"]["streams"] = reports
    with pytest.raises(ResultFormatError, match=r"client\.streams\[\d\]\.series\.bytes: its count"):
        Result.from_json(json.dumps(document))


def test_an_idle_stream_of_many_buckets_is_not_refused() -> None:
    idle = Series(origin_ns=0, width_ns=1, bytes=(0,) * 16384)
    streams = tuple(StreamReport(id=number, role="sender", series=idle) for number in range(64))
    result = replace(FULL, client=replace(FULL.client, streams=streams))
    assert Result.from_json(result.to_json(indent=None)) == result
