"""Test the comparison of two links, measured in turns: their rates differ by 3 %, or not at all."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import netmeasure as nm
from netmeasure.cli.exits import Exit
from netmeasure.comparison.comparison import Comparison
from netmeasure.repetition import Alternative, turns
from netmeasure.report.compare import sentences
from support.netns import SIDES, Network, ip
from support.optional import known

pytestmark = [pytest.mark.network, pytest.mark.rates]

RATE, SLOWER = "100mbit", "97mbit"
RATIO = 0.97
FIRST, SECOND = "10.77.0.2", "10.78.0.2"
SECOND_DEVICE = "nmcmp"
PAIRS = 5
#: The SYN is retransmitted after 1 s.
LATE_S, CONNECT_S = 0.5, 1.0
DURATION_S = 1.0

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        ends = [("name", SECOND_DEVICE, "netns", pair.sides[side].namespace) for side in SIDES]
        ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for number, side in ((1, pair.client), (2, pair.server)):
            here = ("-n", side.namespace)
            ip(*here, "link", "set", SECOND_DEVICE, "addrgenmode", "none", "up")
            ip(*here, "address", "add", f"10.78.0.{number}/24", "dev", SECOND_DEVICE)
        yield pair


def shape(network: Network, device: str, rate: str) -> None:
    """Limit the rate of the client's device. Its queue keeps the link busy while a sender has no
    CPU for 20 ms."""
    bucket = ("tbf", "rate", rate, "burst", "128k", "latency", "20ms")
    where = ("tc", "-n", network.client.namespace, "qdisc", "replace", "dev", device, "root")
    subprocess.run((*where, *bucket), check=True)


def compared(network: Network, second: str, file: Path, *words: str) -> tuple[Comparison, int, str]:
    shape(network, network.client.device, RATE)
    shape(network, SECOND_DEVICE, second)
    program = (sys.executable, "-m", "netmeasure")
    serving = network.popen("server", (*program, "server", "-p", "0"), stdout=subprocess.PIPE)
    try:
        assert serving.stdout is not None
        port = serving.stdout.readline().decode().split()[-1].rpartition(":")[2]
        command = ("compare", "--measure", FIRST, SECOND, "-p", port, "--pairs", str(PAIRS))
        test = ("-t", "0.5", "-w", "2M", "-q", "-C", "cubic", "--json", str(file))
        ran = subprocess.run(
            network.command("client", (*program, *command, *test, *words)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        serving.kill()
        serving.wait()
        if serving.stdout is not None:
            serving.stdout.close()
    assert ran.stderr == ""
    return msgspec.json.decode(file.read_bytes(), type=Comparison), ran.returncode, ran.stdout


def test_a_difference_of_three_percent_is_found(network: Network, tmp_path: Path) -> None:
    saved = [tmp_path / "a.json", tmp_path / "b.json"]
    save = ("--save", *map(str, saved))
    found, code, report = compared(
        network, SLOWER, tmp_path / "found.json", "--fail-below", "0.98", *save
    )

    assert code == Exit.BELOW
    assert found.verdict == "less"
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(RATIO, abs=0.01)
    assert known(found.ratio.high) < 1
    assert found.in_turns
    assert (found.flow.a.counted, found.flow.b.counted) == (PAIRS, PAIRS)
    assert "less than A" in report
    for file, target in zip(saved, (FIRST, SECOND), strict=True):
        runs = nm.ResultSet.from_json(file.read_bytes())
        assert len(runs) == PAIRS
        assert all(result.target.startswith(target) for result in runs)
    again = nm.compare(
        *(nm.ResultSet.from_json(file.read_bytes()) for file in saved),
        name_a=found.name_a,
        name_b=found.name_b,
    )
    assert again == found


def test_two_links_of_the_same_rate_are_equal(network: Network, tmp_path: Path) -> None:
    found, code, report = compared(network, RATE, tmp_path / "found.json", "--fail-below", "0.98")

    assert code == Exit.OK
    assert found.verdict == "equal"
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(1, abs=0.005)
    assert "The network carries the same, within 2 %" in report


def whole_s(result: nm.Result) -> float:
    """Return how long it took from the first attempt to the last byte."""
    return (
        known(result.flow.receiver.bytes) * 8 / known(result.flow.averages.from_first_attempt_bps)
    )


def test_a_late_network_carries_the_same(network: Network, run_once: RunOnce) -> None:
    """In every run of B, the network drops the first SYN, as in the article."""
    shape(network, network.client.device, RATE)
    spec = nm.TcpSpec(
        timing=nm.Timing(duration_s=DURATION_S),
        options=nm.SocketOptions(congestion="cubic", window_bytes=2_000_000),
    )

    async def measured() -> dict[Alternative, list[nm.Result]]:
        runs: dict[Alternative, list[nm.Result]] = {"a": [], "b": []}
        with network.enter("server"):
            server = await nm.serve(None, 0).__aenter__()
        with network.enter("client"):
            for side in turns(3):
                with network.late(LATE_S) if side == "b" else contextlib.nullcontext():
                    result = await nm.measure(network.server.address, spec, port=server.port)
                runs[side].append(result)
        await server.close()
        return runs

    runs = run_once(measured())
    found = nm.compare(runs["a"], runs["b"])
    assert found.verdict == "equal"
    set_up = known(found.flow.component("set_up_ns"))
    assert set_up.moved
    assert known(set_up.change).value / 1e9 == pytest.approx(CONNECT_S, abs=0.2)
    average = known(found.flow.component("from_first_attempt_bps"))
    # the data take equally long in A and B, but B first waits for its second SYN
    took_s = statistics.median(whole_s(result) for result in runs["a"])
    assert took_s > DURATION_S
    assert known(average.change).value == pytest.approx(took_s / (took_s + CONNECT_S), abs=0.03)
    said = " ".join(sentences(found, found.flow))
    assert said.startswith("The network carries the same, within 2 %")
    assert "Getting connected took 1.0" in said
    assert "a tool that counts from the first attempt reports" in said
