"""Compare the times of set-up with tcpdump on a busy host: delays of the host must be reported as
the host's."""

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import pytest

import netmeasure as nm
from netmeasure.spec import Direction, Spec
from support import certificates
from support.ftp import Ftp
from support.ports import nobody
from support.scripted import Peer, Scripted
from support.web import head

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed"),
]

#: An address of the loopback interface that no other test uses, in this run or in another one.
HOST = f"127.{64 + os.getpid() // 65_536 % 64}.{os.getpid() // 256 % 256}.{os.getpid() % 256}"
BLOCKED_S = 0.3
#: The server answers after the first pause, and sends its body after the second one.
HEAD_S, BODY_S = 0.4, 0.9
#: The largest difference between our times and tcpdump's: a time, or a share of a phase.
SLACK_S, SLACK = 0.002, 0.02
#: The share for FTP's replies: on a busy CPU, this program may read a reply before its watching
#: thread runs. Then time slices of other programs are counted, far less than `blocking` adds.
SLACK_OF_REPLIES = 0.05

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
#: The event loop is blocked on a schedule, which other load of the machine would shift.
each_way_to_be_busy = pytest.mark.parametrize(
    "busy", [pytest.param("blocked", marks=pytest.mark.rates), "hogs"]
)


class Packet(NamedTuple):
    """A line of tcpdump."""

    at_s: float
    to_server: bool
    port: int  # the server's
    client_port: int
    flags: str  # of TCP; "" for UDP
    length: int


@contextlib.contextmanager
def watched(host: str) -> Iterator[list[Packet]]:
    """Collect a server's packets on the loopback interface; the list is complete at the end."""
    # short copies in a large buffer, so that none is lost: the last one ends the list
    options = ("-tt", "-n", "-l", "--immediate-mode", "-s", "128", "-B", "32768")
    argv = ["tcpdump", "-i", "lo", *options, f"host {host}"]
    packets: list[Packet] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as dump:
        assert dump.stdout is not None
        assert dump.stderr is not None
        assert any("listening on" in line for line in dump.stderr), "tcpdump does not start"
        try:
            yield packets
            line = re.compile(
                r"([\d.]+) IP (\S+)\.(\d+) > (\S+)\.(\d+): (?:Flags \[(\S+)\]|UDP).* length (\d+)"
            )
            with nobody(host) as last, socket.socket() as refused:
                refused.connect_ex((host, last))  # its SYN comes after all other packets
                for found in map(line.match, dump.stdout):
                    if found is None:
                        continue
                    at, _, source, to, aim, flags, length = found.groups()
                    to_server = to == host
                    mine, port = (int(p) for p in ((source, aim) if to_server else (aim, source)))
                    if port == last:
                        break
                    packets.append(
                        Packet(float(at), to_server, port, mine, flags or "", int(length))
                    )
        finally:
            dump.terminate()


async def blocking() -> None:
    """Block the event loop again and again, as a careless program does."""
    while True:
        time.sleep(BLOCKED_S)  # noqa: ASYNC251  (that is the point)
        await asyncio.sleep(0.02)


@contextlib.contextmanager
def hogs(count: int) -> Iterator[None]:
    """Keep `count` CPUs busy."""
    argv = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen(argv))
            stack.callback(process.kill)
        yield


def slow_answer(peer: Peer) -> None:
    """Answer a request late, and send the body even later."""
    peer.read_until(b"\r\n\r\n")
    time.sleep(HEAD_S)
    peer.send(head("200 OK", "Content-Length: 5"))
    time.sleep(BODY_S)
    peer.send(b"hello")


def phase(result: nm.Result, name: str) -> nm.Phase:
    (found,) = (p for p in result.setup if p.name == name)
    return found


def end_ns(result: nm.Result, name: str) -> int:
    """Return the end of a phase, which the host's own delays may have cut into several."""
    return max(p.end_ns for p in result.setup if p.name == name)


def near(duration_ns: int, wanted_s: float, slack: float = SLACK) -> bool:
    return abs(duration_ns / 1e9 - wanted_s) <= max(SLACK_S, slack * wanted_s)


async def measured(target: str, busy: str, spec: Spec | None = None, **more: Any) -> nm.Result:
    blocker = asyncio.create_task(blocking()) if busy == "blocked" else None
    try:
        return await nm.measure(target, spec, **more)
    finally:
        if blocker is not None:
            blocker.cancel()


