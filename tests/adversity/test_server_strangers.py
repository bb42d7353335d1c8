"""Connections that are no clients: the server answers, drops them, and serves the next client."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support.hostile_client import (
    Peer,
    reset,
    watched,
)
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


def test_a_connection_without_data_is_not_logged(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            for end in (socket.socket.close, reset):
                with Peer(it) as peer:
                    end(peer.control)
            await until(lambda: it.server._sessions.accepted == 2)

    run(main())


def test_silence_after_three_bytes_of_a_cookie(run: RunLoop) -> None:
    async def main() -> None:
        async with watched(cookie_s=0.1) as it:
            with Peer(it) as peer:
                await peer.send(b"abc")
                await peer.expect_end()
            assert "did not identify itself in 0.1 s" in await it.told()

    run(main())


@pytest.mark.parametrize(
    "said",
    [
        b"abc",
        b"GET / HTTP/1.1\r\nHost: lab1.example:5201\r\nUser-Agent: curl/8.5\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6p1 Ubuntu-3ubuntu13.4\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(60)),
        bytes(200),
        b"a" * 200,
        b"a" * 36 + b"\x01",
    ],
    ids=["three-bytes", "http", "ssh", "tls", "zeros", "too-long", "no-nul"],
)
def test_a_connection_with_an_invalid_cookie_is_closed_at_once(
    run_once: RunLoop, said: bytes
) -> None:
    async def main() -> None:
        async with watched(cookie_s=60) as it:
            with Peer(it) as peer:
                await peer.send(said)
                peer.control.shutdown(socket.SHUT_WR)
                await peer.expect_end()
                where = "{}:{}".format(*peer.control.getsockname())
            assert (await it.told()).startswith(where)

    run_once(main())


def test_silence_after_the_cookie(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched(handshake_s=0.1) as it:
            with Peer(it) as peer:
                await peer.hello()
                await peer.expect_end()
            await it.idle()
            assert "silent" in await it.told()

    run_once(main())


def test_a_client_that_resets_right_after_its_cookie(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            for _ in range(5):
                with Peer(it) as peer:
                    # all this happens before the server accepts the connection
                    peer.control.send(peer.cookie + b"\0")
                    reset(peer.control)
            await until(lambda: it.server._sessions.accepted == 5)
            await it.idle()
            it.refusals.clear()

    run(main())


def test_a_crowd_of_strangers_does_not_keep_a_client_out(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with contextlib.ExitStack() as stack:
                for _ in range(100):
                    stack.enter_context(Peer(it))
                spec = nm.TcpSpec(streams=2, timing=nm.Timing(total_bytes=1000))
                assert (await nm.measure(it.server.address, spec)).complete
            await until(lambda: it.results)
            it.results.clear()

    run(main())
