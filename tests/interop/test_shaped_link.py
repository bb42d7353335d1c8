"""The real iperf3 at one end, netmeasure at the other, on a link of known rate: the same numbers.

Every test is run twice, with either program as the client. Three figures must agree: what iperf3
says, what netmeasure says, and what the link can carry. Congestion control is always cubic, since
the default differs from host to host.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import netmeasure as nm
from support import iperf3
from support.netns import Network

pytestmark = [pytest.mark.network, pytest.mark.interop, pytest.mark.rates]

RATE = "1gbit"
#: 8 ms of the rate: a shorter burst loses capacity for good whenever the shared machine gives the
#: senders no CPU for a moment; it adds 0.4 % to a test of 2 s.
BURST = "1m"
AGREEMENT = 0.02
BLOCK_BYTES = 128 * 1024  # iperf3's default
BLOCKS = 1840
TOTAL_BYTES = BLOCKS * BLOCK_BYTES  # about 2 s
TARGET_BPS = 200_000_000
CLOSING_S = 1.0  # connecting, exchanging results and closing take no longer than this

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]


@dataclass(frozen=True)
class Case:
    """The same test in iperf3's options and as a specification."""

    name: str
    options: tuple[str, ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)
    duration_s: float | None = 2
    omit_s: float = 0
    limit: dict[str, Any] = field(default_factory=dict)
    family: int = 4
    #: Whether TCP fills the link from the first round trips on to the end.
    fills: bool = True

    @property
    def exact(self) -> bool:
        """Ended by bytes or blocks, so that their number is known in advance."""
        return self.duration_s is None

    @property
    def transfer_s(self) -> float:
        return self.omit_s + (self.duration_s or TOTAL_BYTES * 8 / self.expected_bps)

    @property
    def arguments(self) -> list[str]:
        end = [] if self.exact else ["-t", f"{self.duration_s:g}"]
        return ["-C", "cubic", "-l", str(BLOCK_BYTES), *end, *self.options]

    @property
    def tcp_spec(self) -> nm.TcpSpec:
        return nm.TcpSpec(
            timing=nm.Timing(duration_s=self.duration_s, omit_s=self.omit_s, **self.limit),
            options=nm.SocketOptions(congestion="cubic"),
            block_bytes=BLOCK_BYTES,
            **self.spec,
        )

    @property
    def expected_bps(self) -> float:
        """What the test must find: its own target, or all that the link carries."""
        target: float | None = self.spec.get("target_bps")
        return target or Network.payload_ceiling_bps(RATE, family=self.family)

    @property
    def directions(self) -> list[str]:
        chosen = self.spec.get("direction", "upload")
        return ["upload", "download"] if chosen == "both" else [chosen]


CASES = [
    Case("upload"),
    Case("download", ("-R",), {"direction": "download"}),
    # Each direction's acknowledgements wait behind the data of the other. Cubic may lose much of
    # its window at the start, and then need most of the test to fill the link again.
    Case("both", ("--bidir",), {"direction": "both"}, duration_s=3, fills=False),
    Case("streams", ("-P", "4"), {"streams": 4}),
    Case("bytes", ("-n", str(TOTAL_BYTES)), duration_s=None, limit={"total_bytes": TOTAL_BYTES}),
    Case("blocks", ("-k", str(BLOCKS)), duration_s=None, limit={"total_blocks": BLOCKS}),
    Case("omit", ("-O", "1"), omit_s=1),
    Case("bitrate", ("-b", str(TARGET_BPS)), {"target_bps": TARGET_BPS}),
    Case("ipv6", ("-6",), family=6),
]
each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape(RATE, burst=BURST)
        yield pair


@asynccontextmanager
async def serving(network: Network, **options: Any) -> AsyncIterator[nm.Server]:
    with network.enter("server"):
        server = await nm.serve(None, 0, **options).__aenter__()
    try:
        yield server
    finally:
        await server.close()


def address(network: Network, case: Case) -> str:
    return network.server.address if case.family == 4 else network.server.address6


def iperf3_figures(report: dict[str, Any], case: Case, flow: nm.Flow) -> tuple[Any, Any]:
    """The sum that was sent and the sum that was received in one direction, in iperf3's JSON."""
    way = "_bidir_reverse" if case.name == "both" and flow.direction == "download" else ""
    return report["end"][f"sum_sent{way}"], report["end"][f"sum_received{way}"]


def counted_bytes(flow: nm.Flow, role: str) -> int:
    """What counts of one end's bytes: the part after the omitted time."""
    counts = [getattr(stream, role).counted_bytes for stream in flow.streams]
    assert None not in counts
    return sum(counts)


