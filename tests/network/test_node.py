"""Test what a node drops, by name and exact count, and the CPU time that each process uses."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import platform
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from netmeasure.node import bpf
from netmeasure.node.counters import Snapshot, take_snapshot
from netmeasure.node.facts import node_facts
from netmeasure.node.watch import NodeWatch, used_between
from netmeasure.result.node import NodeUse
from support.census import settle
from support.netns import Network, ip

pytestmark = pytest.mark.network

COUNT = 300
PORT = 5300
#: Much longer than the kernel needs to handle packets in flight.
LIMIT_S = 10
#: For local experiments (IEEE 802): no protocol of the kernel takes its frames.
NOBODYS_ETHERTYPE = 0x88B5
#: A program that uses a given amount of CPU time once it has started, prints how much it used, and
#: lives until it is told to end.
BURNER = """
import sys, time
print(flush=True)
input()
begun = time.process_time()
while time.process_time() - begun < float(sys.argv[1]):
    pass
print(time.process_time() - begun, flush=True)
input()
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        # no solicitation or report of IPv6 may be among the counted packets
        for side in pair.sides.values():
            ip("-n", side.namespace, "address", "flush", "dev", side.device, "scope", "link")
        yield pair


def looked(network: Network, side: str) -> Snapshot:
    with network.enter(side):
        return take_snapshot()


def udp_socket(network: Network, side: str) -> socket.socket:
    with network.enter(side):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def test_a_full_socket_buffer(network: Network) -> None:
    kept = 0

    def dropped() -> int:
        """Return the drops so far, after all packets in flight have arrived."""
        nonlocal kept
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(2000):
                kept += 1
        use = used_between(before, looked(network, "server"))
        assert use.grown("UdpInErrors") == use.grown("UdpRcvbufErrors")
        assert use.grown("rx_dropped") == 0
        return use.grown("UdpRcvbufErrors", "snmp")

    with udp_socket(network, "server") as receiver, udp_socket(network, "client") as sender:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        receiver.setblocking(False)
        receiver.bind((network.server.address, PORT))
        sender.connect((network.server.address, PORT))
        before = looked(network, "server")
        for _ in range(COUNT):
            sender.send(bytes(1000))
        assert settle(lambda: dropped() + kept == COUNT, LIMIT_S)
    assert 0 < kept < COUNT


def test_a_full_qdisc(network: Network) -> None:
    def told() -> int:
        words = ["tc", "-n", network.client.namespace, "-s", "-j", "qdisc", "show", "dev"]
        shown = subprocess.run([*words, network.client.device], capture_output=True, check=True)
        return int(json.loads(shown.stdout)[0]["drops"])

    network.shape("100kbit", burst="4k", latency="10ms")
    try:
        with udp_socket(network, "client") as sender, udp_socket(network, "server") as receiver:
            receiver.bind((network.server.address, PORT))
            before, dropped = looked(network, "client"), told()
            for _ in range(COUNT):
                sender.sendto(bytes(1000), (network.server.address, PORT))
            use, dropped = used_between(before, looked(network, "client")), told() - dropped
    finally:
        network.shape(None)
    assert 0 < dropped < COUNT
    (one,) = [one for one in use.counters if one.name == "drops"]
    assert one.source.startswith(f"qdisc {network.client.device} tbf ")
    assert one.grown == dropped


def test_frames_that_an_interface_drops(network: Network) -> None:
    with network.enter("client"):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    head = bytes.fromhex((network.server.mac + network.client.mac).replace(":", ""))
    source = f"interface {network.server.device}"

    def dropped() -> int:
        return used_between(before, looked(network, "server")).grown("rx_dropped", source)

    with raw:
        raw.bind((network.client.device, 0))
        before = looked(network, "server")
        for _ in range(COUNT):
            raw.send(head + struct.pack("!H", NOBODYS_ETHERTYPE) + bytes(60))
        assert settle(lambda: dropped() >= COUNT, LIMIT_S)
        assert dropped() == COUNT


