"""Test data connections that fail, are missing or belong to no test of the server."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from netmeasure.peer.server.session import Session
from support.hostile_client import (
    ACCESS_DENIED,
    IPERF_DONE,
    PARAM_EXCHANGE,
    TEST_END,
    TEST_RUNNING,
    TEST_START,
    Peer,
    read,
    reset,
    watched,
)
from support.optional import known
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_streams_that_are_never_opened(run_once: RunLoop, reverse: bool) -> None:
    async def main() -> None:
        async with watched(streams_s=0.1) as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2, **({"reverse": True} if reverse else {}))
                await peer.expect_error(144)
            assert "0 of 2 streams" in known((await it.failed("test_refused")).error).message

    run_once(main())


def test_a_stream_that_is_reset_before_the_others_come(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched(streams_s=0.2) as it:
            with Peer(it) as peer:
                await peer.agree(parallel=3)
                reset(await peer.open_stream())
                await peer.open_stream()
                await peer.expect_error(144)
                assert await read(peer.streams[1], 1) == b""
            await it.failed("test_refused")

    run_once(main())


def test_streams_that_are_reset_as_soon_as_they_are_open(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2)
                for _ in range(2):
                    reset(await peer.open_stream())
                got = await read(peer.control, 64)
                assert got.removeprefix(TEST_START + TEST_RUNNING)[:5] == b"\xfe\0\0\0\xce"
            await it.failed("stream")

    run(main())


def test_a_wrong_cookie_does_not_disturb_a_test_that_opens_its_streams(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2)
                await peer.open_stream()
                stranger = await peer.open_stream(cookie=b"x" * 36)
                # the server takes it for another client, whose test does not have to wait
                assert await read(stranger, 1) == PARAM_EXCHANGE
                stranger.close()
                await peer.open_stream()
                await peer.expect(TEST_START + TEST_RUNNING)
                await peer.send(TEST_END)
                await peer.give_results(0)
                await peer.take_results()
                await peer.send(IPERF_DONE)
            await it.idle()
            assert [result.complete for result in it.results] == [True]
            it.results.clear()
            it.refusals.clear()

    run(main())


@pytest.mark.parametrize("tag", [b"", b"\0\0\0\1"], ids=["plain", "tagged"])
def test_a_data_connection_for_a_test_that_runs_is_denied(run: RunLoop, tag: bytes) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await (peer.agree_extended() if tag else peer.agree())
                await peer.open_stream(tag=tag)
                await peer.expect(TEST_START + TEST_RUNNING)
                late = await peer.open_stream(tag=tag)
                assert await read(late, 2) == ACCESS_DENIED
                assert "does not expect" in await it.told()
                # and the test goes on
                await peer.send_data()
                peer.streams[0].shutdown(socket.SHUT_WR)
                await peer.send(TEST_END)
                await peer.give_results()
                theirs = await peer.take_results()
                assert theirs["streams"][0]["bytes"] == 5000
                await peer.send(IPERF_DONE)
            await it.idle()
            assert [result.complete for result in it.results] == [True]
            it.results.clear()

    run(main())


@pytest.mark.parametrize("tag", [b"", b"\0\0\0\2"], ids=["plain", "tagged"])
def test_a_data_connection_that_comes_after_the_end_is_nothing_to_report(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch, tag: bytes
) -> None:
    """Its client had opened it before it left."""
    concluded = asyncio.Event()
    conclude = Session._conclude

    async def late(session: Session, error: BaseException | None) -> None:
        await concluded.wait()
        await conclude(session, error)

    monkeypatch.setattr(Session, "_conclude", late)

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await (peer.agree_extended if tag else peer.agree)(parallel=2)
                (session,) = it.server._sessions
                peer.control.close()
                await until(lambda: session.has_ended)
                assert await read(await peer.open_stream(tag=tag), 2) == ACCESS_DENIED
            concluded.set()
            await it.failed("peer_closed")

    run_once(main())


@pytest.mark.parametrize("tags", [(1, 1), (1, 2), (4, 1)], ids=["twice", "two", "no-such-number"])
def test_a_stream_with_a_wrong_number_is_denied(run_once: RunLoop, tags: tuple[int, int]) -> None:
    async def main() -> None:
        async with watched(streams_s=0.3) as it:
            with Peer(it) as peer:
                await peer.agree_extended(parallel=2)
                socks = [await peer.open_stream(tag=struct.pack(">I", tag)) for tag in tags]
                wrong = socks[0] if tags[0] == 4 else socks[1]
                assert await read(wrong, 2) == ACCESS_DENIED
                assert "does not expect" in await it.told()
                await peer.expect_error(144)
            await it.failed("test_refused")

    run_once(main())


def test_a_stream_that_sends_its_number_after_its_test_has_ended(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree_extended()
                late = await peer.open_stream()
                await until(lambda: it.server._sessions.accepted == 2)
                peer.control.close()
                await it.failed("peer_closed")
                await it.idle()
                late.send(b"\0\0\0\1")
                # the server refuses the stream instead of keeping it for a test that has ended
                assert await read(late, 2) in (ACCESS_DENIED, b"")
            it.refusals.clear()

    run(main())


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_data_stream_that_is_reset_is_an_error(run: RunLoop, reverse: bool) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start(2, **({"reverse": True} if reverse else {}))
                if reverse:
                    await read(peer.streams[0], 5000)
                else:
                    await peer.send_data()
                reset(peer.streams[0])
                await peer.expect_error(206)
            result = await it.failed("stream")
            assert (
                "Connection reset" in known(result.error).message
                or "pipe" in known(result.error).message
            )
            assert len(result.flow.streams) == 2
            assert sum(s.bytes or 0 for s in result.server.streams) > 0

    run(main())
