"""Test the last five lines of a report: what they say, and that they fit 80 columns."""

from __future__ import annotations

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

from netmeasure import Phase, Result
from netmeasure.report.answer import WIDTH, answer_lines, shortened
from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.result.encoding import encoded
from netmeasure.result.summary import without_series
from netmeasure.units import bitrate
from support.full_result import FULL
from support.optional import known
from support.recorded import recorded


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
