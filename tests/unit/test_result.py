"""Test the Result: saved and read back without loss, and its shortcuts."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import netmeasure as nm
from netmeasure.errors import ResultFormatError
from netmeasure.result import (
    SCHEMA_VERSION,
    Interval,
    Result,
    StreamInterval,
    StreamReport,
    Stretch,
    Totals,
)
from support.full_result import (
    CONNECT,
    DOWNLOAD,
    EMPTY,
    FULL,
    RECEIVER,
    SENDER,
    SERIES,
    STEADY,
    TOTALS,
    UPLOAD,
)

#: Only one of these fields can be set.
ENDS = {"total_bytes", "total_blocks", "endless", "dont_fragment", "receive_mode"}
NEVER_KEPT = {"credentials", "secret"}


def unset(value: Any, path: str = "result") -> Iterator[str]:
    """Return the paths of the fields that still have their default."""
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(type(value)):
            item = getattr(value, field.name)
            name = f"{path}.{field.name}"
            if field.name in ENDS | NEVER_KEPT or field.name == "schema_version":
                continue
            if not field.required and item == field.default:
                yield name
            yield from unset(item, name)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from unset(item, f"{path}[{index}]")


def test_the_example_is_full() -> None:
    assert list(unset(FULL)) == []


@pytest.mark.parametrize("result", [FULL, EMPTY], ids=["full", "empty"])
def test_json_round_trip(result: Result) -> None:
    saved = result.to_json()
    assert Result.from_json(saved) == result
    assert Result.from_json(saved.decode()) == result
    assert Result.from_json(saved).to_json() == saved
    assert hash(Result.from_json(saved)) == hash(result)


@pytest.mark.parametrize(
    ("title", "written"),
    [
        (b"caf\xc3\xa9 \\n", "caf\u00e9 \\n"),
        (b"caf\xe9", r"caf\xe9"),
        (rb"\xff", r"\x5cxff"),  # an escape in the text itself
        (rb"\x5cxff" + b"\xff", r"\x5cx5cxff\xff"),
        (b"\x7f\x80\x00", "\x7f\\x80\x00"),
    ],
)
def test_a_title_of_any_bytes_is_read_back(title: bytes, written: str) -> None:
    text = title.decode("utf-8", "surrogateescape")
    result = replace(EMPTY, spec=replace(EMPTY.spec, title=text, extra_data=text))
    for data in (result.to_json(), result.to_json(indent=None)):
        assert json.loads(data)["spec"]["title"] == written
        assert Result.from_json(data) == result
    both = nm.ResultSet(results=(result, result))
    assert nm.ResultSet.from_json(both.to_json()) == both


def test_the_saved_text() -> None:
    saved = json.loads(FULL.to_json())
    assert saved["schema_version"] == SCHEMA_VERSION == 2
    assert saved["spec"]["kind"] == "tcp"
    assert saved["flows"][0]["steady"]["confidence_interval"] == [0.1 + 0.2, 1e10 / 3]
    column = saved["flows"][0]["streams"][0]["receiver"]["series"]["bytes"]
    assert {name: column[name] for name in ("encoding", "count")} == {
        "encoding": "int64-le+zlib+base64",
        "count": 3,
    }
    data = zlib.decompress(base64.b64decode(column["data"]))
    assert struct.unpack("<3q", data) == (0, 7, 2**62)
    assert saved["target"] == "läb1:5201"
    assert json.loads(EMPTY.to_json())["error"] is None
    assert FULL.to_json().count(b"\n") > 50
    assert b'\n    "spec"' in FULL.to_json(indent=4)


def test_later_fields_are_ignored() -> None:
    saved = json.loads(FULL.to_json())
    saved["brand_new"] = saved["spec"]["brand_new"] = {"a": 1}
    assert Result.from_json(json.dumps(saved)) == FULL


@pytest.mark.parametrize("version", [0, 3, -1, 10**6])
def test_another_schema_version(version: int) -> None:
    saved = FULL.to_json().replace(b'"schema_version": 2', b'"schema_version": %d' % version)
    with pytest.raises(ResultFormatError, match=f"schema version {version};") as caught:
        Result.from_json(saved)
    assert caught.value.hint


def test_another_schema_version_of_another_shape() -> None:
    with pytest.raises(ResultFormatError, match="schema version 3;"):
        Result.from_json(b'{"schema_version":3,"runs":[]}')


def changed(**members: Any) -> bytes:
    return json.dumps(json.loads(EMPTY.to_json()) | members).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"not JSON",
        "",
        b"null",
        b"[]",
        b"{}",
        b'{"schema_version":1}',
        b'{"schema_version":"1"}',
        b'{"schema_version":1.5}',
        b'{"schema_version":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        FULL.to_json()[:-3],
        FULL.to_json() + b"}",
        changed(complete="yes"),
        changed(spec={"kind": "quic"}),
        changed(spec={"kind": "tcp", "streams": 0}),
        changed(flows=[{"direction": "sideways", "streams": []}]),
        changed(setup=[{"name": "connect"}]),
        changed(notes="x"),
        *(
            pytest.param(
                data,
                id=name,
            )
            for data, raises, name in [
                (changed(target="?").replace(b"?", b"\xff"), UnicodeDecodeError, "not UTF-8"),
                ("\ud800", UnicodeEncodeError, "a surrogate"),
                (b'{"a":' * 100_000, RecursionError, "too deep"),
            ]
        ),
    ],
)
def test_a_file_of_garbage_is_refused(data: bytes | str) -> None:
    with pytest.raises(ResultFormatError, match="not a netmeasure result"):
        Result.from_json(data)


def test_short_cuts() -> None:
    assert FULL.flow is FULL.upload is UPLOAD
    assert FULL.download is DOWNLOAD
    assert FULL.steady is STEADY
    assert FULL.sender is TOTALS
    assert FULL.receiver.bytes == 980
    assert FULL.set_up_ns == 3_060_000_000
    assert FULL.syn_retransmits == 3


def test_figures_of_a_steady_state() -> None:
    assert STEADY.stalled_ns == 200
    assert STEADY.between_stalls_bps == pytest.approx(800 * 8e9 / 600)
    assert STEADY.margin == pytest.approx(0.25)
    assert [level.goodput_bps for level in STEADY.levels] == [6e9, 1e10]
    bare = msgspec.structs.replace(STEADY, confidence_interval=None, stalls=())
    assert bare.margin is None
    assert bare.between_stalls_bps == pytest.approx(800 * 8e9 / 800)
    silent = msgspec.structs.replace(
        STEADY, goodput_bps=0.0, stalls=(Stretch(start_ns=200, end_ns=1000, bytes=0),)
    )
    assert silent.margin is None
    assert silent.between_stalls_bps == 0
    assert Stretch(start_ns=5, end_ns=5, bytes=0).goodput_bps == 0


def test_short_cuts_of_an_empty_result() -> None:
    assert [EMPTY.upload, EMPTY.download, EMPTY.steady] == [None] * 3
    assert EMPTY.sender == EMPTY.receiver == Totals()
    assert EMPTY.set_up_ns is EMPTY.syn_retransmits is None


def test_short_cuts_of_a_download() -> None:
    result = msgspec.structs.replace(FULL, flows=(DOWNLOAD,))
    assert result.flow is result.download is DOWNLOAD
    assert result.upload is None


def test_syn_retransmits_of_no_connect_are_unknown_not_zero() -> None:
    phase = msgspec.structs.replace(CONNECT, syn_retransmits=None)
    assert msgspec.structs.replace(FULL, setup=(phase,)).syn_retransmits is None
    none_sent = msgspec.structs.replace(CONNECT, syn_retransmits=0)
    assert msgspec.structs.replace(FULL, setup=(phase, none_sent)).syn_retransmits == 0


def test_computed_values() -> None:
    assert CONNECT.end_ns == 3_000_000_100
    assert SERIES.total_bytes == 7 + 2**62
    assert SENDER.delivered_bytes == 990
    assert RECEIVER.delivered_bytes == 980
    assert StreamReport(id=1, role="sender", bytes=5).delivered_bytes is None
    assert SENDER.counted_ns == 1000
    assert StreamReport(id=1, role="sender", counted_from_ns=0).counted_ns is None
    assert STEADY.duration_ns == 800
    assert UPLOAD.ramp is not None
    assert UPLOAD.ramp.duration_ns == 199


@pytest.mark.parametrize(("end_ns", "goodput_bps"), [(1_500_000_000, 8e6), (1_000_000_000, 0.0)])
def test_intervals(end_ns: int, goodput_bps: float) -> None:
    interval = Interval(
        direction="upload",
        counted_by="receiver",
        start_ns=1_000_000_000,
        end_ns=end_ns,
        bytes=500_000,
        streams=(StreamInterval(id=1, bytes=200_000), StreamInterval(id=3, bytes=300_000)),
    )
    assert interval.stream_bytes == (200_000, 300_000)
    assert interval.duration_ns == end_ns - 1_000_000_000
    assert interval.goodput_bps == goodput_bps
