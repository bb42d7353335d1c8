"""Provoke faults of iperf3 with datagrams, and show that netmeasure's figures are right.

Two more of them are tested elsewhere: copies that hide losses in test_udp_loss.py, and sequence
numbers of 32 bits that wrap in fast/.
"""

from __future__ import annotations

import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest

import netmeasure as nm
from support import iperf3, relay
from support.elsewhere import loop_on
from support.netns import NamespacePair, Network
from support.optional import known
from support.relay import Relay

pytestmark = pytest.mark.network

needs_relay = pytest.mark.skipif(
    relay.available() is not None, reason=relay.available() or "the relay works"
)
both_ways = pytest.mark.parametrize("direction", ["upload", "download"])

Direction = Literal["upload", "download", "both"]
RunOn = Callable[[Coroutine[Any, Any, Any]], Any]

SIZE = 1000
FOREVER = 10**9
MILLISECOND_NS = 1_000_000


@contextmanager
def serving(network: NamespacePair) -> Iterator[tuple[nm.Server, queue.SimpleQueue[nm.Result]]]:
    """Provide our server on its side of the network, and the queue of its results."""
    ended: queue.SimpleQueue[nm.Result] = queue.SimpleQueue()
    with loop_on(network, "server") as there:
        server = there(nm.serve(None, 0, on_result=ended.put).__aenter__())
        try:
            yield server, ended
        finally:
            there(server.close())


def asked(network: NamespacePair, spec: nm.UdpSpec, port: int) -> nm.Result:
    with loop_on(network, "client") as here:
        result: nm.Result = here(nm.measure(network.server.address, spec, port=port))
    return result


def measured(network: NamespacePair, spec: nm.UdpSpec) -> nm.Result:
    """Run a test of our client with our server, whose losses must agree."""
    with serving(network) as (server, ended):
        result = asked(network, spec, server.port)
        theirs = ended.get(timeout=10)
    assert result.complete
    assert theirs.complete, theirs.error
    assert [flow.loss for flow in theirs.flows] == [flow.loss for flow in result.flows]
    return result


def spec(direction: Direction = "upload", **more: Any) -> nm.UdpSpec:
    return nm.UdpSpec(
        **{
            "direction": direction,
            "datagram_bytes": SIZE,
            "target_pps": 2000,
            "timing": nm.Timing(duration_s=0.5),
            **more,
        }
    )


# ---- losses without a higher sequence number after them


@needs_relay
@pytest.mark.parametrize("direction", ["upload", "download", "both"])
def test_the_loss_of_everything_is_reported(direction: Direction) -> None:
    with Relay(gap=(1, FOREVER), watch=SIZE) as line:
        result = measured(line, spec(direction))
        line.stop()
    for flow in result.flows:
        truth = line.counts["up" if flow.direction == "upload" else "down"].watched
        assert flow.loss is not None
        assert flow.loss.received_packets == flow.receiver.bytes == 0
        assert flow.loss.lost_packets == flow.loss.sent_packets == truth.lost_packets > 0
        assert flow.loss.loss_ratio == 1.0
        assert flow.steady is None


@pytest.mark.rates
@needs_relay
@both_ways
def test_an_outage_up_to_the_end_is_loss(direction: Direction) -> None:
    with Relay(gap=(301, FOREVER), watch=SIZE) as line:
        result = measured(line, spec(direction))
        line.stop()
    (flow,) = result.flows
    truth = line.counts["up" if direction == "upload" else "down"].watched
    assert flow.loss is not None
    assert flow.loss.received_packets == truth.forwarded_packets == 300
    assert flow.loss.lost_packets == truth.lost_packets > 300
    assert flow.loss.sent_packets == 300 + truth.lost_packets
    # the datagrams that came, over the time in which datagrams were due: all of the test
    due_s = known(result.spec.timing.duration_s)
    rate_bps = 300 * SIZE * 8 / due_s
    assert flow.averages.after_omit_bps == pytest.approx(rate_bps, rel=0.03)
    assert flow.averages.from_first_byte_bps == pytest.approx(rate_bps, rel=0.03)
    assert flow.steady is not None
    assert flow.ramp is not None
    assert (flow.steady.end_ns - flow.ramp.start_ns) / 1e9 == pytest.approx(due_s, rel=0.03)
    (received,) = result.server.streams if direction == "upload" else result.client.streams
    silent_s = due_s - (known(received.last_ns) - known(received.series).origin_ns) / 1e9
    assert flow.steady.stalls[-1].duration_ns / 1e9 == pytest.approx(silent_s, abs=0.03)
    assert sum(interval.bytes for interval in flow.intervals) == flow.receiver.bytes
    assert flow.intervals[-1].end_ns / 1e9 == pytest.approx(due_s, abs=0.1)


