"""Test servers that end a test with an error, a close, a reset or invalid bytes in any phase."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support.scripted_server import (
    ACCESS_DENIED,
    DIRECTIONS,
    PATIENT,
    SERVER_TERMINATE,
    UNHURRIED,
    Fake,
    Script,
    answers,
    assert_measured,
    failure,
    failure_with,
    fake,
    flowing,
    reset,
    silent_after_the_data,
    spec,
)

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


async def before_the_parameters(it: Fake) -> None:
    it.control = await it.accept()
    await it.take(it.control, 37)


async def after_the_parameters(it: Fake) -> None:
    await it.welcome()
    await it.take_json()


STEPS: dict[str, Script] = {
    "before-the-parameters": before_the_parameters,
    "after-the-parameters": after_the_parameters,
    "after-the-streams": Fake.agree,
    "after-exchange-results": Fake.finish,
    "after-the-results": Fake.answer,
}


@pytest.mark.parametrize("said", [b"\xfe\0\0\0\x90\0\0\0\x6b", b"\xfe\0\0\0\x90"], ids=["8", "4"])
@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_reports_an_error(run_once: RunLoop, step: str, said: bytes) -> None:
    async def script(it: Fake) -> None:
        await STEPS[step](it)
        await it.say(said)
        it.control.shutdown(socket.SHUT_WR)
        await it.stay()

    error = run_once(failure_with(script, spec(total_bytes=100_000, deadlines=UNHURRIED)))
    assert type(error) is nm.PeerRefusedError
    assert "no data for too long" in str(error)


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_is_told_to_terminate(run_once: RunLoop, step: str) -> None:
    async def script(it: Fake) -> None:
        await STEPS[step](it)
        await it.say(SERVER_TERMINATE)
        await it.stay()

    error = run_once(failure_with(script, spec(total_bytes=100_000, deadlines=UNHURRIED)))
    assert type(error) is nm.PeerTerminatedError


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_closes_the_control_connection(run_once: RunLoop, step: str) -> None:
    async def script(it: Fake) -> None:
        await STEPS[step](it)
        it.control.shutdown(socket.SHUT_WR)
        await it.stay()

    error = run_once(failure_with(script, spec(total_bytes=100_000, deadlines=UNHURRIED)))
    assert type(error) is nm.PeerClosedError


async def terminates(it: Fake) -> None:
    await it.say(SERVER_TERMINATE)


async def terminates_and_leaves(it: Fake) -> None:
    """Behave like a killed iperf3: send the message, then close everything."""
    await it.say(SERVER_TERMINATE)
    await it.still()
    it.close()


async def reports_an_error(it: Fake) -> None:
    await it.say(b"\xfe\0\0\0\xa0\0\0\0\0")


async def closes(it: Fake) -> None:
    it.control.shutdown(socket.SHUT_WR)


async def resets(it: Fake) -> None:
    reset(it.control)


async def dies(it: Fake) -> None:
    """Close all connections at once, like a killed process."""
    await it.still()
    it.close()


async def babbles(it: Fake) -> None:
    await it.say(b"\x77")


async def resets_a_stream(it: Fake) -> None:
    await it.still()
    reset(it.streams[-1])


ENDS: dict[Script, tuple[type[nm.MeasureError], ...]] = {
    terminates: (nm.PeerTerminatedError,),
    terminates_and_leaves: (nm.PeerTerminatedError,),
    reports_an_error: (nm.PeerRefusedError,),
    closes: (nm.PeerClosedError,),
    resets: (nm.PeerClosedError,),
    dies: (nm.PeerClosedError,),
    babbles: (nm.RemoteProtocolError,),
    resets_a_stream: (nm.StreamError,),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_server_that_breaks_off_the_data_phase(
    run_once: RunLoop, direction: str, end: Script
) -> None:
    now = asyncio.Event()

    async def script(it: Fake) -> None:
        await it.start()
        await now.wait()
        await end(it)
        await it.stay()

    async def main() -> nm.MeasureError:
        async def meanwhile(running: nm.Run) -> None:
            await flowing(running)
            now.set()

        async with fake(script) as it:
            return await failure(it.address, spec(direction, deadlines=PATIENT), meanwhile)

    error = run_once(main())
    assert type(error) in ENDS[end]
    assert error.phase == "data" or end is babbles
    assert_measured(error)
    if end is resets_a_stream:
        assert ("iperf3 before 3.7" in (error.hint or "")) == (direction == "both")
    if end is babbles:
        assert "0x77" in str(error)
        assert "state running" in str(error)


HINTS: dict[str, Script] = {
    "silent": silent_after_the_data,
    "busy": answers(ACCESS_DENIED, before=37),
    "not-a-server": answers(b"HTTP/1.1 400 Bad Request\r\n\r\n", before=37),
}


async def then(first: Script, second: Script, it: Fake) -> None:
    await first(it)
    await second(it)
    await it.stay()


for _end in ENDS:
    HINTS[_end.__name__] = functools.partial(then, Fake.start, _end)
for _end in (reports_an_error, closes, terminates):
    HINTS[f"{_end.__name__}-before-the-data"] = functools.partial(then, Fake.agree, _end)


@pytest.mark.parametrize("name", HINTS)
def test_every_error_says_what_to_do(run_once: RunLoop, name: str) -> None:
    error = run_once(failure_with(HINTS[name], spec(duration_s=0.2)))
    assert error.hint
