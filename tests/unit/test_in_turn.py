"""Test that computations beside the event loop run one after the other."""

from __future__ import annotations

import asyncio
import threading

import pytest

from netmeasure.engine import threads
from netmeasure.engine.threads import in_turn


def test_computations_run_one_after_the_other_in_their_order() -> None:
    order: list[int] = []
    running = threading.Lock()

    def work(number: int) -> int:
        assert running.acquire(blocking=False)  # no other is running
        order.append(number)
        threading.Event().wait(0.001)
        running.release()
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(in_turn(lambda n=number: work(n)) for number in range(20)))  # type: ignore[misc]

    assert asyncio.run(main()) == order == list(range(20))
    assert not threads._queues


def test_an_error_and_a_cancelled_caller_let_the_next_one_run() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def blocking() -> None:
        begun.set()
        go_on.wait(30)
        raise ValueError("of the first")

    async def main() -> str:
        first = asyncio.create_task(in_turn(blocking))
        second = asyncio.create_task(in_turn(lambda: pytest.fail("it was cancelled")))
        third = asyncio.create_task(in_turn(lambda: "third"))
        while not begun.is_set():  # noqa: ASYNC110  (of a thread)
            await asyncio.sleep(0.001)
        second.cancel()
        await asyncio.wait([second])
        assert not third.done()
        go_on.set()
        with pytest.raises(ValueError, match="of the first"):
            await first
        return await third

    assert asyncio.run(main()) == "third"
    assert not threads._queues
