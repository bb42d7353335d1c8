"""Provoke each fault of iperf3 that gives wrong numbers, and show that netmeasure's numbers are
right."""

import asyncio
import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Literal

import pytest

import netmeasure as nm
from support import iperf3, relay
from support.netns import Network, ip
from support.relay import Relay

pytestmark = [pytest.mark.network, pytest.mark.rates]

needs_relay = pytest.mark.skipif(
    relay.available() is not None, reason=relay.available() or "the relay works"
)
both_ways = pytest.mark.parametrize("direction", ["upload", "download"])
CUBIC = nm.SocketOptions(congestion="cubic")
RATE = "1gbit"
CEILING_BPS = Network.payload_ceiling_bps(RATE)

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
Direction = Literal["upload", "download", "both"]


@asynccontextmanager
async def serving(network: Any, **options: Any) -> AsyncIterator[nm.Server]:
    with network.enter("server"):
        server = await nm.serve(None, 0, **options).__aenter__()
    try:
        yield server
    finally:
        await server.close()


async def measured(network: Any, spec: nm.TcpSpec) -> tuple[nm.Result, list[nm.Interval]]:
    """Run a test of our client with our server; return its result and its live intervals."""
    async with serving(network) as server:
        with network.enter("client"):
            async with nm.connect(network.server.address, port=server.port) as client:
                async with client.run(spec) as run:
                    intervals = [interval async for interval in run]
                return await run.wait(), intervals


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape(RATE, burst="1m")  # covers 8 ms without CPU
        yield pair


# ---- byte limits


@both_ways
def test_a_byte_limited_test_does_not_wait_for_the_interval_to_end(
    direction: Direction, network: Network, run_once: RunOnce
) -> None:
    total = 100_000_000  # 0.84 s
    timing = nm.Timing(total_bytes=total, interval_s=5)
    start = time.monotonic()
    result, _ = run_once(
        measured(network, nm.TcpSpec(direction=direction, timing=timing, options=CUBIC))
    )
    assert time.monotonic() - start < 2
    assert result.receiver.bytes == result.sender.bytes == total
    assert result.flow.averages.after_omit_bps == pytest.approx(CEILING_BPS, rel=0.03)


@both_ways
def test_a_byte_limited_test_without_intervals_ends(
    direction: Direction, network: Network, run_once: RunOnce
) -> None:
    """An interval of 0 is refused; an infinite interval and iperf3's `-i 0` work."""
    with pytest.raises(nm.SpecError):
        nm.Timing(interval_s=0)
    total = 32 * 131_072
    timing = nm.Timing(total_bytes=total, interval_s=86_400)
    start = time.monotonic()
    result, intervals = run_once(
        measured(network, nm.TcpSpec(direction=direction, timing=timing, options=CUBIC))
    )
    assert time.monotonic() - start < 1
    assert [interval.bytes for interval in intervals] == [result.receiver.bytes] == [total]


@pytest.mark.interop
@pytest.mark.parametrize("options", [(), ("-R",)], ids=["upload", "download"])
def test_a_byte_limited_test_of_iperf3_without_intervals_ends(
    options: tuple[str, ...], network: Network, run_once: RunOnce
) -> None:
    total = 32 * 131_072
    arguments = ("-C", "cubic", "-n", str(total), "-i", "0", *options)

    async def main() -> Any:
        async with serving(network) as server:
            return await asyncio.to_thread(
                iperf3.client, network.server.address, server.port, *arguments, network=network
            )

    start = time.monotonic()
    report = run_once(main())
    assert time.monotonic() - start < 1
    assert report["end"]["sum_received"]["bytes"] == total


# ---- a long path, and what each end takes for the duration

TARGET_BPS = 10_000_000
RTT_S = 0.5
FAR_S = 2


def its_route(namespace: str) -> list[str]:
    """Return the words of the only route on a side of the relay."""
    (line,) = ip("-n", namespace, "route", "show").splitlines()
    return line.split()


