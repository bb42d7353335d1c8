"""Test that a connect that is cancelled in any turn of the event loop leaves no socket open."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from netmeasure.engine import sockets
from netmeasure.engine.addresses import Address
from netmeasure.spec import SocketOptions

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
#: Far more than a connect over loopback takes.
MOST_TURNS = 60


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=MOST_TURNS * 2) as sock:
        yield sock


def addresses(listener: socket.socket, count: int) -> list[Address]:
    return [Address(socket.AF_INET, listener.getsockname())] * count


async def cancelled_after(turns: int, work: Coroutine[Any, Any, sockets.Connected]) -> bool:
    """Cancel `work` after so many turns of the event loop; return whether it had ended before."""
    task = asyncio.create_task(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    over = task.done()
    task.cancel()
    await asyncio.wait([task])
    if over:
        task.result().sock.close()
    else:
        assert task.cancelled()
    return over


@pytest.mark.parametrize("count", [1, 2])
def test_a_connect_that_is_cancelled_in_any_turn_leaves_no_socket(
    run: RunLoop, listener: socket.socket, count: int
) -> None:
    async def main() -> None:
        for turns in range(MOST_TURNS):
            work = sockets.connect_first(addresses(listener, count), SocketOptions(), 10)
            if await cancelled_after(turns, work):
                return
        raise AssertionError(f"no connect within {MOST_TURNS} turns")

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        run(main())
        gc.collect()
    assert [str(one.message) for one in seen if one.category is ResourceWarning] == []
