"""Test plans of campaigns: which are read, which are refused, and the order of the runs."""

from __future__ import annotations

from collections import Counter

import pytest

from netmeasure.campaign.plan import default_plan
from netmeasure.campaign.plan_reader import plan_of, read_plan
from netmeasure.campaign.turns import in_turns
from netmeasure.errors import PlanError
from netmeasure.spec import HttpSpec, RequestSpec, RrSpec, TcpSpec, UdpSpec

WHOLE = """
title = "kernels"
targets = { same = "10.0.0.1", other = "10.0.1.1" }
port = 5300
runs = 4
margin = "1%"
baseline_s = "0.5s"
[defaults]
duration_s = "2s"
congestion = "cubic"
[[variant]]
name = "6.12"
[[variant]]
name = "6.18"
before = [["boot", "6.18"], ["wait"]]
after = ["boot", "6.12"]
settings = { no_delay = true }
[[test]]
kind = "tcp"
direction = ["upload", "download"]
streams = { from = 1, to = 8, factor = 2 }
[[test]]
name = "floods"
kind = "udp"
target_bps = { from = "100M", to = "1G", step = "450M" }
[[test]]
kind = "rr"
deadlines = { connect_s = "3s" }
[[test]]
kind = "http"
url = "http://{host}:8080/1G.dat"
[[test]]
kind = "requests"
url = "http://{host}/1K.dat"
streams = [10, 10000]
keep_connections = false
"""


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(PlanError) as caught:
        read_plan(text)
    return caught.value.mistakes


def test_a_whole_plan() -> None:
    plan = read_plan(WHOLE)
    assert (plan.title, plan.runs, plan.margin, plan.baseline_s) == ("kernels", 4, 0.01, 0.5)
    assert [one.name for one in plan.variants] == ["6.12", "6.18"]
    assert plan.variants[1].before == (("boot", "6.18"), ("wait",))
    assert plan.variants[1].after == (("boot", "6.12"),)
    mine = [one for one in plan.cases if (one.target, one.variant) == ("other", "6.18")]
    assert len(mine) * 4 == len(plan.cases)
    assert [one.test for one in mine] == [
        *(f"TCP {way} streams={n}" for way in ("upload", "download") for n in (1, 2, 4, 8)),
        *(f"floods target={rate}" for rate in ("100Mbit/s", "550Mbit/s", "1.00Gbit/s")),
        "round trips",
        "HTTP download",
        "HTTP requests streams=10",
        "HTTP requests streams=10000",
    ]
    tcp, udp, rr, http, requests = (mine[n].spec for n in (7, 9, 11, 12, 14))
    assert isinstance(tcp, TcpSpec)
    assert (tcp.streams, tcp.direction, tcp.limit_s) == (8, "download", 2.0)
    assert (tcp.options.congestion, tcp.options.no_delay) == ("cubic", True)
    assert isinstance(udp, UdpSpec)
    assert (udp.target_bps, udp.options.congestion) == (550_000_000, None)
    assert isinstance(rr, RrSpec)
    assert rr.deadlines.connect_s == 3.0
    assert isinstance(http, HttpSpec)
    assert mine[12].address == http.url == "http://10.0.1.1:8080/1G.dat"
    assert isinstance(requests, RequestSpec)
    assert (requests.url, requests.streams) == ("http://10.0.1.1/1K.dat", 10_000)
    assert not requests.keep_connections
    assert (mine[0].address, mine[0].port) == ("10.0.1.1", 5300)


