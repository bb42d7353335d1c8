"""Test that messages of the largest legal size make nobody wait for more than one of them, and that
a server returns their memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import psutil
import pytest

from netmeasure.protocol import Kind, PeerResults, connection, results_limit_bytes
from support import program
from support.census import settle
from support.hostile_client import (
    CREATE_STREAMS,
    EXCHANGE_RESULTS,
    TEST_END,
    TEST_RUNNING,
    TEST_START,
    Peer,
    after_test_end,
    framed,
    watched,
)
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
CLIENTS = 4
#: Of a test with one stream.
LARGEST = results_limit_bytes(1)
STREAMS, TIMES = 64, 4
MIB = 1 << 20
#: A series of numbers: decoded, it takes many times the memory of the message.
NUMBERS = (
    b'{"cpu_util_total":0,"cpu_util_user":0,"cpu_util_system":0,"sender_has_retransmits":0,'
    b'"streams":[],"netmeasure":{"streams":[{"id":1,"role":"sender","series":{"origin_ns":0,'
    b'"width_ns":1,"bytes":[%b1]}}]}}'
)


def test_large_messages_are_decoded_one_after_the_other(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder keeps the interpreter's lock, so several of them at once would keep the event loop
    waiting for the sum. Between two of them, it goes on."""
    decode, running = PeerResults.decode, threading.Lock()
    turns, seen = 0, list[int]()

    def noted(data: bytes) -> PeerResults:
        if len(data) < LARGEST:  # of the good test at the end
            return decode(data)
        assert running.acquire(blocking=False)  # no other is being decoded
        try:
            seen.append(turns)
            return decode(data)
        finally:
            running.release()

    monkeypatch.setitem(connection._DECODERS, Kind.CLIENT_RESULTS, noted)

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main() -> None:
        async with watched() as it:
            with ExitStack() as stack:
                peers = [stack.enter_context(Peer(it)) for _ in range(CLIENTS)]
                for peer in peers:
                    await after_test_end(peer)
                counting = asyncio.create_task(count_turns())
                unfinished = framed(b'{"streams":['.ljust(LARGEST))
                await asyncio.gather(*(peer.send(unfinished) for peer in peers))
                for peer in peers:
                    await peer.expect_end()
                counting.cancel()
                await asyncio.wait([counting])
            await until(lambda: len(it.results) == CLIENTS)
            assert {result.error and result.error.code for result in it.results} == {
                "remote_protocol"
            }
            it.results.clear()

    run(main())
    assert len(seen) == CLIENTS
    assert sorted(set(seen)) == seen  # the event loop has made a turn between each two


class _Apart:
    """Stand for a server in a process of its own, with the address that a `Peer` needs."""

    def __init__(self, address: str) -> None:
        self.server = self
        self.port = int(address.rpartition(":")[2])


async def leave_results(where: Any, message: bytes) -> None:
    """Send results after a test of many streams, and leave without an answer."""
    with Peer(where) as peer:
        await peer.hello()
        await peer.ask(parallel=STREAMS)
        await peer.expect(CREATE_STREAMS)
        for _ in range(STREAMS):
            await peer.open_stream()
        await peer.expect(TEST_START + TEST_RUNNING)
        await peer.send(TEST_END)
        await peer.expect(EXCHANGE_RESULTS)
        await peer.send(framed(message))
        await peer.expect_end()


def test_a_server_returns_the_memory_of_large_messages(run_once: RunLoop) -> None:
    room = results_limit_bytes(STREAMS) - len(NUMBERS)
    with program.server() as (process, address):
        where, memory = _Apart(address), psutil.Process(process.pid).memory_info
        run_once(leave_results(where, b"{}"))  # the analysis is loaded
        before = memory().rss
        for _ in range(TIMES):
            run_once(leave_results(where, NUMBERS % (b"1," * (room // 2))))
        assert settle(lambda: memory().rss < before + 20 * MIB)
