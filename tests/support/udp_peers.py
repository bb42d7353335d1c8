"""Provide a server that is watched for hostile UDP, and a plain iperf3 client on bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import netmeasure as nm
from support.waiting import until

PARAM_EXCHANGE, CREATE_STREAMS, TEST_START, TEST_RUNNING = b"\x09", b"\x0a", b"\x01", b"\x02"
TEST_END, EXCHANGE_RESULTS, DISPLAY_RESULTS, IPERF_DONE = b"\x04", b"\x0d", b"\x0e", b"\x10"
HELLO, ANSWER = b"9876", b"6789"
SIZE = 1000
#: Shorter than the deadlines of a server, longer than a busy machine needs.
SOON_S = 10
both_ways = pytest.mark.parametrize("direction", ["upload", "download"])


class Watched:
    """Hold a server and every event that it has reported."""

    def __init__(self, **limits: Any) -> None:
        self.results: asyncio.Queue[nm.Result] = asyncio.Queue()
        self.refusals: list[str] = []
        self.crashes: list[dict[str, Any]] = []
        self.server = nm.serve(
            "127.0.0.1",
            0,
            limits=nm.ServerLimits(**limits),
            on_result=self.results.put_nowait,
            on_refusal=self.refusals.append,
        )

    @property
    def where(self) -> tuple[str, int]:
        return "127.0.0.1", self.server.port

    @property
    def ignored(self) -> int:
        """Return the number of datagrams at the server's port that were no expected hello."""
        assert self.server._hellos is not None
        return self.server._hellos.ignored


@contextlib.asynccontextmanager
async def watched(**limits: Any) -> AsyncIterator[Watched]:
    """Provide a server for hostile input. Afterwards it must be idle and serve a normal test in
    both directions, and none of its tasks may have crashed."""
    it = Watched(**limits)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: it.crashes.append(context))
    async with it.server:
        yield it
        await until(lambda: it.server.active_tests == 0)
        assert it.refusals == []
        assert it.results.empty()
        good = await nm.measure(it.server.address, limited("both", 50))
        for result in (good, await it.results.get()):
            assert result.complete
            assert [counts(flow)[:2] for flow in result.flows] == [(50, 50)] * 2
    assert it.crashes == []


def limited(direction: str, packets: int, **more: Any) -> nm.UdpSpec:
    """Return a test of so many datagrams, 2000 per second."""
    return nm.UdpSpec(
        direction=direction,  # type: ignore[arg-type]
        timing=nm.Timing(total_blocks=packets, interval_s=0.05),
        datagram_bytes=SIZE,
        target_pps=2000,
        **more,
    )


def counts(flow: nm.Flow) -> tuple[int | None, int | None, int | None]:
    assert flow.loss is not None
    return flow.loss.sent_packets, flow.loss.received_packets, flow.loss.lost_packets


@contextlib.contextmanager
def datagrams(bound: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(bound)
        sock.setblocking(False)
        yield sock


async def heard(sock: socket.socket, limit_s: float = SOON_S) -> bytes:
    async with asyncio.timeout(limit_s):
        return await asyncio.get_running_loop().sock_recv(sock, 70_000)


def is_silent(sock: socket.socket) -> bool:
    """Return whether no datagram has come to this socket."""
    try:
        sock.recv(70_000)
    except BlockingIOError:
        return True
    return False


class Peer:
    """Act as a plain iperf3 client on bare sockets, one step for each call."""

    def __init__(self, it: Watched) -> None:
        self._it = it
        self.cookie = os.urandom(18).hex()
        self.streams: list[socket.socket] = []
        self.control = socket.create_connection(it.where)
        self.control.setblocking(False)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for sock in (self.control, *self.streams):
            sock.close()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(SOON_S):
            await asyncio.get_running_loop().sock_sendall(self.control, data)

    async def expect(self, data: bytes) -> None:
        got = b""
        async with asyncio.timeout(SOON_S):
            while len(got) < len(data):
                piece = await asyncio.get_running_loop().sock_recv(self.control, len(data))
                assert piece, "the server has closed"
                got += piece
        assert got == data

    async def agree(self, **parameters: Any) -> None:
        """Ask for a UDP test of a minute, or for a test with these parameters."""
        await self.send(self.cookie.encode() + b"\0")
        await self.expect(PARAM_EXCHANGE)
        wanted = {"udp": True, "time": 60, "parallel": 1, "len": SIZE, **parameters}
        text = json.dumps(wanted).encode()
        await self.send(struct.pack(">I", len(text)) + text)
        await self.expect(CREATE_STREAMS)

    def stream(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.streams.append(sock)
        sock.setblocking(False)
        sock.connect(self._it.where)
        return sock

    async def open_stream(self) -> socket.socket:
        sock = self.stream()
        sock.send(HELLO)
        assert await heard(sock) == ANSWER
        return sock

    async def start(self, count: int = 1, **parameters: Any) -> None:
        await self.agree(parallel=count, **parameters)
        for _ in range(count):
            await self.open_stream()
        await self.expect(TEST_START + TEST_RUNNING)

    async def finish(self, sent: list[int]) -> dict[str, Any]:
        """End an upload of so many datagrams per stream; return the server's results."""
        await self.send(TEST_END)
        await self.expect(EXCHANGE_RESULTS)
        streams = [
            {"id": number, "bytes": SIZE * packets, "retransmits": -1, "jitter": 0.0}
            | {"errors": 0, "packets": packets}
            for number, packets in zip(itertools.chain([1], itertools.count(3)), sent, strict=False)
        ]
        cpu = dict.fromkeys(("cpu_util_total", "cpu_util_user", "cpu_util_system"), 0.5)
        text = json.dumps({**cpu, "sender_has_retransmits": 0, "streams": streams}).encode()
        await self.send(struct.pack(">I", len(text)) + text)
        async with asyncio.timeout(SOON_S):
            head = await asyncio.get_running_loop().sock_recv(self.control, 4)
            (length,) = struct.unpack(">I", head)
            body = b""
            while len(body) < length:
                piece = await asyncio.get_running_loop().sock_recv(self.control, length - len(body))
                body += piece
        await self.expect(DISPLAY_RESULTS)
        await self.send(IPERF_DONE)
        theirs: dict[str, Any] = json.loads(body)
        return theirs


def datagram(sequence: int, size: int = SIZE) -> bytes:
    """Return a datagram of a plain iperf3 sender, with 32-bit numbers."""
    return struct.pack(">III", 1, 1, sequence).ljust(size, b"\0")


def moved(it: Watched) -> int:
    workloads = [session._workload for session in it.server._sessions]
    return sum(workload.moved_bytes() for workload in workloads if workload is not None)