def test_a_full_listener(network: Network) -> None:
    with network.enter("server"):
        listener = socket.create_server((network.server.address, PORT), backlog=0)
    waiting = []

    def use() -> NodeUse:
        return used_between(before, looked(network, "server"))

    with listener, contextlib.ExitStack() as closing:
        before = looked(network, "server")
        for number in range(4):
            with network.enter("client"):
                waiting.append(closing.enter_context(socket.socket()))
            waiting[-1].setblocking(number == 0)  # the first one fills the queue
            waiting[-1].connect_ex((network.server.address, PORT))
        assert settle(lambda: use().grown("TcpExtListenDrops") >= 3, LIMIT_S)
        assert use().grown("TcpExtListenOverflows") >= 3


def test_a_process_is_named_with_its_share_of_a_cpu() -> None:
    words = [sys.executable, "-c", BURNER, "0.8"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, text=True, stdin=pipe, stdout=pipe) as burner:
        assert burner.stdin is not None
        assert burner.stdout is not None
        burner.stdout.readline()
        before = take_snapshot()
        print(file=burner.stdin, flush=True)
        burnt_s = float(burner.stdout.readline())
        use = used_between(before, take_snapshot())
        print(file=burner.stdin, flush=True)
    (mine,) = [one for one in use.processes if one.pid == burner.pid]
    assert mine.name.startswith("python")
    assert not mine.own
    assert mine.cpu_ns / 1e9 == pytest.approx(burnt_s, rel=0.05)


def test_facts_are_those_of_the_namespace(network: Network) -> None:
    with network.enter("client"):
        facts = node_facts({"NETMEASURE_POD": "bench-7", "NETMEASURE_NODE": "worker-1"})
    assert (facts.pod, facts.node, facts.pod_namespace) == ("bench-7", "worker-1", None)
    assert {one.name for one in facts.interfaces} >= {"lo", network.client.device}
    link = next(one for one in facts.interfaces if one.name == network.client.device)
    assert (link.driver, link.mtu_bytes) == ("veth", 1500)
    assert [name.split()[0] for name in link.qdiscs] == ["noqueue"]
    assert facts.sysctls["net.ipv4.tcp_timestamps"] == "1"


# ---- eBPF ---------------------------------------------------------------------------------------

_PROG_LOAD, _LINK_CREATE, _SOCKET_FILTER, _SO_ATTACH_BPF = 5, 28, 1, 50
_CALL, _KTIME_GET_NS = 0x85, 5
_MOV, _MOV_FROM, _SUB_FROM, _ADD, _EXIT = 0xB7, 0xBF, 0x1F, 0x07, 0x95
_IF_ABOVE, _IF_BELOW = 0x25, 0xA5
#: Type, place of attachment, flags and verdict "pass" of a program on a device: as XDP in generic
#: mode (which a veth supports without a program at its other end), and as tcx, the successor of tc.
_ON_DEVICE = {"xdp": (6, 37, 2, 2), "tcx": (3, 46, 0, 0)}
SPIN_NS = 50_000


def instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | to, offset, number)