@needs_relay
@pytest.mark.interop
def test_our_server_tells_iperf3_that_everything_was_lost() -> None:
    words = ("-u", "-b", "8M", "-l", str(SIZE), "-t", "1")
    with Relay(gap=(1, FOREVER), watch=SIZE) as line, serving(line) as (server, ended):
        report = iperf3.client(line.server.address, server.port, *words, network=line)
        theirs = ended.get(timeout=10)
        line.stop()
    lost = line.counts["up"].watched.lost_packets
    shown = report["end"]["sum"]
    assert (shown["packets"], shown["lost_packets"], shown["lost_percent"]) == (lost, lost, 100)
    assert theirs.complete
    assert theirs.flow.loss is not None
    assert (theirs.flow.loss.sent_packets, theirs.flow.loss.lost_packets) == (lost, lost)


@needs_relay
@pytest.mark.interop
@both_ways
def test_an_iperf3_server_does_not_hide_from_our_client_that_everything_was_lost(
    direction: Direction,
) -> None:
    with Relay(gap=(1, FOREVER), watch=SIZE) as line:
        with iperf3.server(line, one_off=True) as server:
            result = asked(line, spec(direction, timing=nm.Timing(duration_s=1)), server.port)
        line.stop()
    lost = line.counts["up" if direction == "upload" else "down"].watched.lost_packets
    assert result.complete
    assert result.flow.loss is not None
    assert result.flow.loss.received_packets == 0
    assert result.flow.loss.lost_packets == result.flow.loss.sent_packets == lost > 0
    assert result.flow.loss.loss_ratio == 1.0


# ---- how the datagrams are spread over time

LINK_BPS = 50_000_000
STOPPED_S = 1.0


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Provide a link whose queue holds 10 ms, which is 62 datagrams."""
    with Network() as pair:
        pair.shape(f"{LINK_BPS}bit", burst="8k", latency="10ms")
        yield pair


@pytest.mark.rates
def test_the_datagrams_missed_in_a_stall_are_not_sent_at_once(network: Network) -> None:
    """The sender is stopped for a second, so 1250 datagrams are due when it goes on. If it sent all
    of them at once, the link would lose most of them, and the tool would be the cause."""
    words = ("-u", "-b", "10M", "-l", str(SIZE), "-t", "2", "-i", "0.2", "--json", "--no-latency")
    with serving(network) as (server, ended):
        target = f"{network.server.address}:{server.port}"
        argv = [sys.executable, "-m", "netmeasure", "client", target, *words]
        with network.popen("client", argv, stdout=subprocess.PIPE) as client:
            wait_for_data(network, client.pid)
            client.send_signal(signal.SIGSTOP)
            time.sleep(STOPPED_S)
            client.send_signal(signal.SIGCONT)
            output, _ = client.communicate(timeout=20)
        ended.get(timeout=10)
    result = nm.Result.from_json(output)
    (flow,) = result.flows
    (stream,) = flow.streams
    assert result.complete
    assert flow.loss is not None
    assert flow.loss.lost_packets == 0
    assert stream.sender is not None
    sent = stream.sender.datagrams
    assert sent is not None
    # at most 10 ms are made up for, which a policer sees as one burst
    skipped_ns = known(sent.skipped_ns)
    assert skipped_ns >= (STOPPED_S - 0.02) * 1e9
    assert 0.009 * 1250 * SIZE <= known(sent.largest_burst_bytes) <= (1 + 0.01 * 1250) * SIZE
    assert sent.packets <= 1250 * (2 - skipped_ns / 1e9) + 2
    assert any("gave up" in note for note in result.notes)


def wait_for_data(network: Network, pid: int) -> None:
    """Wait until the client has sent a hundred datagrams by the count of the kernel on its side,
    which includes the datagrams of a latency probe."""
    before = datagrams_out(network)
    deadline = time.monotonic() + 10
    while datagrams_out(network) < before + 100:
        assert time.monotonic() < deadline, f"{pid} sends nothing"
        time.sleep(0.01)


def datagrams_out(network: Network) -> int:
    argv = network.command("client", ["cat", "/proc/net/snmp"])
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    return int(values[names.index("OutDatagrams")])


@pytest.mark.rates
@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
@both_ways
def test_low_rates_are_not_sent_in_trains(direction: Direction, network: Network) -> None:
    """At 2 Mbit/s one datagram leaves every 4 ms, and none is longer than SIZE. With segmentation
    offload, iperf3 sends 65 of them every 260 ms."""
    wanted = spec(direction, target_pps=None, target_bps=2_000_000, timing=nm.Timing(duration_s=1))
    receiver = "server" if direction == "upload" else "client"
    with capture(network, receiver) as stamps_and_lengths:
        result = measured(network, wanted)
    assert result.flow.loss is not None
    captured = stamps_and_lengths()
    data = [stamp for stamp, length in captured if length == SIZE]
    assert max(length for _, length in captured) == SIZE
    assert len(data) == result.flow.loss.received_packets == result.flow.loss.sent_packets
    # in no span more than twice the rate, no matter how long a process had no CPU
    due_s = SIZE * 8 / 2_000_000
    for count in (4, 10, 20):
        spans = [late - soon for soon, late in zip(data, data[count:], strict=False)]
        assert min(spans) > (count - 3) * due_s / 2
    assert data[-1] - data[0] == pytest.approx(1.0, abs=0.1)


DUMPED = re.compile(r"^(\d+\.\d+) .*UDP, length (\d+)$")


@contextmanager
def capture(network: Network, side: str) -> Iterator[Callable[[], list[tuple[float, int]]]]:
    """Watch the datagrams on one side. The yielded function returns, after the end, when each came,
    and its payload's length."""
    device = network.sides[side].device
    argv = ["tcpdump", "-i", device, "-n", "-tt", "-q", "-l", "--immediate-mode", "udp"]
    pipe = subprocess.PIPE
    process = network.popen(side, argv, stdout=pipe, stderr=pipe, text=True)
    assert process.stderr is not None
    assert any("listening on" in line for line in process.stderr), "tcpdump does not start"
    output = ""

    def seen() -> list[tuple[float, int]]:
        matches = (DUMPED.match(line) for line in output.splitlines())
        return [(float(found[1]), int(found[2])) for found in matches if found]

    try:
        yield seen
        with network.enter("client"):
            last = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with last:
            last.sendto(b"", (network.server.address, 9))  # it comes after all other datagrams
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("UDP, length 0\n"):
                break
            output += line
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


