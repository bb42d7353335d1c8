"""Test the tools for tasks: what they return or raise, and that no task outlives them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from netmeasure.engine.tasks import all_of, cancel_and_wait, first_of, uninterrupted
from support.python312 import gather_without_a_turn

Runner = Callable[[Coroutine[Any, Any, Any]], Any]


class Worker:
    """Be a coroutine whose course the test controls, and which records that course.

    It waits for `go`, then returns `result` or raises it. When it is cancelled, it takes `clean_up`
    turns of the event loop before it ends: meanwhile, no function under test may leave it behind.
    """

    def __init__(self, result: Any = None, *, clean_up: int = 0) -> None:
        self.go = asyncio.Event()
        self.result = result
        self.clean_up = clean_up
        self.started = self.ended = False
        self.cancelled = 0

    def ready(self) -> Worker:
        self.go.set()
        return self

    async def run(self) -> Any:
        self.started = True
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            for _ in range(self.clean_up):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    self.cancelled += 1
            raise
        finally:
            self.ended = True
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


async def turns(count: int) -> None:
    """Let every other task run, so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


def check(run: Runner, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the test, and check that no task is left that did not exist before."""

    async def watched() -> None:
        before = asyncio.all_tasks()
        await main()
        assert asyncio.all_tasks() == before

    run(watched())


async def interrupted(work: Coroutine[Any, Any, Any], *times: int) -> asyncio.Task[Any]:
    """Run `work` as a task and cancel it after so many turns, again after so many more, and so on.

    Return the task once it is done.
    """
    task = asyncio.create_task(work)
    for count in times:
        await turns(count)
        task.cancel()
    await asyncio.wait([task])
    return task


# ---- cancel_and_wait -----------------------------------------------------------------------------


def test_cancel_and_wait_returns_when_all_have_ended(run: Runner) -> None:
    async def main() -> None:
        slow, quick, broken = (
            Worker(clean_up=3),
            Worker("quick").ready(),
            Worker(KeyError()).ready(),
        )
        tasks = [asyncio.create_task(worker.run()) for worker in (slow, quick, broken)]
        await turns(2)
        outcomes = await cancel_and_wait(*tasks)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, str, KeyError]
        assert slow.ended

    check(run, main)


def test_cancel_and_wait_lets_the_callbacks_of_finished_tasks_run(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather_without_a_turn(monkeypatch)

    async def main() -> None:
        worker = Worker()
        task = asyncio.create_task(worker.run())
        known = {task}
        task.add_done_callback(known.discard)
        await turns(1)
        worker.go.set()
        await turns(1)
        assert task.done()
        assert known  # its callback comes in the next turn
        await cancel_and_wait(task)
        assert not known

    check(run, main)


# ---- first_of ------------------------------------------------------------------------------------


def test_first_of_returns_the_first_and_cancels_the_rest(run: Runner) -> None:
    async def main() -> None:
        first, slow = Worker("first").ready(), Worker("slow", clean_up=3)
        assert await first_of(slow.run(), first.run()) == "first"
        assert slow.cancelled == 1
        assert slow.ended

    check(run, main)


def test_first_of_raises_what_the_first_raises(run: Runner) -> None:
    async def main() -> None:
        broken, slow = Worker(KeyError("x")).ready(), Worker()
        with pytest.raises(KeyError):
            await first_of(slow.run(), broken.run())
        assert slow.ended

    check(run, main)


def test_first_of_prefers_the_one_given_first(run: Runner) -> None:
    async def main() -> None:
        for results in (("a", "b"), (ValueError("a"), "b"), ("a", ValueError("b"))):
            workers = [Worker(result).ready() for result in results]
            tied = first_of(*(worker.run() for worker in workers))
            assert str((await asyncio.gather(tied, return_exceptions=True))[0]) == "a"

    check(run, main)


def test_first_of_ignores_what_a_loser_raises_at_its_end(run: Runner) -> None:
    async def sore() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("too late")

    async def main() -> None:
        assert await first_of(sore(), Worker(1).ready().run()) == 1

    check(run, main)


@pytest.mark.parametrize("times", [(1,), (2,), (2, 1), (2, 0), (2, 1, 1)])
def test_first_of_cancelled_waits_for_its_tasks(run: Runner, times: tuple[int, ...]) -> None:
    """This holds however often it is cancelled, even before the tasks have begun."""

    async def main() -> None:
        workers = [Worker(clean_up=5), Worker(clean_up=5)]
        task = await interrupted(first_of(*(worker.run() for worker in workers)), *times)
        assert task.cancelled()
        assert all(worker.ended or not worker.started for worker in workers)

    check(run, main)


def test_first_of_cancelled_while_it_ends(run: Runner) -> None:
    """The caller is cancelled after the winner has ended, while the loser still cleans up."""

    async def main() -> None:
        winner, loser = Worker("won"), Worker(clean_up=6)
        task = asyncio.create_task(first_of(winner.run(), loser.run()))
        await turns(2)
        winner.go.set()
        while not loser.cancelled:
            await turns(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert loser.ended

    check(run, main)


# ---- all_of --------------------------------------------------------------------------------------


def test_all_of_returns_in_the_order_given(run: Runner) -> None:
    async def main() -> None:
        workers = [Worker(number) for number in range(3)]
        task = asyncio.create_task(all_of(*(worker.run() for worker in workers)))
        for worker in reversed(workers):
            await turns(2)
            assert not task.done()
            worker.go.set()
        assert await task == [0, 1, 2]

    check(run, main)


def test_all_of_raises_the_first_failure_and_cancels_the_rest(run: Runner) -> None:
    async def main() -> None:
        done, broken, slow = Worker(1).ready(), Worker(KeyError("x")).ready(), Worker(clean_up=3)
        with pytest.raises(KeyError):
            await all_of(slow.run(), done.run(), broken.run())
        assert slow.cancelled == 1
        assert slow.ended

    check(run, main)


def test_all_of_raises_one_of_two_failures_quietly(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio would log an exception that was never retrieved."""

    async def main() -> None:
        workers = [Worker(KeyError(0)).ready(), Worker(KeyError(1)).ready()]
        with pytest.raises(KeyError, match=r"^0$"):
            await all_of(*(worker.run() for worker in workers))

    check(run, main)
    assert caplog.records == []


@pytest.mark.parametrize("times", [(1,), (2,), (2, 1), (2, 0), (2, 1, 1)])
def test_all_of_cancelled_waits_for_its_tasks(run: Runner, times: tuple[int, ...]) -> None:
    async def main() -> None:
        workers = [Worker(clean_up=5), Worker("done").ready(), Worker(clean_up=5)]
        task = await interrupted(all_of(*(worker.run() for worker in workers)), *times)
        assert task.cancelled()
        assert all(worker.ended or not worker.started for worker in workers)

    check(run, main)


def test_all_of_with_a_task_that_cancels_itself(run: Runner) -> None:
    async def main() -> None:
        workers = [Worker(asyncio.CancelledError()).ready(), Worker(1).ready()]
        task = asyncio.create_task(all_of(*(worker.run() for worker in workers)))
        await asyncio.wait([task])
        assert task.cancelled()

    check(run, main)


# ---- uninterrupted -------------------------------------------------------------------------------


def test_uninterrupted_returns_or_raises_as_if_awaited(run: Runner) -> None:
    async def main() -> None:
        assert await uninterrupted(Worker(5).ready().run()) == 5
        with pytest.raises(KeyError):
            await uninterrupted(Worker(KeyError("x")).ready().run())

    check(run, main)


@pytest.mark.parametrize("times", [(1,), (2,), (2, 2), (2, 1, 1, 1), (2, 0)])
@pytest.mark.parametrize("result", ["done", KeyError("failed")], ids=["returns", "raises"])
def test_uninterrupted_goes_on_to_the_end(
    run: Runner, caplog: pytest.LogCaptureFixture, times: tuple[int, ...], result: Any
) -> None:
    """The caller may be cancelled any number of times; the cancellation takes effect after the
    work.

    An exception of the work in the meantime is not reported as lost, either.
    """

    async def main() -> None:
        worker = Worker(result)

        async def release() -> None:
            await turns(sum(times) + 10)
            assert not task.done()
            worker.go.set()

        releasing = asyncio.create_task(release())
        task = asyncio.create_task(uninterrupted(worker.run()))
        for count in times:
            await turns(count)
            task.cancel()
        await asyncio.wait([task, releasing])
        releasing.result()
        assert task.cancelled()
        assert worker.ended
        assert worker.cancelled == 0

    check(run, main)
    assert caplog.records == []


@pytest.mark.parametrize("result", ["done", KeyError("failed")], ids=["returns", "raises"])
def test_uninterrupted_cancelled_in_the_moment_of_the_end(
    run: Runner, caplog: pytest.LogCaptureFixture, result: Any
) -> None:
    """Whichever turn the cancellation hits, the caller is cancelled or has the outcome."""

    async def main() -> None:
        for count in range(8):
            worker = Worker(result)
            task = asyncio.create_task(uninterrupted(worker.run()))
            await turns(2)
            worker.go.set()
            await turns(count)
            task.cancel()
            await asyncio.wait([task])
            assert worker.ended
            assert worker.cancelled == 0
            assert task.cancelled() or task.exception() is result or task.result() is result

    check(run, main)
    assert caplog.records == []


def test_uninterrupted_work_may_be_cancelled_by_itself(run: Runner) -> None:
    async def main() -> None:
        task = asyncio.create_task(uninterrupted(Worker(asyncio.CancelledError()).ready().run()))
        await asyncio.wait([task])
        assert task.cancelled()

    check(run, main)


def test_uninterrupted_in_the_time_out_of_its_caller(run: Runner) -> None:
    """The time-out comes first; the caller sees it only after the work."""

    async def main() -> None:
        worker = Worker("done")

        async def release(after: Awaitable[Any]) -> None:
            await after
            worker.go.set()

        late = asyncio.Event()
        releasing = asyncio.create_task(release(late.wait()))
        loop = asyncio.get_running_loop()

        async def limited() -> None:
            async with asyncio.timeout(0.005):
                loop.call_later(0.02, late.set)
                await uninterrupted(worker.run())

        with pytest.raises(TimeoutError):
            await limited()
        assert worker.ended
        assert worker.cancelled == 0
        await releasing

    check(run, main)
