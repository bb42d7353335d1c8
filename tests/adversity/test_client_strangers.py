"""Test a port on which another service or a busy server listens."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support.held import steps
from support.scripted_server import (
    ACCESS_DENIED,
    TEST_RUNNING,
    UNHURRIED,
    Fake,
    Script,
    answers,
    failure_with,
    reset,
    spec,
)

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


async def echoes(it: Fake) -> None:
    it.control = await it.accept()
    await it.say(await it.take(it.control, 37))
    await it.stay()


NO_SERVERS: dict[str, Script] = {
    "http": answers(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", before=37),
    "ssh": answers(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "smtp": answers(b"220 lab1 ESMTP\r\n"),
    "zeros": answers(bytes(100)),
    # random bytes would sometimes begin with the number of a state
    "much": answers(bytes(range(200, 256)) + bytes(range(256)) * 4000),
    "a-later-state": answers(TEST_RUNNING, before=37),
    "a-client": answers(b"a" * 36 + b"\0"),
    "echo": echoes,
}


@pytest.mark.parametrize("name", NO_SERVERS)
def test_what_is_not_an_iperf3_server(run: RunLoop, name: str) -> None:
    script = NO_SERVERS[name]
    error = run(failure_with(script, spec(deadlines=UNHURRIED)))
    assert type(error) is nm.RemoteProtocolError
    assert re.search(r"127\.0\.0\.1:\d+ is not an iperf3 or netmeasure server", str(error))
    assert error.result.flows == ()
    assert steps(error.result) == ["resolve", "connect", "control"]
    assert error.result.setup[-1].detail


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["close", "reset"])
@pytest.mark.parametrize("before", [0, 37])
def test_a_server_that_leaves_at_once(
    run: RunLoop, before: int, end: Callable[[socket.socket], None]
) -> None:
    async def script(it: Fake) -> None:
        sock = await it.accept()
        await it.take(sock, before)
        end(sock)

    error = run(failure_with(script, spec(deadlines=UNHURRIED)))
    assert type(error) is nm.PeerClosedError
    assert "iperf3" in (error.hint or "")


@pytest.mark.parametrize("before", [0, 37])
def test_a_busy_server(run: RunLoop, before: int) -> None:
    async def script(it: Fake) -> None:
        it.control = await it.accept()
        await it.take(it.control, before)
        await it.say(ACCESS_DENIED)
        it.control.close()  # this is a reset if the cookie was not read

    error = run(failure_with(script, spec(deadlines=UNHURRIED)))
    assert type(error) is nm.BusyError
    assert "busy" in str(error)
