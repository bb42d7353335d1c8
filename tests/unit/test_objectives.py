"""Test objectives: their syntax, how runs are checked against them, and JUnit's XML."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from netmeasure.errors import SpecError
from netmeasure.objectives.judge import Judgement, judge
from netmeasure.objectives.junit import to_junit
from netmeasure.objectives.metrics import METRICS
from netmeasure.objectives.objective import parse_objectives
from netmeasure.result import Result
from support.full_result import FULL
from support.recorded import recorded


def judged(text: str, *results: Result) -> tuple[Judgement, ...]:
    return judge(parse_objectives(text), results)


@pytest.mark.parametrize(
    ("text", "metric", "statistic", "operator", "bound"),
    [
        ("steady>9Gbit/s", "steady", "mean", ">", 9e9),
        ("connect.p99 < 100ms", "connect", "p99", "<", 1e8),
        ("setup.p99.9<=1s", "setup", "p99.9", "<=", 1e9),
        ("loss<0.1%", "loss", "mean", "<", 0.001),
        ("cpu_s_per_gb.max>=0.5", "cpu_s_per_gb", "max", ">=", 0.5),
        ("syn_retransmits<1", "syn_retransmits", "mean", "<", 1),
    ],
)
def test_texts(text: str, metric: str, statistic: str, operator: str, bound: float) -> None:
    (found,) = parse_objectives(text)
    assert (found.metric, found.statistic, found.operator) == (metric, statistic, operator)
    assert found.bound == pytest.approx(bound)
    assert found.text == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no objective"),
        (" , ", "no objective"),
        ("steady", "not an objective"),
        ("steady=9G", "not an objective"),
        ("steady>", "not an objective"),
        ("stedy>9G", "no figure 'stedy'"),
        ("steady.p101>9G", "'p101' is no statistic"),
        ("steady.best>9G", "'best' is no statistic"),
        ("steady>fast", "not a bitrate"),
        ("setup<1 parsec", "not a duration"),
        ("loss<many", "not a ratio"),
        ("syn_retransmits<-1", "not a number of 0 or more"),
        ("cpu_s_per_gb<nan", "not a number of 0 or more"),
    ],
)
def test_texts_that_are_none(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        parse_objectives(text)
    assert caught.value.hint


def test_every_figure_of_a_run_can_be_asked_for() -> None:
    values = {"bps": "1", "ns": "1h", "ratio": "2", "s_per_gb": "99", "per_gb": "9", "count": "9"}
    text = ", ".join(
        f"{name}{'>' if metric.unit == 'bps' else '<'}{values[metric.unit]}"
        for name, metric in METRICS.items()
    )
    found = {one.objective.metric: one for one in judged(text, recorded(1e9, syns=1))}
    assert set(found) == set(METRICS)
    unknown = {name for name, one in found.items() if one.outcome == "unknown"}
    # no link rate was given, TCP has no lost datagrams, and a test between peers has no TLS
    trips = {"latency_p50", "latency_p99", "latency_p99_9", "lost_transactions"}
    trips |= {"request_errors", "transaction_errors"}
    probed = {"idle_latency_p50", "loaded_latency_p50", "loaded_latency_p99"}
    probed |= {"upload_pdv_p99", "download_pdv_p99"}
    assert unknown == {"ceiling_share", "loss", "tls", "resolve", "first_byte", *trips, *probed}
    assert {one.outcome for name, one in found.items() if name not in unknown} == {"met"}
    assert found["steady"].direction == "upload"
    assert found["setup"].direction is None


def test_round_trips_are_held_to_their_latency_and_loss() -> None:
    """The example has 100 transactions of about 20 us, and 3 lost ones: too few for a p99.9."""
    wanted = (
        "latency_p50<30us, latency_p99>1ms, latency_p99_9<1s, lost_transactions<3%,"
        " request_errors<1%, transaction_errors<1%"
    )
    whole = replace(FULL, complete=True, error=None)
    outcomes = [found.outcome for found in judged(wanted, whole)]
    assert outcomes == ["met", "missed", "unknown", "met", "missed", "missed"]


def test_the_latency_beside_a_test_is_held() -> None:
    """The example has a median of 200 us before the load and of 4.8 ms under it, of the upload."""
    wanted = "idle_latency_p50<1ms, loaded_latency_p50<1ms, loaded_latency_p99<10ms,"
    wanted += " upload_pdv_p99<1ms, download_pdv_p99<1ms"
    whole = replace(FULL, complete=True, error=None)
    outcomes = [found.outcome for found in judged(wanted, whole)]
    assert outcomes == ["met", "missed", "met", "missed", "met"]


def test_the_statistic_of_several_runs() -> None:
    runs = [recorded(1e9, set_up_ns=ms * 1_000_000) for ms in (1, 2, 3, 10)]
    texts = "setup.min<2ms, setup.median<3ms, setup.p75<4ms, setup.max<9ms, setup<5ms"
    found = judged(texts, *runs)
    assert [one.outcome for one in found] == ["met", "met", "met", "missed", "met"]
    assert [one.value for one in found] == [1e6, 2e6, 3e6, 10e6, 4e6]
    assert found[3].words == "missed setup.max<9ms: 10.0 ms"


def test_a_bound_within_the_interval_is_neither_met_nor_missed() -> None:
    for bound, outcome in (("0.98G", "met"), ("1.0005G", "unknown"), ("1.02G", "missed")):
        (found,) = judged(f"steady>{bound}", recorded(1e9))
        assert found.outcome == outcome, bound
    rates = (0.97e9, 1e9, 1.03e9)
    (found,) = judged("steady>0.99G", *map(recorded, rates))
    assert (found.outcome, found.runs) == ("unknown", 3)
    assert "the bound lies within this margin" in found.words


def test_what_is_no_plateau_keeps_no_promise() -> None:
    run = recorded(1e9)
    (flow,) = run.flows
    assert flow.steady is not None
    ramp = replace(flow.steady, verdict="not_steady")
    climbing = replace(run, flows=(replace(flow, steady=ramp),))
    (found,) = judged("steady>1M", climbing)
    assert (found.outcome, found.value) == ("unknown", None)
    assert found.words == "unknown steady>1M (upload) (no plateau was found)"


def test_why_runs_have_no_steady_bitrate_is_said() -> None:
    """An imported run of iperf3 is too short at best."""
    run = recorded(1e9)
    (flow,) = run.flows
    assert flow.steady is not None
    brief, climbing = (
        replace(run, flows=(replace(flow, steady=replace(flow.steady, verdict=verdict)),))
        for verdict in ("too_short", "not_steady")
    )
    told = {
        (brief,): "too short to tell",
        (brief, brief): "no run has measured it: too short to tell",
        (run, brief): "1 of 2 runs have not measured it: too short to tell",
        (brief, climbing): "no run has measured it: too short to tell, no plateau was found",
        (replace(brief, complete=False),): "not measured",
    }
    for runs, reason in told.items():
        (found,) = judged("steady>1M", *runs)
        assert (found.outcome, found.reason) == ("unknown", reason)
    (found,) = judged("ceiling_share>1%", brief)
    assert found.reason == "not measured"


def test_runs_that_broke_off_leave_it_open_unless_the_rest_misses_it() -> None:
    broken = replace(recorded(1e9), complete=False)
    (found,) = judged("steady.min>500M", recorded(1e9), broken)
    assert (found.outcome, found.runs) == ("unknown", 1)
    assert "1 of 2 runs" in found.words
    (found,) = judged("steady.min>2G", recorded(1e9), broken)
    assert found.outcome == "missed"
    nothing = replace(broken, flows=(), setup=())
    for one in judged("steady>1, setup<1h", nothing):
        assert (one.outcome, one.value, one.reason) == ("unknown", None, "not measured")


def test_junit() -> None:
    found = judged("setup<1s, setup.max<1ns, loss<1%", recorded(1e9))
    suites = ElementTree.fromstring(to_junit(found, "lab1 <&>"))
    (suite,) = suites
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert suite.get("name") == "netmeasure lab1 <&>"
    met, missed, unknown = suite
    assert list(met) == []
    assert [(child.tag, child.get("message")) for child in missed] == [
        ("failure", "missed setup.max<1ns: 1.00 ms")
    ]
    assert [child.tag for child in unknown] == ["error"]


def test_junit_is_xml_whatever_a_file_or_a_test_is_called() -> None:
    found = judged("setup<1s", recorded(1e9))
    (suite,) = ElementTree.fromstring(to_junit(found, "a\x1b[1m\udcff\x00"))
    assert suite.get("name") == "netmeasure a\ufffd[1m\ufffd\ufffd"
