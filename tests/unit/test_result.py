"""The Result: saved and read back without loss, and its short cuts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from netmeasure.errors import ResultFormatError
from netmeasure.result import (
    SCHEMA_VERSION,
    AutoStop,
    Averages,
    Ceiling,
    CeilingLayer,
    DatagramHistory,
    Datagrams,
    ErrorRecord,
    Flow,
    FlowInterval,
    Host,
    Interval,
    Limits,
    Look,
    Loss,
    NetworkInterface,
    PathHole,
    Pause,
    Phase,
    Result,
    Series,
    SideReport,
    SocketFacts,
    Spread,
    Steady,
    StreamInterval,
    StreamReport,
    StreamResult,
    Stretch,
    TcpInfo,
    Totals,
    Transfer,
)
from netmeasure.result.resources import HostShares, HostUse, Resources, ThreadCpu
from netmeasure.spec import Deadlines, Link, SocketOptions, TcpSpec, Timing

HOST = Host(
    program="netmeasure",
    version="0.1",
    hostname="lab1",
    system="Linux",
    kernel="6.18",
    machine="x86_64",
    cpu_count=2,
    python="3.11",
    interfaces=(NetworkInterface(name="eth0", mtu_bytes=1500, offloads=("tso", "gro")),),
)
SERIES = Series(origin_ns=5, width_ns=10_000_000, bytes=(0, 7, 2**62))
TCP_INFO = TcpInfo(**{name: (index, 2**62) for index, name in enumerate(TcpInfo.__struct_fields__)})
LIMIT = "cgroup_memory_limit_bytes"
WORDS = ("jitter_valid", "offload", "offload_error", "history")
SOCKET = SocketFacts(
    local="10.0.0.1:40000",
    remote="[fd00::1]:5201",
    congestion="cubic",
    mss_bytes=1448,
    sndbuf_bytes=87_040,
    rcvbuf_bytes=131_072,
    no_delay=True,
    pacing_bps=10**9,
    pmtu_bytes=1500,
    tos=184,
)
DATAGRAMS = Datagrams(
    **{name: 2**40 for name in Datagrams.__struct_fields__ if name not in WORDS},
    jitter_valid=True,
    offload=True,
    offload_error="no",
    history=DatagramHistory(
        **{
            name: (1, None) if name == "jitter_ns" else (1, 2)
            for name in DatagramHistory.__struct_fields__
        }
    ),
)
TRANSFER = Transfer(
    url="http://lab1/1G.dat",
    protocol="HTTP/1.1",
    server="nginx",
    tls="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    tls_resumed=False,
    status=200,
    content_bytes=2**30,
    encoding="chunked",
    drained_by="both",
    native_bytes=2**29,
    transfers=3,
    redirects=1,
    set_up=Spread(count=3, min_ns=1, median_ns=2, p95_ns=3, max_ns=3),
)
SENDER = StreamReport(
    id=1,
    role="sender",
    bytes=1000,
    acked_bytes=990,
    counted_bytes=900,
    counted_from_ns=100,
    counted_to_ns=1100,
    first_ns=1,
    last_ns=1101,
    retransmits=3,
    syn_retransmits=2,
    mode="sendfile",
    block_bytes=1024,
    end_reason="error",
    error="Connection reset by peer",
    cpu_user_ns=4,
    cpu_system_ns=5,
    thread=ThreadCpu(at_ns=(1, 2), cpu_ns=(3, 4), wait_ns=(5, 6)),
    series=SERIES,
    tcp_info=TCP_INFO,
    datagrams=DATAGRAMS,
    transfer=TRANSFER,
    socket=SOCKET,
)
RECEIVER = msgspec.structs.replace(SENDER, role="receiver", mode="discard", bytes=980)
USE = HostUse(**dict.fromkeys(HostUse.__struct_fields__, 2**40))
SINGLE = ("cpus", LIMIT, "baseline", "own")
RESOURCES = Resources(
    **{name: (1, 3) for name in Resources.__struct_fields__ if name not in SINGLE},
    cpus=2,
    cgroup_memory_limit_bytes=2**30,
    baseline=USE,
    own=HostShares(user_ratio=0.1, system_ratio=0.2, softirq_ratio=-0.1, steal_ratio=0.0),
)
SIDE = SideReport(
    host=HOST,
    streams=(SENDER, RECEIVER),
    duration_ns=2000,
    cpu_user_ns=6,
    cpu_system_ns=7,
    concurrent_tests=2,
    resources=RESOURCES,
)
STEADY = Steady(
    verdict="steady",
    start_ns=200,
    end_ns=1000,
    bytes=800,
    goodput_bps=8e9 / 3,
    batches=20,
    batch_ns=40,
    confidence_interval=(0.1 + 0.2, 1e10 / 3),
    grade="B",
    autocorrelation_ns=80,
    stalls=(Stretch(start_ns=300, end_ns=500, bytes=0),),
    levels=(
        Stretch(start_ns=200, end_ns=600, bytes=300),
        Stretch(start_ns=600, end_ns=1000, bytes=500),
    ),
)
TOTALS = Totals(bytes=1000, acked_bytes=990, retransmits=3, cpu_user_ns=4, cpu_system_ns=5)
LOSS = Loss(
    **{name: 2**40 for name in Loss.__struct_fields__ if name not in WORDS}, jitter_valid=False
)
CEILING = Ceiling(
    link_bps=10**9,
    payload_bps=1e10 / 3,
    transport="tcp",
    ip_version=4,
    timestamps=True,
    encapsulation="vxlan",
    framing="frame",
    link_mtu_bytes=1500,
    mtu_bytes=1450,
    mss_bytes=1410,
    payload_bytes=1398,
    link_bytes=1514,
    packet_bytes=(1500,),
    layers=(CeilingLayer(name="payload", bytes=1398, source="nobody"),),
    right_mtu_bytes=1450,
    right_mss_bytes=1410,
    right_payload_bytes=1398,
    right_link_bytes=1514,
)
NUMBERS = dict.fromkeys(Limits.__struct_fields__, 0.5)
LIMITS = Limits(
    **{
        **NUMBERS,
        "limited_by": "receive_window",
        "target_is": "pacing_rate",
        "queue_delay_ns": 7,
        "window_needed_bytes": 250_000,
    }
)
UPLOAD = Flow(
    direction="upload",
    streams=(StreamResult(id=1, sender=SENDER, receiver=RECEIVER, steady=STEADY),),
    counted_by="receiver",
    series=SERIES,
    ramp=Stretch(start_ns=1, end_ns=200, bytes=100),
    steady=STEADY,
    tail=Stretch(start_ns=1000, end_ns=1101, bytes=100),
    averages=Averages(
        from_first_attempt_bps=1.5,
        from_first_byte_bps=2.5,
        after_omit_bps=3.5,
        set_up_ns=3_060_000_000,
    ),
    sender=TOTALS,
    receiver=msgspec.structs.replace(TOTALS, bytes=980),
    loss=LOSS,
    limits=LIMITS,
    pauses=(Pause(end="sender", start_ns=3, end_ns=9, cause="starved", wait_ns=5),),
    intervals=(
        FlowInterval(
            start_ns=0,
            end_ns=100,
            bytes=7,
            omitted=True,
            limits=LIMITS,
            sender=USE,
            receiver=USE,
        ),
    ),
    ceiling=CEILING,
)
DOWNLOAD = msgspec.structs.replace(UPLOAD, direction="download", counted_by="sender")
SPEC = TcpSpec(
    direction="download",
    streams=2,
    title="a title",
    extra_data="more",
    repeating_payload=True,
    cpu=1,
    server_cpu=2,
    server_output=True,
    burst_blocks=3,
    file="/tmp/data",
    timing=Timing(duration_s=2.5, omit_s=0.5, interval_s=0.1, baseline_s=1.0, until=0.02),
    block_bytes=4096,
    target_bps=10**9,
    send_mode="sendfile",
    options=SocketOptions(
        congestion="cubic",
        mss_bytes=1400,
        no_delay=True,
        window_bytes=65_536,
        bind_address="10.0.0.1",
        bind_port=4000,
        bind_device="eth0",
        pacing_bps=10**8,
        tos=184,
        flow_label=7,
        multipath=True,
        keepalive=(10, 2, 3),
        family="ipv6",
    ),
    link=Link(rate_bps=10**9, mtu_bytes=1500, encapsulation="vxlan", framing="frame"),
    deadlines=Deadlines(**{name: 1.5 + i for i, name in enumerate(Deadlines.__struct_fields__)}),
)
CONNECT = Phase(
    name="connect",
    connection="stream 1",
    start_ns=100,
    duration_ns=3_000_000_000,
    side="server",
    syn_retransmits=2,
    address="10.0.0.2:5201",
    detail="after SYNs at 0, 1, 3 s",
)
FULL = Result(
    spec=SPEC,
    complete=False,
    error=ErrorRecord(
        code="peer_closed",
        message="the server went away",
        phase="running",
        hint="look at its log",
        number=144,
    ),
    started_at="2026-11-23T13:00:00.000000+00:00",
    target="läb1:5201",
    setup=(CONNECT, msgspec.structs.replace(CONNECT, connection="control", syn_retransmits=1)),
    flows=(UPLOAD, DOWNLOAD),
    client=SIDE,
    server=msgspec.structs.replace(SIDE, concurrent_tests=1),
    peer_extended=True,
    server_output="iperf Done.\n",
    path_hole=PathHole(direction="download", passed_bytes=1300, lost_bytes=1301),
    auto_stop=AutoStop(
        target=0.02,
        reason="narrow",
        cap_ns=60_000_000_000,
        counted_ns=3_500_000_000,
        looks=(
            Look(
                direction="upload",
                at_ns=2_500_000_000,
                verdict="steady",
                goodput_bps=1e9,
                margin=0.01,
                grade="B",
            ),
        ),
    ),
    notes=("the server is plain iperf3", 'quotes " and \\ and \x00 and \U0001f4f6'),
)
EMPTY = Result(spec=TcpSpec(), complete=False, started_at="", target="lab1")

#: Only one of these can be set.
ENDS = {"total_bytes", "total_blocks", "endless", "dont_fragment", "receive_mode"}
NEVER_KEPT = {"credentials"}


def unset(value: Any, path: str = "result") -> Iterator[str]:
    """Paths of the fields that still have their default."""
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(type(value)):
            item = getattr(value, field.name)
            name = f"{path}.{field.name}"
            if field.name in ENDS | NEVER_KEPT or field.name == "schema_version":
                continue
            if not field.required and item == field.default:
                yield name
            yield from unset(item, name)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from unset(item, f"{path}[{index}]")


def test_the_example_is_full() -> None:
    assert list(unset(FULL)) == []


@pytest.mark.parametrize("result", [FULL, EMPTY], ids=["full", "empty"])
def test_json_round_trip(result: Result) -> None:
    saved = result.to_json()
    assert Result.from_json(saved) == result
    assert Result.from_json(saved.decode()) == result
    assert Result.from_json(saved).to_json() == saved
    assert hash(Result.from_json(saved)) == hash(result)


def test_the_saved_text() -> None:
    saved = json.loads(FULL.to_json())
    assert saved["schema_version"] == SCHEMA_VERSION == 1
    assert saved["spec"]["kind"] == "tcp"
    assert saved["flows"][0]["steady"]["confidence_interval"] == [0.1 + 0.2, 1e10 / 3]
    assert saved["flows"][0]["series"]["bytes"] == [0, 7, 2**62]
    assert saved["target"] == "läb1:5201"
    assert json.loads(EMPTY.to_json())["error"] is None
    assert FULL.to_json().count(b"\n") > 50
    assert b'\n    "spec"' in FULL.to_json(indent=4)


def test_later_fields_are_ignored() -> None:
    saved = json.loads(FULL.to_json())
    saved["brand_new"] = saved["spec"]["brand_new"] = {"a": 1}
    assert Result.from_json(json.dumps(saved)) == FULL


@pytest.mark.parametrize("version", [0, 2, -1, 10**6])
def test_another_schema_version(version: int) -> None:
    saved = FULL.to_json().replace(b'"schema_version": 1', b'"schema_version": %d' % version)
    with pytest.raises(ResultFormatError, match=f"schema version {version};") as caught:
        Result.from_json(saved)
    assert caught.value.hint


def test_another_schema_version_of_another_shape() -> None:
    with pytest.raises(ResultFormatError, match="schema version 2;"):
        Result.from_json(b'{"schema_version":2,"runs":[]}')


def changed(**members: Any) -> bytes:
    return json.dumps(json.loads(EMPTY.to_json()) | members).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"not JSON",
        "",
        b"null",
        b"[]",
        b"{}",
        b'{"schema_version":1}',
        b'{"schema_version":"1"}',
        b'{"schema_version":1.5}',
        b'{"schema_version":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        FULL.to_json()[:-3],
        FULL.to_json() + b"}",
        changed(complete="yes"),
        changed(spec={"kind": "quic"}),
        changed(spec={"kind": "tcp", "streams": 0}),
        changed(flows=[{"direction": "sideways", "streams": []}]),
        changed(setup=[{"name": "connect"}]),
        changed(notes="x"),
        *(
            pytest.param(
                data,
                id=name,
            )
            for data, raises, name in [
                (changed(target="?").replace(b"?", b"\xff"), UnicodeDecodeError, "not UTF-8"),
                ("\ud800", UnicodeEncodeError, "a surrogate"),
                (b'{"a":' * 100_000, RecursionError, "too deep"),
            ]
        ),
    ],
)
def test_garbage(data: bytes | str) -> None:
    with pytest.raises(ResultFormatError, match="not a netmeasure result"):
        Result.from_json(data)


def test_short_cuts() -> None:
    assert FULL.flow is FULL.upload is UPLOAD
    assert FULL.download is DOWNLOAD
    assert FULL.steady is STEADY
    assert FULL.sender is TOTALS
    assert FULL.receiver.bytes == 980
    assert FULL.set_up_ns == 3_060_000_000
    assert FULL.syn_retransmits == 3


def test_figures_of_a_steady_state() -> None:
    assert STEADY.stalled_ns == 200
    assert STEADY.between_stalls_bps == pytest.approx(800 * 8e9 / 600)
    assert STEADY.margin == pytest.approx(0.25)
    assert [level.goodput_bps for level in STEADY.levels] == [6e9, 1e10]
    bare = msgspec.structs.replace(STEADY, confidence_interval=None, stalls=())
    assert bare.margin is None
    assert bare.between_stalls_bps == pytest.approx(800 * 8e9 / 800)
    silent = msgspec.structs.replace(
        STEADY, goodput_bps=0.0, stalls=(Stretch(start_ns=200, end_ns=1000, bytes=0),)
    )
    assert silent.margin is None
    assert silent.between_stalls_bps == 0
    assert Stretch(start_ns=5, end_ns=5, bytes=0).goodput_bps == 0


def test_short_cuts_of_an_empty_result() -> None:
    assert EMPTY.upload is EMPTY.download is EMPTY.steady is None
    assert EMPTY.sender == EMPTY.receiver == Totals()
    assert EMPTY.set_up_ns is EMPTY.syn_retransmits is None


def test_short_cuts_of_a_download() -> None:
    result = msgspec.structs.replace(FULL, flows=(DOWNLOAD,))
    assert result.flow is result.download is DOWNLOAD
    assert result.upload is None


def test_syn_retransmits_of_no_connect_are_unknown_not_zero() -> None:
    phase = msgspec.structs.replace(CONNECT, syn_retransmits=None)
    assert msgspec.structs.replace(FULL, setup=(phase,)).syn_retransmits is None
    none_sent = msgspec.structs.replace(CONNECT, syn_retransmits=0)
    assert msgspec.structs.replace(FULL, setup=(phase, none_sent)).syn_retransmits == 0


def test_computed_values() -> None:
    assert CONNECT.end_ns == 3_000_000_100
    assert SERIES.total_bytes == 7 + 2**62
    assert SENDER.delivered_bytes == 990
    assert RECEIVER.delivered_bytes == 980
    assert StreamReport(id=1, role="sender", bytes=5).delivered_bytes is None
    assert SENDER.counted_ns == 1000
    assert StreamReport(id=1, role="sender", counted_from_ns=0).counted_ns is None
    assert STEADY.duration_ns == 800
    assert UPLOAD.ramp is not None
    assert UPLOAD.ramp.duration_ns == 199


@pytest.mark.parametrize(("end_ns", "goodput_bps"), [(1_500_000_000, 8e6), (1_000_000_000, 0.0)])
def test_intervals(end_ns: int, goodput_bps: float) -> None:
    interval = Interval(
        direction="upload",
        counted_by="receiver",
        start_ns=1_000_000_000,
        end_ns=end_ns,
        bytes=500_000,
        streams=(StreamInterval(id=1, bytes=200_000), StreamInterval(id=3, bytes=300_000)),
    )
    assert interval.stream_bytes == (200_000, 300_000)
    assert interval.duration_ns == end_ns - 1_000_000_000
    assert interval.goodput_bps == goodput_bps
