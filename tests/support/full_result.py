"""Provide a Result in which every field is filled, for tests of readers, writers and reports."""

from __future__ import annotations

from typing import Any

import msgspec

from netmeasure.result import (
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
    StreamReport,
    StreamResult,
    Stretch,
    TcpInfo,
    Totals,
    Transfer,
)
from netmeasure.result.connections import ConnectionErrors, Connections
from netmeasure.result.histogram import Histogram
from netmeasure.result.latency import Latency, ProbeFigures
from netmeasure.result.requests import RequestErrors, Requests, StatusCount
from netmeasure.result.resources import HostShares, HostUse, Resources, ThreadCpu
from netmeasure.result.round_trips import LatencySeries, RoundTrips
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
    interfaces=(
        NetworkInterface(
            name="eth0",
            mtu_bytes=1500,
            offloads=("tso", "gro"),
            driver="virtio_net",
            qdiscs=("fq 8001:",),
        ),
    ),
    cpu_model="AMD EPYC",
    governors=("performance",),
    sysctls=("net.ipv4.tcp_sack = 1",),
    pod="bench-7",
    node="worker-1",
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
        **dict[str, Any](
            (name, (1, None) if name == "jitter_ns" else (1, 2))
            for name in DatagramHistory.__struct_fields__
        )
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
    concurrent_tests_mean=1.25,
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
NUMBERS: dict[str, Any] = dict.fromkeys(Limits.__struct_fields__, 0.5)
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
    no_steady="too_short",
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
    exclusive=True,
    tls=True,
    ca_file="/etc/ca.pem",
    burst_blocks=3,
    file="f",
    latency=False,
    timing=Timing(duration_s=2.5, omit_s=0.5, interval_s=0.1, baseline_s=1.0, until=0.02),
    block_bytes=4096,
    target_bps=10**9,
    send_mode="sendfile",
    options=SocketOptions(
        congestion="cubic",
        mss_bytes=1400,
        no_delay=True,
        window_bytes=65_536,
        bind_address="fd00::1",
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
    decides=True,
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
    round_trips=RoundTrips(
        steady_per_s=50_000.0,
        steady_interval_per_s=(49_000.0, 51_000.0),
        latency=Histogram(
            from_ns=(18_000, 20_480), counts=(4, 96), sum_ns=2_046_080, min_ns=18_001, max_ns=20_490
        ),
        series=LatencySeries(
            origin_ns=1_000, width_ns=10_000_000, transactions=(40, 60), sum_ns=(800_000, 1_246_080)
        ),
        begun=104,
        unanswered=1,
        skipped=2,
        sent_late=3,
        sent_late_max_ns=70_000,
        connections=Connections(
            connecting=Histogram(
                from_ns=(9_000,), counts=(101,), sum_ns=909_101, min_ns=9_001, max_ns=9_001
            ),
            answering=Histogram(
                from_ns=(10_000,), counts=(100,), sum_ns=1_000_100, min_ns=10_001, max_ns=10_001
            ),
            syn_retransmits=2,
            errors=ConnectionErrors(connect=1, local=2, reset=3, timeout=4, invalid=5),
            connect_error="Connection refused",
        ),
        lost=3,
        late_responses=2,
        invalid_responses=1,
        refused=1,
    ),
    latency=Latency(
        transport="tcp",
        idle=ProbeFigures(
            latency=Histogram(
                from_ns=(200_000,), counts=(105,), sum_ns=21_000_000, min_ns=200_001, max_ns=200_050
            ),
            series=LatencySeries(
                origin_ns=-300_000_000,
                width_ns=100_000_000,
                transactions=(40, 65),
                sum_ns=(8_000_000, 13_000_000),
            ),
            upload_pdv=Histogram(
                from_ns=(1500,), counts=(105,), sum_ns=157_500, min_ns=1500, max_ns=1500
            ),
            download_pdv=Histogram(
                from_ns=(1000,), counts=(105,), sum_ns=105_000, min_ns=1000, max_ns=1000
            ),
            sent=105,
            skipped=3,
            refused=2,
            host_sum_ns=1_000_000,
            host_max_ns=40_000,
        ),
        loaded=ProbeFigures(
            latency=Histogram(
                from_ns=(4_800_512, 9_306_112),
                counts=(95, 5),
                sum_ns=502_579_200,
                min_ns=4_800_600,
                max_ns=9_310_000,
            ),
            series=LatencySeries(
                origin_ns=0,
                width_ns=100_000_000,
                transactions=(50, 50),
                sum_ns=(240_025_600, 262_553_600),
            ),
            upload_pdv=Histogram(
                from_ns=(4_603_904, 9_109_504),
                counts=(95, 5),
                sum_ns=482_918_400,
                min_ns=4_604_000,
                max_ns=9_110_000,
            ),
            download_pdv=Histogram(
                from_ns=(2000,), counts=(100,), sum_ns=200_000, min_ns=2000, max_ns=2000
            ),
            sent=104,
            skipped=2,
            refused=1,
            host_sum_ns=2_000_000,
            host_max_ns=90_000,
        ),
        late_answers=1,
        invalid_answers=2,
        pdv_error_ns=1_000_000,
    ),
    requests=Requests(
        connections=20,
        threads=2,
        connecting=Histogram(
            from_ns=(90_112,), counts=(20,), sum_ns=1_802_400, min_ns=90_112, max_ns=90_130
        ),
        shaking=Histogram(
            from_ns=(2_000_896,),
            counts=(20,),
            sum_ns=40_020_000,
            min_ns=2_001_000,
            max_ns=2_001_000,
        ),
        syn_retransmits=1,
        errors=RequestErrors(connect=1, local=2, reset=3, timeout=4, invalid=5, tls=7, status=6),
        connect_error="Connection refused",
        tls_error="certificate has expired",
        statuses=(StatusCount(status=200, count=100), StatusCount(status=503, count=6)),
        body_bytes=102_400,
    ),
    path_hole=PathHole(direction="download", passed_bytes=1300, lost_bytes=1301),
    notes=("the server is plain iperf3", 'quotes " and \\ and \x00 and \U0001f4f6'),
)
EMPTY = Result(spec=TcpSpec(), complete=False, started_at="", target="lab1")
