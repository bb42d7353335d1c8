"""Test the last five lines of a report: what they say, and that they fit 80 columns."""

from __future__ import annotations

import io
import re

import pytest
from msgspec.structs import replace
from rich.console import Console

from netmeasure import Phase, Result
from netmeasure.report.answer import WIDTH, answer_lines, shortened
from netmeasure.report.bottleneck import limit_rows
from netmeasure.report.flow import flow_table
from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.result import Datagrams, Limits, Loss, PathHole, Pause, Role, Stretch
from netmeasure.result.encoding import encoded
from netmeasure.result.summary import without_series
from netmeasure.units import bitrate
from support.full_result import FULL
from support.optional import known
from support.recorded import SECOND, recorded


def test_the_answer_fits_five_lines_of_80_columns() -> None:
    for result in (FULL, replace(FULL, flows=FULL.flows[:1])):
        lines = answer_lines(result)
        assert 3 <= len(lines) <= 5
        assert all(len(line) <= WIDTH for line in lines), lines


@pytest.mark.parametrize("margin", [0.013, 0.47, 1.2, 12.0])
@pytest.mark.parametrize("rate", [1.5e3, 999.9e6, 888.8e9])
def test_no_line_cuts_a_figure_or_leaves_a_direction_out(margin: float, rate: float) -> None:
    run = recorded(rate, syns=3, set_up_ns=33_333_333_333)
    averages = replace(
        run.flow.averages,
        from_first_attempt_bps=rate * 0.8,
        after_omit_bps=rate * 0.9,
        set_up_ns=33_333_333_333,
    )
    uncertain = replace(
        known(run.steady),
        confidence_interval=(rate * (1 - margin), rate * (1 + margin)),
    )
    flows = tuple(
        replace(run.flow, direction=way, steady=uncertain, averages=averages)
        for way in ("upload", "download")
    )
    for shown in (flows, flows[:1]):
        lines = answer_lines(replace(run, flows=shown))
        assert len(lines) <= 5
        assert all(len(line) <= WIDTH and "..." not in line for line in lines), lines
        text = "\n".join(lines)
        assert "e+0" not in text
        for average in (averages.from_first_attempt_bps, averages.after_omit_bps):
            assert text.count(bitrate(average)) >= len(shown), text
        assert text.count("+-") == len(shown), text
        assert len(shown) == 1 or ("(counts set-up)" in text and "(counts ramp)" in text)


@pytest.mark.parametrize(
    ("lost", "dropped", "target_ratio", "words"),
    [
        (500, 0, 0.5, "the network, which lost 50 % of the datagrams"),
        (500, 0, None, "the network, which lost 50 % of the datagrams"),
        (
            500,
            400,
            0.5,
            "the receiver's socket buffer: 50 % of the datagrams were lost, most of them there",
        ),
        (10, 0, 0.5, "unknown: neither end reported enough"),
        (0, 0, 0.5, "unknown: neither end reported enough"),
    ],
)
def test_lost_datagrams_are_the_limit_where_they_explain_the_rate(
    lost: int, dropped: int, target_ratio: float | None, words: str
) -> None:
    """Both ends have reported all: the sender sent at its target rate, and half of it arrived."""
    run = recorded(20e6)
    loss = Loss(
        sent_packets=1000,
        received_packets=1000 - lost,
        lost_packets=lost,
        host_dropped_packets=dropped,
    )
    flow = replace(run.flow, loss=loss, limits=Limits(target_ratio=target_ratio))
    (said,) = (
        line for line in answer_lines(replace(run, flows=(flow,))) if line.startswith("Limited by")
    )
    brief = words if words.startswith("unknown") else words.partition(":")[0]
    assert said == f"{'Limited by':16s}{brief}"
    rows = {name: shown for name, _, shown in limit_rows(flow)}
    assert rows == ({} if words.startswith("unknown") else {"limited by": words})


