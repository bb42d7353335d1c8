"""Open many connections to a server that never become a test, and open each again when it ends.

    python -m benchmarks.crowd PORT --idle 1000 --half 200 --trickle 1000 --addresses 100

The server is at 127.0.0.1, and the connections come from other loopback addresses. Idle ones send
nothing, half-open ones send a cookie and no parameters, and trickling ones send a byte of a cookie
every half second. A connection that the server has closed is opened again after a second. The
program prints "ready" when all are open, and ends with SIGTERM; then it prints how many connections
it has opened, by kind, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import socket
from collections import Counter
from contextlib import suppress

AGAIN_S, TRICKLE_S = 1.0, 0.5
#: Connections that are opened in one turn, so that a backlog has room for them.
AT_ONCE = 50
KINDS = ("idle", "half", "trickle")


class Crowd:
    """Keep the connections open until the program ends."""

    def __init__(self, port: int, addresses: int) -> None:
        self._port = port
        self._addresses = addresses
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.opened: Counter[str] = Counter()

    async def keep(self, kind: str, number: int, first: asyncio.Event) -> None:
        """Open one connection again and again. `first` is set when it is open."""
        loop = asyncio.get_running_loop()
        source = f"127.{20 + KINDS.index(kind)}.0.{1 + number % self._addresses}"
        while True:
            with socket.socket() as sock, suppress(OSError):
                sock.setblocking(False)
                sock.bind((source, 0))
                async with self._turn:
                    await loop.sock_connect(sock, ("127.0.0.1", self._port))
                self.opened[kind] += 1
                first.set()
                await self._behave(kind, sock)
            await asyncio.sleep(AGAIN_S)

    async def _behave(self, kind: str, sock: socket.socket) -> None:
        """Send what this kind of connection sends, until the server closes it."""
        loop = asyncio.get_running_loop()
        if kind == "half":
            await loop.sock_sendall(sock, os.urandom(18).hex().encode() + b"\0")
        elif kind == "trickle":
            for byte in os.urandom(18).hex().encode():
                await loop.sock_sendall(sock, bytes([byte]))
                await asyncio.sleep(TRICKLE_S)
        while await loop.sock_recv(sock, 100):
            pass


async def main(options: argparse.Namespace) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    crowd = Crowd(options.port, options.addresses)
    opened: list[asyncio.Event] = []
    tasks = []
    for kind in KINDS:
        for number in range(getattr(options, kind)):
            opened.append(asyncio.Event())
            tasks.append(asyncio.create_task(crowd.keep(kind, number, opened[-1])))
    for event in opened:
        await event.wait()
    print("ready", flush=True)
    await ended.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    print(json.dumps(crowd.opened), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    for name in KINDS:
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--addresses", type=int, default=100, help="of each kind, at most 254")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(parser.parse_args()))