@contextmanager
def far_away() -> Iterator[Relay]:
    """Provide a path of RTT 500 ms that data fill from the first round trip on, as they usually
    would in the third second: a slow start of five round trips is too long for a test of 2 s.

    A test measures all that it checks, so that a repeated attempt measures anew.
    """
    with Relay(delay_ms=RTT_S * 1000 / 2) as network:
        for name, side in network.sides.items():
            for buffers in ("tcp_rmem", "tcp_wmem"):
                network.sysctl(name, f"net.ipv4.{buffers}", "4096 8388608 8388608")
            route = its_route(side.namespace)
            words = ("route", "change", *route, "initcwnd", "1000", "initrwnd", "1000")
            ip("-n", side.namespace, *words)
        yield network


async def by_our_clients(network: Relay) -> dict[tuple[str, int], nm.Result]:
    """Measure each direction with and without omitted time, all at once, since the path has no rate
    limit. Return the results by direction and omitted time."""

    async def one(direction: Any, omit_s: int) -> nm.Result:
        timing = nm.Timing(duration_s=FAR_S, omit_s=omit_s)
        spec = nm.TcpSpec(direction=direction, target_bps=TARGET_BPS, timing=timing, options=CUBIC)
        return await nm.measure(network.server.address, spec, port=server.port)

    cases = list(itertools.product(("upload", "download", "both"), (0, 1)))
    async with serving(network) as server:
        with network.enter("client"):
            return dict(zip(cases, await asyncio.gather(*(one(*c) for c in cases)), strict=True))


async def by_iperf3(network: Relay) -> tuple[dict[str, dict[str, Any]], list[nm.Result]]:
    """Measure each direction with the real client. Return its reports by option, and our server's
    results."""
    options = ("", "-R", "--bidir")
    words = ("-C", "cubic", "-b", str(TARGET_BPS), "-l", "8K", "-t", str(FAR_S))
    on_the_server: list[nm.Result] = []
    async with serving(network, on_result=on_the_server.append) as server:
        where = network.server.address, server.port
        asks = [
            partial(iperf3.client, *where, *words, *filter(None, [option]), network=network)
            for option in options
        ]
        reports = await asyncio.gather(*map(asyncio.to_thread, asks))
    return dict(zip(options, reports, strict=True)), on_the_server


def near_target() -> Any:
    return pytest.approx(TARGET_BPS, rel=0.03)


def rates(flow: nm.Flow) -> dict[str, float]:
    """Return every rate of the flow, including those from the counts of each end."""
    found = {
        "average": flow.averages.after_omit_bps,
        "from first byte": flow.averages.from_first_byte_bps,
        "steady": flow.steady.goodput_bps if flow.steady else None,
    }
    for stream in flow.streams:
        for report in (stream.sender, stream.receiver):
            assert report is not None
            found[report.role] = (report.counted_bytes or 0) * 8e9 / (report.counted_ns or 1)
    assert None not in found.values()
    return {name: rate or 0.0 for name, rate in found.items()}


def check_target(flow: nm.Flow, case: str) -> None:
    figures = rates(flow)
    wanted = pytest.approx(dict.fromkeys(figures, TARGET_BPS), rel=0.03)
    assert figures == wanted, f"{case}: {flow.direction}"


@needs_relay
def test_the_round_trip_is_not_counted_as_time_of_the_transfer(run_once: RunOnce) -> None:
    """The directions have their own durations, and both ends omit the same bytes."""
    with far_away() as network:
        found = run_once(by_our_clients(network))
    for (direction, omit_s), result in found.items():
        ways = ["upload", "download"] if direction == "both" else [direction]
        assert [flow.direction for flow in result.flows] == ways
        for flow in result.flows:
            check_target(flow, f"{direction}, {omit_s} s omitted")
            (stream,) = flow.streams
            assert stream.sender is not None
            assert stream.receiver is not None
            assert stream.sender.counted_bytes == pytest.approx(
                stream.receiver.counted_bytes, rel=0.03
            ), (direction, omit_s)


