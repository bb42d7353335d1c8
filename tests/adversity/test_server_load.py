"""Test slow clients, and many clients at once."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from support.hostile_client import (
    ACCESS_DENIED,
    CLIENT_TERMINATE,
    CREATE_STREAMS,
    DIRECTIONS,
    EXCHANGE_RESULTS,
    IPERF_DONE,
    PARAM_EXCHANGE,
    TEST_END,
    TEST_RUNNING,
    TEST_START,
    Peer,
    after_test_end,
    framed,
    read,
    results,
    watched,
)
from support.optional import known
from support.proxy import Proxy
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


def test_messages_that_come_byte_by_byte(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:

                async def trickle(data: bytes, sock: socket.socket = peer.control) -> None:
                    for index in range(len(data)):
                        sock.send(data[index : index + 1])
                        await asyncio.sleep(0)

                await trickle(peer.cookie + b"\0")
                await peer.expect(PARAM_EXCHANGE)
                await trickle(framed({"tcp": True, "time": 60, "parallel": 1, "len": 1000}))
                await peer.expect(CREATE_STREAMS)
                peer.streams.append(peer.connect())
                await trickle(peer.cookie + b"\0", peer.streams[0])
                await peer.expect(TEST_START + TEST_RUNNING)
                await peer.send_data()
                await trickle(TEST_END)
                await peer.expect(EXCHANGE_RESULTS)
                await trickle(framed(results(5000)))
                assert (await peer.take_results())["streams"][0]["bytes"] == 5000
                await trickle(IPERF_DONE)
            await it.idle()
            assert [result.complete for result in it.results] == [True]
            it.results.clear()

    run(main())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_our_own_conversation_byte_by_byte(run_once: RunLoop, direction: str) -> None:
    async def main() -> None:
        async with watched() as it:
            with Proxy(("127.0.0.1", it.server.port)) as proxy:
                proxy.connection(0).trickle("both", pause_s=0)
                spec = nm.TcpSpec(direction=direction, timing=nm.Timing(total_bytes=1000))  # type: ignore[arg-type]
                mine = await nm.measure("{}:{}".format(*proxy.address), spec)
                assert mine.complete
                assert mine.peer_extended
                await until(lambda: it.results)
                assert it.results[0].complete
                it.results.clear()

    run_once(main())


def test_20_clients_at_once(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            specs = [
                nm.TcpSpec(
                    direction=DIRECTIONS[index % 3],  # type: ignore[arg-type]
                    streams=1 + index % 2,
                    timing=nm.Timing(duration_s=0.4),
                )
                for index in range(20)
            ]
            mine = await asyncio.gather(*(nm.measure(it.server.address, spec) for spec in specs))
            await until(lambda: len(it.results) == 20)
            theirs = {result.client: result for result in it.results}
            it.results.clear()
        for result in mine:
            other = theirs.pop(result.client)
            assert result.complete
            assert other.complete
            for flow, seen in zip(result.flows, other.flows, strict=True):
                assert flow.receiver.bytes == known(flow.sender.bytes) > 0
                assert seen.receiver.bytes == seen.sender.bytes == flow.receiver.bytes

    run(main())


def test_a_full_server_says_that_it_is_busy(run: RunLoop) -> None:
    async def main() -> None:
        async with watched(max_tests=2) as it:
            with Peer(it) as first, Peer(it) as second:
                await first.start()
                await second.agree()
                assert it.server.active_tests == 2
                with Peer(it) as third:
                    await third.send(third.cookie + b"\0")
                    assert await read(third.control, 2) == ACCESS_DENIED
                assert "2 tests are running" in await it.told()
                spec = nm.TcpSpec(deadlines=nm.Deadlines(queue_s=0))
                with pytest.raises(nm.BusyError) as caught:
                    await nm.measure(it.server.address, spec)
                assert caught.value.hint
                assert caught.value.result is not None
                assert not caught.value.result.complete
                assert "2 tests are running" in await it.told()
                # data connections of tests that are under way are no new tests
                await second.open_stream()
                await second.expect(TEST_START + TEST_RUNNING)
                for peer in (first, second):
                    await peer.send(CLIENT_TERMINATE)
                await it.idle()
            assert len(it.results) == 2
            it.results.clear()

    run(main())


def test_40_tests_back_to_back(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            for index in range(40):
                spec = nm.TcpSpec(
                    direction=DIRECTIONS[index % 3],  # type: ignore[arg-type]
                    timing=nm.Timing(total_bytes=10_000),
                )
                assert (await nm.measure(it.server.address, spec)).complete
            await until(lambda: len(it.results) == 40)
            assert all(result.complete for result in it.results)
            it.results.clear()

    run_once(main())


def test_plain_tests_back_to_back(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            for _ in range(10):
                with Peer(it) as peer:
                    await after_test_end(peer)
                    await peer.send(framed(results(5000)))
                    await peer.take_results()
                    await peer.send(IPERF_DONE)
            await it.idle()
            assert [result.complete for result in it.results] == [True] * 10
            it.results.clear()

    run_once(main())


def test_options_do_not_leak_into_the_next_test(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            plain = nm.TcpSpec(direction="both", timing=nm.Timing(duration_s=0.05))
            special = nm.TcpSpec(
                direction="both",
                streams=2,
                timing=nm.Timing(duration_s=0.05, omit_s=0.05),
                block_bytes=10_000,
                target_bps=10**9,
                send_mode="sendfile",
                receive_mode="discard",
                options=nm.SocketOptions(
                    congestion="reno", mss_bytes=1000, no_delay=True, window_bytes=100_000
                ),
            )
            seen = []
            for spec in (plain, special, plain):
                await nm.measure(it.server.address, spec)
                await until(lambda: it.results)
                seen.append(it.results.pop())
        assert seen[2].spec == seen[0].spec != seen[1].spec
        before, between, after = (list(map(traits, result.server.streams)) for result in seen)
        assert before == after
        for one, other in zip(before[0], between[0], strict=True):
            assert one != other

    def traits(report: nm.StreamReport) -> tuple[object, ...]:
        sock = known(report.socket)
        # without the MSS and the pacing rate, which change during a test
        return (sock.congestion, sock.no_delay, report.mode, report.block_bytes, sock.rcvbuf_bytes)

    run_once(main())


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Open more descriptors than select() can handle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1500:
        pytest.skip(f"at most {hard} descriptors are allowed here")
    if soft != resource.RLIM_INFINITY and soft < 1500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1500, hard))
    null = os.open(os.devnull, os.O_RDONLY)
    copies = [os.dup(null) for _ in range(1100)]
    assert copies[-1] > 1100
    yield
    for descriptor in (null, *copies):
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_descriptors_above_1024(run_once: RunLoop, direction: str) -> None:
    async def main() -> None:
        async with watched() as it:
            timing = nm.Timing(duration_s=0.1, interval_s=0.02)
            spec = nm.TcpSpec(direction=direction, streams=3, timing=timing)  # type: ignore[arg-type]
            mine = await nm.measure(it.server.address, spec)
            assert mine.complete
            for flow in mine.flows:
                assert flow.receiver.bytes == known(flow.sender.bytes) > 0
            await until(lambda: it.results)
            it.results.clear()

    run_once(main())


def test_two_clients_with_one_cookie_that_wait_for_a_place(run_once: RunLoop) -> None:
    """Each client comes before the other one has a session, and only one may get a session."""

    async def main() -> None:
        async with watched(max_tests=2) as it:
            with Peer(it) as first, Peer(it) as second, Peer(it) as third, Peer(it) as fourth:
                for peer in (first, second):
                    await peer.start()
                    await peer.send(TEST_END)
                    await peer.give_results(0)
                    await peer.take_results()
                # both tests are about to end, so the next two clients wait for a place
                fourth.cookie = third.cookie
                for peer in (third, fourth):
                    await peer.send(peer.cookie + b"\0")
                await until(lambda: len(it.server._strangers) == 0)
                for peer in (first, second):
                    await peer.send(IPERF_DONE)
                answers = [await read(peer.control, 1) for peer in (third, fourth)]
                assert sorted(answers) == [PARAM_EXCHANGE, ACCESS_DENIED]
                # the tests before it may still be making their results
                await until(lambda: len(it.server._sessions) == 1)
            assert "cookie" in await it.told()
            it.results.clear()

    run_once(main())
