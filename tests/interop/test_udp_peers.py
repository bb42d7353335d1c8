"""UDP with the real iperf3 at one end and netmeasure at the other: the same counts of datagrams.

A sender knows what it sent, a receiver what it got; iperf3 learns of losses only from a higher
number, so what is lost at the very end it does not see. Each test therefore compares what both can
know: sent and received, exactly, and losses with that tail put to iperf3's figure.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import netmeasure as nm
from support import iperf3
from support.elsewhere import loop_on
from support.netns import Network
from support.optional import known

pytestmark = [pytest.mark.interop, pytest.mark.rates]

MBIT = 1_000_000
RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]


@dataclass(frozen=True)
class Case:
    """The same test in iperf3's options and as a specification."""

    name: str
    options: tuple[str, ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)
    bps: int = 10 * MBIT
    size: int = 1400
    packets: int | None = None  # the limit that ends the test, in datagrams; None: 1 s
    limit: dict[str, int] = field(default_factory=dict)
    omit_s: int = 0
    host: str = "127.0.0.1"

    @property
    def arguments(self) -> list[str]:
        end = [] if self.limit else ["-t", "1"]
        rate = ["-b", str(self.bps), "-l", str(self.size)]
        return ["-u", *rate, *end, *self.options]

    @property
    def udp_spec(self) -> nm.UdpSpec:
        when: dict[str, Any] = self.limit or {"duration_s": 1}
        return nm.UdpSpec(
            timing=nm.Timing(**when, omit_s=self.omit_s),
            target_bps=self.bps,
            datagram_bytes=self.size,
            **self.spec,
        )

    @property
    def streams(self) -> int:
        return int(self.spec.get("streams", 1))

    @property
    def directions(self) -> list[str]:
        chosen = self.spec.get("direction", "upload")
        return ["upload", "download"] if chosen == "both" else [chosen]


DOWN: dict[str, Any] = {"direction": "download"}


def limited(name: str, *options: str, packets: int = 100, **more: Any) -> list[Case]:
    """Upload and download of so many datagrams."""
    end: dict[str, Any] = {"packets": packets, "limit": {"total_blocks": packets}}
    options = ("-k", str(packets), *options)
    return [
        Case(name, options, **end, **more),
        Case(f"{name}-down", ("-R", *options), DOWN, **end, **more),
    ]


CASES = [
    Case("upload"),
    Case("download", ("-R",), DOWN),
    Case("both", ("--bidir",), {"direction": "both"}),
    Case("streams", ("-P", "4"), {"streams": 4}, bps=20 * MBIT),
    Case("streams-down", ("-R", "-P", "4"), {**DOWN, "streams": 4}),
    *limited("small", size=64, bps=MBIT),
    *limited("large", packets=30, size=65_507, bps=100 * MBIT),
    *limited("wide", "--udp-counters-64bit"),
    *limited("ipv6", "-6", host="::1"),
    *limited("blocks"),
    Case("bytes", ("-n", "140000"), packets=100, limit={"total_bytes": 140_000}),
    Case("bytes-down", ("-R", "-n", "140000"), DOWN, packets=100, limit={"total_bytes": 140_000}),
]
OMITTING = [
    Case("upload", ("-O", "1"), omit_s=1),
    Case("download", ("-O", "1", "-R"), DOWN, omit_s=1),
]


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@contextmanager
def on(network: Network | None, side: str, run: RunOnce) -> Iterator[RunOnce]:
    """A runner of coroutines on one side of the network, or on this host."""
    if network is None:
        yield run
    else:
        with loop_on(network, side) as runner:
            yield runner


def iperf3_asks_us(
    run: RunOnce, arguments: list[str], host: str, network: Network | None = None
) -> tuple[dict[str, Any], nm.Result]:
    """The report of an iperf3 client, and our server's result of the same test."""

    async def main() -> tuple[dict[str, Any], nm.Result]:
        ended: asyncio.Future[nm.Result] = asyncio.get_running_loop().create_future()
        async with nm.serve(None, 0, on_result=ended.set_result) as server:
            report = await asyncio.to_thread(
                iperf3.client, host, server.port, *arguments, network=network
            )
            return report, await asyncio.wait_for(ended, 10)

    with on(network, "server", run) as there:
        report, result = there(main())
    assert result.complete, result.error
    assert not result.peer_extended
    return report, result


