"""Test that connections which a server or proxy ends say nothing about the path: a search for a
path MTU black hole counts none of their packets as dropped."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest

import netmeasure as nm
from netmeasure.engine import path_probe, sockopts
from netmeasure.engine.addresses import Address
from netmeasure.engine.path_probe import find_hole
from netmeasure.peer.client import path_watch
from netmeasure.peer.client.path_watch import PathWatch
from netmeasure.protocol import COOKIE_BYTES
from netmeasure.protocol.messages import probe_answer_bytes
from netmeasure.spec import SocketOptions
from support.measured import RunLoop

#: Answers of at most this many bytes are sent completely.
SHORT_BYTES = 1000
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, socket(7)


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def cutting(way: str) -> AsyncIterator[int]:
    """Answer probes as a netmeasure server does, but end connections in one `way`; yield the
    port."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            if way == "reset at once":
                reset(writer)
            if way.endswith("at once"):
                return
            wanted = probe_answer_bytes(await reader.readexactly(COOKIE_BYTES)) or 1
            writer.write(bytes(min(wanted, SHORT_BYTES)))
            await writer.drain()
            if wanted > SHORT_BYTES and way == "reset after some":
                reset(writer)

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "way", ["reset at once", "close at once", "reset after some", "close after some"]
)
def test_connections_that_are_ended_are_no_black_hole(way: str, run_once: RunLoop) -> None:
    async def main() -> None:
        async with cutting(way) as port:
            address = Address(socket.AF_INET, ("127.0.0.1", port))
            for direction in ("upload", "download"):
                assert await find_hole(address, SocketOptions(), direction, 9000) is None
            found = await nm.path("127.0.0.1", port=port)
            download = found.lengths[1]
            assert (download.passed_bytes, download.longer) == (None, None)

    run_once(main())


def test_a_path_that_carries_the_longest_packet_costs_one_connection(run_once: RunLoop) -> None:
    """If many tests stand still since their host is busy, their searches must not keep it busy."""

    async def main() -> int:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:  # its kernel answers
            listener.setblocking(False)
            address = Address(socket.AF_INET, listener.getsockname())
            assert await find_hole(address, SocketOptions(), "upload", 9000) is None
            opened = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    opened += 1
            return opened

    assert run_once(main()) == 1


def test_a_search_without_an_end_is_given_up(run: RunLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as on a path that loses many packets: the error that led to the search must not wait."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(path_probe._Prober, "fate", never)
    monkeypatch.setattr(path_watch, "SEARCH_S", 0.05)

    async def main() -> None:
        address = Address(socket.AF_INET, ("127.0.0.1", 5201))
        watch = PathWatch(address, nm.TcpSpec(), extended=True)
        async with asyncio.timeout(20):
            assert not await watch.search_all()
        assert watch.hole is None

    run(main())


def test_a_search_that_the_kernel_refuses_an_option_ends_no_test(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has asked for the search: on a busy host, in which data come late, it begins by
    itself."""

    def refused(*_: object) -> None:
        raise nm.SocketOptionError("the kernel refuses an MSS", phase="connect")

    monkeypatch.setattr(sockopts, "set_mss", refused)

    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            address = Address(socket.AF_INET, ("127.0.0.1", server.port))
            watch = PathWatch(address, nm.TcpSpec(), extended=True)
            assert not await watch.search_all()
        assert watch.hole is None

    run_once(main())