@each_way_to_be_busy
def test_http_moments_are_those_of_tcpdump(run_once: RunOnce, busy: str) -> None:
    with (
        Scripted(slow_answer, HOST) as server,
        watched(HOST) as packets,
        hogs(2 if busy == "hogs" else 0),
    ):
        result = run_once(measured(server.url("/a"), busy))
    syn = next(p for p in packets if p.flags == "S" and p.to_server)
    answer = next(p for p in packets if p.flags == "S.")
    request = next(p for p in packets if p.length and p.to_server)
    came = [p for p in packets if p.length and not p.to_server]
    told = [(p.name, p.start_ns / 1e6, p.duration_ns / 1e6, p.detail) for p in result.setup]
    assert near(phase(result, "connect").duration_ns, answer.at_s - syn.at_s), told
    assert near(phase(result, "first_byte").duration_ns, came[0].at_s - request.at_s), told
    origin_s = syn.at_s - phase(result, "connect").start_ns / 1e9
    body = phase(result, "first_body_byte")
    assert near(body.end_ns, came[1].at_s - origin_s), told
    if busy == "blocked":
        late = [p for p in result.setup if p.name == "host" and p.duration_ns > 1e8]
        assert {p.detail for p in late} <= {"event loop blocked", "waited for a CPU"}, told
        assert sum(p.duration_ns for p in late) > BLOCKED_S * 1e9 / 2, told


def later(pause_s: float, reply: bytes) -> Callable[[Peer], None]:
    """Send a reply of an FTP server after a pause."""

    def send(peer: Peer) -> None:
        time.sleep(pause_s)
        peer.send(reply + b"\r\n")

    return send


def slow_file(peer: Peer) -> None:
    time.sleep(BODY_S)
    peer.send(b"hello")


# both are held by time slices: more of them pass while other tests compute, 32 ms in a whole run
@pytest.mark.rates
@each_way_to_be_busy
def test_ftp_moments_are_those_of_tcpdump(run_once: RunOnce, busy: str) -> None:
    answers = {"greeting": later(0.4, b"220 hello"), "PASS": later(0.5, b"230 welcome")}
    with (
        Ftp(5, HOST, answers=answers, data=slow_file) as server,
        watched(HOST) as packets,
        hogs(2 if busy == "hogs" else 0),
    ):
        result = run_once(measured(server.url(), busy))
    control = [p for p in packets if p.port == server.port]
    data = [p for p in packets if p.port != server.port]
    replies = [p for p in control if p.length and not p.to_server]
    syn, answer = (next(p for p in control if p.flags == flags) for flags in ("S", "S."))
    told = [(p.name, p.start_ns / 1e6, p.duration_ns / 1e6, p.detail) for p in result.setup]
    first, second = (p for p in result.setup if p.name == "connect")
    origin_s = syn.at_s - first.start_ns / 1e9
    assert near(first.duration_ns, answer.at_s - syn.at_s), told
    assert near(end_ns(result, "greeting"), replies[0].at_s - origin_s, SLACK_OF_REPLIES), told
    assert near(end_ns(result, "login"), replies[2].at_s - origin_s, SLACK_OF_REPLIES), told
    syn, answer = (next(p for p in data if p.flags == flags) for flags in ("S", "S."))
    assert near(second.duration_ns, answer.at_s - syn.at_s), told
    byte = next(p for p in data if p.length and not p.to_server)
    assert near(end_ns(result, "first_byte"), byte.at_s - origin_s), told


