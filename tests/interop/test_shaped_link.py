"""The real iperf3 at one end, netmeasure at the other, on a link of known rate: the same numbers.

Every test is run twice, with either program as the client. Three figures must agree: what iperf3
says, what netmeasure says, and what the link can carry. Congestion control is always cubic, since
the default differs from host to host.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import netmeasure as nm
from support import iperf3
from support.netns import Network

pytestmark = [pytest.mark.network, pytest.mark.interop]

RATE = "1gbit"
AGREEMENT = 0.02
BLOCK_BYTES = 128 * 1024  # iperf3's default
BLOCKS = 1600
TOTAL_BYTES = BLOCKS * BLOCK_BYTES  # about 1.75 s
TARGET_BPS = 200_000_000
FLOWS = {  # the receiver's figure in iperf3's JSON, and what the sender counted
    "upload": ("sum_received", "sum_sent"),
    "download": ("sum_received", "sum_sent"),
    "both/upload": ("sum_received", "sum_sent"),
    "both/download": ("sum_received_bidir_reverse", "sum_sent_bidir_reverse"),
}

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]


@dataclass(frozen=True)
class Case:
    """The same test in iperf3's options and as a specification."""

    name: str
    options: tuple[str, ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=lambda: {"duration_s": 2})
    family: int = 4

    @property
    def exact(self) -> bool:
        """Ended by bytes or blocks, so that their number is known in advance."""
        return "duration_s" not in self.timing

    @property
    def arguments(self) -> list[str]:
        time = [] if self.exact else ["-t", "2"]
        return ["-C", "cubic", "-l", str(BLOCK_BYTES), *time, *self.options]

    @property
    def tcp_spec(self) -> nm.TcpSpec:
        return nm.TcpSpec(
            timing=nm.Timing(**self.timing),
            options=nm.SocketOptions(congestion="cubic"),
            block_bytes=BLOCK_BYTES,
            **self.spec,
        )

    @property
    def expected_bps(self) -> float:
        """What the test must find: its own target, or all that the link carries."""
        target: float | None = self.spec.get("target_bps")
        return target or Network.payload_ceiling_bps(RATE, family=self.family)


CASES = [
    Case("upload"),
    Case("download", ("-R",), {"direction": "download"}),
    Case("both", ("--bidir",), {"direction": "both"}),
    Case("streams", ("-P", "4"), {"streams": 4}),
    Case("bytes", ("-n", str(TOTAL_BYTES)), timing={"total_bytes": TOTAL_BYTES}),
    Case("blocks", ("-k", str(BLOCKS)), timing={"total_blocks": BLOCKS}),
    Case("omit", ("-O", "1"), timing={"duration_s": 2, "omit_s": 1}),
    Case("bitrate", ("-b", str(TARGET_BPS)), {"target_bps": TARGET_BPS}),
    Case("ipv6", ("-6",), family=6),
]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape(RATE)
        yield pair


@asynccontextmanager
async def serving(network: Network, **keywords: Any) -> AsyncIterator[nm.Server]:
    with network.enter("server"):
        server = await nm.serve(None, 0, **keywords).__aenter__()
    try:
        yield server
    finally:
        await server.close()


def address(network: Network, case: Case) -> str:
    return network.server.address if case.family == 4 else network.server.address6


def close_to(expected: float) -> Any:
    return pytest.approx(expected, rel=AGREEMENT)


def flow_name(case: Case, flow: nm.Flow) -> str:
    return (
        f"both/{flow.direction}"
        if len(case.options) and "--bidir" in case.options
        else (flow.direction)
    )


def check_rates(case: Case, flow: nm.Flow, iperf3_bps: float) -> None:
    """iperf3's figure, ours, and the truth."""
    assert flow.averages.after_omit_bps is not None
    assert flow.steady is not None
    ours = {"average": flow.averages.after_omit_bps}
    if not case.exact:
        ours["steady"] = flow.steady.goodput_bps
    seen = f"{flow.direction}: iperf3 {iperf3_bps / 1e6:.1f} Mbit/s, ours {ours}"
    assert iperf3_bps == close_to(case.expected_bps), seen
    for figure in ours.values():
        assert figure == close_to(case.expected_bps), seen
        assert figure == close_to(iperf3_bps), seen


def counted_bytes(reports: list[nm.StreamReport | None]) -> int:
    counts = [report.counted_bytes for report in reports if report is not None]
    assert counts
    assert None not in counts
    return sum(count or 0 for count in counts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_iperf3_measures_against_our_server(
    case: Case, network: Network, run_once: RunOnce
) -> None:
    async def main() -> tuple[dict[str, Any], nm.Result]:
        ended: asyncio.Future[nm.Result] = asyncio.get_running_loop().create_future()
        async with serving(network, on_result=ended.set_result) as server:
            report = await asyncio.to_thread(
                iperf3.client,
                address(network, case),
                server.port,
                *case.arguments,
                network=network,
            )
            return report, await asyncio.wait_for(ended, 5)

    report, result = run_once(main())

    assert "error" not in report
    assert result.complete, result.error
    assert not result.peer_extended
    assert len(result.flows) == (2 if case.name == "both" else 1)
    for flow in result.flows:
        received, sent = (report["end"][key] for key in FLOWS[flow_name(case, flow)])
        streams = flow.streams
        if flow.direction == "upload":
            # ours is the receiver: what iperf3 prints as received is what we told it
            assert received["bytes"] == counted_bytes([s.receiver for s in streams])
            assert sent["bytes"] == counted_bytes([s.sender for s in streams])
        else:
            assert sent["bytes"] == counted_bytes([s.sender for s in streams])
            assert received["bytes"] == counted_bytes([s.receiver for s in streams])
        if case.exact:
            assert received["bytes"] == sent["bytes"] == TOTAL_BYTES
            assert flow.receiver.bytes == flow.sender.bytes == TOTAL_BYTES
        check_rates(case, flow, received["bits_per_second"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_client_measures_against_an_iperf3_server(
    case: Case, network: Network, run_once: RunOnce
) -> None:
    async def main(port: int) -> nm.Result:
        with network.enter("client"):
            return await nm.measure(address(network, case), case.tcp_spec, port=port)

    with iperf3.server(network, one_off=True, args=("-J",)) as server:
        result = run_once(main(server.port))
        server.process.wait(timeout=5)
        report = json.loads(server.output)

    assert "error" not in report
    assert result.complete
    assert not result.peer_extended
    assert len(result.flows) == (2 if case.name == "both" else 1)
    for flow in result.flows:
        # an iperf3 server knows its own part only: what it sent, where we are the receiver
        received, sent = FLOWS[flow_name(case, flow)]
        theirs = report["end"][received if flow.direction == "upload" else sent]
        far = [s.receiver if flow.direction == "upload" else s.sender for s in flow.streams]
        assert theirs["bytes"] == counted_bytes(far)
        if case.exact:
            assert theirs["bytes"] == TOTAL_BYTES
            assert flow.receiver.bytes == flow.sender.bytes == TOTAL_BYTES
        check_rates(case, flow, theirs["bits_per_second"])
