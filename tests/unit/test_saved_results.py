"""Test saved results that were edited or damaged: each is refused, or every report shows it."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from rich.console import Console

from netmeasure.comparison.comparison import compare
from netmeasure.errors import ResultFormatError
from netmeasure.report import compare as compare_report, runs as runs_report, text, words
from netmeasure.result import Result
from netmeasure.result.resultset import ResultSet
from support.full_result import FULL

SAVED = json.loads(FULL.to_json())


def show(result: Result) -> str:
    """Render every report that takes a result."""
    paper = io.StringIO()
    screen = Console(file=paper, width=100)
    text.print_report(result, screen)
    runs = ResultSet(results=(result, result))
    if result.flows:
        screen.print(runs_report.render(runs))
        screen.print(compare_report.render(compare(runs, runs)))
    return paper.getvalue() + words.server_line(result)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (dictionary or list, key) of a document except its spec, which checks itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if key in ("spec", "schema_version"):
            continue
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)


NUMBERS = st.sampled_from(
    [0, -1, 1, 2**63 - 1, 2**64, 10**400, -(10**40), 0.0, -0.5, 1e300, 5e-324]
)
VALUES: st.SearchStrategy[Any] = NUMBERS | st.sampled_from(
    [None, True, "", "[/b]", "[bold]", "\x1b[2J", "#", [], [0], {}, "sender", "link"]
)


def mutate(document: Any, data: st.DataObject) -> None:
    """Change, drop, double or empty one value."""
    where, key = data.draw(st.sampled_from(list(places(document))), label="place")
    what = data.draw(st.sampled_from(["change", "drop", "double", "cut"]), label="what")
    item = where[key]
    if what == "drop" and isinstance(where, dict | list):
        del where[key]
    elif what == "double" and isinstance(item, list):
        where[key] = item + copy.deepcopy(item)
    elif what == "cut" and isinstance(item, list):
        where[key] = item[: len(item) // 2]
    else:
        # a copy: another change may change this value in its turn
        where[key] = copy.deepcopy(data.draw(VALUES, label="value"))


@settings(max_examples=150)
@given(st.data())
def test_a_mutated_result_is_refused_or_reported(data: st.DataObject) -> None:
    document = copy.deepcopy(SAVED)
    for _ in range(data.draw(st.integers(1, 4))):
        mutate(document, data)
    try:
        result = Result.from_json(json.dumps(document))
    except ResultFormatError:
        return
    assert show(result)


def changed(path: str, value: Any) -> str:
    """Return the saved result with one value changed, such as "flows.0.ceiling.packet_bytes"."""
    document = copy.deepcopy(SAVED)
    *names, last = (int(name) if name.isdigit() else name for name in path.split("."))
    where = document
    for name in names:
        where = where[name]
    where[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("client.resources.at_ns", [1], "client.resources: process_user_ns has 2 items, and at_ns"),
        ("client.resources.at_ns", [3, 1], "client.resources: at_ns goes back in time"),
        ("client.resources.cpus", 0, "client.resources: cpus is 0: it must be above 0"),
        (
            "flows.0.streams.0.sender.tcp_info.rtt_ns",
            [],
            "flows[0].streams[0].sender.tcp_info: rtt_ns has 0 items",
        ),
        ("flows.0.streams.0.receiver.datagrams.history.packets", [1], "packets has 1 items"),
        ("flows.0.streams.0.sender.thread.cpu_ns", [1, 2, 3], "cpu_ns has 3 items"),
        ("flows.0.ceiling.packet_bytes", [], "flows[0].ceiling: it has no packets"),
        ("flows.0.ceiling.link_bytes", 0, "flows[0].ceiling: link_bytes is 0"),
        (
            "flows.0.limits.buffer_delay_ratio",
            -1,
            "flows[0].limits: buffer_delay_ratio is -1.0: it can't be below 0",
        ),
        ("flows.0.ramp.end_ns", -1, "flows[0].ramp: it ends before it starts"),
        (
            "flows.0.streams.0.receiver.series.width_ns",
            0,
            "flows[0].streams[0].receiver.series: width_ns is 0",
        ),
        ("flows.0.averages.after_omit_bps", 1e300, "flows[0].averages.after_omit_bps is too large"),
        ("setup.0.duration_ns", -(10**40), "setup[0].duration_ns is too large"),
        ("client.resources.host_user_ns", [1, 10**40], "client.resources.host_user_ns[1] is too"),
        ("client.resources.at_ns", [-(10**40), 1], "client.resources.at_ns[0] is too large"),
    ],
)
def test_the_refusal_names_the_place(path: str, value: Any, said: str) -> None:
    with pytest.raises(ResultFormatError, match="not a netmeasure result") as caught:
        Result.from_json(changed(path, value))
    assert said in str(caught.value)


def test_a_result_without_samples_of_the_host_is_refused() -> None:
    document = copy.deepcopy(SAVED)
    columns = document["client"]["resources"]
    for name, column in columns.items():
        if isinstance(column, list):
            columns[name] = []
    with pytest.raises(ResultFormatError, match=r"client\.resources: it has no samples"):
        Result.from_json(json.dumps(document))


def test_text_of_other_people_is_shown_as_it_is() -> None:
    """Square brackets in a server's message are shown, and not interpreted as mark-up."""
    result = Result.from_json(changed("setup.0.detail", "[/bold] [red]220 ready"))
    assert "[/bold] [red]220 ready" in show(result)


@pytest.mark.parametrize("whole", [True, False], ids=["result", "set"])
def test_a_document_of_iperf3_is_named(whole: bool) -> None:
    document = {
        "start": {"connected": [], "version": "iperf 3.12"},
        "intervals": [],
        "end": {},
    }
    read = Result.from_json if whole else ResultSet.from_json
    with pytest.raises(ResultFormatError, match=r"a document of iperf3 \(iperf 3.12\)") as caught:
        read(json.dumps(document))
    assert "import_results" in (caught.value.hint or "")
