"""Test the table of a campaign: its lines, ratios, doubts and sentences."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console

from netmeasure.comparison.doubts import Doubt, doubts
from netmeasure.comparison.suite import Suite, SuiteRun, tabulate
from netmeasure.publishing.campaign import publish_suite
from netmeasure.report.suite import cells, doubtful, moved, render, to_markdown
from netmeasure.result import Limits, Result
from netmeasure.result.node import NodeUse
from netmeasure.result.resources import Resources
from support.optional import known
from support.recorded import recorded

RATES = (1.0e9, 1.001e9, 0.999e9, 1.0005e9, 0.9995e9)
ORDER = [(test, "", variant) for test in ("TCP", "HTTP") for variant in ("old", "late", "slow")]


def runs_of(test: str, variant: str, factor: float = 1.0, **facts: Any) -> list[SuiteRun]:
    return [
        SuiteRun(
            round=number,
            test=test,
            target="",
            variant=variant,
            result=recorded(rate * factor, direction="download", **facts),
        )
        for number, rate in enumerate(RATES, 1)
    ]


@pytest.fixture
def suite() -> Suite:
    runs = [
        *runs_of("TCP", "old"),
        *runs_of("TCP", "late", set_up_ns=3 * 10**9, syns=2),
        *runs_of("TCP", "slow", 0.9),
        *runs_of("HTTP", "old"),
        *runs_of("HTTP", "late", set_up_ns=3 * 10**9),
        SuiteRun(round=1, test="HTTP", target="", variant="slow", error="no [such] host"),
    ]
    return tabulate(runs, order=ORDER, runs_planned=30, seed=1, title="a | b")


def shown(suite: Suite, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(render(suite), highlight=False)
    return console.export_text()


def test_each_variant_is_held_against_the_first(suite: Suite) -> None:
    assert suite.variants == ("old", "late", "slow")
    assert [(row.test, row.direction) for row in suite.rows] == [
        ("TCP", "download"),
        ("HTTP", "download"),
    ]
    old, late, slow = suite.rows[0].cells
    assert old.ratio is None
    assert known(late.ratio).value == pytest.approx(1)
    assert (late.verdict, slow.verdict) == ("equal", "less")
    assert known(slow.ratio).value == pytest.approx(0.9)
    assert known(known(late.component("set_up_ns")).change).value == pytest.approx(2.999e9)
    nothing = suite.rows[1].cells[2]
    assert (nothing.runs, nothing.ratio, nothing.errors) == (None, None, ("no [such] host",))
    assert (suite.runs_made, suite.complete) == (26, False)


def test_the_table_has_a_column_for_each_variant_and_ratio(suite: Suite) -> None:
    head, rows = cells(suite)
    assert head == ["test", "old", "late", "late / old", "slow", "slow / old"]
    assert {len(row) for row in rows} == {len(head)}
    names = [row[0] for row in rows]
    assert names[:3] == ["TCP", "  set-up", "  average with set-up"]
    assert rows[0][1].startswith("1.000 Gbit/s +-")
    assert rows[0][5].startswith("0.900 (0.89")
    assert rows[1][1:4] == ["1.00 ms", "3.00 s", "+3.00 s *"]
    assert rows[names.index("HTTP")][4:] == ["nothing", "-"]


def test_changed_figures_are_described_in_words(suite: Suite) -> None:
    text = " ".join(moved(suite))
    assert "late carries the same as old within 2 %: TCP; HTTP." in text
    assert "slow carries less than old: TCP 0.900 (" in text
    longer = "With late, getting connected takes longer than with old: TCP +3.00 s; HTTP +3.00 s."
    assert longer in text
    assert (
        "such as curl, reports this as a change of the network's rate: TCP -60 %; HTTP -60 %."
        in text
    )


def test_every_width_shows_the_whole_table(suite: Suite) -> None:
    for width in (40, 80, 200):
        lines = shown(suite, width).splitlines()
        assert max(map(len, lines)) <= width
        text = " ".join(" ".join(lines).split())
        for words in ("a | b: 26 of 30 runs", "slow / old", "no [such] host", "What changed"):
            assert words in text


def test_markdown_is_a_table_whose_cells_are_escaped(suite: Suite) -> None:
    lines = to_markdown(suite).splitlines()
    assert lines[0] == "# a \\| b: 26 of 30 runs, order from seed 1"
    table = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {7}
    assert "- Nothing was measured: no \\[such\\] host: HTTP, slow" in lines


def test_the_document_is_json_that_is_read_back(suite: Suite) -> None:
    document = msgspec.json.decode(suite.to_json())
    assert document["rows"][0]["cells"][2]["verdict"] == "less"
    assert msgspec.convert(document, Suite) == suite


def test_one_variant_has_no_ratio_and_a_test_both_ways_two_lines() -> None:
    both = recorded(1e9)
    back = recorded(2e9, direction="download")
    result = replace(both, flows=(*both.flows, *back.flows))
    run = SuiteRun(round=1, test="both", target="near", variant="", result=result)
    suite = tabulate([run], order=[("both", "near", "")], runs_planned=1, seed=1)
    head, rows = cells(suite)
    assert head == ["test", "all runs"]
    assert [row for row in rows if row[0][0] != " "] == [
        ["both, near (upload)", "1.000 Gbit/s"],
        ["both, near (download)", "2.000 Gbit/s"],
    ]
    assert (suite.complete, list(moved(suite))) == (True, [])


def test_a_campaign_that_measured_nothing_says_why_and_shows_no_table() -> None:
    runs = [
        SuiteRun(
            round=1,
            test="TCP",
            target="",
            variant=variant,
            error="lab1 refused the connection",
            node=NodeUse(duration_ns=1),
        )
        for variant in ("old", "new")
    ]
    order = [("TCP", "", "old"), ("TCP", "", "new")]
    suite = tabulate(runs, order=order, runs_planned=10, seed=1)
    sentence = "Nothing was measured: lab1 refused the connection: TCP, old; TCP, new"
    assert [line.rstrip() for line in shown(suite).splitlines()[1:]] == [
        "Campaign: 2 of 10 runs, order from seed 1",
        "",
        "Not measured, or unreliable",
        f"  {sentence}",
    ]
    assert to_markdown(suite).splitlines()[-1] == f"- {sentence}"
    assert "|" not in to_markdown(suite)
    page = publish_suite(suite).decode()
    assert "<table" not in page
    assert sentence in page


# ---- doubts -------------------------------------------------------------------------------------


def host(*, steal_ns: int = 0, busy_before_ns: int = 0) -> Resources:
    def column(name: str, grown: int) -> dict[str, tuple[int, int]]:
        return {name: (0, grown)}

    span = 2 * 10**9
    names = ("process_user_ns", "process_system_ns", "host_user_ns", "host_system_ns")
    idle: dict[str, Any] = {"host_softirq_ns": (0, 0), "host_idle_ns": (0, span)}
    for name in names:
        idle |= column(name, 0)
    quiet = Resources(
        at_ns=(0, span), cpus=2, rss_bytes=(1, 1), host_steal_ns=(0, steal_ns), **idle
    )
    before = replace(quiet, host_steal_ns=(0, 0), host_user_ns=(0, busy_before_ns)).whole
    return replace(quiet, baseline=before)


def doubted(**changes: Any) -> set[tuple[str, str]]:
    result = recorded(1e9)
    flow = replace(result.flow, **{k: v for k, v in changes.items() if k == "limits"})
    sides = {k: v for k, v in changes.items() if k != "limits"}
    result = replace(result, flows=(flow,), **sides)
    return {(one.about, one.why) for one in doubts(result, flow)}


def test_a_good_run_has_no_doubts() -> None:
    assert doubted() == set()
    server = replace(recorded(1e9).server, concurrent_tests=1)
    assert doubted(server=server, limits=Limits(limited_by="link", sender_paused_ratio=0.01)) == (
        set()
    )


def test_what_is_not_to_be_believed_is_said_with_its_reason() -> None:
    side = recorded(1e9).server
    cpu = "the receiver's CPU was the limit, not the network"
    assert doubted(limits=Limits(limited_by="receiver_cpu")) == {("rate", cpu)}
    paused = "the sender's host kept its threads from running"
    assert doubted(limits=Limits(sender_paused_ratio=0.5)) == {("rate", paused)}
    company = "2 other tests ran on the server"
    assert doubted(server=replace(side, concurrent_tests=3)) == {
        (about, company) for about in ("rate", "latency", "cpu")
    }
    stolen = "the server's hypervisor kept CPUs from it"
    assert doubted(server=replace(side, resources=host(steal_ns=10**9))) == {("rate", stolen)}
    busy = "the client's host was busy with other work before"
    resources = host(busy_before_ns=3 * 10**9)
    assert doubted(client=replace(side, resources=resources)) == {("cpu", busy)}


def test_doubts_stand_below_the_table_with_their_runs() -> None:
    def one(number: int, limited_by: Any) -> SuiteRun:
        result: Result = recorded(1e9)
        flow = replace(result.flow, limits=Limits(limited_by=limited_by))
        result = replace(result, flows=(flow,))
        return SuiteRun(round=number, test="TCP", target="", variant="a", result=result)

    runs = [one(1, "sender_cpu"), one(2, "link"), one(3, "sender_cpu")]
    suite = tabulate(runs, order=[("TCP", "", "a")], runs_planned=3, seed=1)
    why = "the sender's CPU was the limit, not the network"
    assert known(suite.rows[0].cells[0].runs).runs[0].doubts == (Doubt(about="rate", why=why),)
    assert list(doubtful(suite)) == [f"Rate unreliable: {why}: TCP, a (runs 1, 3)"]
