"""Test that a server divides its places, and its open connections, among the addresses of its
clients."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.comparison.doubts import doubts
from netmeasure.engine import memory
from netmeasure.errors import RefusedTestError
from netmeasure.observe import Observer
from netmeasure.peer.server import connections, reception
from netmeasure.peer.server.server import MAX_HANDSHAKES, MAX_STRANGERS
from netmeasure.protocol import make_probe
from netmeasure.protocol.auth import make_token, password_hash
from support.hostile_client import (
    ACCESS_DENIED,
    CLIENT_TERMINATE,
    CREATE_STREAMS,
    IPERF_DONE,
    PARAM_EXCHANGE,
    TEST_END,
    Peer,
    after_test_end,
    framed,
    read,
    results,
    watched,
)
from support.keys import KEYS
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
SHORT = nm.TcpSpec(timing=nm.Timing(total_bytes=10_000))


class Waiting(Observer):
    """Remember the places in the queue."""

    def __init__(self) -> None:
        self.positions: list[int] = []

    def on_queued(self, position: int) -> None:
        self.positions.append(position)


@pytest.mark.parametrize("says", ["nothing", "a probe", "a cookie"])
def test_many_connections_of_one_address_keep_no_client_out(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """The oldest of these connections are closed, and each writes at most one line to the log."""
    most = MAX_HANDSHAKES if says == "a cookie" else MAX_STRANGERS
    monkeypatch.setattr(reception, "LINGER_S", 60.0)
    answer_bytes = {"nothing": 0, "a probe": 1000, "a cookie": 1}[says]

    async def main() -> None:
        async with watched(max_tests=4) as it:
            with contextlib.ExitStack() as stack:
                peers = []
                for _ in range(most + 40):
                    peer = stack.enter_context(Peer(it))
                    peers.append(peer)
                    if says == "a cookie":
                        await peer.hello()
                    elif says == "a probe":
                        await peer.send(make_probe(answer_bytes))
                result = await nm.measure(it.server.address, SHORT)
                assert result.complete
                for peer in peers[:30]:
                    # an identified client is told that the server is full, not that the server ends
                    said = await read(peer.control, answer_bytes + 1)
                    assert said == b"\xff" if says == "a cookie" else len(said) == answer_bytes
                await until(lambda: it.server.active_tests == 0)
                await until(lambda: len(it.server._connections._tasks) <= most)
            await until(lambda: it.results)
            it.results.clear()
            await until(lambda: not it.server._handshakes and not it.server._strangers)
            assert {said for said in it.refusals if "oldest" not in said} == set()
            it.refusals.clear()

    run_once(main())


def test_a_server_for_many_tests_has_room_for_their_clients(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No client is displaced by another. After they have left, their memory is returned, though a
    connection remains."""
    returned = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    monkeypatch.setattr(connections, "CALM_S", 0.0)
    monkeypatch.setattr(memory, "release", lambda: loops[0].call_soon_threadsafe(returned.set))

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        async with watched(max_tests=MAX_HANDSHAKES + 20) as it:
            with Peer(it):
                with contextlib.ExitStack() as stack:
                    for _ in range(MAX_HANDSHAKES + 20):
                        await stack.enter_context(Peer(it)).hello()
                    assert len(it.server._handshakes) == MAX_HANDSHAKES + 20
                async with asyncio.timeout(30):
                    await returned.wait()

    run_once(main())


def test_cookies_alone_take_no_place(run: RunLoop) -> None:
    async def main() -> None:
        async with watched(max_tests=2) as it:
            with Peer(it) as first, Peer(it) as second, Peer(it) as third:
                for peer in (first, second, third):
                    await peer.hello()
                assert it.server.active_tests == 0
                await third.ask()
                await third.expect(CREATE_STREAMS)
                assert it.server.active_tests == 1
                assert (await nm.measure(it.server.address, SHORT)).complete
                for peer in (first, second, third):
                    await peer.send(CLIENT_TERMINATE)
                await it.idle()
            await until(lambda: len(it.results) == 2)
            it.results.clear()

    run(main())


def test_an_address_has_its_share_of_the_places(run: RunLoop) -> None:
    async def main() -> None:
        async with watched(max_tests=10, max_tests_per_address=1) as it:
            with Peer(it) as first:
                await first.start()
                with Peer(it) as second:
                    await second.send(second.cookie + b"\0")
                    assert await read(second.control, 2) == ACCESS_DENIED
                assert "1 tests from its address are running" in await it.told()
                first.control.close()
            await it.idle()
            it.results.clear()

    run(main())


