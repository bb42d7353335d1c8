"""Clients that reset their connection at any moment leave no error that asyncio reports."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from typing import Any

import pytest

import netmeasure as nm
from support.downloads import RunLoop
from support.waiting import until

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, socket(7)
#: Each of them has the server reply more than once, so that a reply meets a closed connection.
WORDS = {
    nm.serve_ftp: (b"", b"USER a\r\nPASS b\r\n", b"USER a\r\nPASS b\r\nEPSV\r\nLIST\r\n"),
    nm.serve_http: (
        b"",
        b"\0\r\n\r\n",
        b"GET /1M HTTP/1.1\r\nhost: a\r\n\r\n" * 2,
        b"GET /256K HTTP/1.1\r\nhost: a\r\n\r\n" * 9,
    ),
}


async def hit(address: str, words: bytes, turns: int) -> None:
    """Connect, say some words, and reset the connection some turns of the event loop later."""
    host, _, port = address.rpartition(":")
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        sock.send(words)
        for _ in range(turns):
            await asyncio.sleep(0)


@pytest.mark.parametrize("serve", [nm.serve_http, nm.serve_ftp])
def test_a_reset_at_any_moment(run: RunLoop, serve: Any) -> None:
    reported: list[dict[str, Any]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        async with serve("127.0.0.1", 0) as origin:
            for turns in range(12):
                for words in WORDS[serve] * 5:
                    await hit(origin.address, words, turns)
            await until(lambda: not origin._tasks)
        gc.collect()  # asyncio reports an error that nobody has seen when its task is deleted

    run(scenario())
    assert reported == []
