"""Repeat whole measurements, each with its own set-up: repeat() measures one target, alternate()
two in turns.

The spread between runs is often larger than the confidence interval of a single run, and conditions
drift. Two targets are therefore measured in the order A B B A A B B A, so that a steady drift
affects both equally.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Literal

from netmeasure.client import measure
from netmeasure.errors import MeasureError, SpecError
from netmeasure.result import Result
from netmeasure.spec import Spec

Alternative = Literal["a", "b"]
MAX_TIMES = 10_000


async def repeat(
    target: str, spec: Spec | None = None, *, times: int = 5, port: int | None = None
) -> AsyncGenerator[Result, None]:
    """Run a test repeatedly, and yield each result as soon as it is complete::

        results = [result async for result in nm.repeat("lab1", spec, times=5)]

    A run that fails gives an incomplete result, and the next run begins. Raises MeasureError if
    further runs would be useless (`worth_going_on`), and SpecError. Cancelling the iteration joins
    the threads of the current run.
    """
    check_times(times)
    before: list[Result] = []
    for _ in range(times):
        before.append(await _measured(target, spec, port, before))
        yield before[-1]


async def alternate(
    a: str,
    b: str,
    spec: Spec | None = None,
    spec_b: Spec | None = None,
    *,
    pairs: int = 5,
    port: int | None = None,
) -> AsyncGenerator[tuple[Alternative, Result], None]:
    """Measure two targets (or one, by two specifications) in turns: A B B A and so on, each of them
    `pairs` times. `spec_b` defaults to `spec`. Everything else is as in `repeat`."""
    check_times(pairs)
    sides = {"a": (a, spec), "b": (b, spec if spec_b is None else spec_b)}
    before: dict[Alternative, list[Result]] = {"a": [], "b": []}
    for side in turns(pairs):
        before[side].append(await _measured(*sides[side], port, before[side]))
        yield side, before[side][-1]


def turns(pairs: int) -> Iterator[Alternative]:
    """Return the order of the runs for a number of pairs: a b, b a, a b and so on."""
    for pair in range(pairs):
        yield from ("b", "a") if pair % 2 else ("a", "b")


def worth_going_on(results: Sequence[Result]) -> bool:
    """Return whether another run is useful. It is not if the first run, or two in succession,
    measured nothing: then the target is wrong, or no longer there."""
    return any(result.flows for result in results[-2:])


def check_times(times: int) -> None:
    """Raise SpecError if a number of runs is not within 1 to MAX_TIMES."""
    if not 1 <= times <= MAX_TIMES:
        raise SpecError(f"{times} runs: it must be 1 to {MAX_TIMES}")


async def _measured(
    target: str, spec: Spec | None, port: int | None, before: Sequence[Result]
) -> Result:
    try:
        return await measure(target, spec, port=port)
    except MeasureError as exc:
        if exc.result is None or not worth_going_on([*before, exc.result]):
            raise
        result: Result = exc.result
        return result