def test_servers_without_a_plan() -> None:
    one = plan_of(default_plan(["lab1"], http_port=8080))
    assert {case.address for case in one.cases} == {"lab1", "http://lab1:8080/10G.dat"}
    assert {case.variant for case in one.cases} == {""}
    two = plan_of(default_plan(["lab1", "lab2"], duration="1s", runs=2))
    assert [each.name for each in two.variants] == ["lab1", "lab2"]
    assert len(two.cases) == 2 * (len(one.cases) - 1)
    assert {case.spec.limit_s for case in two.cases} == {1.0}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = [", "it is not valid TOML: "),
        ("titel = 'x'", "there is no setting 'titel': did you mean 'title'?"),
        ("runs = 0", "runs is 0: it must be 1 to 1000"),
        ("runs = true", "runs is True: it must be 1 to 1000"),
        ("margin = '200%'", "margin: '200%' is not less than 100 %"),
        ("baseline_s = '3 weeks'", "baseline_s: '3 weeks' is not a duration: unknown unit"),
        ("port = 70000", "70000 is not a port: it must be 1 to 65535"),
        ("target = 'a b'", "'a b' is not a host (write a name or an address)"),
        ("target = '::1:99999'", "'::1:99999' is not an IPv6 address (with a port, write [addr"),
        ("targets = ['a']", "only one of target and targets can be given"),
        ("[[test]]\nkind = 'tpc'", "test 1: 'tpc' is no kind of test: choose from tcp, "),
        (
            "[[test]]\nkind = 'tcp'\ntime = 3",
            "test 1: there is no setting 'time': did you mean 'duration_s'?",
        ),
        (
            "[[test]]\nkind = 'tcp'\nstreams = 2000",
            "test 1: number of streams is 2000: it must be 1",
        ),
        ("[[test]]\nkind = 'tcp'\nstreams = []", "test 1: streams has an empty list"),
        ("[[test]]\nkind = 'tcp'\ntarget_bps = '5Q'", "test 1: target_bps is '5Q': '5Q' is not a"),
        ("[[test]]\nkind = 'http'", "test 1: it has no url, such as http://{host}/file"),
        ("[[test]]\nkind = 'http'\nurl = 'ftp://x/y'", "test 1: 'ftp://x/y' is not a URL of http"),
        (
            "[[test]]\nkind = 'tcp'\nurl = 'http://x'",
            "test 1: kind 'tcp' takes a target, not a url",
        ),
        ("[[test]]\nkind = 'tcp'\n[[test]]\nkind = 'tcp'", "two tests are called 'TCP upload'"),
        ("[[variant]]\nname = 'a'\n[[variant]]", "variant 2 has no name"),
        ("[[variant]]\nname = 'a'\nbefore = 'ls'", "variant 'a': before is no command: write "),
        ("[[variant]]\nsettings = {streams = [1]}", "variant 1: streams is a list: sweeps belong"),
        ("[defaults]\ntme = 3", "defaults: there is no setting 'tme'"),
        *(
            (f"[[test]]\nkind = 'tcp'\nstreams = {{{words}}}", f"test 1: streams {sentence}")
            for words, sentence in (
                ("from = 1, to = 9", "is no range: write "),
                ("from = 9, to = 1, step = 1", "is a range that does not grow: from 9 to 1"),
                ("from = 1, to = 9000, step = 1", "has 9000 values: it must be 200 at most"),
                ("from = 1, to = inf, step = 1", "has inf values: it must be 200 at most"),
                ("from = 1e-300, to = 1e300, factor = 2", "has "),
            )
        ),
    ],
)
def test_a_mistake_has_one_clear_line(text: str, sentence: str) -> None:
    text = text if text.startswith(("target =", "a =")) else f"target = 'lab1'\n{text}"
    (line,) = mistakes(text)
    assert line.startswith(sentence)
    assert "\n" not in line


@pytest.mark.parametrize("digits", [25, 400, 5000])
def test_a_number_that_is_too_long_is_no_toml(digits: int) -> None:
    for name in ("runs", "baseline_s", "margin", "port"):
        (line,) = mistakes(f"target = 'lab1'\n{name} = 1{'0' * digits}")
        assert line.startswith("it is not valid TOML: ")


def test_lists_can_be_nested_too_deeply() -> None:
    (line,) = mistakes(f"target = {'[' * 5000}{']' * 5000}")
    assert line == "its lists or tables are nested too deeply"


def test_sweeps_of_more_combinations_than_can_run_are_not_made() -> None:
    names = ("streams", "duration_s", "block_bytes", "mss_bytes", "total_bytes")
    sweeps = "".join(f"{name} = {{from = 1, to = 100, step = 1}}\n" for name in names)
    (line,) = mistakes(f"target = 'lab1'\n[[test]]\nkind = 'tcp'\n{sweeps}")
    assert line == "test 1: its sweeps have 10000000000 combinations: at most 10000 are possible"


def test_every_mistake_has_its_line() -> None:
    found = mistakes("runs = 0\ntitel = 'x'\n[[test]]\nkind = 'tcp'\nstreams = 2000")
    assert len(found) == 3
    assert found[-1] == "runs is 0: it must be 1 to 1000"
    assert "there is no target: write target = 'HOST' at the top" in mistakes("title = 'x'")


def test_turns_are_balanced_and_repeatable() -> None:
    plan = read_plan(WHOLE)
    runs = [(number, case.test, case.target, case.variant) for number, case in in_turns(plan, 7)]
    assert len(runs) == len(set(runs)) == len(plan.cases) * plan.runs
    assert runs == [(n, c.test, c.target, c.variant) for n, c in in_turns(plan, 7)]
    assert runs != [(n, c.test, c.target, c.variant) for n, c in in_turns(plan, 8)]
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    assert all(a[:3] == b[:3] and a[3] != b[3] for a, b in pairs)
    first = Counter((a[1], a[2], a[3]) for a, _ in pairs)
    assert set(first.values()) == {2}, "each variant goes first in two of four rounds"
    assert [number for number, *_ in runs] == sorted(number for number, *_ in runs)


def test_another_plan_has_another_digest() -> None:
    plan = read_plan(WHOLE)
    assert plan.digest == read_plan(WHOLE.replace("kernels", "other words")).digest
    for old, new in (("runs = 4", "runs = 5"), ('"2s"', '"3s"'), ("10.0.1.1", "10.0.1.2")):
        assert plan.digest != read_plan(WHOLE.replace(old, new)).digest
