"""Test sets of results: saved, read back, damaged; and the figures of several runs together."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace
from rich.console import Console

from netmeasure.analysis.ceiling import ceiling
from netmeasure.comparison.comparison import compare
from netmeasure.comparison.runs import RunFigures, directions, figures, summarise
from netmeasure.errors import ResultFormatError
from netmeasure.report.compare import render as render_comparison
from netmeasure.report.runs import render
from netmeasure.report.words import run_line
from netmeasure.result import (
    Averages,
    ErrorRecord,
    Flow,
    FlowDirection,
    Loss,
    Phase,
    Result,
    Steady,
    Stretch,
    Totals,
)
from netmeasure.result.resultset import ResultSet
from netmeasure.spec import Link, TcpSpec
from support.optional import known
from support.recorded import recorded


def shown(runs: ResultSet) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(render(runs), highlight=False)
    return console.export_text()


def test_runs_of_round_trips_have_transactions_and_no_bits_per_second() -> None:
    path = Path(__file__).parents[1] / "samples" / "terminal" / "round-trips.json"
    result = Result.from_json(path.read_bytes())
    rate = f"{known(known(result.round_trips).steady_per_s):.0f}"
    words = shown(ResultSet(results=(result, result)))
    assert f"transactions {rate}/s, mean of 2 runs" in words
    assert words.count(rate) >= 3
    assert "transactions/s" in words
    assert "bit/s" not in words


# ---- documents ----------------------------------------------------------------------------------


def test_a_set_is_read_as_it_was_written() -> None:
    runs = ResultSet(results=(recorded(1e9), recorded(2e9)))
    assert ResultSet.from_json(runs.to_json()) == runs
    assert [result.steady for result in runs] == [result.steady for result in runs.results]
    assert len(runs) == 2


def test_a_single_result_is_a_set_of_one() -> None:
    result = recorded(1e9)
    assert ResultSet.from_json(result.to_json()) == ResultSet(results=(result,))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b"\xff\xfe",
        b'{"results":[]}',
        b'{"schema_version":1,"results":7}',
        b'{"schema_version":1,"results":[{}]}',
        b'{"schema_version":1,"results":null}',
        b'{"schema_version":3,"results":[]}',
        b'{"schema_version":1}',
        b"[" * 100_000,
    ],
)
def test_a_document_that_is_no_set_is_refused(data: bytes) -> None:
    with pytest.raises(ResultFormatError):
        ResultSet.from_json(data)


def test_the_share_of_the_links_ceiling() -> None:
    """The share is of the ceiling for full frames; a run at twice the ceiling has another link."""

    def run(rate_bps: float) -> Result:
        found = ceiling(Link(rate_bps=10**9), mtu_bytes=1500)
        result = recorded(rate_bps)
        return replace(result, flows=(replace(result.flow, ceiling=found),))

    most = known(known(run(1e9).flow.ceiling).payload_bps)
    runs = ResultSet(results=(run(most), run(0.98 * most)))
    assert "of the link's ceiling 99.0 %\n" in shown(runs)
    assert "more than possible" in shown(ResultSet(results=(run(2 * most),)))
    assert "ceiling" not in shown(ResultSet(results=(recorded(1e9),)))
    report = io.StringIO()
    Console(file=report, width=100).print(render_comparison(compare(runs, runs)))
    assert report.getvalue().split("ceiling")[1].split()[:4] == ["99.0", "%", "99.0", "%"]


SAVED = ResultSet(results=(recorded(1e9), recorded(2e9))).to_json()


@given(st.data())
def test_a_damaged_document_is_refused_or_read(data: st.DataObject) -> None:
    """Whatever bytes are changed, cut or doubled, no other exception is raised."""
    start = data.draw(st.integers(0, len(SAVED)))
    end = data.draw(st.integers(start, min(len(SAVED), start + 40)))
    damaged = SAVED[:start] + data.draw(st.binary(max_size=20)) + SAVED[end:]
    try:
        runs = ResultSet.from_json(damaged)
    except ResultFormatError:
        return
    for direction in directions(runs):
        summarise(runs, direction)


NUMBERS = st.one_of(
    st.integers(-(10**30), 10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.just(None),
)


@settings(max_examples=50)
@given(st.data())
def test_any_number_in_a_document_is_refused_or_made_sense_of(data: st.DataObject) -> None:
    saved = json.loads(SAVED)
    for _ in range(data.draw(st.integers(1, 8))):
        where, key = data.draw(st.sampled_from(numbers(saved)))
        where[key] = data.draw(NUMBERS)
    try:
        runs = ResultSet.from_json(json.dumps(saved))
    except ResultFormatError:
        return
    for direction in directions(runs):
        summary = summarise(runs, direction)
        assert all(math.isfinite(value) for value in summary.values("steady_bps"))
    if any(result.flows for result in runs):
        shown(runs)
        Console(file=io.StringIO()).print(render_comparison(compare(runs, runs)))


def numbers(value: Any) -> list[tuple[Any, Any]]:
    """Yield where each number is: (its dictionary or list, its key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, Any]] = []
    for key, item in items:
        if isinstance(item, dict | list):
            found += numbers(item)
        elif isinstance(item, int | float) and key != "schema_version":
            found.append((value, key))
    return found


# ---- figures ------------------------------------------------------------------------------------


