"""iperf3's options between the real iperf3 and netmeasure, and between two of ours: what was asked
for is on the sockets, in the packets and in the results of both ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from support import iperf3
from support.iperf3_pairs import (
    SHORT,
    RunOnce,
    Sockets,
    from_iperf3,
    ours,
    served,
    sockets_during,
)
from support.ports import free_ports

pytestmark = pytest.mark.interop

DSCP_EF = 184
_SO_ATTACH_FILTER = 26  # of asm-generic/socket.h; Python has no name for it


# ---- what is set on sockets ---------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_tos_is_on_the_sockets_of_both_ends(run_once: RunOnce, host: str, udp: bool) -> None:
    options = nm.SocketOptions(tos=DSCP_EF)
    spec: nm.TcpSpec | nm.UdpSpec = nm.TcpSpec(timing=SHORT, options=options)
    if udp:
        spec = nm.UdpSpec(timing=SHORT, options=options)
    mine, theirs, opening = run_once(ours(spec, host))
    assert mine.client.streams[0].socket.tos == DSCP_EF
    assert opening.streams[0].socket.tos == DSCP_EF
    assert theirs.spec.options.tos == DSCP_EF


def test_tos_that_iperf3_asks_for(run_once: RunOnce) -> None:
    report, result, opening = run_once(from_iperf3("-R", "-S", "184"))
    assert report["start"]["test_start"]["tos"] == DSCP_EF
    assert result.spec.options.tos == DSCP_EF
    assert opening.streams[0].socket.tos == DSCP_EF


def test_texts_and_wishes_of_iperf3_are_in_the_server_s_specification(run_once: RunOnce) -> None:
    cpu = min(os.sched_getaffinity(0))
    report, result, _ = run_once(
        from_iperf3(
            *("-T", "a title", "--extra-data", "more of it", "--repeating-payload"),
            *(
                "--fq-rate",
                "80M",
                "-b",
                "40M",
                "-A",
                f"{cpu},{cpu}",
                "-M",
                "1400",
                "-N",
                "--get-server-output",
            ),
        )
    )
    spec = result.spec
    assert isinstance(spec, nm.TcpSpec)
    assert (spec.title, spec.extra_data) == ("a title", "more of it")
    assert spec.repeating_payload
    assert spec.server_output
    assert spec.server_cpu == cpu
    assert spec.options.pacing_bps == 80_000_000
    assert spec.target_bps == 40_000_000
    assert spec.options.mss_bytes == 1400
    assert spec.options.no_delay
    assert report["server_output_text"] == "said by the server of 1 streams\n"


@pytest.mark.rates
@pytest.mark.parametrize("by", ["iperf3", "netmeasure"])
def test_a_pacing_rate_keeps_tcp_down(run_once: RunOnce, by: str) -> None:
    """Also where the server sends, and below any target bitrate."""
    if by == "iperf3":
        report, result, opening = run_once(from_iperf3("-R", "--fq-rate", "20M", "-b", "900M"))
        received = report["end"]["sum_received"]["bits_per_second"]
        assert opening.streams[0].socket.pacing_bps == 20_000_000
    else:
        options = nm.SocketOptions(pacing_bps=20_000_000)
        spec = nm.TcpSpec(
            direction="download",
            target_bps=900_000_000,
            timing=nm.Timing(duration_s=1),
            options=options,
        )
        result, _, _ = run_once(ours(spec))
        received = result.download.averages.after_omit_bps
    assert received == pytest.approx(20e6, rel=0.3)


@pytest.mark.rates
def test_a_pacing_rate_keeps_udp_down_without_fq(run_once: RunOnce) -> None:
    options = nm.SocketOptions(pacing_bps=5_000_000)
    spec = nm.UdpSpec(target_bps=None, timing=nm.Timing(duration_s=0.5), options=options)
    mine, _, _ = run_once(ours(spec))
    assert mine.upload.averages.after_omit_bps == pytest.approx(5e6, rel=0.1)


def test_the_repeating_payload_is_digits(run_once: RunOnce, tmp_path: Path) -> None:
    """What arrives at the real server is written to a file."""
    target = tmp_path / "received"
    with iperf3.server(args=["-F", str(target)]) as server:
        spec = nm.TcpSpec(timing=nm.Timing(total_bytes=100_000), repeating_payload=True)
        run_once(nm.measure("127.0.0.1", spec, port=server.port))
    data = target.read_bytes()
    assert len(data) >= 90_000
    period = b"0123456789"
    # blocks are of the digits from their beginning on
    assert data[:1000] == period * 100


def test_dont_fragment_is_set_at_both_ends(run_once: RunOnce) -> None:
    mtu_discover, always = 10, 2  # IP_MTU_DISCOVER, IP_PMTUDISC_DO (ip(7))
    options = nm.SocketOptions(dont_fragment=True)
    spec = nm.UdpSpec(timing=SHORT, datagram_bytes=1000, options=options)
    seen = run_once(sockets_during(spec, Sockets(socket.IPPROTO_IP, mtu_discover)))
    assert seen.count((always,)) == 2
    _, result, _ = run_once(from_iperf3("-u", "--dont-fragment", "-l", "1000"))
    assert result.spec.options.dont_fragment


@pytest.mark.parametrize("direction", ["upload", "both"])
def test_streams_leave_from_one_port_after_the_other(run_once: RunOnce, direction: Any) -> None:
    first = free_ports(4)
    spec = nm.TcpSpec(
        direction=direction, streams=2, timing=SHORT, options=nm.SocketOptions(bind_port=first)
    )
    _, _, opening = run_once(ours(spec))
    ports = [int(str(s.socket.remote).rpartition(":")[2]) for s in opening.streams]
    assert ports == [first + i for i in range(len(ports))]
    assert int(opening.control.remote.rpartition(":")[2]) not in ports


def test_a_device_is_bound_to(run_once: RunOnce) -> None:
    spec = nm.TcpSpec(timing=SHORT, options=nm.SocketOptions(bind_device="lo"))
    mine, _, _ = run_once(ours(spec, device="lo"))
    assert mine.complete
    nowhere = nm.TcpSpec(timing=SHORT, options=nm.SocketOptions(bind_device="nosuchdev"))
    with pytest.raises(nm.SocketOptionError, match="'nosuchdev'") as caught:
        run_once(ours(nowhere))
    assert caught.value.number == 143
    with pytest.raises(nm.ServeError, match="No such device"):
        run_once(ours(spec, device="nosuchdev"))


def test_udp_of_a_server_on_a_device(run_once: RunOnce) -> None:
    mine, _, _ = run_once(ours(nm.UdpSpec(timing=SHORT), device="lo"))
    assert mine.upload.loss.lost_packets == 0
    assert mine.upload.receiver.bytes > 0


@pytest.mark.network
@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_flow_label_is_in_the_packets(run: RunOnce, udp: bool) -> None:
    """Of the data streams, as a packet socket sees them; the control connection has another."""
    label, ipv6 = 0x12345, 0x86DD
    options = nm.SocketOptions(flow_label=label)
    # little is sent: the packet socket must not overflow
    spec: nm.TcpSpec | nm.UdpSpec = nm.TcpSpec(
        timing=SHORT, streams=2, options=options, target_bps=1_000_000, block_bytes=1000
    )
    if udp:
        spec = nm.UdpSpec(timing=SHORT, streams=2, options=options)

    async def main() -> tuple[set[int], set[int]]:
        async with served("::1") as (server, _, openings):
            with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as tap:
                only_to(tap, server.port)  # or the packets of other tests fill the socket's buffer
                tap.bind(("lo", ipv6))
                tap.setblocking(False)
                await nm.measure(server.address, spec)
                ports = {int(str(s.socket.remote).rpartition(":")[2]) for s in openings[0].streams}
                return ports, labels(tap, label)

    ports, labelled = run(main())
    assert labelled == ports


def only_to(tap: socket.socket, port: int) -> None:
    """Let the kernel pass only IPv6 packets to a port: struct sock_filter of linux/filter.h."""
    load_half, jump_if_equal, give_back = 0x28, 0x15, 0x06
    program = (
        struct.pack(
            "HBBI", load_half, 0, 0, 42
        )  # the destination port follows a header of 40 bytes
        + struct.pack("HBBI", jump_if_equal, 0, 1, port)
        + struct.pack("HBBI", give_back, 0, 0, 100)
        + struct.pack("HBBI", give_back, 0, 0, 0)
    )
    kept = ctypes.create_string_buffer(program, len(program))
    attach = struct.pack("HP", len(program) // 8, ctypes.addressof(kept))
    tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attach)


def labels(tap: socket.socket, label: int) -> set[int]:
    """The source ports of all packets that carry a label (RFC 8200, section 3)."""
    found = set()
    with contextlib.suppress(BlockingIOError):
        while True:
            packet = tap.recv(100)
            if int.from_bytes(packet[1:4], "big") & 0xFFFFF == label:
                found.add(int.from_bytes(packet[40:42], "big"))
    return found


def test_a_flow_label_needs_ipv6(run_once: RunOnce) -> None:
    spec = nm.TcpSpec(timing=SHORT, options=nm.SocketOptions(flow_label=7))
    with pytest.raises(nm.SocketOptionError, match="only IPv6") as caught:
        run_once(ours(spec))
    assert caught.value.number == 127


def test_a_window_that_the_kernel_does_not_grant_is_an_error(run_once: RunOnce) -> None:
    spec = nm.TcpSpec(timing=SHORT, options=nm.SocketOptions(window_bytes=512 * 1024 * 1024))
    with pytest.raises(nm.SocketOptionError, match="is too large: the kernel grants") as caught:
        run_once(ours(spec))
    assert caught.value.number == 141
    report = iperf_error(run_once, "-w", "512M")
    assert "socket buffer size not set correctly" in report


def iperf_error(run_once: RunOnce, *arguments: str, **options: Any) -> str:
    """Return the real client's message about a test that netmeasure's server refuses."""

    async def main() -> str:
        async with nm.serve("127.0.0.1", 0, **options) as server:
            report = await asyncio.to_thread(
                iperf3.client, "127.0.0.1", server.port, "-t", "1", *arguments, check=False
            )
            return str(report["error"])

    return str(run_once(main()))


def test_keepalive_of_the_control_connection(run_once: RunOnce) -> None:
    spec = nm.TcpSpec(timing=SHORT, options=nm.SocketOptions(keepalive=(20, 3, 4)))
    looks = Sockets(
        socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
    )
    limits = nm.ServerLimits(keepalive=(30, 5, 2))
    seen = run_once(sockets_during(spec, looks, limits=limits))
    assert seen.count((20, 3, 4)) == 1
    assert seen.count((30, 5, 2)) == 1


# ---- CPUs ---------------------------------------------------------------------------------------


def affinities() -> dict[str, set[int]]:
    """The CPUs of each traffic thread of this process, by its name."""
    found: dict[str, set[int]] = {}
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            status = Path("/proc/self/task", task, "status").read_text()
            allowed = os.sched_getaffinity(int(task))
            if int(task) != os.getpid():
                found[f"{task} {status.splitlines()[0]}"] = allowed
    return found


def test_traffic_threads_run_on_their_cpu_and_nothing_else_does(run_once: RunOnce) -> None:
    cpu = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    seen: list[set[int]] = []

    class Looks(nm.Observer):
        def on_interval(self, interval: nm.Interval) -> None:
            seen.extend(affinities().values())

    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            timing = nm.Timing(duration_s=0.4, interval_s=0.1)
            spec = nm.TcpSpec(timing=timing, cpu=cpu, server_cpu=cpu)
            await nm.measure(server.address, spec, observer=Looks())

    run_once(main())
    assert os.sched_getaffinity(0) == before
    assert seen.count({cpu}) >= 2


def test_a_cpu_that_is_not_there_is_refused(run_once: RunOnce) -> None:
    with pytest.raises(nm.SocketOptionError, match="CPU 1024"):
        run_once(ours(nm.TcpSpec(timing=SHORT, cpu=1024)))
    with pytest.raises(nm.PeerRefusedError, match="CPU affinity") as caught:
        run_once(ours(nm.TcpSpec(timing=SHORT, server_cpu=1024)))
    assert caught.value.number == 132


# ---- datagrams ----------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["upload", "download"])
@pytest.mark.parametrize("wide", [False, True], ids=["32", "64"])
def test_datagrams_with_either_counter(run_once: RunOnce, direction: Any, wide: bool) -> None:
    """This works with the real server, too, which would otherwise count every number as wrong."""
    spec = nm.UdpSpec(
        direction=direction,
        timing=nm.Timing(duration_s=0.5),
        counters_64bit=wide,
        datagram_bytes=500,
    )
    with iperf3.server() as server:
        mine = run_once(nm.measure("127.0.0.1", spec, port=server.port))
    flow = mine.flow
    assert flow.loss.lost_packets == 0
    assert flow.streams[0].receiver.datagrams.packets > 10
    both, theirs, _ = run_once(ours(spec))
    assert both.flow.loss.lost_packets == 0
    assert theirs.spec.counters_64bit == wide


def test_the_default_size_of_iperf3_is_the_mss(run_once: RunOnce) -> None:
    spec = nm.UdpSpec(timing=SHORT, size_by_mss=True)
    with iperf3.server() as server:
        report = iperf3.client("127.0.0.1", server.port, "-u", "-t", "1")
        assert server.wait_listening()
        mine = run_once(nm.measure("127.0.0.1", spec, port=server.port))
    # on loopback, Linux's MSS is half of the peer's window, which grows by 53 bytes when the first
    # acknowledgement comes, and both programs ask for it once
    theirs = report["start"]["test_start"]["blksize"]
    assert mine.spec.datagram_bytes == pytest.approx(theirs, abs=27)


# ---- MPTCP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["upload", "download", "both"])
def test_multipath_tcp(run_once: RunOnce, direction: Any) -> None:
    spec = nm.TcpSpec(
        direction=direction, streams=2, timing=SHORT, options=nm.SocketOptions(multipath=True)
    )
    protocols: list[int] = []

    class Looks(nm.Observer):
        def on_opening(self, opening: nm.Opening) -> None:
            for name in os.listdir("/proc/self/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                        with socket.socket(fileno=os.dup(int(name))) as sock:
                            protocols.append(sock.proto)

    async def main() -> nm.Result:
        limits = nm.ServerLimits(multipath=True)
        async with nm.serve("127.0.0.1", 0, limits=limits) as server:
            plain = await nm.measure(server.address, nm.TcpSpec(timing=SHORT))
            assert plain.complete
            return await nm.measure(server.address, spec, observer=Looks())

    result = run_once(main())
    assert result.complete
    for flow in result.flows:
        assert flow.receiver.bytes == flow.sender.acked_bytes > 0
    streams = 4 if direction == "both" else 2
    assert protocols.count(262) >= 2 * streams + 2


def test_more_streams_than_iperf3_has_are_refused(run_once: RunOnce) -> None:
    with iperf3.server() as server, pytest.raises(nm.PeerRefusedError, match="at most 128 streams"):
        run_once(nm.measure("127.0.0.1", nm.TcpSpec(streams=129), port=server.port))
