"""Test many plain UDP clients at a time, clients that vanish, and servers that do not answer: each
test has its own datagrams, and its own error."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support import iperf3
from support.held import steps
from support.ports import free_port
from support.udp_peers import (
    CREATE_STREAMS,
    PARAM_EXCHANGE,
    SIZE,
    Peer,
    both_ways,
    counts,
    datagram,
    datagrams,
    heard,
    limited,
    moved,
    watched,
)
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

# ---- many at a time -----------------------------------------------------------------------------


def test_plain_clients_of_one_address_do_not_mix(run_once: RunLoop) -> None:
    """Their datagrams do not say to which test they belong, but each is counted in the test of the
    client that sent it."""

    async def main() -> None:
        async with watched() as it:
            with contextlib.ExitStack() as stack:
                peers = [stack.enter_context(Peer(it)) for _ in range(4)]

                async def one(peer: Peer, packets: int) -> dict[str, Any]:
                    await peer.start(2)
                    for number in range(1, packets + 1):
                        peer.streams[0].send(datagram(number))
                    peer.streams[1].send(datagram(1))
                    return await peer.finish([packets, 1])

                told = await asyncio.gather(*(one(p, 10 + i) for i, p in enumerate(peers)))
            for index, theirs in enumerate(told):
                assert [s["packets"] for s in theirs["streams"]] == [10 + index, 1]
                assert [s["errors"] for s in theirs["streams"]] == [0, 0]
            results = [await it.results.get() for _ in peers]
            assert sorted(counts(result.flow)[1] or 0 for result in results) == [11, 12, 13, 14]

    run_once(main())


@pytest.mark.interop
def test_real_iperf3_clients_of_one_address_do_not_mix(run_once: RunLoop) -> None:
    numbers = (40, 80, 120, 160)

    async def main() -> None:
        async with watched() as it:
            words = ("-u", "-b", "8M", "-l", str(SIZE))
            reports = await asyncio.gather(
                *(
                    asyncio.to_thread(iperf3.client, *it.where, *words, "-k", str(n), *more)
                    for n, more in zip(numbers, [(), ("-R",), (), ("-R",)], strict=True)
                )
            )
            for report, number in zip(reports, numbers, strict=True):
                assert report["end"]["sum"]["packets"] == number
                assert report["end"]["sum_received"]["bytes"] == number * SIZE
            results = [await it.results.get() for _ in numbers]
            assert all(result.complete for result in results)
            assert sorted(counts(r.flow)[0] or 0 for r in results) == list(numbers)

    run_once(main())


# ---- clients that vanish ------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_vanishes_leaves_nothing(run: RunLoop, direction: str, how: str) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start(reverse=direction == "download", bandwidth=8_000_000)
                if direction == "upload":
                    for number in range(1, 11):
                        peer.streams[0].send(datagram(number))
                    await until(lambda: moved(it) == 10 * SIZE)
                else:
                    assert len(await heard(peer.streams[0])) == SIZE
                if how == "reset":
                    linger = struct.pack("ii", 1, 0)
                    peer.control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            result = await it.results.get()
            assert not result.complete
            assert result.error is not None
            assert result.error.code == "peer_closed"
            moved_bytes = result.flow.receiver if direction == "upload" else result.flow.sender
            assert moved_bytes.bytes

    run(main())


def test_a_client_that_closes_its_data_socket_only(run_once: RunLoop) -> None:
    """Then the kernel answers each datagram with an ICMP error, which must not end the test."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start(reverse=True, bandwidth=8_000_000)
                assert len(await heard(peer.streams[0])) == SIZE
                peer.streams[0].close()
                before = moved(it)
                await until(lambda: moved(it) > before + 20 * SIZE)
                await peer.finish([0])
            result = await it.results.get()
            assert result.complete
            (stream,) = result.server.streams
            assert stream.datagrams is not None
            assert stream.datagrams.icmp_errors

    run_once(main())


def test_a_client_that_sends_no_hello_is_given_up(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched(streams_s=0.2) as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2)
                await peer.open_stream()
                await peer.expect(b"\xfe")
            result = await it.results.get()
            assert not result.complete
            assert result.error is not None
            assert "1 of 2 streams" in result.error.message

    run_once(main())


# ---- a server that does not answer --------------------------------------------------------------


async def wants_streams(listener: socket.socket) -> None:
    """Be a server that accepts a test, waits for its streams, and never answers one."""
    loop = asyncio.get_running_loop()
    sock, _ = await loop.sock_accept(listener)
    with sock:
        sock.setblocking(False)
        await loop.sock_recv(sock, 37)
        await loop.sock_sendall(sock, PARAM_EXCHANGE)
        await loop.sock_recv(sock, 10_000)
        await loop.sock_sendall(sock, CREATE_STREAMS)
        await loop.sock_recv(sock, 1)


def test_no_answer_to_the_hello_is_an_error_with_a_hint(run_once: RunLoop) -> None:
    """A firewall blocks the server's UDP port: the deadline ends the test, and the hint says so."""

    async def main() -> None:
        where = ("127.0.0.1", free_port())  # also for UDP, which another test may use at port 0
        with socket.create_server(where) as listener:
            listener.setblocking(False)
            with datagrams(where):
                task = asyncio.create_task(wants_streams(listener))
                wanted = limited("upload", 10, deadlines=nm.Deadlines(connect_s=0.2))
                with pytest.raises(nm.PeerTimeoutError, match="UDP hellos") as caught:
                    await nm.measure(where[0], wanted, port=where[1])
                await task
        assert "firewall" in (caught.value.hint or "")
        assert caught.value.result is not None
        assert steps(caught.value.result)[-1] == "hello"

    run_once(main())


def test_a_closed_udp_port_is_refused_at_once(run_once: RunLoop) -> None:
    async def main() -> None:
        where = ("127.0.0.1", free_port())  # nothing has this port for UDP
        with socket.create_server(where) as listener:
            listener.setblocking(False)
            task = asyncio.create_task(wants_streams(listener))
            with pytest.raises(nm.ConnectRefusedError, match="refused UDP"):
                await nm.measure(where[0], limited("upload", 10), port=where[1])
            await task

    run_once(main())