def test_the_figures_of_a_run() -> None:
    """The figures were computed by hand: 8 Gbit/s is 1 GB/s; 0.1 s of ramp carried 40 MB of 100; 2
    GB in all."""
    flow = Flow(
        direction="download",
        streams=(),
        steady=Steady(
            verdict="steady",
            start_ns=100_000_000,
            end_ns=2_000_000_000,
            bytes=1_900_000_000,
            goodput_bps=8e9,
            batches=190,
            batch_ns=10_000_000,
            confidence_interval=(7.92e9, 8.08e9),
        ),
        ramp=Stretch(start_ns=0, end_ns=100_000_000, bytes=40_000_000),
        averages=Averages(from_first_attempt_bps=4e9, set_up_ns=2_000_000_000),
        sender=Totals(retransmits=6, cpu_user_ns=100_000_000, cpu_system_ns=300_000_000),
        receiver=Totals(bytes=2_000_000_000, cpu_user_ns=0, cpu_system_ns=10_000_000),
        loss=Loss(sent_packets=200, lost_packets=3),
    )
    syns = Phase(name="connect", connection="control", start_ns=0, duration_ns=9, syn_retransmits=2)
    result = Result(
        spec=TcpSpec(), complete=True, started_at="", target="", setup=(syns,), flows=(flow,)
    )
    found = figures(result, "download")
    assert found == RunFigures(
        complete=True,
        verdict="steady",
        margin=near(0.01),
        steady_bps=8e9,
        from_first_attempt_bps=4e9,
        set_up_ns=2_000_000_000,
        syn_retransmits=2,
        ramp_ns=100_000_000,
        ramp_lost_bytes=near(60_000_000),
        sender_cpu_s_per_gb=near(0.2),
        receiver_cpu_s_per_gb=near(0.005),
        retransmits_per_gb=near(3),
        loss_ratio=near(0.015),
    )
    assert figures(result, "upload") == RunFigures(
        complete=False, error="no upload was measured", syn_retransmits=None
    )


def near(value: float) -> Any:
    """Return a value that equals any float close to `value`, where the type is float."""
    return pytest.approx(value)


def test_what_is_unknown_stays_unknown() -> None:
    flow = Flow(direction="upload", streams=())
    result = Result(spec=TcpSpec(), complete=True, started_at="", target="", flows=(flow,))
    assert figures(result, "upload") == RunFigures(complete=True)
    assert not figures(result, "upload").counts


# ---- together -----------------------------------------------------------------------------------


def test_only_whole_runs_count_but_every_set_up_does() -> None:
    broken = replace(
        recorded(1e3, set_up_ns=9_000_000),
        complete=False,
        error=ErrorRecord(code="stream", message="the stream broke"),
    )
    nothing = replace(broken, flows=())
    results = [
        recorded(0.9e9, set_up_ns=1_000_000),
        broken,
        nothing,
        recorded(1.1e9, set_up_ns=2_000_000),
    ]
    summary = summarise(results, "upload")
    assert (len(summary.runs), summary.counted) == (4, 2)
    assert summary.steady_bps is not None
    assert summary.steady_bps.value == pytest.approx(1e9)
    # s = 0.1414e9, t with one degree of freedom 12.706, over sqrt(2)
    assert summary.steady_bps.half == pytest.approx(1.2706e9, rel=1e-4)
    assert summary.set_up is not None
    assert (summary.set_up.count, summary.set_up.max_ns) == (3, 9_000_000)
    words = shown(ResultSet(results=tuple(results)))
    assert words.count("INCOMPLETE, does not count: the stream broke") == 2
    assert "mean of 2 of 4 runs" in words
    assert "set-up 2.00 ms (median; 1.00 ms to 9.00 ms)" in words


def test_nothing_to_summarise() -> None:
    summary = summarise([], "upload")
    assert (summary.steady_bps, summary.set_up, summary.counted) == (None, None, 0)


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_the_summary_names_what_it_shows(direction: FlowDirection) -> None:
    results = [
        replace(recorded(4.5432e9 + n * 1e6, direction=direction), notes=("same", f"own {n}"))
        for n in range(3)
    ]
    words = shown(ResultSet(results=tuple(results)))
    for expected in (
        "3 runs: TCP",
        direction.capitalize(),
        "4.543 Gbit/s",
        "4.545 Gbit/s",
        "mean of 3 runs",
        "note: same",
        "note (1 of 3 runs): own 2",
    ):
        assert expected in words
    assert "again in" not in words


def test_syns_sent_again_are_told() -> None:
    runs = ResultSet(results=(recorded(1e9), recorded(1e9, set_up_ns=3 * 10**9, syns=2)))
    assert "SYNs were sent again in 1 of 2 runs, 2 in all" in shown(runs)


def test_many_runs_have_percentiles() -> None:
    runs = [recorded(1e9, set_up_ns=n * 1_000_000) for n in range(1, 21)]
    assert "95 % up to 19.0 ms" in shown(ResultSet(results=tuple(runs)))


def test_the_line_of_one_run() -> None:
    assert run_line("run 1", recorded(4.5432e9)) == "run 1  set-up 1.00 ms  upload 4.543 Gbit/s"
    broken = replace(recorded(1e9), complete=False, error=ErrorRecord(code="x", message="broke"))
    assert run_line("run 2", broken).endswith("upload 1.000 Gbit/s  INCOMPLETE: broke")
    assert run_line("run 3", replace(broken, flows=(), error=None)).endswith(
        "INCOMPLETE: cut short"
    )
