"""Test clients that send a message out of order, fall silent, vanish or never end their test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from support.hostile_client import (
    CLIENT_TERMINATE,
    DISPLAY_RESULTS,
    IPERF_DONE,
    SERVER_ERROR,
    STEPS,
    TEST_END,
    TEST_START,
    Peer,
    after_cookie,
    after_start,
    after_test_end,
    drained,
    framed,
    read,
    reset,
    results,
    watched,
)
from support.optional import known

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.mark.parametrize("byte", [b"\x77", TEST_START, DISPLAY_RESULTS, SERVER_ERROR, b"\0"])
def test_a_byte_that_has_no_place_in_the_data_phase(run_once: RunLoop, byte: bytes) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start()
                await peer.send(byte)
                await read(peer.control, 64)
            result = await it.failed("remote_protocol")
            assert f"0x{byte.hex()}" in known(result.error).message
            assert "state running" in known(result.error).message

    run_once(main())


def test_a_test_that_is_ended_before_its_streams_are_open(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2)
                await peer.open_stream()
                await peer.send(TEST_END)
                await read(peer.control, 64)
                assert await read(peer.streams[0], 1) == b""
            result = await it.failed("remote_protocol")
            assert "TEST_END" in known(result.error).message
            assert "state creating" in known(result.error).message

    run_once(main())


def test_a_test_that_is_ended_as_its_last_stream_opens(run_once: RunLoop) -> None:
    """The last stream and the client's message arrive in one turn of the server's loop, and the
    message must be the reported reason."""

    async def main() -> None:
        async with watched() as it:
            for _ in range(5):
                with Peer(it) as peer:
                    await peer.agree()
                    stream = peer.connect()
                    peer.streams.append(stream)
                    stream.send(peer.cookie)  # without the last byte
                    await asyncio.sleep(0.02)
                    stream.send(b"\0")
                    peer.control.send(CLIENT_TERMINATE)
                    result = await it.failed("peer_terminated")
                    assert known(result.error).message == "the client ended the test early"

    run_once(main())


@pytest.mark.parametrize("byte", [IPERF_DONE, CLIENT_TERMINATE], ids=["done", "terminate"])
@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_says_that_it_leaves(
    run_once: RunLoop, step: Callable[[Peer], Coroutine[Any, Any, None]], byte: bytes
) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await step(peer)
                await peer.send(byte)
                await peer.expect_end()
                for sock in peer.streams:
                    await asyncio.wait_for(drained(sock), 30)
            if step is not after_cookie:
                await it.failed("peer_terminated")

    run_once(main())


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["close", "reset"])
@pytest.mark.parametrize("what", ["control", "all"])
@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_vanishes(
    run_once: RunLoop,
    step: Callable[[Peer], Coroutine[Any, Any, None]],
    what: str,
    end: Callable[[socket.socket], None],
) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await step(peer)
                for sock in (peer.control, *(peer.streams if what == "all" else ())):
                    end(sock)
                if step is not after_cookie:
                    result = await it.failed("peer_closed")
                    assert "closed the control connection" in known(result.error).message
                await it.idle()

    run_once(main())


def test_a_client_that_vanishes_when_it_has_its_results(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                await peer.send(framed(results(5000)))
                await peer.take_results()
            await it.idle()
            (result,) = it.results
            assert result.complete
            assert result.flow.receiver.bytes == result.flow.sender.bytes == 5000
            it.results.clear()

    run_once(main())


def test_a_client_that_moves_nothing(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched(stall_s=0.2) as it:
            with Peer(it) as peer:
                await after_start(peer)
                await peer.expect_error(144)
            result = await it.failed("test_refused")
            assert result.flow.receiver.bytes == 5000

    run_once(main())


def test_a_client_that_never_ends_its_test(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched(stall_s=0.5, drain_s=0.1) as it:
            with Peer(it) as peer:
                await peer.start(time=1)

                async def drip() -> None:
                    while True:
                        peer.streams[0].send(b"x")
                        await asyncio.sleep(0.05)

                dripping = asyncio.create_task(drip())
                await peer.expect_error(160)
                dripping.cancel()
                await asyncio.gather(dripping, return_exceptions=True)
            assert (
                "did not end its test of 1 s"
                in known((await it.failed("test_refused")).error).message
            )

    run_once(main())
