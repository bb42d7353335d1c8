"""Test servers that fall silent: the client ends in time, and names what it waited for."""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support.scripted_server import (
    TEST_START,
    Fake,
    Script,
    assert_measured,
    failure_with,
    silent_after_the_data,
    spec,
)

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


async def silent_at_once(it: Fake) -> None:
    await it.accept()
    await it.stay()


async def silent_after_the_welcome(it: Fake) -> None:
    await it.welcome()
    await it.stay()


async def silent_after_create_streams(it: Fake) -> None:
    await it.agree()
    await it.stay()


async def silent_after_test_start(it: Fake) -> None:
    await it.agree()
    await it.say(TEST_START)
    await it.stay()


async def silent_after_exchange_results(it: Fake) -> None:
    await it.finish()
    await it.stay()


async def silent_after_half_of_the_results(it: Fake) -> None:
    await it.finish()
    await it.take_json()
    await it.say(struct.pack(">I", 1000) + b'{"cpu_util_total":')
    await it.stay()


async def silent_after_the_results(it: Fake) -> None:
    await it.answer()
    await it.stay()


SILENCES: dict[Script, str] = {
    silent_at_once: "accepted the connection, but was silent",
    silent_after_the_welcome: "offered (CREATE_STREAMS expected)",
    silent_after_create_streams: "creating streams (TEST_START expected)",
    silent_after_test_start: "starting (TEST_RUNNING expected)",
    silent_after_the_data: "ending (EXCHANGE_RESULTS expected)",
    silent_after_exchange_results: "answering (server results expected)",
    silent_after_half_of_the_results: "answering (server results expected)",
    silent_after_the_results: "answered (DISPLAY_RESULTS expected)",
}


@pytest.mark.parametrize("script", SILENCES)
def test_a_server_that_falls_silent(run_once: RunLoop, script: Script) -> None:
    error = run_once(failure_with(script, spec(total_bytes=100_000)))
    assert type(error) is nm.PeerTimeoutError
    assert isinstance(error, TimeoutError)
    assert "silent" in str(error)
    assert SILENCES[script] in str(error)
    scripts = list(SILENCES)
    if scripts.index(script) >= scripts.index(silent_after_the_data):
        assert_measured(error)
    names = [phase.name for phase in error.result.setup if phase.name not in ("host", "start")]
    assert names[0] == "resolve"
    # the server's results are those of a complete test, though it was never confirmed
    assert bool(error.result.server.streams) == (script is silent_after_the_results)
