"""Test imports: JSON recorded with iperf3 3.1.3 to 3.21 becomes results with the same figures."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import netmeasure
from netmeasure.comparison.comparison import compare
from netmeasure.errors import ResultFormatError
from netmeasure.export.registry import export_results
from netmeasure.imports.reading import import_results
from netmeasure.result import Flow, Result
from netmeasure.result.resultset import ResultSet
from support.full_result import FULL
from support.optional import known
from support.recorded import recorded

SAMPLES = Path(__file__).parents[1] / "samples" / "iperf3"
CAPTURES = Path(__file__).parents[1] / "export" / "captures"


def sample(name: str) -> str:
    return (SAMPLES / f"{name}.json").read_text()


def one(text: str) -> Result:
    (result,) = import_results(text)
    return result


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(sample(name))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.stem)
def test_each_sample_can_be_saved_and_exported(path: Path) -> None:
    result = one(path.read_text())
    assert Result.from_json(result.to_json()) == result
    assert export_results(result, "csv").count("\r\n") >= 2


def whole(text: str) -> dict[str, Any]:
    """Return a document of -J, or the one that the lines of --json-stream make together."""
    lines = [json.loads(line) for line in text.splitlines()] if '{"event"' in text else []
    if not lines:
        document: dict[str, Any] = json.loads(text)
        return document
    found = {line["event"]: line["data"] for line in lines if line["event"] != "interval"}
    return found | {"intervals": [one["data"] for one in lines if one["event"] == "interval"]}


def check_flow(flow: Flow, document: dict[str, Any], suffix: str) -> None:
    """Compare the figures of one direction with its sums in the document."""
    test, end = document["start"]["test_start"], document["end"]
    sent = end.get(f"sum_sent{suffix}", {})
    received = end.get(f"sum_received{suffix}", {})
    moved = received.get("bytes")
    assert (None if flow.steady is None else flow.steady.goodput_bps) == received.get(
        "bits_per_second"
    )
    assert (None if flow.steady is None else flow.steady.bytes) == moved
    assert flow.averages.after_omit_bps == received.get("bits_per_second")
    assert flow.sender.retransmits == sent.get("retransmits")
    assert flow.receiver.bytes == (None if test["omit"] else moved)
    periods = [one[f"sum{suffix}"] for one in document["intervals"]]
    assert [one.bytes for one in flow.intervals] == [one["bytes"] for one in periods]
    assert [one.omitted for one in flow.intervals] == [one["omitted"] for one in periods]
    for mine, period in zip(flow.intervals, periods, strict=True):
        assert mine.measured_bps == pytest.approx(period["bits_per_second"], rel=1e-3)
    if test["protocol"] == "UDP":
        counts, loss = received or end["sum"], known(flow.loss)
        assert (loss.sent_packets, loss.lost_packets) == (counts["packets"], counts["lost_packets"])
        assert loss.jitter_ns == round(counts["jitter_ms"] * 1e6)
    else:
        assert flow.loss is None


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.stem)
def test_the_figures_are_the_documents_own(path: Path) -> None:
    result, document = one(path.read_text()), whole(path.read_text())
    assert f"iperf {result.client.host.version}" == document["start"]["version"]
    if error := document.get("error"):
        assert not result.complete
        assert known(result.error).message == error.removeprefix("error - ")
        assert result.flows == ()
        return
    assert (result.complete, result.error) == (True, None)
    start, end = document["start"], document["end"]
    test = start["test_start"]
    kind = {"TCP": netmeasure.TcpSpec, "UDP": netmeasure.UdpSpec}[test["protocol"]]
    assert isinstance(result.spec, kind)
    assert result.spec.streams == test["num_streams"]
    assert result.spec.timing.omit_s == test["omit"]
    both = any(name.endswith("_bidir_reverse") for name in end)
    first = "download" if test["reverse"] else "upload"
    assert [flow.direction for flow in result.flows] == (
        ["upload", "download"] if both else [first]
    )
    for flow, suffix in zip(result.flows, ("", "_bidir_reverse"), strict=False):
        check_flow(flow, document, suffix)
    streams = [stream for flow in result.flows for stream in flow.streams]
    assert len(streams) == len(end["streams"])
    if test["protocol"] == "TCP":
        for stream, told in zip(streams, end["streams"], strict=True):
            for report, part in ((stream.sender, "sender"), (stream.receiver, "receiver")):
                assert known(report).counted_bytes == told[part]["bytes"]
    assert result.started_at[:4] == "2026"
    assert [result.set_up_ns, result.syn_retransmits, result.setup] == [None, None, ()]
    assert all(flow.series is None and flow.limits is None for flow in result.flows)


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(CAPTURES.glob("json-*")) if '"connected"' in path.read_text()],
    ids=lambda path: path.name,
)
def test_documents_of_both_ends_agree_on_the_direction(path: Path) -> None:
    """The received bytes in a server's document are those that its client sends."""
    for result in import_results(path.read_bytes()):
        ways = {flow.direction for flow in result.flows}
        if "bidir" in path.name:
            assert ways == {"upload", "download"}
        elif result.complete:
            assert ways == {"download" if "reverse" in path.name else "upload"}