@needs_relay
@pytest.mark.interop
def test_the_round_trip_is_not_counted_when_iperf3_asks_our_server(run_once: RunOnce) -> None:
    """In both directions at once our server is right, even where iperf3's own output is wrong."""
    with far_away() as network:
        reports, on_the_server = run_once(by_iperf3(network))
    for option in ("", "-R"):
        end = reports[option]["end"]
        assert end["sum_received"]["bits_per_second"] == near_target(), option
        assert end["sum_sent"]["bits_per_second"] == near_target(), option
    (both,) = (result for result in on_the_server if result.spec.direction == "both")
    assert [flow.direction for flow in both.flows] == ["upload", "download"]
    for flow in both.flows:
        assert flow.averages.after_omit_bps == near_target(), flow.direction
        assert flow.averages.from_first_byte_bps == near_target(), flow.direction


def test_omitted_bytes_do_not_count_toward_the_limit(network: Network, run_once: RunOnce) -> None:
    total = 60_000_000
    timing = nm.Timing(total_bytes=total, omit_s=0.5)
    result, _ = run_once(
        measured(network, nm.TcpSpec(direction="download", timing=timing, options=CUBIC))
    )
    (stream,) = result.flow.streams
    # data that waited in the sender's buffer when the omitted time ended are counted in addition
    assert stream.receiver.counted_bytes == pytest.approx(total, rel=0.1)
    assert stream.receiver.counted_bytes == pytest.approx(stream.sender.counted_bytes, rel=0.03)
    assert result.flow.averages.after_omit_bps == pytest.approx(CEILING_BPS, rel=0.03)


# ---- tests that end early

FIRST_SECOND = re.compile(rb"\b0\.00 *- *1\.00\b")
OUR_CLIENT = (sys.executable, "-m", "netmeasure", "client", "-C", "cubic", "-t", "30")
IPERF3_CLIENT = ("iperf3", "-C", "cubic", "-t", "30", "--forceflush")


@pytest.mark.parametrize(
    ("program", "direction"),
    [
        pytest.param((*OUR_CLIENT, "-d", "upload"), "upload", id="ours-upload"),
        pytest.param((*OUR_CLIENT, "-d", "download"), "download", id="ours-download"),
        pytest.param(
            (*IPERF3_CLIENT, "-R"), "download", id="iperf3-download", marks=pytest.mark.interop
        ),
    ],
)
def test_the_summary_is_right_when_the_client_dies(
    program: tuple[str, ...], direction: str, network: Network, run_once: RunOnce
) -> None:
    """The peer is killed in its second interval; bytes and time must end at the same moment."""

    async def main() -> nm.Result:
        ended: asyncio.Future[nm.Result] = asyncio.get_running_loop().create_future()
        async with serving(network, on_result=ended.set_result) as server:
            address = network.server.address
            if program[0] == "iperf3":
                argv = [*program, "-c", address, "-p", str(server.port)]
            else:
                argv = [*program, f"{address}:{server.port}"]
            with network.popen("client", argv, stdout=subprocess.PIPE) as client:
                await asyncio.to_thread(skip_to, client, FIRST_SECOND)
                await asyncio.sleep(0.5)
                client.send_signal(signal.SIGKILL)
                return await asyncio.wait_for(ended, 30)

    result = run_once(main())
    assert not result.complete
    assert result.error is not None
    assert result.flow.direction == direction
    figures = {
        "average": result.flow.averages.after_omit_bps,
        "from first byte": result.flow.averages.from_first_byte_bps,
        "steady": result.steady.goodput_bps,
    }
    assert figures == pytest.approx(dict.fromkeys(figures, CEILING_BPS), rel=0.05)


def skip_to(process: subprocess.Popen[bytes], pattern: re.Pattern[bytes]) -> None:
    """Read what a process prints up to a line of this kind."""
    assert process.stdout is not None
    assert any(pattern.search(line) for line in process.stdout), "it ended before that"


