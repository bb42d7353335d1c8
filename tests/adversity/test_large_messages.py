"""Test that messages of the largest legal size make nobody wait for more than one of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest

from netmeasure.protocol import Kind, PeerResults, connection, results_limit_bytes
from support.hostile_client import Peer, after_test_end, framed, watched
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
CLIENTS = 4
#: Of a test with one stream.
LARGEST = results_limit_bytes(1)


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
