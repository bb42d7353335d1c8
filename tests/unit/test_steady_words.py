"""Test how the text report describes the steady state and its precision."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from netmeasure.clock import SECOND_NS
from netmeasure.report.text import print_report
from netmeasure.report.words import distortion
from netmeasure.result import Flow, Result, Steady, StreamResult, Stretch
from netmeasure.spec import TcpSpec
from support.optional import known
from support.recorded import recorded

STEADY: dict[str, Any] = {
    "verdict": "steady",
    "start_ns": 0,
    "end_ns": 10 * SECOND_NS,
    "bytes": 1_250_000_000,
    "goodput_bps": 1e9,
    "batches": 200,
    "batch_ns": SECOND_NS // 20,
    "confidence_interval": (990e6, 1010e6),
    "grade": "A",
}


def said(*streams: Steady, **changed: Any) -> list[str]:
    flow = Flow(
        direction="upload",
        counted_by="receiver",
        streams=tuple(StreamResult(id=i, steady=one) for i, one in enumerate(streams)),
        steady=Steady(**STEADY | changed),
    )
    result = Result(spec=TcpSpec(), complete=True, started_at="", target="lab1", flows=(flow,))
    output = StringIO()
    print_report(result, Console(file=output, width=200))
    return [" ".join(line.split()) for line in output.getvalue().splitlines()]


def test_the_interval_and_its_grade() -> None:
    lines = said()
    assert "steady bitrate 1.00 Gbit/s bytes received over 10.0 s" in lines
    words = "95 % confidence: 990 Mbit/s to 1.01 Gbit/s; grade A: well supported"
    assert f"uncertainty +-1 % {words}" in lines
    assert not [line for line in lines if line.startswith(("stalls", "levels", "of each stream"))]


@pytest.mark.parametrize(
    ("grade", "words"),
    [("B", "95 % confidence: "), ("C", "at least: "), ("C", "the true margin may be wider")],
)
def test_other_grades(grade: str, words: str) -> None:
    (line,) = [line for line in said(grade=grade) if line.startswith("uncertainty")]
    assert words in line
    assert f"grade {grade}: " in line


def test_no_interval() -> None:
    lines = said(verdict="too_short", confidence_interval=None, grade=None)
    assert [line for line in lines if "too short to tell" in line]
    assert not [line for line in lines if line.startswith("uncertainty")]


def test_levels() -> None:
    levels = (
        Stretch(start_ns=0, end_ns=6 * SECOND_NS, bytes=750_000_000),
        Stretch(start_ns=6 * SECOND_NS, end_ns=10 * SECOND_NS, bytes=400_000_000),
    )
    lines = said(verdict="shifted", levels=levels)
    assert [line for line in lines if "best effort: the rate changed its level" in line]
    assert "levels 2 1.00 Gbit/s for 6.00 s, then 800 Mbit/s for 4.00 s" in lines


def test_stalls() -> None:
    stalls = tuple(
        Stretch(start_ns=start * SECOND_NS, end_ns=(start + length) * SECOND_NS, bytes=0)
        for start, length in ((2, 1), (5, 4))
    )
    words = "nothing came for 5.00 s in all, 4.00 s at the longest; between them 2.00 Gbit/s"
    assert f"stalls 2 {words}" in said(stalls=stalls)


def test_streams() -> None:
    streams = [Steady(**STEADY | {"goodput_bps": rate}) for rate in (2e8, 5e8, 3e8)]
    assert "of each stream 300 Mbit/s median; 200 Mbit/s to 500 Mbit/s" in said(*streams)
    assert not [line for line in said(streams[0]) if line.startswith("of each stream")]


def test_a_rate_is_called_the_networks_only_where_a_buffer_did_not_take_all() -> None:
    result = recorded(1e9, set_up_ns=3_060_000_000)
    flow = result.flow
    for one in (flow, replace(flow, steady=None, no_steady="no_series")):
        assert "; the network carried " in (distortion(result, one) or "")
    short = replace(known(flow.steady), verdict="too_short")
    words = distortion(result, replace(flow, steady=short))
    assert words is not None
    assert words.endswith("; without set-up, it was 975 Mbit/s.")
    burst = distortion(result, replace(flow, steady=None, no_steady="too_short"))
    assert burst is not None
    assert burst.endswith(" attempt reports 385 Mbit/s.")