@pytest.mark.interop
@both_ways
def test_the_summary_is_right_when_the_server_dies(
    direction: Direction, network: Network, run_once: RunOnce
) -> None:
    spec = nm.TcpSpec(direction=direction, timing=nm.Timing(duration_s=30), options=CUBIC)
    seen: list[nm.Interval] = []

    async def main(server: iperf3.Server) -> None:
        with network.enter("client"):
            client = nm.connect(network.server.address, port=server.port)
            async with client, client.run(spec) as run:
                async for interval in run:
                    if not seen:
                        loop = asyncio.get_running_loop()
                        loop.call_later(0.5, server.process.send_signal, signal.SIGKILL)
                    seen.append(interval)

    with iperf3.server(network) as server, pytest.raises(nm.MeasureError) as caught:
        run_once(main(server))
    flow = caught.value.result.flow
    assert not caught.value.result.complete
    assert flow.averages.after_omit_bps == pytest.approx(CEILING_BPS, rel=0.05)
    assert len(seen) == 2
    assert sum(interval.bytes for interval in seen) == (
        flow.receiver.bytes if direction == "download" else flow.sender.acked_bytes
    )


# ---- what counts as transferred

SLOW_RATE = "100mbit"
SLOW_BYTES = 4 * 2**20  # a third of a second; as much as a send buffer can hold


@pytest.fixture
def slow_network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape(SLOW_RATE, burst="64k")
        yield pair


def test_the_sender_reports_what_the_link_carried(slow_network: Network, run_once: RunOnce) -> None:
    """The sender's own figures, live and final, must not exceed what the link carried."""
    ceiling = slow_network.payload_ceiling_bps(SLOW_RATE)
    timing = nm.Timing(total_bytes=SLOW_BYTES, interval_s=0.05)
    result, intervals = run_once(measured(slow_network, nm.TcpSpec(timing=timing, options=CUBIC)))
    (sender,), (receiver,) = result.client.streams, result.server.streams
    assert sender.bytes == sender.acked_bytes == result.receiver.bytes == SLOW_BYTES
    sent_bps, received_bps = (r.counted_bytes * 8e9 / r.counted_ns for r in (sender, receiver))
    assert sent_bps == pytest.approx(received_bps, rel=0.05)
    # the first acknowledgement is noticed at once, not only one tick of the kernel later
    assert sender.counted_ns == pytest.approx(receiver.counted_ns, abs=4e6)
    assert sent_bps < 1.05 * ceiling
    assert len(intervals) >= 6
    carried = 64 * 1024  # the burst of the link passes at once
    for interval in intervals:
        carried += interval.bytes
        possible = ceiling / 8 * interval.end_ns / 1e9 + 2 * 64 * 1024
        assert carried <= 1.05 * possible, interval


@pytest.mark.interop
def test_our_server_tells_iperf3_what_the_link_carried(
    slow_network: Network, run_once: RunOnce
) -> None:
    async def main() -> Any:
        arguments = ("-C", "cubic", "-R", "-n", str(SLOW_BYTES))
        async with serving(slow_network) as server:
            where = slow_network.server.address, server.port
            return await asyncio.to_thread(iperf3.client, *where, *arguments, network=slow_network)

    end = run_once(main())["end"]
    sent, received = end["sum_sent"], end["sum_received"]
    assert sent["bytes"] == received["bytes"] == SLOW_BYTES
    assert sent["bits_per_second"] == pytest.approx(received["bits_per_second"], rel=0.05)
    assert sent["bits_per_second"] < 1.05 * slow_network.payload_ceiling_bps(SLOW_RATE)


# ---- intervals


