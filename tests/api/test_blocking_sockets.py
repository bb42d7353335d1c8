"""Test that no event loop makes the sockets of native threads non-blocking. A thread that waits for
data would run without pause then, and take the CPU from the other threads."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.peer.client.elsewhere import answered_elsewhere
from netmeasure.workloads.tcp import TcpWorkload
from netmeasure.workloads.udp import UdpWorkload

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
TIMING = nm.Timing(duration_s=0.3, interval_s=0.1)


@pytest.mark.parametrize(
    "spec",
    [
        nm.TcpSpec(timing=TIMING, direction="both", streams=2),
        nm.UdpSpec(timing=TIMING, direction="both", target_bps=10**6),
        nm.RrSpec(timing=TIMING),
        nm.RrSpec(timing=TIMING, transport="udp", request_bytes=16, response_bytes=16),
    ],
    ids=["tcp", "udp", "rr", "udp-rr"],
)
def test_data_sockets_stay_blocking(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch, spec: nm.TcpSpec
) -> None:
    socks: list[socket.socket] = []
    for workload in (TcpWorkload, UdpWorkload):
        configure: Any = workload._configure

        def kept(self: Any, sock: socket.socket, *more: Any, configure: Any = configure) -> None:
            configure(self, sock, *more)
            socks.append(sock)

        monkeypatch.setattr(workload, "_configure", kept)

    async def measured() -> list[bool]:
        blocking = []
        async with nm.serve("127.0.0.1", 0) as server, nm.connect(server.address).run(spec) as test:
            async for _ in test:
                blocking += [os.get_blocking(sock.fileno()) for sock in socks if sock.fileno() >= 0]
        return blocking

    blocking = run(measured())
    assert len(blocking) >= 2
    assert all(blocking)


def test_a_greeting_is_seen_without_touching_the_sockets(run: RunLoop) -> None:
    ours, theirs = socket.socketpair()

    async def seen() -> None:
        async with asyncio.timeout(10):
            watching = asyncio.create_task(answered_elsewhere([ours], lambda: 0, 1))
            for _ in range(3):  # the loop waits for the socket meanwhile
                await asyncio.sleep(0)
            assert not watching.done()
            assert os.get_blocking(ours.fileno())
            theirs.send(b"\x09")
            await watching
        assert os.get_blocking(ours.fileno())
        assert ours.recv(10) == b"\x09"

    with ours, theirs:
        run(seen())