def we_ask_iperf3(
    run: RunOnce, spec: nm.UdpSpec, host: str, network: Network | None = None
) -> tuple[dict[str, Any], nm.Result]:
    """The report of an iperf3 server, and our client's result of the same test."""

    with (
        iperf3.server(network, one_off=True, args=("-J",)) as server,
        on(network, "client", run) as here,
    ):
        result: nm.Result = here(nm.measure(host, spec, port=server.port))
        server.process.wait(timeout=10)
        report = json.loads(server.output)
    assert "error" not in report
    assert result.complete
    assert not result.peer_extended
    return report, result


def sums(report: dict[str, Any], flow: nm.Flow, *, both: bool) -> tuple[Any, Any]:
    """The sum that was sent and the sum that was received in one direction, in iperf3's JSON."""
    way = "_bidir_reverse" if both and flow.direction == "download" else ""
    return report["end"][f"sum_sent{way}"], report["end"][f"sum_received{way}"]


def check_rate(case: Case, flow: nm.Flow) -> None:
    """The average is near the target, but for what our own sender says it gave up in stalls."""
    if case.packets is None:
        sent = [stream.sender.datagrams for stream in flow.streams if stream.sender]
        stalls_s = sum(d.skipped_ns or 0 for d in sent if d) / 1e9 / case.streams
        due = case.bps * case.streams * (1 - stalls_s / (1 + case.omit_s))
        assert flow.averages.after_omit_bps == pytest.approx(due, rel=0.1 + stalls_s)


def check_loss(flow: nm.Flow) -> tuple[int, int, int]:
    """(sent, received, lost) of a flow, which must fit each other and what each end counted."""
    loss = flow.loss
    assert loss is not None
    assert loss.sent_packets is not None
    assert loss.received_packets is not None
    assert loss.lost_packets is not None
    assert loss.sent_packets == loss.received_packets + loss.lost_packets
    assert min(loss.received_packets, loss.lost_packets) >= 0
    return loss.sent_packets, loss.received_packets, loss.lost_packets


@each(CASES)
def test_an_iperf3_client_and_our_server_count_the_same(case: Case, run_once: RunOnce) -> None:
    report, result = iperf3_asks_us(run_once, case.arguments, case.host)
    assert [flow.direction for flow in result.flows] == case.directions
    for flow in result.flows:
        sent, received, lost = check_loss(flow)
        assert flow.sender.bytes == sent * case.size
        assert flow.receiver.bytes == received * case.size
        assert len(flow.streams) == case.streams
        theirs_sent, theirs = sums(report, flow, both="--bidir" in case.options)
        assert theirs_sent["bytes"] == sent * case.size
        assert theirs["bytes"] == received * case.size
        if flow.direction == "upload":
            # both figures are what our server said, the tail included: iperf3 shows it as told
            assert theirs["packets"] == sent
            assert theirs["lost_packets"] == lost
        else:
            assert theirs["packets"] - theirs["lost_packets"] == received
            assert theirs["lost_packets"] == lost - (sent - theirs["packets"])
        if case.packets is not None:
            assert sent == case.packets
        check_rate(case, flow)


@each(CASES)
def test_our_client_and_an_iperf3_server_count_the_same(case: Case, run_once: RunOnce) -> None:
    report, result = we_ask_iperf3(run_once, case.udp_spec, case.host)
    assert [flow.direction for flow in result.flows] == case.directions
    for flow in result.flows:
        sent, received, lost = check_loss(flow)
        assert flow.sender.bytes == sent * case.size
        assert flow.receiver.bytes == received * case.size
        assert len(flow.streams) == case.streams
        # an iperf3 server knows its own part only
        theirs_sent, theirs = sums(report, flow, both=len(case.directions) == 2)
        if flow.direction == "upload":
            assert theirs["bytes"] == received * case.size
            assert theirs["packets"] - theirs["lost_packets"] == received
            assert theirs["lost_packets"] == lost - (sent - theirs["packets"])
        else:
            assert theirs_sent["bytes"] == sent * case.size
            assert theirs_sent["packets"] == sent
        if case.packets is not None and flow.direction == "upload":
            assert sent == case.packets
        elif case.packets is not None:
            assert received >= case.packets  # iperf3 goes on until it is told to stop
        check_rate(case, flow)