def test_a_client_is_refused_if_the_places_are_taken_meanwhile(run: RunLoop) -> None:
    """A client whose cookie was accepted is refused when it sends its parameters."""

    async def main() -> None:
        async with watched(max_tests=1) as it:
            with Peer(it) as first, Peer(it) as second:
                await first.hello()
                await second.hello()
                await first.ask()
                await first.expect(CREATE_STREAMS)
                await second.ask()
                assert await read(second.control, 2) == ACCESS_DENIED
                assert "1 tests are running" in await it.told()
                await first.send(CLIENT_TERMINATE)
                await it.idle()
            it.results.clear()

    run(main())


def test_a_client_waits_in_the_queue(run: RunLoop) -> None:
    async def main() -> None:
        async with watched(max_tests=1) as it:
            with Peer(it) as first:
                await first.start()
                watchers = [Waiting(), Waiting()]
                tasks = []
                for number, watcher in enumerate(watchers):
                    test = nm.measure(it.server.address, SHORT, observer=watcher)
                    tasks.append(asyncio.create_task(test))
                    await until(lambda: it.server._places.waiting == number + 1)  # noqa: B023
                # a client that can't wait is refused, and a probe is answered
                with Peer(it) as plain:
                    await plain.send(plain.cookie + b"\0")
                    assert await read(plain.control, 2) == ACCESS_DENIED
                assert "1 tests are running" in await it.told()
                with Peer(it) as probe:
                    await probe.send(b"netmeasureprobe".ljust(36, b"a") + b"\0")
                    assert await read(probe.control, 2) == PARAM_EXCHANGE
                first.control.close()
                results = await asyncio.gather(*tasks)
            assert [result.complete for result in results] == [True, True]
            assert watchers[0].positions == [1]
            assert watchers[1].positions[:2] == [2, 1]
            await until(lambda: len(it.results) == 3)
            it.results.clear()

    run(main())


def test_a_client_that_does_not_wait_for_ever(run: RunLoop) -> None:
    async def main() -> None:
        async with watched(max_tests=1) as it:
            with Peer(it) as first:
                await first.start()
                spec = nm.TcpSpec(deadlines=nm.Deadlines(queue_s=0.2))
                with pytest.raises(nm.BusyError, match=r"number 1 in its queue after 0\.2 s"):
                    await nm.measure(it.server.address, spec)
                await until(lambda: it.server._places.waiting == 0)
                first.control.close()
            await it.idle()
            it.results.clear()

    run(main())