def loaded(kind: int, name: str, *instructions: bytes) -> int:
    """Load a program, and return its descriptor."""
    words = ctypes.create_string_buffer(b"".join(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    at, count = ctypes.addressof, len(instructions)
    asked = struct.pack("IIQQIIQII", kind, count, at(words), at(licence), 0, 0, 0, 0, 0)
    return bpf._bpf(_PROG_LOAD, asked + name.encode() + b"\0")


def loaded_filter() -> int:
    """Load a program that keeps every packet whole."""
    kept = instruction(_MOV, number=65_535)
    return loaded(_SOCKET_FILTER, "nm_keeps", kept, instruction(_EXIT))


def loaded_spinner(kind: int, verdict: int) -> int:
    """Load a program that reads the clock until SPIN_NS have passed, so that its cost is known. It
    reads the clock at most 8000 times, for the kernel must be sure that the program ends."""
    now = instruction(_CALL, number=_KTIME_GET_NS)
    return loaded(
        kind,
        "nm_spins",
        now,
        instruction(_MOV_FROM, to=6, source=0),
        instruction(_MOV, to=7, number=0),
        now,
        instruction(_SUB_FROM, to=0, source=6),
        instruction(_IF_ABOVE, to=0, offset=2, number=SPIN_NS),
        instruction(_ADD, to=7, number=1),
        instruction(_IF_BELOW, to=7, offset=-5, number=8000),
        instruction(_MOV, number=verdict),
        instruction(_EXIT),
    )


def runs(
    before: dict[int, bpf.Program], after: dict[int, bpf.Program] | None = None
) -> list[tuple[str, int]]:
    """Return the name of each program, and how often it ran since `before`."""
    now = bpf.read_programs() if after is None else after
    return [(one.name, one.runs - before[n].runs) for n, one in now.items() if n in before]


def test_programs_are_counted_run_by_run(network: Network) -> None:
    try:
        os.close(bpf.count_run_times())
        program = loaded_filter()
    except OSError as exc:
        pytest.skip(f"eBPF on {platform.machine()}: {exc.strerror or exc}")
    with udp_socket(network, "server") as receiver, udp_socket(network, "client") as sender:
        receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, program)
        receiver.bind((network.server.address, PORT))
        sender.connect((network.server.address, PORT))
        counting = bpf.count_run_times()
        try:
            before = bpf.read_programs()
            for _ in range(COUNT):
                sender.send(b"x")
            assert settle(lambda: ("nm_keeps", COUNT) in runs(before), LIMIT_S)
            after = bpf.read_programs()
        finally:
            os.close(counting)
            os.close(program)
    assert ("nm_keeps", COUNT) in runs(before, after)
    assert all(one.run_ns > 0 for one in after.values() if one.name == "nm_keeps")


@pytest.mark.rates
@pytest.mark.parametrize("place", _ON_DEVICE)
def test_what_a_program_on_a_device_costs_for_each_packet(network: Network, place: str) -> None:
    kind, attach, flags, verdict = _ON_DEVICE[place]
    with contextlib.ExitStack() as closing, udp_socket(network, "client") as sender:
        try:
            os.close(bpf.count_run_times())
            program = loaded_spinner(kind, verdict)
            closing.callback(os.close, program)
            with network.enter("server"):
                device = socket.if_nametoindex(network.server.device)
                asked = struct.pack("IIII", program, device, attach, flags)
                link = bpf._bpf(_LINK_CREATE, asked)
            closing.callback(os.close, link)
        except OSError as exc:
            pytest.skip(f"{place} on this kernel: {exc.strerror or exc}")
        use = asyncio.run(watched(sender, network))
    assert use is not None
    assert use.bpf is not None
    (one,) = [one for one in use.bpf if one.name == "nm_spins"]
    assert COUNT <= one.runs <= COUNT + 2, "and what the neighbour was asked for"
    assert one.ns_per_run == pytest.approx(SPIN_NS, rel=0.2)


async def watched(sender: socket.socket, network: Network) -> NodeUse | None:
    """Send COUNT datagrams, and wait until all have come."""
    async with NodeWatch(bpf=True) as watch:
        for _ in range(COUNT):
            sender.sendto(b"x", (network.server.address, PORT))
        settle(lambda: spun(bpf.read_programs()) >= COUNT, LIMIT_S)
    return watch.use


def spun(programs: dict[int, bpf.Program]) -> int:
    return sum(one.runs for one in programs.values() if one.name == "nm_spins")


def test_a_use_has_no_counter_that_did_not_change() -> None:
    now = take_snapshot()
    use = used_between(now, now._replace(at_ns=now.at_ns + 10**9))
    assert isinstance(use, NodeUse)
    assert (use.counters, use.processes, use.busy_cpus) == ((), (), 0.0)
    assert use.grown("TcpExtListenDrops") == 0
