"""Check how a measurement that fails must end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import netmeasure as nm
from netmeasure.spec import Spec


async def failure(
    target: str, wanted: Spec, meanwhile: Callable[[nm.Run], Awaitable[None]] | None = None
) -> nm.MeasureError:
    """Return the exception that a run ends with.

    The exception must be raised soon, and have the run's result, which must be that of a failed
    test.
    """
    running = nm.connect(target).run(wanted)

    async def use() -> None:
        async with asyncio.timeout(8), running:
            if meanwhile is not None:
                await meanwhile(running)
            await running.wait()

    with pytest.raises(nm.MeasureError) as caught:
        await use()
    error, result = caught.value, running.result
    assert error.phase
    assert "\n" not in str(error)
    assert result is not None
    assert error.result is result
    assert not result.complete
    assert result.error is not None
    assert (result.error.code, result.error.message) == (error.code, str(error))
    assert (result.error.hint, result.error.phase) == (error.hint, error.phase)
    assert nm.Result.from_json(result.to_json()) == result
    return error
