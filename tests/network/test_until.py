"""Test runs that end by themselves, on a link whose rate is known: they must end early, and their
confidence intervals must contain the rate."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from support import iperf3
from support.elsewhere import loop_on
from support.netns import Network
from support.reanalysis import check

pytestmark = [pytest.mark.network, pytest.mark.rates]

RATE = "100mbit"
#: The burst makes up for 40 ms in which a busy machine gives a sender no CPU.
SHAPE = {"burst": "512k", "latency": "20ms"}
TARGET = 0.02
UDP_HEADERS = 14 + 20 + 8  # Ethernet, as tbf counts it, IPv4 and UDP
CAP_S = 8
UNTIL = nm.Timing(until=TARGET, duration_s=CAP_S)
CUBIC = nm.SocketOptions(congestion="cubic")

Loop = Callable[[Any], Any]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape(RATE, **SHAPE)
        yield pair


@pytest.fixture
def here(network: Network) -> Iterator[Loop]:
    with loop_on(network, "client") as loop:
        yield loop


@pytest.fixture(scope="module")
def server(network: Network) -> Iterator[nm.Server]:
    with loop_on(network, "server") as there:
        running = there(nm.serve(None, 0).__aenter__())
        yield running
        there(running.close())


def measured(here: Loop, network: Network, spec: nm.TcpSpec | nm.UdpSpec, port: int) -> nm.Result:
    result: nm.Result = here(nm.measure(network.server.address, spec, port=port))
    return result


def check_ended_itself(result: nm.Result, truth_bps: float) -> None:
    assert result.complete
    auto_stop = result.auto_stop
    assert auto_stop is not None
    assert auto_stop.reason == "narrow"
    assert auto_stop.counted_ns is not None
    assert auto_stop.counted_ns < 5e9
    assert auto_stop.saved_ns == CAP_S * 10**9 - auto_stop.counted_ns
    assert {look.direction for look in auto_stop.looks} == {f.direction for f in result.flows}
    assert auto_stop.looks[-1].at_ns == auto_stop.counted_ns
    check(result)
    assert any("ended by itself" in note and "+-2 %" in note for note in result.notes)
    for flow in result.flows:
        assert flow.steady is not None
        assert flow.steady.verdict == "steady"
        assert flow.steady.margin is not None
        assert flow.steady.margin == pytest.approx(TARGET)
        assert flow.steady.goodput_bps == pytest.approx(truth_bps, rel=TARGET)


def holds(found: nm.Steady | None, truth_bps: float) -> bool:
    assert found is not None
    assert found.confidence_interval is not None
    return found.confidence_interval[0] <= truth_bps <= found.confidence_interval[1]


def test_a_clean_link_is_known_within_five_seconds(
    here: Loop, network: Network, server: nm.Server
) -> None:
    truth_bps = network.payload_ceiling_bps(RATE)
    begin = time.monotonic()
    result = measured(here, network, nm.TcpSpec(timing=UNTIL, options=CUBIC), server.port)
    took_s = time.monotonic() - begin
    check_ended_itself(result, truth_bps)  # it checks for less than five seconds
    assert took_s < CAP_S
    assert holds(result.steady, truth_bps)
    assert {stream.sender.end_reason for stream in result.flow.streams if stream.sender} == {
        "stopped"
    }
    assert result.sender.acked_bytes == result.receiver.bytes


def test_the_command_line_says_what_was_saved(
    network: Network, server: nm.Server, tmp_path: Path
) -> None:
    saved = tmp_path / "result.json"
    where = f"{network.server.address}:{server.port}"
    words = ("client", where, "-d", "download", "--until", "2%", "-t", "8", "-C", "cubic")
    command = (sys.executable, "-m", "netmeasure", *words, "--json", str(saved))
    ran = subprocess.run(
        network.command("client", command), capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    result = nm.Result.from_json(saved.read_bytes())
    check_ended_itself(result, network.payload_ceiling_bps(RATE))
    assert holds(result.steady, network.payload_ceiling_bps(RATE))
    assert result.auto_stop is not None
    assert "until +-2 %, at most 8.00 s" in ran.stdout
    assert f"note: {result.notes[-1]}" in " ".join(ran.stdout.split())


def test_datagrams_that_arrive_here_end_a_run(
    here: Loop, network: Network, server: nm.Server
) -> None:
    """The sender sends more than the link carries, so the rate of arrival is the link's even if the
    sender is busy."""
    payload = 1000
    spec = nm.UdpSpec(
        direction="download", target_bps=150_000_000, datagram_bytes=payload, timing=UNTIL
    )
    result = measured(here, network, spec, server.port)
    check_ended_itself(result, 100e6 * payload / (payload + UDP_HEADERS))
    assert result.flow.loss is not None
    assert result.flow.loss.loss_ratio is not None
    assert result.flow.loss.loss_ratio > 0.2


@pytest.mark.interop
def test_a_plain_iperf3_server_is_told_when_both_directions_are_known(
    here: Loop, network: Network
) -> None:
    spec = nm.TcpSpec(
        direction="both",
        streams=2,
        timing=nm.Timing(until=TARGET, omit_s=0.3, duration_s=CAP_S),
        options=CUBIC,
    )
    with iperf3.server(network, one_off=True) as plain:
        result = measured(here, network, spec, plain.port)
        assert plain.process.wait(timeout=30) == 0
    # acknowledgements of the other direction take their share of the link
    check_ended_itself(result, network.payload_ceiling_bps(RATE))
    assert not result.peer_extended
    assert result.auto_stop is not None
    both = [look.direction for look in result.auto_stop.looks]
    assert both == ["upload", "download"] * (len(both) // 2)


def test_a_transfer_by_url_ends_itself(here: Loop, network: Network) -> None:
    with loop_on(network, "server") as there:
        origin = there(nm.serve_http(None, 0).__aenter__())
        try:
            url = f"http://{network.server.address}:{origin.port}/100G.dat"
            result = here(nm.measure(url, nm.HttpSpec(timing=UNTIL, options=CUBIC)))
        finally:
            there(origin.close())
    check_ended_itself(result, network.payload_ceiling_bps(RATE))


def test_a_test_on_a_link_that_is_never_steady_takes_all_its_time(
    here: Loop, server: nm.Server, network: Network
) -> None:
    """The link's rate changes until shortly before the end, so that the test can end normally."""
    over = threading.Event()
    chance = random.Random(7)

    def disturb() -> None:
        for _ in range(12):
            if not over.wait(0.3):
                network.shape(f"{chance.choice((30, 60, 90, 120))}mbit", **SHAPE)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        spec = nm.TcpSpec(timing=nm.Timing(until=TARGET, duration_s=4), options=CUBIC)
        result = measured(here, network, spec, server.port)
    finally:
        over.set()
        disturbing.join()
        network.shape(RATE, **SHAPE)
    assert result.complete
    assert result.auto_stop is not None
    assert result.auto_stop.reason == "cap"
    assert result.auto_stop.counted_ns is None
    assert result.auto_stop.saved_ns == 0
    assert len(result.auto_stop.looks) == 2
    assert any("ran for all of 4.00 s" in note for note in result.notes)
    assert result.steady is not None
    assert result.steady.end_ns > 3.5e9
