"""Test a late network, where the first SYNs get no answer: set-up must not affect the bitrate.

A tool that divides by the time since its first attempt reports less than half of what this link
carries. The link drops all packets for 2.5 s. SYNs are sent at 0, 1 and 3 s, so connecting takes 3
s.
"""

import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.peer.client.test import PeerTest
from netmeasure.report import words
from netmeasure.units import bitrate
from support.netns import Network
from support.optional import known

pytestmark = [pytest.mark.network, pytest.mark.rates]

RATE = "500mbit"
LATE_S = 2.5
CONNECT_S = 3.0
SYNS_AGAIN = 2
DURATION_S = 1.5
NOT_WORTH_A_WORD_S = 0.1

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
directions = pytest.mark.parametrize("direction", ["upload", "download"])


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape(RATE, burst="768k")  # covers 12 ms without CPU
        pair.sysctl("client", "net.ipv4.tcp_syn_linear_timeouts", 0)
        yield pair


async def measured(
    network: Network, direction: Any, *, latency: bool = False
) -> tuple[nm.Result, float]:
    """Run a test of our client with our server; return its result, and how long it took by the
    clock of this process. A latency probe would take time before the streams, outside set-up."""
    spec = nm.TcpSpec(
        direction=direction,
        latency=latency,
        timing=nm.Timing(duration_s=DURATION_S),
        options=nm.SocketOptions(congestion="cubic"),
    )
    with network.enter("server"):
        server = await nm.serve(None, 0).__aenter__()
    try:
        with network.enter("client"):
            start = time.monotonic()
            result = await nm.measure(network.server.address, spec, port=server.port)
            return result, time.monotonic() - start
    finally:
        await server.close()


async def measured_late(network: Network, direction: Any) -> tuple[nm.Result, float]:
    with network.late(LATE_S):
        return await measured(network, direction)


def connect_phase(result: nm.Result, connection: str) -> nm.Phase:
    (phase,) = (p for p in result.setup if (p.name, p.connection) == ("connect", connection))
    return phase


def check_late(result: nm.Result, late: str, prompt: str) -> None:
    """Check that set-up shows one late connection and one that was not late."""
    slow, quick = connect_phase(result, late), connect_phase(result, prompt)
    assert slow.duration_ns / 1e9 == pytest.approx(CONNECT_S, abs=0.15)
    assert quick.duration_ns / 1e9 < NOT_WORTH_A_WORD_S
    assert (slow.syn_retransmits, quick.syn_retransmits) == (SYNS_AGAIN, 0)
    assert result.syn_retransmits == SYNS_AGAIN
    assert result.set_up_ns is not None
    assert result.set_up_ns / 1e9 == pytest.approx(CONNECT_S, abs=0.2)


def check_averages(result: nm.Result, took_s: float) -> None:
    """Check the averages; the one from the first attempt is computed from `took_s` as well."""
    flow = result.flow
    assert flow.steady is not None
    assert flow.receiver.bytes is not None
    naive = known(flow.averages.from_first_attempt_bps)
    assert naive == pytest.approx(flow.receiver.bytes * 8 / took_s, rel=0.02)
    assert naive < 0.5 * known(flow.steady.goodput_bps)
    assert flow.averages.from_first_byte_bps == pytest.approx(flow.steady.goodput_bps, rel=0.02)
    sentence = words.distortion(result, flow)
    assert sentence is not None
    assert f"({SYNS_AGAIN} SYN retransmissions)" in sentence
    assert f"reports {bitrate(naive)};" in sentence
    assert f"carried {bitrate(flow.steady.goodput_bps)}." in sentence


def check_retransmits(flow: nm.Flow, syns: int) -> None:
    """The kernel counts retransmitted SYNs and data segments together; a result must count only the
    latter as retransmissions of data."""
    (stream,) = flow.streams
    assert stream.sender is not None
    info = stream.sender.tcp_info
    assert info is not None
    assert info.retransmits is not None
    assert info.retransmitted_bytes is not None
    assert flow.sender.retransmits == info.retransmits[-1] - syns
    assert bool(flow.sender.retransmits) == bool(info.retransmitted_bytes[-1])


@directions
def test_a_late_network_does_not_change_the_bitrate(
    direction: str, network: Network, run_once: RunOnce
) -> None:
    usual, _ = run_once(measured(network, direction))
    result, took_s = run_once(measured_late(network, direction))

    check_late(result, late="control", prompt="stream 1")
    assert result.steady.goodput_bps == pytest.approx(usual.steady.goodput_bps, rel=0.01)
    assert usual.syn_retransmits == 0
    assert words.distortion(usual, usual.flow) is None
    check_averages(result, took_s)
    check_retransmits(result.flow, syns=0)


def test_a_probe_without_an_answer_does_not_wait_as_long_as_the_connect(
    network: Network, run_once: RunOnce
) -> None:
    """The server can't answer by UDP, because its thread is in the client's namespace by then."""
    with network.late(LATE_S):
        result, took_s = run_once(measured(network, "upload", latency=True))
    assert result.latency is not None
    assert result.latency.transport == "tcp"
    assert took_s < CONNECT_S + DURATION_S + 2


def test_a_data_connection_can_be_late_as_well(
    network: Network, run_once: RunOnce, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network fails once the control connection is open, and works again later."""
    open_streams = PeerTest._open_streams

    async def open_streams_late(self: PeerTest, *arguments: Any) -> None:
        with network.late(LATE_S):
            await open_streams(self, *arguments)

    monkeypatch.setattr(PeerTest, "_open_streams", open_streams_late)
    result, took_s = run_once(measured(network, "upload"))

    check_late(result, late="stream 1", prompt="control")
    ceiling = network.payload_ceiling_bps(RATE)
    assert result.steady.goodput_bps == pytest.approx(ceiling, rel=0.02)
    check_averages(result, took_s)
    check_retransmits(result.flow, syns=SYNS_AGAIN)
