"""run(): one test by a program that has no event loop."""

from __future__ import annotations

import asyncio

import pytest

import netmeasure as nm
from support.program import running


def test_a_program_without_an_event_loop() -> None:
    with running("server", "-B", "127.0.0.1", "-p", "0") as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        spec = nm.TcpSpec(timing=nm.Timing(total_bytes=100_000))
        result = nm.run(address, spec)
    assert result.complete
    assert result.receiver.bytes == 100_000


async def _inside() -> None:
    nm.run("127.0.0.1")


def test_a_call_in_a_running_event_loop_is_refused() -> None:
    with pytest.raises(nm.SpecError, match="already") as caught:
        asyncio.run(_inside())
    assert "await nm.measure" in (caught.value.hint or "")