@each(OMITTING)
def test_an_iperf3_client_omits_and_our_server_leaves_out_the_same(
    case: Case, run_once: RunOnce
) -> None:
    """iperf3 3.12 does not say what it had received when its omitted time was over: in a download
    the loss is then unknown, and must not be made up."""
    report, result = iperf3_asks_us(run_once, case.arguments, case.host)
    (flow,) = result.flows
    theirs = report["end"]["sum_received"]
    check_rate(case, flow)
    assert result.spec.timing.omit_s == 1
    if flow.direction == "upload":
        (mine,) = result.server.streams
        _, received, _ = check_loss(flow)
        assert mine.counted_bytes == theirs["bytes"]
        assert known(mine.bytes) > known(mine.counted_bytes)
        assert mine.datagrams is not None
        assert mine.datagrams.packets == known(mine.bytes) // case.size
        assert received == mine.datagrams.packets - known(mine.datagrams.omitted_packets)
    else:
        assert theirs["bits_per_second"] == pytest.approx(case.bps, rel=0.1)
        assert flow.receiver.bytes == theirs["bytes"]
        assert flow.loss is not None
        assert (flow.loss.lost_packets, flow.loss.loss_ratio) == (None, None)


@each(OMITTING)
def test_our_client_omits_with_an_iperf3_server(case: Case, run_once: RunOnce) -> None:
    report, result = we_ask_iperf3(run_once, case.udp_spec, case.host)
    (flow,) = result.flows
    (mine,) = result.client.streams
    check_rate(case, flow)
    assert known(mine.bytes) > known(mine.counted_bytes) > 0
    if flow.direction == "upload":
        assert flow.receiver.bytes == report["end"]["sum_received"]["bytes"]
        assert flow.loss is not None
        assert (flow.loss.lost_packets, flow.loss.loss_ratio) == (None, None)
    else:
        check_loss(flow)
        assert mine.datagrams is not None
        assert known(mine.datagrams.omitted_packets)


# ---- a path that drops --------------------------------------------------------------------------

LINK_BPS = 10 * MBIT
OFFERED_BPS = 2 * LINK_BPS
DROPPING = [
    Case("upload", bps=OFFERED_BPS),
    Case("download", ("-R",), DOWN, bps=OFFERED_BPS),
    Case("streams", ("-P", "2"), {"streams": 2}, bps=OFFERED_BPS // 2),
]


@pytest.fixture(scope="module")
def narrow() -> Iterator[Network]:
    """A link that carries half of what the tests offer. Its queue holds 20 ms."""
    with Network() as pair:
        pair.shape(f"{LINK_BPS}bit", burst="16k", latency="20ms")
        yield pair


def check_much_is_lost(case: Case, flow: nm.Flow) -> tuple[int, int, int]:
    sent, received, lost = check_loss(flow)
    # the link decides what can arrive: its rate for a second, burst and queue on top
    carried = LINK_BPS / 8 * case.size / (case.size + 42)
    assert 0 < received * case.size < 1.15 * carried
    assert lost > sent // 10
    return sent, received, lost


@pytest.mark.network
@each(DROPPING)
def test_iperf3_and_our_server_agree_on_what_a_link_dropped(
    case: Case, narrow: Network, run_once: RunOnce
) -> None:
    report, result = iperf3_asks_us(run_once, case.arguments, narrow.server.address, narrow)
    (flow,) = result.flows
    sent, received, lost = check_much_is_lost(case, flow)
    theirs_sent, theirs = sums(report, flow, both=False)
    assert theirs_sent["bytes"] == sent * case.size
    assert theirs["bytes"] == received * case.size
    if flow.direction == "upload":
        assert (theirs["packets"], theirs["lost_packets"]) == (sent, lost)
    else:
        assert theirs["packets"] - theirs["lost_packets"] == received
        unseen = sent - theirs["packets"]
        assert theirs["lost_packets"] == lost - unseen
        # the queue's length, and twice what is sent while iperf3 notices its end
        assert 0 <= unseen < sent // 4


@pytest.mark.network
@each(DROPPING)
def test_our_client_and_iperf3_agree_on_what_a_link_dropped(
    case: Case, narrow: Network, run_once: RunOnce
) -> None:
    report, result = we_ask_iperf3(run_once, case.udp_spec, narrow.server.address, narrow)
    (flow,) = result.flows
    sent, received, lost = check_much_is_lost(case, flow)
    theirs_sent, theirs = sums(report, flow, both=False)
    if flow.direction == "upload":
        assert theirs["bytes"] == received * case.size
        assert theirs["packets"] - theirs["lost_packets"] == received
        unseen = sent - theirs["packets"]
        assert theirs["lost_packets"] == lost - unseen
        assert 0 <= unseen < sent // 4
    else:
        assert theirs_sent["packets"] == sent
        assert theirs_sent["bytes"] == sent * case.size
