"""Test how a server answers the UDP queries of `path`: to the holder of an address only, and from
the address that was asked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.protocol import (
    NO_PATH_TOKEN,
    PATH_QUERY_BYTES,
    PathKind,
    PathProbe,
    make_path_answer,
    make_path_query,
    read_path_answer,
    read_path_query,
)

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
TOKEN_QUERY = make_path_query(PathProbe(PathKind.TOKEN, 1))


@contextmanager
def asking(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A socket that is connected to the server, so that it gets answers of that address only."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, port))
        sock.setblocking(False)
        yield sock


async def received(sock: socket.socket) -> bytes:
    async with asyncio.timeout(20):
        return await asyncio.get_running_loop().sock_recv(sock, 65_536)


async def token_of(sock: socket.socket) -> bytes:
    sock.send(TOKEN_QUERY)
    answer = read_path_answer(await received(sock))
    assert answer is not None
    assert answer.kind == PathKind.TOKEN
    return answer.token


@pytest.mark.parametrize("kind", [PathKind.UPLOAD, PathKind.DOWNLOAD, PathKind.KNOWN_MTU])
def test_a_query_without_the_token_of_its_sender_has_no_answer(
    run: RunOnce, kind: PathKind
) -> None:
    """The server answers in order: the answer to the last query comes first."""

    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            with asking(server.port) as other, asking(server.port) as sock:
                theirs = await token_of(other)
                for token in (NO_PATH_TOKEN, theirs):
                    sock.send(make_path_query(PathProbe(kind, 2, 1000, token)))
                mine = await token_of(sock)
                assert mine != theirs
                sock.send(make_path_query(PathProbe(kind, 3, 1000, mine)))
                answer = read_path_answer(await received(sock))
                assert answer is not None
                assert (answer.kind, answer.number) == (kind, 3)

    run(main())


def test_no_answer_is_longer_than_its_query_but_the_requested_one(run: RunOnce) -> None:
    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            with asking(server.port) as sock:
                sock.send(TOKEN_QUERY)
                assert len(await received(sock)) == len(TOKEN_QUERY)
                token = await token_of(sock)
                sock.send(make_path_query(PathProbe(PathKind.UPLOAD, 2, 0, token)) + bytes(500))
                told = await received(sock)
                assert len(told) == PATH_QUERY_BYTES
                answer = read_path_answer(told)
                assert answer is not None
                assert answer.size == PATH_QUERY_BYTES + 500
                sock.send(make_path_query(PathProbe(PathKind.DOWNLOAD, 3, 1234, token)))
                assert len(await received(sock)) == 1234

    run(main())


def test_a_client_of_a_denied_network_has_no_answer(run: RunOnce) -> None:
    async def main() -> None:
        limits = nm.ServerLimits(deny=("127.0.0.0/8",))
        async with nm.serve("127.0.0.1", 0, limits=limits) as server:
            with pytest.raises(nm.PeerTimeoutError):
                await nm.path("127.0.0.1", port=server.port, protocol="udp", timeout_s=0.2)

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.3", "::1"])
def test_the_answer_comes_from_the_address_that_was_asked(run: RunOnce, host: str) -> None:
    async def main() -> None:
        async with nm.serve(None, 0) as server:
            found = await nm.path(host, port=server.port, protocol="udp", timeout_s=20)
            assert (found.protocol, found.address) == ("udp", host)
            assert [(one.passed_bytes, one.longer) for one in found.lengths] == [(9216, None)] * 2
            assert found.explanations == ()

    run(main())


def test_a_closed_port_and_an_unknown_protocol_are_errors(run: RunOnce) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        held.connect(("127.0.0.1", port))  # it takes datagrams of no other socket
        with pytest.raises(nm.ConnectRefusedError, match="refused UDP"):
            run(nm.path("127.0.0.1", port=port, protocol="udp", timeout_s=20))
    with pytest.raises(nm.SpecError, match="can't carry probes"):
        run(nm.path("127.0.0.1", protocol="sctp"))  # type: ignore[arg-type]


def test_a_cancelled_search_leaves_nothing(run: RunOnce) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            silent.setblocking(False)
            port = silent.getsockname()[1]
            task = asyncio.create_task(nm.path("127.0.0.1", port=port, protocol="udp"))
            await received(silent)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())


def test_answers_are_no_queries_and_queries_no_answers() -> None:
    """Otherwise, two servers would answer each other for ever after one forged datagram."""
    for kind in PathKind:
        probe = PathProbe(kind, 7, 100, b"0123456789abcdef")
        assert read_path_query(make_path_answer(probe)) is None
        assert read_path_answer(make_path_query(probe)) is None
        assert read_path_answer(make_path_answer(probe)) == probe
    asked = PathProbe(PathKind.UPLOAD, 7, 100, b"0123456789abcdef")
    assert read_path_query(make_path_query(asked) + bytes(50)) == asked


@pytest.mark.parametrize("size", [0, PATH_QUERY_BYTES - 1, 9189, 65_535])
def test_a_requested_length_that_no_packet_has_is_no_query(size: int) -> None:
    assert read_path_query(make_path_query(PathProbe(PathKind.DOWNLOAD, 1, size))) is None


@pytest.mark.parametrize("data", [b"", b"nm-pathq", TOKEN_QUERY[:-1], b"x" * PATH_QUERY_BYTES])
def test_other_bytes_are_no_query(data: bytes) -> None:
    assert read_path_query(data) is None