@pytest.mark.rates
@pytest.mark.parametrize("busy", ["blocked", "hogs"])
def test_https_moments_are_those_of_tcpdump(run_once: RunOnce, busy: str) -> None:
    """The server takes a while for the handshake, for the head, and for the body."""
    if certificates.available() is not None:
        pytest.skip(str(certificates.available()))
    context, pause_s = certificates.certificate().server(), 0.1

    def serve(peer: Peer) -> None:
        time.sleep(pause_s)
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        peer.read_until(b"\r\n\r\n")
        time.sleep(pause_s)
        peer.send(head("200 OK", "Content-Length: 5"))
        time.sleep(BODY_S)
        peer.send(b"hello")

    with (
        Scripted(serve, HOST) as server,
        watched(HOST) as packets,
        hogs(2 if busy == "hogs" else 0),
    ):
        url = server.url("/a", "https")
        result = run_once(measured(url, busy, nm.HttpSpec(insecure=True)))
    syn, answer = (next(p for p in packets if p.flags == flags) for flags in ("S", "S."))
    sent = [p for p in packets if p.length and p.to_server]
    came = [p for p in packets if p.length and not p.to_server]
    told = [(p.name, p.start_ns / 1e6, p.duration_ns / 1e6, p.detail) for p in result.setup]
    seen = [(p.at_s - syn.at_s, p.to_server, p.length) for p in packets if p.length]
    origin_s = syn.at_s - phase(result, "connect").start_ns / 1e9
    assert near(phase(result, "connect").duration_ns, answer.at_s - syn.at_s), told
    flight = max(p.at_s for p in came if p.at_s < sent[1].at_s)
    # tickets may arrive before a busy loop notices the end of the handshake: a part of its own. If
    # they arrive before a thread without a CPU has read the flight, only their time is known
    tickets = max(p.at_s for p in came if p.at_s < sent[-1].at_s)
    moments = [flight, tickets] if busy == "hogs" else [flight]
    handshake = min(p.end_ns for p in result.setup if p.name == "tls")
    assert any(near(handshake, moment - origin_s) for moment in moments), (told, seen)
    # the last packets are the head, the body and the end of TLS; session tickets come earlier
    later = [p for p in came if p.at_s > sent[-1].at_s + pause_s / 2]
    assert near(end_ns(result, "first_byte"), later[0].at_s - origin_s), (told, seen)
    assert near(end_ns(result, "first_body_byte"), later[1].at_s - origin_s), (told, seen)


@contextlib.contextmanager
def server_apart() -> Iterator[int]:
    """Run a server in a process of its own; yield its port."""
    argv = [sys.executable, "-m", "netmeasure", "server", "-B", HOST, "-p", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.kill()


@pytest.mark.rates
@pytest.mark.parametrize("busy", ["blocked", "hogs"])
@pytest.mark.parametrize(
    ("protocol", "direction"), [("tcp", "upload"), ("tcp", "download"), ("udp", "download")]
)
def test_moments_of_a_test_are_those_of_tcpdump(
    run_once: RunOnce, busy: str, protocol: str, direction: Direction
) -> None:
    # the second packet comes much later: the kernel joins packets that wait, and forgets the time
    # of the first one
    timing = nm.Timing(duration_s=0.3)
    spec: nm.TcpSpec | nm.UdpSpec
    if protocol == "tcp":
        spec = nm.TcpSpec(direction=direction, timing=timing, latency=False, target_bps=100_000)
    else:
        spec = nm.UdpSpec(direction=direction, timing=timing, latency=False, target_bps=2_000_000)
    with (
        server_apart() as port,
        watched(HOST) as packets,
        hogs(2 if busy == "hogs" else 0),
    ):
        result = run_once(measured(HOST, busy, spec, port=port))
    told = [
        (p.name, p.connection, p.start_ns / 1e6, p.duration_ns / 1e6, p.detail)
        for p in result.setup
    ]
    syn, answer = (next(p for p in packets if p.flags == flags) for flags in ("S", "S."))
    data = [p for p in packets if p.client_port != syn.client_port]
    seen = [(p.at_s - syn.at_s, p.to_server, p.flags, p.length) for p in data[:12]]
    name = "connect" if protocol == "tcp" else "hello"
    control = next(p for p in result.setup if p.name == "connect")
    stream = next(p for p in result.setup if p.name == name and p.connection == "stream 1")
    accepted = next(p for p in data if not p.to_server)
    assert near(control.duration_ns, answer.at_s - syn.at_s), told
    assert near(stream.duration_ns, accepted.at_s - data[0].at_s), (told, seen)
    # a process may lose its CPU just before it sends a packet, but hardly each time
    origin_s = min(
        syn.at_s - control.start_ns / 1e9,
        data[0].at_s - stream.start_ns / 1e9,
        accepted.at_s - stream.end_ns / 1e9,
    )
    first_s = end_ns(result, "first_byte") / 1e9 + origin_s
    if direction == "download":
        byte = next(p for p in data if not p.to_server and p.length and p is not accepted)
        assert near(round((first_s - syn.at_s) * 1e9), byte.at_s - syn.at_s), (told, seen)
    elif protocol == "tcp":  # the cookie comes first
        byte = [p for p in data if p.to_server and p.length][1]
        acked = next(p for p in data if not p.to_server and p.at_s > byte.at_s)
        assert near(round((first_s - syn.at_s) * 1e9), acked.at_s - syn.at_s), (told, seen)