def test_the_intervals_add_up_to_the_total(run_once: RunOnce) -> None:
    """Four fast streams each way have short intervals: bytes that are lost between two readings of
    a counter show up here."""
    spec = nm.TcpSpec(
        direction="both",
        streams=4,
        timing=nm.Timing(duration_s=1.5, interval_s=0.02),
        options=CUBIC,
    )
    with Network() as fast:
        result, intervals = run_once(measured(fast, spec))

    for flow in result.flows:
        mine = [interval for interval in intervals if interval.direction == flow.direction]
        reports = [s.sender if flow.direction == "upload" else s.receiver for s in flow.streams]
        totals = [r.acked_bytes if r.role == "sender" else r.bytes for r in reports]
        assert len(mine) > 70
        assert [sum(column) for column in zip(*(i.stream_bytes for i in mine), strict=True)] == (
            totals
        )
        assert sum(interval.bytes for interval in mine) == flow.receiver.bytes
        assert [interval.start_ns for interval in mine] == [0, *(i.end_ns for i in mine[:-1])]


@both_ways
def test_the_interval_after_the_omitted_time_is_right(
    direction: Direction, network: Network, run_once: RunOnce
) -> None:
    """The omitted second is no multiple of the interval, but an interval must end where it ends."""
    timing = nm.Timing(duration_s=1.7, omit_s=1, interval_s=0.7)
    result, intervals = run_once(
        measured(network, nm.TcpSpec(direction=direction, timing=timing, options=CUBIC))
    )
    edges = [interval.end_ns / 1e9 for interval in intervals]
    assert edges[:4] == [0.7, 1.0, 1.7, 2.4]
    assert [interval.omitted for interval in intervals] == [i < 2 for i in range(len(edges))]
    assert sum(interval.bytes for interval in intervals) == result.receiver.bytes
    figures = {interval.end_ns: interval.goodput_bps for interval in intervals}
    assert figures == pytest.approx(dict.fromkeys(figures, CEILING_BPS), rel=0.05)


# ---- what the far end knows


def retransmitted(line: Relay) -> int:
    """Return how many segments the server's host has sent again, by its kernel's counter."""
    with line.enter("server"), open("/proc/thread-self/net/snmp") as table:
        names, values = (row.split() for row in table if row.startswith("Tcp:"))
    return int(values[names.index("RetransSegs")])


@needs_relay
def test_the_remote_senders_tcp_figures_are_known(run_once: RunOnce) -> None:
    """In a download the server sends: its kernel's figures are in the results that the client gets,
    and the server gets the client's. Losses on the path make sure that there are some to count."""
    # without a probe, since TCP need not retransmit a lost packet of a probe
    timing = nm.Timing(duration_s=1)
    spec = nm.TcpSpec(direction="download", timing=timing, options=CUBIC, latency=False)
    on_the_server: list[nm.Result] = []

    async def main() -> nm.Result:
        async with serving(line, on_result=on_the_server.append) as server:
            with line.enter("client"):
                return await nm.measure(line.server.address, spec, port=server.port)

    with Relay(delay_ms=10, rate_bps=50e6, queue_bytes=125_000, loss=0.002) as line:
        result = run_once(main())
        by_the_kernel = retransmitted(line)
    lost = line.counts["down"].lost_packets + line.counts["down"].queue_dropped_packets

    (stream,) = result.flow.streams
    info = stream.sender.tcp_info
    assert min(info.min_rtt_ns) / 1e6 == pytest.approx(20, abs=3)
    assert all(rtt >= 19e6 for rtt in info.rtt_ns)
    assert min(info.cwnd_bytes) > 0
    assert info.retransmits[-1] == stream.sender.retransmits == result.flow.sender.retransmits
    assert lost > 0
    # the kernel's count includes the control connection; a lost packet that only acknowledges
    # is not sent again
    assert by_the_kernel - 2 <= result.flow.sender.retransmits <= by_the_kernel
    assert lost - 2 <= by_the_kernel <= 3 * lost + 10
    (there,) = on_the_server
    assert there.receiver.bytes == result.receiver.bytes
    assert there.flow.sender.retransmits == result.flow.sender.retransmits