def test_the_figures_of_a_tcp_test() -> None:
    document = json.loads(sample("3.12-tcp"))
    result = one(sample("3.12-tcp"))
    end, flow = document["end"], result.flow
    assert result.complete
    assert flow.direction == "upload"
    assert known(flow.steady).goodput_bps == end["sum_received"]["bits_per_second"]
    assert known(flow.steady).verdict == "too_short"
    assert known(flow.steady).confidence_interval is None
    assert flow.averages.after_omit_bps == end["sum_received"]["bits_per_second"]
    assert flow.sender.bytes == end["sum_sent"]["bytes"]
    assert flow.receiver.bytes == end["sum_received"]["bytes"]
    assert flow.sender.retransmits == end["sum_sent"]["retransmits"]
    assert [period.bytes for period in flow.intervals] == [
        period["sum"]["bytes"] for period in document["intervals"]
    ]
    sender = known(flow.streams[0].sender)
    assert known(sender.tcp_info).rtt_ns == tuple(
        1000 * period["streams"][0]["rtt"] for period in document["intervals"]
    )
    assert known(sender.socket).congestion == end["sender_tcp_congestion"]
    assert result.client.host.version == "3.12"
    assert result.target == f"127.0.0.1:{document['start']['connecting_to']['port']}"
    assert result.started_at.startswith("2026-11-28T")


def test_what_no_document_holds_is_unknown() -> None:
    result = one(sample("3.12-tcp"))
    assert [result.set_up_ns, result.syn_retransmits, result.flow.series] == [None] * 3
    assert [result.flow.limits, result.server.host.version, result.setup] == [None, None, ()]


def test_both_directions() -> None:
    document = json.loads(sample("3.12-bidir"))
    result = one(sample("3.12-bidir"))
    assert result.spec.direction == "both"
    for flow, suffix in ((result.upload, ""), (result.download, "_bidir_reverse")):
        found: Flow = known(flow)
        total = document["end"][f"sum_received{suffix}"]
        assert known(found.steady).goodput_bps == total["bits_per_second"]
        assert [period.bytes for period in found.intervals] == [
            period[f"sum{suffix}"]["bytes"] for period in document["intervals"]
        ]


def test_omitted_time_is_not_in_the_bytes() -> None:
    result = one(sample("3.1.3-parallel-omit"))
    document = json.loads(sample("3.1.3-parallel-omit"))
    assert result.flow.receiver.bytes is None
    assert [s.sender.counted_bytes for s in result.flow.streams if s.sender] == [
        stream["sender"]["bytes"] for stream in document["end"]["streams"]
    ]
    periods = result.flow.intervals
    assert [period.omitted for period in periods] == [True, False, False, False]
    assert all(a.end_ns <= b.start_ns + 1000 for a, b in pairwise(periods))


def test_udp_of_a_version_that_does_not_say_what_arrived() -> None:
    flow = one(sample("3.1.3-udp")).flow
    assert [flow.steady, flow.delivered_bytes] == [None, None]
    loss = known(flow.loss)
    assert (loss.sent_packets, loss.received_packets, loss.lost_packets) == (887, 717, 170)
    assert loss.jitter_ns == 3000


def test_udp_of_a_later_version() -> None:
    end = json.loads(sample("3.18-udp"))["end"]
    flow = one(sample("3.18-udp")).flow
    assert known(flow.steady).goodput_bps == end["sum_received"]["bits_per_second"]
    assert flow.receiver.bytes == end["sum_received"]["bytes"]


@pytest.mark.parametrize("name", ["3.1.3-refused", "3.21-refused"])
def test_a_failure(name: str) -> None:
    result = one(sample(name))
    assert not result.complete
    assert known(result.error).code == "refused"
    assert known(result.error).phase == "connect"
    assert result.flows == ()


def test_a_stream_of_lines_that_ends_early() -> None:
    lines = sample("3.21-stream").splitlines()
    result = one("\n".join(lines[:3]))
    assert not result.complete
    assert "ends before" in result.notes[-1]
    assert [len(flow.intervals) for flow in result.flows] == [2]
    assert result.flow.steady is None


def test_lines_with_the_whole_document_after_them_are_one_test() -> None:
    lines = [json.loads(line) for line in sample("3.21-stream").splitlines()]
    whole = {
        "start": lines[0]["data"],
        "intervals": [line["data"] for line in lines if line["event"] == "interval"],
        "end": lines[-1]["data"],
    }
    assert one(sample("3.21-stream") + json.dumps(whole)) == one(json.dumps(whole))