def test_a_test_that_must_be_alone(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as first:
                await first.start()
                watcher = Waiting()
                spec = nm.TcpSpec(exclusive=True, timing=nm.Timing(duration_s=60))
                running = nm.connect(it.server.address).run(spec, observer=watcher)

                async def exclusive() -> nm.Result:
                    async with running:
                        return await running.wait()

                alone = asyncio.create_task(exclusive())
                await until(lambda: watcher.positions)
                first.control.close()
                await until(
                    lambda: it.server._places.running == 1 and not it.server._places.waiting
                )
                await until(lambda: len(it.results) == 1)
                # now the exclusive test runs, and others wait until it has ended
                other = Waiting()
                measuring = asyncio.create_task(
                    nm.measure(it.server.address, SHORT, observer=other)
                )
                await until(lambda: other.positions)
                running.stop()
                result = await measuring
            assert other.positions[:1] == [1]
            assert (await alone).complete
            assert result.complete
            assert (await alone).server.concurrent_tests == 1
            assert (await alone).notes == ("stopped early by the user",)
            await until(lambda: len(it.results) == 3)
            it.results.clear()

    run(main())


def test_the_result_says_how_many_others_ran(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as first:
                await first.start()
                spec = nm.TcpSpec(timing=nm.Timing(duration_s=0.2))
                result = await nm.measure(it.server.address, spec)
                first.control.close()
            company = "1 other test ran on the server at the same time, during 100 % of this one"
            assert company in result.notes
            assert result.server.concurrent_tests_mean == 2
            await until(lambda: len(it.results) == 2)
            it.results.clear()

    run(main())


def test_a_test_that_waits_for_the_last_message_is_not_concurrent(run: RunLoop) -> None:
    """A test that only waits for its client's last message transfers no data."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as first:
                await first.start()
                await first.send_data()
                await first.send(TEST_END)
                await first.give_results()
                await first.take_results()
                assert it.server.active_tests == 1
                result = await nm.measure(it.server.address, SHORT)
                # the server ends a moment after its client
                await until(lambda: it.server.active_tests == 1)
                await first.send(IPERF_DONE)
                await first.expect_end()
            assert known_alone(result)
            assert not any("ran on the server" in doubt.why for doubt in doubts(result, None))
            await until(lambda: len(it.results) == 2)
            it.results.clear()

    run(main())


def test_tests_that_have_ended_are_not_concurrent(run: RunLoop) -> None:
    """However a test ends, it is not counted as concurrent afterwards, and its end counts once."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as cut:
                await cut.start()
                cut.control.close()
            await it.idle()
            with Peer(it) as refusing:
                await after_test_end(refusing)
                await refusing.send(framed(results(5000)))
                await refusing.take_results()
                await refusing.send(b"\x77")
            await it.idle()
            assert known_alone(await nm.measure(it.server.address, SHORT))
            await it.idle()
            assert it.server._places.measuring == 0
            it.results.clear()

    run(main())


def known_alone(result: nm.Result) -> bool:
    """Return whether the server counted no other test during this one."""
    found = (result.server.concurrent_tests, result.server.concurrent_tests_mean)
    return found == (1, 1) and not result.notes


def test_after_many_wrong_passwords_the_right_one_has_to_wait(
    run: RunLoop, gatekeeper: nm.Gatekeeper
) -> None:
    """After a few wrong passwords, the right one of the same address has to wait, too."""

    async def main() -> None:
        refusals: list[str] = []
        numbers: list[int | None] = []
        server = nm.serve("127.0.0.1", 0, gatekeeper=gatekeeper, on_refusal=refusals.append)
        async with server:
            for password in ("a", "b", "c", "d", "e", "right", "right"):
                who = nm.Credentials(user="ann", password=password, public_key=KEYS.public)
                with pytest.raises(nm.PeerRefusedError) as caught:
                    await nm.measure(server.address, nm.TcpSpec(credentials=who))
                numbers.append(caught.value.number)
        assert numbers == [142] * 5 + [1004] * 2
        assert ["wrong password" in said for said in refusals] == [True] * 5 + [False] * 2
        assert "too many failed logins" in refusals[-1]

    run(main())


def test_a_token_is_good_once(gatekeeper: nm.Gatekeeper) -> None:
    who = nm.Credentials(user="ann", password="right", public_key=KEYS.public)
    token, now = make_token(who, time.time()), time.time()
    assert gatekeeper.check(token, now) == "ann"
    with pytest.raises(RefusedTestError, match="used before"):
        gatekeeper.check(token, now + 1)
    with pytest.raises(RefusedTestError, match="used before"):
        gatekeeper.check(token[:40] + "\n" + token[40:], now + 2)
    assert gatekeeper.check(make_token(who, now + 3), now + 3) == "ann"
    # old tokens are refused because of their age, and are not stored any longer
    assert gatekeeper.check(make_token(who, now + 100), now + 100) == "ann"
    assert len(gatekeeper._used) == 1


@pytest.fixture
def gatekeeper() -> nm.Gatekeeper:
    return nm.Gatekeeper(KEYS.private, {"ann": password_hash("ann", "right")})


@pytest.mark.parametrize(
    ("spec", "limits", "number"),
    [
        (nm.TcpSpec(streams=3), {"max_streams": 2}, 6),
        (nm.TcpSpec(timing=nm.Timing(total_bytes=2000)), {"max_bytes": 1000}, 27),
        (nm.TcpSpec(), {"max_total_bitrate_bps": 10**6}, 27),
        (nm.UdpSpec(target_bps=10**7), {"max_total_bitrate_bps": 10**6}, 27),
        (nm.TcpSpec(), {"max_bytes": 100_000}, 27),
    ],
    ids=["streams", "bytes", "no rate", "rate", "moved"],
)
def test_what_a_server_does_not_grant(
    run_once: RunLoop, spec: nm.TcpSpec | nm.UdpSpec, limits: dict[str, Any], number: int
) -> None:
    async def main() -> int | None:
        async with nm.serve("127.0.0.1", 0, limits=nm.ServerLimits(**limits)) as server:
            with pytest.raises(nm.PeerRefusedError) as caught:
                await nm.measure(server.address, spec)
            return caught.value.number

    assert run_once(main()) == number


def test_the_total_bitrate_is_shared(run: RunLoop) -> None:
    async def main() -> None:
        async with watched(max_total_bitrate_bps=1500) as it:
            with Peer(it) as first:
                await first.start(bandwidth=1000)
                with Peer(it) as second:
                    await second.hello()
                    await second.ask(bandwidth=1000)
                    assert await read(second.control, 2) == ACCESS_DENIED
                assert "use up the total bitrate" in await it.told()
                first.control.close()
            await it.idle()
            it.results.clear()
            it.server._places._limits = nm.ServerLimits()

    run(main())


def test_networks_that_are_not_served(run_once: RunLoop) -> None:
    async def main() -> None:
        refusals: list[str] = []
        limits = nm.ServerLimits(deny=("127.0.0.0/8",))
        async with nm.serve("127.0.0.1", 0, limits=limits, on_refusal=refusals.append) as server:
            with pytest.raises(nm.PeerClosedError):
                await nm.measure(server.address)
        assert "clients of this network are not served" in refusals[0]

    run_once(main())
