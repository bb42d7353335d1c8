"""Test the close of an embedded server, of either kind, while clients connect and disconnect."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.origins.base import Origin
from support.downloads import HOST, KIB, RawClient, RunLoop, beside
from support.python312 import gather_without_a_turn


class Waiting(Origin):
    """Serve each client until `end` is set, and then take `turns` more of the event loop."""

    def __init__(self, turns: int) -> None:
        super().__init__("127.0.0.1", 0, family="any", limits=None)
        self.here = asyncio.Event()
        self.end = asyncio.Event()
        self._turns = turns

    def _open(self) -> None:
        pass

    async def _admit(self, sock: socket.socket) -> None:
        with sock:
            self.here.set()
            await self.end.wait()
            for _ in range(self._turns):
                await asyncio.sleep(0)

    async def _disconnect(self) -> None:
        pass


@pytest.mark.timeout(20)
@pytest.mark.parametrize("turns", range(4))
def test_close_beside_a_task_that_has_just_ended(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """With no turns, the task is done but its callbacks have not run when close looks at it."""
    gather_without_a_turn(monkeypatch)

    async def scenario() -> None:
        async with Waiting(turns) as origin:
            with socket.create_connection(("127.0.0.1", origin.port)):
                await origin.here.wait()
                origin.end.set()
                await origin.close()

    run(scenario())


@pytest.mark.parametrize("serve", [nm.serve_http, nm.serve_ftp])
def test_a_client_that_connects_at_the_end_is_turned_away(run: RunLoop, serve: Any) -> None:
    async def scenario() -> None:
        async with serve(HOST) as origin:
            # the kernel has accepted these, the server has not seen them yet
            clients = [RawClient(origin.address) for _ in range(20)]
            await asyncio.sleep(0)  # and now it may have seen some
        for raw in clients:
            assert await beside(raw.rest) < KIB
            raw.sock.close()

    run(scenario())