def test_several_documents_in_one_file() -> None:
    names = ("3.12-tcp", "3.1.3-udp", "3.21-stream", "3.21-refused")
    together = import_results("\n".join(sample(name) for name in names))
    assert together == ResultSet(results=tuple(one(sample(name)) for name in names))
    listed = f"[{sample('3.12-tcp')},{sample('3.1.3-udp')}]"
    assert tuple(import_results(listed)) == together.results[:2]


def test_a_title_of_any_bytes_is_taken_over() -> None:
    """iperf3 writes the bytes unchanged, so the document may not be UTF-8. Other such texts are
    made readable."""

    def named(document: Any) -> None:
        document.update(title="AT HOME", extra_data="EXTRA")
        document["start"]["version"] = "iperf 3.12 ODD"

    text = changed("3.12-tcp", named).encode()
    for before, after in ((b"AT HOME", b"caf\xe9"), (b"EXTRA", b"\xff"), (b"ODD", b"\xfe")):
        text = text.replace(before, after)
    (found,) = import_results(text).results
    assert isinstance(found.spec, netmeasure.TcpSpec)
    assert (found.spec.title, found.spec.extra_data) == ("caf\udce9", "\udcff")
    assert netmeasure.Result.from_json(found.to_json()) == found
    assert found.client.host.version == "3.12 \\xfe"
    shown = netmeasure.export_results(found, "iperf3")
    assert b'"caf\xe9"' in (
        shown if isinstance(shown, bytes) else shown.encode("utf-8", "surrogateescape")
    )


def test_texts_of_others_are_made_safe_to_show() -> None:
    """Names and errors may contain terminal control codes, such as one that sets the window's
    title."""

    def named(document: Any) -> None:
        document.update(error="broke\x1b]0;title\x07\u202e")
        document["start"]["connecting_to"]["host"] = "h\x1b[2J"
        document["start"]["connected"][0]["remote_host"] = "h\x1b[2J"

    (found,) = import_results(changed("3.12-tcp", named)).results
    assert found.error is not None
    assert "broke" in found.error.message
    assert "h\ufffd[2J" in found.target
    for written in ("csv", "markdown"):
        assert not re.search("[\x1b\x07\u202e]", export_results(found, written))


def test_our_own_documents_are_read_as_well() -> None:
    assert netmeasure.import_results(FULL.to_json()) == ResultSet(results=(FULL,))


def test_an_imported_run_is_compared_with_a_measured_one() -> None:
    found = compare(import_results(sample("3.12-tcp")), [recorded(20e6)])
    assert found.verdict == "too_few"
    assert {part.name for part in found.flow.components if part.a is None} >= {"set_up_ns"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (changed("3.12-tcp", lambda d: d["start"]["test_start"].update(protocol="SCTP")), "SCTP"),
        (changed("3.12-tcp", lambda d: d.update(end=7)), "end is no object"),
        (
            changed("3.12-tcp", lambda d: d["end"]["sum_received"].update(bytes="x")),
            "end.sum_received.bytes is no number",
        ),
        (
            changed("3.12-tcp", lambda d: d["end"]["sum_received"].update(bytes=-1)),
            "end.sum_received.bytes is below 0",
        ),
        (
            changed("3.12-tcp", lambda d: d["end"]["sum_received"].update(bits_per_second=1e300)),
            "end.sum_received.bits_per_second is too large",
        ),
        (sample("3.12-tcp") + sample("3.12-tcp")[:-20], "the document at line 177 is not JSON"),
        (sample("3.12-tcp")[:-20], "the document at line 1 is not JSON"),
        (sample("3.12-tcp") + "{}", "a document that is not iperf3's"),
        ("iperf3: error - unable to connect", "not a netmeasure result"),
        ("[" * 100_000, "not a netmeasure result"),
        ("", "not a netmeasure result"),
        ("{}", "not a netmeasure result: it is JSON of another kind"),
    ],
    ids=range(12),
)
def test_a_refusal_says_why(text: str, said: str) -> None:
    with pytest.raises(ResultFormatError) as caught:
        import_results(text)
    assert said in str(caught.value)


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, -1, 0, 2**70, 1e308, float("nan"), "", "x", [], {}, [7], True]
)


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_document_is_refused_or_read(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(path.stem for path in SAMPLES.glob("*[!m].json"))))
    document = copy.deepcopy(json.loads(sample(name)))
    where: Any = document
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if not isinstance(where[key], dict | list) or data.draw(st.booleans()):
            break
        where = where[key]
    where[key] = data.draw(VALUES)
    try:
        found = import_results(json.dumps(document))
    except ResultFormatError:
        return
    assert ResultSet.from_json(found.to_json()) == found