def check_rates(case: Case, flow: nm.Flow, iperf3_bps: float) -> None:
    """iperf3's figure, ours, and the truth."""
    average_bps = flow.averages.after_omit_bps
    assert average_bps is not None
    assert flow.steady is not None
    figures = {"iperf3's": iperf3_bps, "our average": average_bps}
    agreed = pytest.approx(dict.fromkeys(figures, iperf3_bps), rel=AGREEMENT)
    assert figures == agreed, flow.direction
    if not case.exact:
        figures["our steady state"] = flow.steady.goodput_bps
    if case.fills:
        expected = pytest.approx(dict.fromkeys(figures, case.expected_bps), rel=AGREEMENT)
        assert figures == expected, flow.direction
        return
    most_bps = (1 + AGREEMENT) * case.expected_bps
    assert 0.8 * case.expected_bps < average_bps <= most_bps, flow.direction
    # the start is not a part of the steady state
    assert (1 - AGREEMENT) * average_bps <= flow.steady.goodput_bps <= most_bps, flow.direction


@each_case
def test_iperf3_measures_against_our_server(
    case: Case, network: Network, run_once: RunOnce
) -> None:
    async def main() -> tuple[dict[str, Any], nm.Result, float]:
        ended: asyncio.Future[nm.Result] = asyncio.get_running_loop().create_future()
        async with serving(network, on_result=ended.set_result) as server:
            where = address(network, case), server.port
            start = time.monotonic()
            report = await asyncio.to_thread(
                iperf3.client, *where, *case.arguments, network=network
            )
            took_s = time.monotonic() - start
            return report, await asyncio.wait_for(ended, 30), took_s

    report, result, took_s = run_once(main())

    assert "error" not in report
    assert result.complete, result.error
    assert not result.peer_extended
    assert took_s < case.transfer_s + CLOSING_S
    assert [flow.direction for flow in result.flows] == case.directions
    for flow in result.flows:
        sent, received = iperf3_figures(report, case, flow)
        # one of the two is what we told iperf3, the other what iperf3 told us
        told = counted_bytes(flow, "sender")
        if flow.direction == "download":  # it also received what arrived after its time
            told = max(told, counted_bytes(flow, "receiver"))
        assert sent["bytes"] == told
        assert received["bytes"] == counted_bytes(flow, "receiver")
        if case.exact:
            assert sent["bytes"] == received["bytes"] == TOTAL_BYTES
            assert flow.sender.bytes == flow.receiver.bytes == TOTAL_BYTES
        check_rates(case, flow, received["bits_per_second"])


@each_case
def test_our_client_measures_against_an_iperf3_server(
    case: Case, network: Network, run_once: RunOnce
) -> None:
    async def main(port: int) -> tuple[nm.Result, float]:
        start = time.monotonic()
        with network.enter("client"):
            result = await nm.measure(address(network, case), case.tcp_spec, port=port)
        return result, time.monotonic() - start

    with iperf3.server(network, one_off=True, args=("-J",)) as server:
        result, took_s = run_once(main(server.port))
        server.process.wait(timeout=30)
        report = json.loads(server.output)

    assert "error" not in report
    assert result.complete
    assert not result.peer_extended
    assert took_s < case.transfer_s + CLOSING_S
    assert [flow.direction for flow in result.flows] == case.directions
    for flow in result.flows:
        # an iperf3 server knows its own part only: what it sent, where it is not the receiver
        sent, received = iperf3_figures(report, case, flow)
        theirs, role = (received, "receiver") if flow.direction == "upload" else (sent, "sender")
        assert theirs["bytes"] == counted_bytes(flow, role)
        if case.exact:
            assert theirs["bytes"] == TOTAL_BYTES
            assert flow.sender.bytes == flow.receiver.bytes == TOTAL_BYTES
        check_rates(case, flow, theirs["bits_per_second"])


def test_an_iperf3_client_that_reads_no_more_is_not_waited_for(
    network: Network, run_once: RunOnce
) -> None:
    """In both directions at once, iperf3 3.12 stops reading when its time is over: with a small
    window, what the server has sent last is never acknowledged."""

    async def main() -> float:
        async with serving(network) as server:
            where = network.server.address, server.port
            options = ("-C", "cubic", "--bidir", "-t", "1", "-w", "64K")
            start = time.monotonic()
            await asyncio.to_thread(iperf3.client, *where, *options, network=network)
            return time.monotonic() - start

    assert run_once(main()) < 1 + CLOSING_S