# ---- a hello that is lost

HELLO_BYTES, ANSWER_BYTES = 45, 4


@needs_relay
@pytest.mark.parametrize(
    ("lost_bytes", "lost"),
    [(HELLO_BYTES, 1), (HELLO_BYTES, 3), (ANSWER_BYTES, 1)],
    ids=["hello", "three-hellos", "answer"],
)
def test_a_lost_hello_costs_less_than_a_second(lost_bytes: int, lost: int) -> None:
    """One lost hello costs 20 ms, three cost 20, 40 and 80 ms. A lost answer costs no time: the
    server goes on, and the client takes that for the answer."""
    with Relay(gap=(1, lost), watch=lost_bytes) as line:
        result = measured(line, spec(latency=False))  # no probe: its hello would be first
        line.stop()
    seen = line.counts["up" if lost_bytes == HELLO_BYTES else "down"].watched
    assert seen.lost_packets == lost
    (hello,) = (phase for phase in result.setup if phase.name == "hello")
    if lost_bytes == HELLO_BYTES:
        # on a busy machine one more may be sent before the answer comes
        assert hello.detail == f"{lost + seen.forwarded_packets - 1} repeated"
        assert hello.duration_ns >= 20 * (2**lost - 1) * MILLISECOND_NS
    assert hello.duration_ns < 1000 * MILLISECOND_NS
    assert result.flow.loss is not None
    assert result.flow.loss.lost_packets == 0


@needs_relay
@both_ways
def test_lost_hellos_of_many_streams_do_not_mix_them_up(direction: Direction) -> None:
    with Relay(gap=(2, 5), watch=HELLO_BYTES) as line:
        result = measured(line, spec(direction, streams=4, target_pps=500, latency=False))
    hellos = [phase for phase in result.setup if phase.name == "hello"]
    assert sum(phase.detail is not None for phase in hellos) >= 3
    for stream in result.flow.streams:
        assert stream.sender is not None
        assert stream.receiver is not None
        assert stream.sender.datagrams is not None
        assert stream.receiver.datagrams is not None
        assert stream.sender.socket is not None
        assert stream.receiver.socket is not None
        assert stream.sender.socket.local == stream.receiver.socket.remote
        assert stream.sender.datagrams.packets == stream.receiver.datagrams.packets > 0


def check_counts_of_iperf3(result: nm.Result) -> None:
    """Check that the counts of iperf3's server are possible; it loses what it has not read at the
    end of a test."""
    assert not any("impossible, not used" in note for note in result.notes)
    loss = result.flow.loss
    assert loss is not None
    assert loss.sent_packets is not None
    assert loss.received_packets is not None
    assert 0 < loss.received_packets <= loss.sent_packets


@needs_relay
@pytest.mark.interop
@both_ways
def test_a_lost_hello_to_an_iperf3_server(direction: Direction) -> None:
    """The first hello is lost, and the answer to the second. A hello is repeated after 1 s."""
    with Relay(gap=(1, 1), watch=ANSWER_BYTES) as line:
        with iperf3.server(line, one_off=True) as server:
            result = asked(line, spec(direction, timing=nm.Timing(duration_s=1)), server.port)
        line.stop()
    assert line.counts["up"].watched.lost_packets == 1
    assert result.complete
    (hello,) = (phase for phase in result.setup if phase.name == "hello")
    assert 1000 * MILLISECOND_NS <= hello.duration_ns < 3000 * MILLISECOND_NS
    check_counts_of_iperf3(result)


@needs_relay
@pytest.mark.interop
def test_an_iperf3_server_far_away_gets_one_hello() -> None:
    """iperf3 would count a second hello as a datagram with a sequence number in the billions, which
    would make all its counts wrong."""
    with Relay(delay_ms=100, watch=ANSWER_BYTES) as line:
        with iperf3.server(line, one_off=True) as server:
            result = asked(line, spec("upload", timing=nm.Timing(duration_s=1)), server.port)
        line.stop()
    assert line.counts["up"].watched.forwarded_packets == 1
    check_counts_of_iperf3(result)
