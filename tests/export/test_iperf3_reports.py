"""Test the reports as a front end uses them: live, cut short, for failures, as a stream."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings as quick, strategies as st
from real import Test, text
from test_iperf3_documents import run, settings

from netmeasure.export.iperf3 import JsonReport, Settings, TextReport
from netmeasure.export.iperf3.report import host_port
from netmeasure.observe import Control, Opening, OpenStream
from netmeasure.result import (
    Datagrams,
    Flow,
    FlowDirection,
    Interval,
    Result,
    Role,
    SocketFacts,
    StreamInterval,
    StreamReport,
    StreamResult,
)
from netmeasure.spec import TcpSpec, Timing, UdpSpec

REFUSED = "unable to connect to server: Connection refused"


def client(**more: Any) -> Settings:
    return Settings(end="client", version="iperf 3.12", system="Linux host", host="h", **more)


# ---- failures and streams ----


def test_a_refused_connection() -> None:
    assert JsonReport(client()).ended(None, error=REFUSED) == [
        "{",
        '\t"start":\t{',
        '\t\t"connected":\t[],',
        '\t\t"version":\t"iperf 3.12",',
        '\t\t"system_info":\t"Linux host"',
        "\t},",
        '\t"intervals":\t[],',
        '\t"end":\t{',
        "\t},",
        f'\t"error":\t"{REFUSED}"',
        "}",
    ]
    assert TextReport(client()).ended(None, error=REFUSED) == []


def test_a_refused_connection_as_a_stream() -> None:
    assert JsonReport(client(), stream=True).ended(None, error=REFUSED) == [
        f'{{"event":"error","data":"{REFUSED}"}}',
        '{"event":"end","data":{}}',
    ]


@pytest.mark.parametrize("full", [False, True])
def test_a_stream_has_what_the_document_has(full: bool) -> None:
    test = Test(json.loads(text("json-tcp-parallel", "client")), "client")
    options = settings("json-tcp-parallel", "client")
    lines = run(JsonReport(options, stream=True, full=full), test, server_output="said\n")
    document = json.loads("\n".join(run(JsonReport(options), test, server_output="said\n")))
    count = next((i for i, line in enumerate(lines) if line == "{"), len(lines))
    events = [json.loads(line) for line in lines[:count]]
    assert all(list(event) == ["event", "data"] for event in events)
    names = [event["event"] for event in events]
    assert names == ["start", "interval", "interval", "server_output_text", "end"]
    data = [event["data"] for event in events]
    assert data[0] == document["start"]
    assert data[1:3] == document["intervals"]
    assert data[3] == document["server_output_text"] == "said\n"
    assert data[4] == document["end"]
    assert (count == len(lines)) is not full
    if full:
        assert json.loads("\n".join(lines[count:])) == document


def test_our_additions_are_one_key_and_only_on_request() -> None:
    test = Test(json.loads(text("json-tcp", "client")), "client")
    plain = json.loads("\n".join(run(JsonReport(client()), test)))
    more = json.loads("\n".join(run(JsonReport(client(netmeasure=True)), test)))
    ours = more.pop("netmeasure")
    assert list(plain) == ["start", "intervals", "end"]
    assert more == plain
    assert ours["complete"] is True
    assert ours["flows"][0]["direction"] == "upload"
    assert ours["set_up_seconds"] is None


def test_the_servers_output() -> None:
    """The output begins with the accepted connection, and is of one test only."""
    report = TextReport(Settings(end="server", version="iperf 3.12"))
    test = Test(json.loads(text("json-tcp", "server")), "server")
    first = report.banner(1)
    lines = report.accepted(test.control, 0.0) + report.opening(test.opening)
    for interval in test.intervals:
        lines += report.interval(interval)
    output = report.output(test.result)
    assert output == report.output(test.result)  # as often as you like
    lines += report.ended(test.result)
    assert first[1] == "Server listening on 5201 (test #1)"
    assert output == "".join(f"{line}\n" for line in lines)
    assert lines[0].startswith("Accepted connection from 127.0.0.1, port ")
    assert lines[-1].endswith("receiver")


def test_a_servers_document_for_its_client() -> None:
    test = Test(json.loads(text("json-tcp", "server")), "server")
    report = JsonReport(settings("json-tcp", "server"))
    report.accepted(test.control, 0.0)
    report.opening(test.opening)
    for interval in test.intervals:
        report.interval(interval)
    output = report.output(test.result)
    assert output == json.loads("\n".join(report.ended(test.result)))


def test_whole_reals_stay_reals() -> None:
    opening = one_stream("sender")
    report = JsonReport(client())
    report.opening(opening)
    stream = StreamInterval(id=1, bytes=1000)
    report.interval(
        Interval(
            direction="upload",
            counted_by="sender",
            start_ns=10**9,
            end_ns=2 * 10**9,
            bytes=1000,
            streams=(stream,),
        )
    )
    lines = report.ended(None, error="cut short")
    assert '\t\t\t\t\t"end":\t2.0,' in lines
    assert '\t\t\t\t\t"bits_per_second":\t8000.0,' in lines


def one_stream(role: Role, interval_s: float = 1.0) -> Opening:
    return Opening(
        end="client",
        started_at="",
        unix_s=0.0,
        control=Control(local="[::1]:1", remote="[::1]:5201", cookie="c" * 36),
        spec=TcpSpec(
            direction="upload" if role == "sender" else "download",
            timing=Timing(interval_s=interval_s),
        ),
        streams=(OpenStream(id=1, role=role, socket=SocketFacts()),),
    )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1:80", ("192.0.2.1", 80)),
        ("[2001:db8::1]:5201", ("2001:db8::1", 5201)),
        ("[::ffff:192.0.2.1]:5201", ("192.0.2.1", 5201)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        (None, ("", 0)),
    ],
)
def test_addresses(address: str | None, expected: tuple[str, int]) -> None:
    assert host_port(address) == expected


# ---- whatever the numbers ----

COUNT = st.integers(0, 2**62)
MAYBE = st.none() | COUNT
NS = st.integers(0, 2**50)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Opening, list[Interval], Result, Settings]:
    udp = draw(st.booleans())
    both: tuple[FlowDirection, ...] = ("upload", "download")
    ways = draw(st.sampled_from([both[:1], both[1:], both]))
    direction = ways[0] if len(ways) == 1 else "both"
    count = draw(st.integers(1, 3))
    end: Literal["client", "server"] = draw(st.sampled_from(("client", "server")))
    timing = Timing(omit_s=draw(st.sampled_from([0.0, 1.0])))
    common: dict[str, Any] = {"direction": direction, "streams": count, "timing": timing}
    spec = UdpSpec(datagram_bytes=1000, **common) if udp else TcpSpec(**common)
    ids = iter((1, *range(3, 20)))
    streams = {way: [next(ids) for _ in range(count)] for way in ways}
    roles: dict[FlowDirection, Role] = {
        way: "sender" if (way == "upload") == (end == "client") else "receiver" for way in ways
    }
    opening = Opening(
        end=end,
        started_at="",
        unix_s=draw(st.floats(0, 2e9)),
        control=Control(local="a:1", remote="b:2", cookie="", mss_bytes=draw(MAYBE)),
        spec=spec,
        streams=tuple(
            OpenStream(id=i, role=roles[way], socket=SocketFacts(local="a:3", remote="b:4"))
            for way in ways
            for i in streams[way]
        ),
    )
    intervals = []
    for _ in range(draw(st.integers(0, 3))):
        start = draw(NS)
        intervals += [
            draw(intervals_of(way, roles[way], streams[way], start, draw(NS))) for way in ways
        ]
    flows = [
        Flow(
            direction=way,
            streams=tuple(
                StreamResult(
                    id=i,
                    sender=draw(st.none() | reports(i, "sender", udp)),
                    receiver=draw(st.none() | reports(i, "receiver", udp)),
                )
                for i in streams[way]
            ),
        )
        for way in ways
        if draw(st.booleans())
    ]
    result = Result(spec=spec, complete=False, started_at="", target="", flows=tuple(flows))
    options = Settings(
        end=end,
        version=draw(st.text()),
        verbose=draw(st.booleans()),
        interval_s=draw(st.sampled_from([0.0, 1.0])),
        unit=draw(st.sampled_from("akKG")),
        title=draw(st.none() | st.text()),
        netmeasure=draw(st.booleans()),
    )
    return opening, intervals, result, options


def intervals_of(
    way: FlowDirection, role: Role, ids: list[int], start: int, length: int
) -> st.SearchStrategy[Interval]:
    def stream(i: int) -> st.SearchStrategy[StreamInterval]:
        names = ("retransmits", "cwnd_bytes", "rtt_ns", "packets", "jitter_ns", "reordering_seen")
        more = dict.fromkeys(names, MAYBE)
        lost = st.none() | st.integers(-100, 2**40)
        return st.builds(StreamInterval, id=st.just(i), bytes=COUNT, lost_packets=lost, **more)

    return st.builds(
        Interval,
        direction=st.just(way),
        counted_by=st.just(role),
        start_ns=st.just(start),
        end_ns=st.just(start + length),
        bytes=COUNT,
        streams=st.tuples(*map(stream, ids)),
        omitted=st.booleans(),
        retransmits=MAYBE,
        packets=MAYBE,
        lost_packets=st.none() | st.integers(-100, 2**40),
        jitter_ns=MAYBE,
    )


def reports(i: int, role: Role, udp: bool) -> st.SearchStrategy[StreamReport]:
    counts = st.none() | st.builds(
        Datagrams, packets=COUNT, highest_sequence=MAYBE, omitted_highest_sequence=MAYBE
    )
    return st.builds(
        StreamReport,
        id=st.just(i),
        role=st.just(role),
        counted_bytes=MAYBE,
        counted_from_ns=st.none() | NS,
        counted_to_ns=st.none() | NS,
        retransmits=MAYBE,
        datagrams=counts if udp else st.none(),
    )


@quick(max_examples=50)
@given(cases())
def test_any_test_has_a_document(case: tuple[Opening, list[Interval], Result, Settings]) -> None:
    opening, intervals, result, options = case
    report = JsonReport(options, stream=True, full=True)
    lines = report.opening(opening)
    for interval in intervals:
        lines += report.interval(interval)
    lines += report.ended(result, error="cut short")
    cut = lines.index("{")
    for line in lines[:cut]:
        json.loads(line)
    document = json.loads("\n".join(lines[cut:]))
    assert {"start", "intervals", "end", "error"} <= document.keys()
    for stream in document["end"]["streams"]:
        both = stream.get("sender", {}), stream.get("receiver", {})
        assert both[0].get("bytes", 0) >= both[1].get("bytes", 0)
    sums = document["end"]["sum_sent"], document["end"]["sum_received"]
    assert sums[0]["bytes"] >= sums[1]["bytes"] or isinstance(opening.spec, UdpSpec)


@quick(max_examples=50)
@given(cases())
def test_any_test_has_its_text(case: tuple[Opening, list[Interval], Result, Settings]) -> None:
    opening, intervals, result, options = case
    report = TextReport(options)
    lines = report.opening(opening)
    for interval in intervals:
        lines += report.interval(interval)
    lines += report.ended(result, error="cut short")
    prefix = f"{options.title}:  " if options.title and options.end == "client" else ""
    assert all(line.startswith(prefix) for line in lines)
    plain = [line.removeprefix(prefix) for line in lines]
    mine = "sender" if opening.streams[0].role == "sender" else "receiver"
    rows = [line for line in plain if line.startswith("[") and line.endswith(mine)]
    streams = len(opening.streams) if options.end == "client" else opening.spec.streams
    assert len(rows) >= streams
