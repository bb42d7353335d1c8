"""Test compare(): verdicts, figures that changed, environments that differ, and their wording."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from msgspec.structs import replace
from rich.console import Console

from netmeasure.analysis.samples import Estimate
from netmeasure.comparison.comparison import Comparison, FlowComparison, compare
from netmeasure.comparison.differences import differences
from netmeasure.errors import ResultFormatError, SpecError
from netmeasure.report.compare import render, sentences, warnings
from netmeasure.result import ErrorRecord, Result
from netmeasure.spec import HttpSpec, SocketOptions, TcpSpec, Timing, UdpSpec
from support.recorded import recorded

#: The article's table: five downloads of 10 GB each, as curl counted them, in Mbit/s.
OLD = (4539, 4545, 4543, 4542, 4547)
NEW = (4814, 4814, 4814, 4815, 4815)
TEN_SECONDS = Timing(duration_s=10)


def runs(rates: Sequence[float], **facts: Any) -> list[Result]:
    return [recorded(rate, **facts) for rate in rates]


def scattered(seed: int, middle: float, share: float, count: int) -> list[float]:
    factors = np.exp(np.random.default_rng(seed).normal(0, share, count))
    return [middle * float(factor) for factor in factors]


def shown(found: Comparison) -> str:
    """Return the report without its line breaks."""
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(render(found), highlight=False)
    return " ".join(console.export_text().split())


def words(found: Comparison) -> str:
    return " ".join(sentences(found, found.flow))


# ---- verdicts -----------------------------------------------------------------------------------


def test_a_lower_rate() -> None:
    found = compare(
        runs(scattered(1, 1e9, 0.003, 5)), runs(scattered(2, 0.97e9, 0.003, 5)), margin=0.02
    )
    assert found.verdict == "less"
    assert found.ratio is not None
    assert found.ratio.holds(0.97)
    assert not found.ratio.holds(1)
    assert "% less than A (" in words(found)


def test_a_higher_rate() -> None:
    found = compare(runs(scattered(1, 1e9, 0.003, 5)), runs(scattered(2, 1.5e9, 0.003, 5)))
    assert found.verdict == "more"
    assert "% more than A (" in words(found)


def test_many_times_as_much() -> None:
    found = compare(runs(scattered(1, 1e7, 0.01, 5)), runs(scattered(2, 1.12e9, 0.01, 5)))
    verdict = words(found).partition(". ")[0]
    times = r"1\d\d\.\d"
    assert re.match(rf"B carries {times} times what A does \({times} to {times} times,", verdict)
    assert "%" not in verdict.replace("95 %", "")
    assert re.search(rf"average with set-up .* x {times} \({times} to", shown(found))


def test_equal() -> None:
    found = compare(runs(scattered(1, 1e9, 0.003, 5)), runs(scattered(2, 1e9, 0.003, 5)))
    assert found.verdict == "equal"
    assert words(found).startswith("The network carries the same, within 2 %: B/A is ")


def test_a_real_difference_within_the_margin_is_equal_to_that_margin() -> None:
    a, b = runs([1e9, 1.0001e9, 0.9999e9]), runs([1.005e9, 1.0051e9, 1.0049e9])
    assert compare(a, b).verdict == "equal"
    assert "B/A is 1.005 to 1.005" in words(compare(a, b))
    assert compare(a, b, margin=0.001).verdict == "more"


def test_unclear_says_how_many_runs_would_tell() -> None:
    a, b = runs(scattered(5, 1e9, 0.04, 5)), runs(scattered(8, 1e9, 0.04, 5))
    found = compare(a, b)
    assert found.verdict == "unclear"
    needed = found.flow.runs_needed
    assert needed is not None
    assert 20 < needed < 1000
    assert f"about {needed} of each are needed to know B/A to +-1 %" in words(found)


def test_runs_that_scatter_wildly() -> None:
    found = compare(runs([1e9, 2e9, 9e9]), runs([1e8, 3e9, 8e9]))
    assert (found.verdict, found.flow.runs_needed) == ("unclear", None)
    assert "1000 of each would not be enough to know B/A to +-1 %" in words(found)


@pytest.mark.parametrize(("of_a", "of_b"), [(2, 5), (5, 1), (1, 1)])
def test_too_few(of_a: int, of_b: int) -> None:
    found = compare(runs([1e9, 1.001e9] * of_a)[:of_a], runs([0.5e9, 0.501e9] * of_b)[:of_b])
    assert found.verdict == "too_few"
    assert f"{of_a} of A and {of_b} of B count, and at least 3 of each" in words(found)
    assert not any(one.moved for one in found.flow.components)


def test_runs_that_broke_off_do_not_count() -> None:
    broken = replace(
        recorded(1e6), complete=False, error=ErrorRecord(code="stream", message="it broke")
    )
    found = compare([*runs([1e9] * 3), broken], runs([1e9] * 3))
    assert (found.flow.a.counted, found.verdict) == (3, "equal")
    assert "4 - A: INCOMPLETE, does not count: it broke" in shown(found)


def test_a_side_that_carried_nothing() -> None:
    found = compare(runs([1e9] * 3), runs([0.0] * 3))
    assert (found.ratio, found.verdict) == (Estimate(0.0), "less")
    assert found.is_below(0.95) is True
    found = compare(runs([0.0] * 3), runs([1e9] * 3))
    assert (found.ratio, found.verdict, found.is_below(0.95)) == (None, "unclear", None)
    found = compare(runs([1e9] * 3), runs([1e9, 1e9, 0.0]))
    assert (found.verdict, found.is_below(0.95)) == ("unclear", True)
    assert "some runs carried nothing" in shown(found)


def test_equal_systems_are_rarely_told_apart() -> None:
    """A 95 % interval excludes the truth once in twenty cases; the margin makes that rarer."""
    told = sum(
        compare(
            runs(scattered(2 * n, 1e9, 0.01, 5)), runs(scattered(2 * n + 1, 1e9, 0.01, 5))
        ).verdict
        in ("less", "more")
        for n in range(200)
    )
    assert told <= 15


# ---- --fail-below -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "limit", "below"),
    [
        (Estimate(0.90, 0.88, 0.92), 0.95, True),
        (Estimate(0.94, 0.90, 0.98), 0.95, True),
        (Estimate(0.94, 0.87, 1.01), 0.95, None),
        (Estimate(0.96, 0.90, 1.02), 0.95, False),
        (Estimate(0.95, 0.94, 0.96), 0.95, False),
        (Estimate(1.01, 1.00, 1.02), 1.05, True),
        (Estimate(1.01, 0.96, 1.06), 1.05, None),
        (None, 0.95, None),
    ],
)
def test_below(ratio: Estimate | None, limit: float, below: bool | None) -> None:
    flow = replace(compare(runs([1e9] * 3), runs([1e9] * 3)).flow, ratio=ratio)
    assert flow.is_below(limit) is below
    assert replace(flow, verdict="too_few").is_below(limit) is None


def test_one_direction_below_is_enough() -> None:
    found = compare(runs([1e9] * 3), runs([1e9] * 3))
    fine: FlowComparison = found.flow
    bad = replace(fine, ratio=Estimate(0.5, 0.4, 0.6))
    doubtful = replace(fine, ratio=None)
    assert replace(found, flows=(fine, doubtful, bad)).is_below(0.95) is True
    assert replace(found, flows=(fine, doubtful)).is_below(0.95) is None
    assert replace(found, flows=(fine, fine)).is_below(0.95) is False


# ---- what moved ---------------------------------------------------------------------------------


def test_the_articles_case() -> None:
    """The steady rates are alike, but one network comes up 3 s late: the report says so, and does
    not report a lower bitrate."""
    rate = 9.8e9
    old = [
        recorded(rate * (1 + 1e-4 * n), set_up_ns=3_020_000_000 + n * 10**6, syns=2)
        for n in range(5)
    ]
    new = [recorded(rate * (1 - 1e-4 * n), set_up_ns=1_000_000 + n * 10**4) for n in range(5)]
    found = compare(new, old, name_a="master", name_b="1.3.0")
    assert found.verdict == "equal"
    moved = [one.name for one in found.flow.components if one.moved]
    assert moved == ["set_up_ns", "from_first_attempt_bps"]
    said = words(found)
    assert "The network carries the same, within 2 %" in said
    assert "Getting connected took 3.02 s longer (3.0" in said
    assert "a tool that counts from the first attempt reports 60.1 % less for B" in said
    assert "took 3.02 s less" in words(compare(old, new))
    assert "reports 60.1 %" not in words(compare(old, new))  # of A's figure it is 151 % more


def test_the_articles_table() -> None:
    """The article's figures are shown in its form: runs in rows, variants in columns, and a
    conclusion."""
    found = compare(
        runs([1e6 * rate for rate in OLD]),
        runs([1e6 * rate for rate in NEW]),
        name_a="1.3.0",
        name_b="master",
    )
    report = shown(found)
    assert report.startswith("TCP upload, 1 stream, 10.0 s Upload run A: 1.3.0 B: master")
    for number, (old, new) in enumerate(zip(OLD, NEW, strict=True), 1):
        assert f"{number} {old / 1000:.3f} Gbit/s {new / 1000:.3f} Gbit/s" in report
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(
        math.prod(NEW) ** 0.2 / math.prod(OLD) ** 0.2, rel=1e-12
    )
    assert "B carries 6 % more than A" in report


def test_cpu_and_retransmits() -> None:
    steps = (0, 1, 2, 3, 4)
    a = [recorded(1e9, cpu_ns=100_000_000 + n, retransmits=n % 2) for n in steps]
    b = [recorded(1e9, cpu_ns=150_000_000 + n, retransmits=500 + n % 2) for n in steps]
    found = compare(a, b)
    moved = {one.name for one in found.flow.components if one.moved}
    assert moved == {"sender_cpu_s_per_gb", "receiver_cpu_s_per_gb", "retransmits_per_gb"}
    said = words(found)
    assert "sender's CPU per GB +50 %" in said
    assert "retransmits per GB +2.05e+03" in said
    part = found.flow.component("sender_cpu_s_per_gb")
    assert part is not None
    assert part.relative
    assert part.a is not None
    assert part.a.value == pytest.approx(0.1 / 0.24375, rel=0.01)  # 0.244 GB were transferred
    assert found.flow.component("loss_ratio") is None


def test_small_changes_are_no_matter_however_sure() -> None:
    a = [recorded(1e9, set_up_ns=1_000_000 + n, cpu_ns=10**8 + n) for n in range(5)]
    b = [recorded(1e9, set_up_ns=1_050_000 + n, cpu_ns=10**8 + 10**6 + n) for n in range(5)]
    found = compare(a, b)
    assert [one.moved for one in found.flow.components] == [False] * len(found.flow.components)
    set_up = found.flow.component("set_up_ns")
    assert set_up is not None
    assert set_up.change is not None
    assert not set_up.change.holds(0)


def test_parts_of_equal_systems_rarely_move() -> None:
    """All intervals of a comparison hold together in 95 % of comparisons."""
    generator = np.random.default_rng(3)

    def side() -> list[Result]:
        return [
            recorded(
                1e9 * math.exp(generator.normal(0, 0.01)),
                set_up_ns=int(10**7 * math.exp(generator.normal(0, 0.3))),
                cpu_ns=int(10**8 * math.exp(generator.normal(0, 0.2))),
                retransmits=int(generator.poisson(200)),
            )
            for _ in range(5)
        ]

    moved = sum(
        any(one.moved for one in compare(side(), side()).flow.components) for _ in range(200)
    )
    assert moved <= 18


# ---- environments -------------------------------------------------------------------------------


def test_the_same_environment_is_no_warning() -> None:
    assert differences(runs([1e9] * 2), runs([2e9] * 2), "upload") == ()
    assert list(warnings(compare(runs([1e9] * 3), runs([1e9] * 3)).flow)) == []


def different(a: Result, b: Result) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {one.name: (one.a, one.b) for one in differences([a], [b], "upload")}


def test_each_fact_that_differs_is_named() -> None:
    usual = recorded(1e9)
    assert different(usual, recorded(1e9, mtu=9000)) == {
        "MSS": (("1448",), ("8948",)),
        "path MTU": (("1500",), ("9000",)),
    }
    assert different(usual, recorded(1e9, congestion="bbr")) == {
        "congestion control": (("cubic",), ("bbr",))
    }
    assert different(usual, recorded(1e9, kernel="4.15")) == {
        "client's kernel": (("6.18",), ("4.15",)),
        "server's kernel": (("6.18",), ("4.15",)),
    }
    assert different(usual, recorded(1e9, block_bytes=1024)) == {
        "block size": (("131072 bytes",), ("1024 bytes",))
    }
    assert set(different(usual, recorded(1e9, version="0.0.9"))) == {
        "client's program",
        "server's program",
    }


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (TcpSpec(streams=4), {"streams"}),
        (TcpSpec(direction="both"), {"direction"}),
        (TcpSpec(timing=Timing(duration_s=60)), {"seconds"}),
        (TcpSpec(timing=Timing(omit_s=2)), {"omitted seconds"}),
        (TcpSpec(target_bps=10**6), {"target bitrate"}),
        (TcpSpec(timing=Timing(duration_s=10, until=0.02)), {"ends itself"}),
        (TcpSpec(cpu=1), {"client's CPU pinned"}),
        (TcpSpec(server_cpu=1), {"server's CPU pinned"}),
        (TcpSpec(repeating_payload=True), {"payload"}),
        (TcpSpec(file="/etc/services"), {"file"}),
        (TcpSpec(options=SocketOptions(no_delay=True)), {"TCP_NODELAY"}),
        (TcpSpec(options=SocketOptions(window_bytes=65_536)), {"socket buffers"}),
        (TcpSpec(options=SocketOptions(tos=184)), {"TOS"}),
        (TcpSpec(options=SocketOptions(multipath=True)), {"MPTCP"}),
        (UdpSpec(), {"kind of test", "target bitrate"}),
        (HttpSpec(url="http://lab1/", direction="upload", timing=TEN_SECONDS), {"kind of test"}),
    ],
)
def test_what_was_asked_for_differs(spec: Any, names: set[str]) -> None:
    assert set(different(recorded(1e9), recorded(1e9, spec=spec))) == names


def test_two_kinds_of_test_are_both_named() -> None:
    report = shown(compare(runs([1e9]), runs([1e9], spec=UdpSpec())))
    assert report.startswith("TCP upload, 1 stream, 10.0 s against UDP upload at 1.05 Mbit/s")
    assert (
        "WARNING: the runs differ in more than their names: kind of test (A TCP, B UDP)" in report
    )


def test_a_fact_that_varies_within_a_side_is_named() -> None:
    a = [recorded(1e9), recorded(1e9, congestion="bbr")]
    (one,) = differences(a, runs([1e9]), "upload")
    assert (one.name, one.a, one.b) == ("congestion control", ("cubic", "bbr"), ("cubic",))


def test_the_warning_is_loud_and_hosts_are_only_noted() -> None:
    b = [
        replace(one, client=replace(one.client, host=replace(one.client.host, hostname="lab9")))
        for one in runs([1e9] * 3, congestion="bbr", mtu=9000)
    ]
    report = shown(compare(runs([1e9] * 3), b))
    assert "WARNING: the runs differ in more than their names: " in report
    assert "congestion control (A cubic, B bbr); MSS (A 1448, B 8948)" in report
    assert "note: client's host (A lab1, B lab9)" in report


# ---- what can't be compared ---------------------------------------------------------------------


def test_other_directions_are_refused() -> None:
    with pytest.raises(ResultFormatError, match="new has only the download"):
        compare(runs([1e9]), runs([1e9], direction="download"), name_a="old", name_b="new")
    # sides with the same name, such as one host twice
    with pytest.raises(ResultFormatError, match="lab1: no run in which anything was measured"):
        compare([], runs([1e9]), name_a="lab1", name_b="lab1")


def test_nothing_measured_is_refused() -> None:
    nothing = replace(recorded(1e9), flows=(), complete=False)
    for side in ([], [nothing]):
        with pytest.raises(ResultFormatError, match="B: no run in which anything was measured"):
            compare(runs([1e9]), side)


@pytest.mark.parametrize("margin", [0, -0.1, 1, 7, math.nan])
def test_margins_that_can_not_be(margin: float) -> None:
    with pytest.raises(SpecError, match="margin"):
        compare(runs([1e9]), runs([1e9]), margin=margin)


def test_both_directions_are_compared_each() -> None:
    both = [
        replace(up, flows=(*up.flows, *down.flows))
        for up, down in zip(runs([1e9] * 3), runs([2e9] * 3, direction="download"), strict=True)
    ]
    found = compare(both, both)
    assert [flow.direction for flow in found.flows] == ["upload", "download"]
    report = shown(found)
    assert "Upload" in report
    assert "Download" in report


# ---- turns, documents ---------------------------------------------------------------------------


def at(*moments: int) -> list[Result]:
    return [replace(recorded(1e9), started_at=f"2026-01-01T00:00:{n:02d}.000Z") for n in moments]


def test_sides_that_were_not_measured_in_turns_are_noted() -> None:
    assert compare(at(0, 3, 4), at(1, 2, 5)).in_turns is True
    assert compare(at(0, 1, 2), at(3, 4, 5)).in_turns is False
    assert compare(at(3, 4, 5), at(0, 1, 2)).in_turns is False
    assert compare(at(0), at(1, 2)).in_turns is None
    assert "one side was measured after the other" in shown(compare(at(0, 1, 2), at(3, 4, 5)))
    assert "one side was measured" not in shown(compare(at(0, 3, 4), at(1, 2, 5)))


def test_a_comparison_as_json() -> None:
    found = compare(runs(scattered(1, 1e9, 0.003, 5)), runs(scattered(2, 0.97e9, 0.003, 5)))
    assert msgspec.json.decode(found.to_json(), type=Comparison) == found
    saved = json.loads(found.to_json())
    assert saved["flows"][0]["verdict"] == "less"
    assert saved["flows"][0]["ratio"]["value"] == pytest.approx(0.97, abs=0.01)


FIGURES = st.one_of(
    st.none(), st.floats(0, 1e21), st.sampled_from([0.0, 1.0, 1e-300, 1e21]), st.integers(0, 10**9)
)


def odd(figure: float | None) -> Result:
    """Return a run whose rate and set-up are this figure."""
    result = recorded(1e9)
    assert result.steady is not None
    steady = replace(result.steady, goodput_bps=0.0 if figure is None else float(figure))
    averages = replace(result.flow.averages, set_up_ns=None if figure is None else int(figure))
    return replace(result, flows=(replace(result.flow, steady=steady, averages=averages),))


@settings(max_examples=40)
@given(st.lists(FIGURES, min_size=1, max_size=6), st.lists(FIGURES, min_size=1, max_size=6))
@example([None, 5e-324], [None])
def test_any_figures_can_be_compared_and_shown(a: list[Any], b: list[Any]) -> None:
    """No figure of a saved run makes compare() fail, and no estimate is NaN."""
    found = compare([odd(figure) for figure in a], [odd(figure) for figure in b])
    shown(found)
    for one in (found.ratio, *(part.change for part in found.flow.components)):
        if one is not None:
            assert all(math.isfinite(x) for x in (one.value, one.low, one.high) if x is not None)
    assert found.is_below(0.95) in (True, False, None)
