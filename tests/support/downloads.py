"""Run programs that download and upload, and raw sockets that misbehave, beside an event loop."""

import asyncio
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, Self, TypeVar

import pytest

from netmeasure.origins.content import BLOCK_BYTES, Content
from support import census

P = ParamSpec("P")
T = TypeVar("T")

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

DEADLINE_S = 30.0
KIB, MIB, GIB = 2**10, 2**20, 2**30
HOST = "127.0.0.1"


def expected(length: int, offset: int = 0) -> bytes:
    """Return the content of a file; only for sizes that fit into memory twice."""
    block = Content().cycle(offset)
    return (block * (length // BLOCK_BYTES + 1))[:length]


def no_transfer() -> bool:
    """Return whether no embedded server of this process is transferring a file."""
    return not any(t.name == "netmeasure-origin" for t in threading.enumerate())


async def over() -> None:
    """Wait until no transfer is running; the server first has to see the end of its client."""
    assert await beside(census.settle, no_transfer, 10.0)


def need(tool: str) -> str:
    """Return the path of a program; skip the test if the program is missing."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


async def beside(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call in a thread, while the event loop continues to serve."""
    return await asyncio.to_thread(call, *args, **kwargs)


def program(*argv: str) -> subprocess.CompletedProcess[bytes]:
    """Run a client to its end."""
    return subprocess.run(
        (need(argv[0]), *argv[1:]), capture_output=True, timeout=DEADLINE_S, check=False
    )


def together(commands: Sequence[Sequence[str]]) -> list[tuple[int, bytes]]:
    """Run clients at the same time; return the exit code and output of each."""
    running = [
        subprocess.Popen((need(argv[0]), *argv[1:]), stdout=subprocess.PIPE) for argv in commands
    ]
    try:
        return [(process.wait(DEADLINE_S), process.communicate()[0]) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


async def curl(*words: str) -> str:
    """Return the output of curl; fail if curl fails."""
    ran = await beside(program, "curl", "-sS", "--noproxy", "*", *words)
    assert ran.returncode == 0, (ran.returncode, ran.stderr)
    return ran.stdout.decode()


async def curl_bytes(*words: str) -> bytes:
    ran = await beside(program, "curl", "-sS", "--noproxy", "*", *words)
    assert ran.returncode == 0, (ran.returncode, ran.stderr)
    return ran.stdout


async def curl_fails(*words: str) -> int:
    """Return the exit code of curl, which must fail."""
    ran = await beside(program, "curl", "-sS", "--noproxy", "*", *words)
    assert ran.returncode != 0
    return ran.returncode


class RawClient:
    """Hold a connection on a raw socket, with a deadline for every operation."""

    def __init__(self, address: str, *, receive_buffer: int | None = None) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(DEADLINE_S)
        try:
            self.sock.connect((host, int(port)))
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def say(self, text: str) -> None:
        self.sock.sendall(text.encode())

    def read(self, count: int) -> bytes:
        """Return exactly so many bytes, or fewer at the end of the stream."""
        data = bytearray()
        while len(data) < count:
            piece = self.sock.recv(min(count - len(data), 1 << 20))
            if not piece:
                break
            data += piece
        return bytes(data)

    def until(self, mark: bytes) -> bytes:
        data = bytearray()
        while not data.endswith(mark):
            piece = self.sock.recv(1)
            assert piece, bytes(data)
            data += piece
        return bytes(data)

    def rest(self) -> int:
        """Return how many bytes arrive before the end, or the reset, of the connection."""
        count = 0
        try:
            while piece := self.sock.recv(1 << 20):
                count += len(piece)
        except ConnectionResetError:
            pass
        return count
