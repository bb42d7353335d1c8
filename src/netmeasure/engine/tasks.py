"""Cancel and join asyncio tasks that own threads and sockets."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


async def cancel_and_wait(*tasks: asyncio.Future[T]) -> list[T | BaseException]:
    """Cancel tasks and return their results or exceptions once their done-callbacks have run.

    Gathering is not enough: since Python 3.12, asyncio.gather returns the results of finished tasks
    without an iteration of the event loop, and only an iteration runs done-callbacks. A loop that
    gathered until the callbacks had emptied a set would never end.
    """
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    for task in tasks:
        # since Python 3.14, a frame of asyncio.wait refers to the waiting task: with the traceback
        # of the task's cancellation, this is a reference cycle
        try:
            if task.cancelled():
                task.result()
        except asyncio.CancelledError as exc:
            drop_frames(exc)
    return outcomes


async def first_of(*coroutines: Coroutine[Any, Any, T]) -> T:
    """Return the result, or raise the exception, of the coroutine that ends first. The others are
    cancelled and awaited."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # in the order given, so that the caller decides which one wins a tie
        return next(task for task in tasks if task in done).result()
    finally:
        await cancel_and_wait(*tasks)


@asynccontextmanager
async def beside(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine beside the block, and cancel and await it when the block is left. Its own end
    or failure does not affect the block."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        await cancel_and_wait(task)


async def one_by_one(*coroutines: Coroutine[Any, Any, T]) -> list[T]:
    """Await coroutines one after the other, and return all results. After a failure the remaining
    ones are not started."""
    waiting = list(coroutines)
    try:
        return [await waiting.pop(0) for _ in coroutines]
    finally:
        for never_started in waiting:
            never_started.close()


async def uninterrupted(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine to its end even if the caller is cancelled meanwhile, and raise the
    cancellation afterwards.

    Use it for clean-up: joining threads and closing sockets must not be interrupted.
    """
    task = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # not asyncio.shield: since Python 3.14 it reports a failure that follows a cancellation
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it as lost
        raise cancelled
    return task.result()


async def all_of(*coroutines: Coroutine[Any, Any, T]) -> list[T]:
    """Return all results. At the first failure the other coroutines are cancelled and awaited, and
    the error is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failed = [task for task in tasks if task.done() and not task.cancelled()]
        for task in failed:
            if (error := task.exception()) is not None:
                raise error
        return [task.result() for task in tasks]
    finally:
        await cancel_and_wait(*tasks)


def drop_frames(error: BaseException | None) -> None:
    """Drop all references of the frames in an exception's traceback, such as a peer's message.

    A frame that refers to its own exception is a cycle, which stays in memory until the garbage
    collector runs.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__context__
