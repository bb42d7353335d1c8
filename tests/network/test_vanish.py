"""Test peers that vanish without FIN or RST: the other end must detect it by itself.

The network is cut in the middle of a test that would never end otherwise (bytes, not time).
"""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

import netmeasure as nm
from support.netns import Network
from support.optional import known

pytestmark = pytest.mark.network

ENDLESS = 10**15
VANISHED_S = 2
STALL_S = 4
NOTICED_S = 8
#: A rate that is reached even while other processes use the CPUs.
RATE = "200mbit"
CEILING_BPS = Network.payload_ceiling_bps(RATE)
INTERVAL_S = 0.5

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
Direction = Literal["upload", "download", "both"]


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as pair:
        pair.shape(RATE)
        yield pair


class Server:
    """Hold our server with short deadlines, and the Result of its one test."""

    def __init__(self, server: nm.Server, ended: asyncio.Future[nm.Result]) -> None:
        self.server = server
        self._ended = ended

    async def incomplete_result(self, since: float) -> nm.Result:
        """Return the Result of a test whose client is gone; the test must have ended here."""
        result = await asyncio.wait_for(self._ended, since + NOTICED_S - time.monotonic())
        assert self.server.active_tests == 0
        assert not result.complete
        assert result.error is not None
        return result


@asynccontextmanager
async def impatient_server(network: Network) -> AsyncIterator[Server]:
    ended: asyncio.Future[nm.Result] = asyncio.get_running_loop().create_future()
    limits = nm.ServerLimits(vanished_s=VANISHED_S, stall_s=STALL_S)
    with network.enter("server"):
        server = nm.serve(None, 0, limits=limits, on_result=ended.set_result)
        await server.__aenter__()
    try:
        yield Server(server, ended)
    finally:
        await server.close()


async def cut_off(run: nm.Run, network: Network) -> float:
    """Wait for the end of a run, and cut the network when the first interval shows that data flow;
    return the time of the cut."""
    since: list[float] = []

    async def watch() -> None:
        async with run:
            async for _ in run:
                if not since:
                    since.append(time.monotonic())
                    network.cut()

    with pytest.raises(nm.MeasureError):
        await watch()
    assert time.monotonic() - since[0] < NOTICED_S
    return since[0]


def check_partial(result: nm.Result, direction: Direction) -> None:
    """Check that the result has the right figures of the time until the network was cut."""
    wanted = ["upload", "download"] if direction == "both" else [direction]
    assert [flow.direction for flow in result.flows] == wanted
    for flow in result.flows:
        average = known(flow.averages.after_omit_bps)
        if direction == "both":  # two slow starts: no plateau within half a second
            assert 0.5 * CEILING_BPS < average < 1.05 * CEILING_BPS
        else:
            assert average == pytest.approx(CEILING_BPS, rel=0.1)


@pytest.mark.rates
@pytest.mark.parametrize("direction", ["upload", "download", "both"])
def test_both_ends_notice_that_the_other_is_gone(
    direction: Direction, network: Network, run_once: RunOnce
) -> None:
    spec = nm.TcpSpec(
        direction=direction,
        timing=nm.Timing(total_bytes=ENDLESS, interval_s=INTERVAL_S),
        options=nm.SocketOptions(congestion="cubic"),
        deadlines=nm.Deadlines(vanished_s=VANISHED_S, stall_s=STALL_S),
    )

    async def main() -> tuple[nm.Result | None, nm.Result]:
        async with impatient_server(network) as impatient:
            with network.enter("client"):
                client = nm.connect(network.server.address, port=impatient.server.port)
                async with client:
                    run = client.run(spec)
                    since = await cut_off(run, network)
                return run.result, await impatient.incomplete_result(since)

    here, there = run_once(main())
    assert here is not None
    assert not here.complete
    assert here.error is not None
    check_partial(here, direction)
    check_partial(there, direction)


@pytest.mark.rates
@pytest.mark.interop
def test_an_iperf3_client_that_vanishes_in_a_download_frees_its_slot(
    network: Network, run_once: RunOnce
) -> None:
    """An iperf3 server would wait for such a client for ever."""
    options = ("-R", "-n", str(ENDLESS), "-C", "cubic", "-i", str(INTERVAL_S), "--forceflush")

    async def main() -> nm.Result:
        async with impatient_server(network) as impatient:
            where = ("-c", network.server.address, "-p", str(impatient.server.port))
            argv = ["iperf3", *where, *options]
            client = network.popen("client", argv, stdout=subprocess.PIPE)
            await asyncio.to_thread(wait_for_interval, client)
            assert impatient.server.active_tests == 1
            network.cut()
            return await impatient.incomplete_result(time.monotonic())

    check_partial(run_once(main()), "download")


def wait_for_interval(process: subprocess.Popen[bytes]) -> None:
    """Wait until iperf3 prints its first interval, which ends late on a busy machine."""
    assert process.stdout is not None
    assert any(b"]   0.00-" in line for line in process.stdout), "it ended before that"