@pytest.mark.parametrize(("skipped_ns", "is_late"), [(60_000_000, True), (20_000_000, False)])
def test_a_ramp_by_a_late_sender_is_called_one(skipped_ns: int, is_late: bool) -> None:
    """The first 0.1 s are at half of the rate: datagrams of 50 ms are missing."""
    run = recorded(100e6)
    (stream,) = run.flow.streams
    sent = Datagrams(packets=1000, skipped_ns=skipped_ns)
    sender = replace(known(stream.sender), datagrams=sent)
    flow = replace(run.flow, streams=(replace(stream, sender=sender),))
    paper = io.StringIO()
    Console(file=paper, width=200).print(flow_table(replace(run, flows=(flow,)), flow))
    text = paper.getvalue()
    assert "ramp before it" in text
    assert (": the sender was 60.0 ms behind its schedule" in text) is is_late


@pytest.mark.parametrize("end", ["receiver", "sender"])
def test_what_a_stopped_receiver_did_not_read_is_not_said_to_be_missing(end: Role) -> None:
    run = recorded(100e6)
    stall = Stretch(start_ns=SECOND, end_ns=SECOND + 500_000_000, bytes=0)
    pause = Pause(end=end, start_ns=stall.start_ns, end_ns=stall.end_ns, cause="stopped")
    flow = replace(run.flow, steady=replace(known(run.steady), stalls=(stall,)), pauses=(pause,))
    paper = io.StringIO()
    Console(file=paper, width=200).print(flow_table(replace(run, flows=(flow,)), flow))
    (words,) = re.findall(r"stalls +1 +(.*)", paper.getvalue())
    if end == "receiver":
        assert words.rstrip() == (
            "nothing was read for 500 ms in all, 500 ms at the longest: the receiver's threads did"
            " not run"
        )
    else:
        assert words.startswith("nothing came for 500 ms in all")


def test_a_black_hole_is_the_limit_of_a_test_that_moved_nothing() -> None:
    run = recorded(1e6)
    nothing = replace(
        run.flow, no_steady="no_bytes", steady=None, limits=Limits(limited_by="network")
    )
    hole = PathHole(direction="upload", passed_bytes=1300, lost_bytes=1301)
    words = "the path MTU: packets of 1301 bytes and more do not get through"
    assert f"{'Limited by':16s}{words}" in answer_lines(
        replace(run, flows=(nothing,), path_hole=hole)
    )
    assert limit_rows(nothing, hole) == [("limited by", "", words)]
    other_way = replace(hole, direction="download")
    ((_, _, said),) = limit_rows(nothing, other_way)
    assert said.startswith("the network or its hosts")


def test_words_without_room_lose_whole_clauses() -> None:
    assert shortened("upload 9.20 Gbit/s, download 11.5 Gbit/s", 38) == "upload 9.20 Gbit/s"
    assert shortened("a sentence of six words here", 20) == "a sentence of..."


def test_set_up_tells_what_was_lost_in_it() -> None:
    late = Phase(
        name="connect", connection="control", start_ns=0, duration_ns=3 * 10**9, syn_retransmits=2
    )
    (line,) = (
        line for line in answer_lines(replace(FULL, setup=(late,))) if line.startswith("Set-up")
    )
    assert "3.00 s lost to 2 unanswered SYNs" in line


def test_nothing_measured_has_no_answer() -> None:
    assert answer_lines(replace(FULL, flows=(), requests=None)) == []


@pytest.mark.parametrize("width", [200, 80, 40, 20])
def test_tables_never_cut_a_number(width: int) -> None:
    table = plain_table()
    cells = ["1234567890123", "0.000123456 s", "99.999 Gbit/s", "9007199254740993"]
    for name in ("one", "two", "three", "four"):
        add_column(table, name, right=True)
    add_row(table, *cells)
    paper = io.StringIO()
    Console(file=paper, width=width).print(table)
    shown = " ".join(paper.getvalue().split())
    assert all(cell in shown for cell in cells)


def test_documents_hold_derived_figures_and_load_without_them() -> None:
    text = encoded(FULL)
    assert Result.from_json(text) == FULL
    for name in (b'"set_up_ns"', b'"syn_retransmits"', b'"goodput_bps"', b'"ceiling_share"'):
        assert name in text


def test_a_summary_has_no_series_and_loads() -> None:
    short = without_series(FULL)
    assert Result.from_json(short.to_json()) == short
    assert len(short.to_json()) < len(FULL.to_json())
    assert all(flow.series is None for flow in short.flows)
    assert short.set_up_ns == FULL.set_up_ns
