"""Test unexpected datagrams, at the server's port and at the sockets of a running test: they change
a counter, but never a result."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import hello
from netmeasure.engine.hello import HelloListener
from netmeasure.engine.listeners import open_listener
from netmeasure.protocol import Hello, make_hello, read_hello
from support.udp_peers import (
    ANSWER,
    HELLO,
    SIZE,
    TEST_RUNNING,
    TEST_START,
    Peer,
    Watched,
    both_ways,
    counts,
    datagram,
    datagrams,
    heard,
    is_silent,
    limited,
    moved,
    watched,
)
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


def junk() -> list[bytes]:
    """Return datagrams that a server does not expect, some of them similar to valid ones."""
    chance = random.Random(1)
    named = make_hello("a" * 36, 1, extended=True)
    return [
        b"",
        b"\0",
        HELLO[:3],
        HELLO + b"\0",
        ANSWER,
        HELLO,
        bytes.fromhex("15cd5b07"),
        named,
        named[:-1],
        named + b"\0",
        HELLO + b"\xff" * 37 + struct.pack(">I", 1),
        struct.pack(">IIQ", 1, 1, 1) + bytes(100),
        bytes(65_507),
        *(chance.randbytes(chance.randrange(1, 100)) for _ in range(50)),
    ]


# ---- the server's port --------------------------------------------------------------------------


def test_the_port_does_not_answer_without_a_test(run: RunLoop) -> None:
    """Valid and broken hellos and noise are counted and dropped. The server can't be made to send
    datagrams to an address that has not opened a control connection."""

    async def main() -> None:
        async with watched() as it:
            with datagrams() as stranger:
                for data in junk():
                    stranger.sendto(data, it.where)
                await until(lambda: it.ignored == len(junk()))
                assert is_silent(stranger)

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_is_no_hello_does_not_reach_the_server(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """The kernel discards it, so that a flood takes no time of the server. Hellos of every version
    and byte order pass."""
    named = make_hello("a" * 36, 1, extended=True)
    hellos = [HELLO, *map(bytes.fromhex, ("36373839", "15cd5b07", "075bcd15")), named]
    seen: list[bytes] = []

    def noted(data: bytes) -> Hello | None:
        seen.append(data)
        return read_hello(data)

    monkeypatch.setattr(hello, "read_hello", noted)

    async def main() -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with open_listener(family, (host, 0)) as tcp, socket.socket(family, socket.SOCK_DGRAM) as s:
            port = HelloListener([tcp], lambda _, __: None)
            try:
                sent = [*junk(), *hellos]
                for data in sent:
                    s.sendto(data, tcp.getsockname())
                await until(lambda: port.ignored == len(sent))
            finally:
                port.close()

    run(main())
    assert seen == [data for data in (*junk(), *hellos) if read_hello(data) is not None]
    assert set(seen) == set(hellos)


def test_the_port_answers_only_the_address_that_has_a_test(run: RunLoop) -> None:
    """Other addresses get no answer, even while the port waits for that client's hellos, and even
    to a hello with that client's cookie."""

    async def main() -> None:
        async with watched() as it:
            with datagrams(("127.0.0.2", 0)) as stranger, Peer(it) as peer:
                await peer.agree(time=0, num=SIZE)
                for data in (HELLO, make_hello(peer.cookie, 1, extended=True), *junk()):
                    stranger.sendto(data, it.where)
                await until(lambda: it.ignored == 2 + len(junk()))
                sock = await peer.open_stream()
                await peer.expect(TEST_START + TEST_RUNNING)
                assert is_silent(stranger)
                sock.send(datagram(1))
                theirs = await peer.finish([1])
            assert theirs["streams"][0]["packets"] == 1
            result = await it.results.get()
            assert result.complete
            assert counts(result.flow) == (1, 1, 0)

    run(main())


def test_no_test_of_tcp_makes_the_port_answer(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with datagrams() as stranger, Peer(it) as peer:
                await peer.agree(udp=False, tcp=True)
                for data in (HELLO, make_hello(peer.cookie, 1, extended=True)):
                    stranger.sendto(data, it.where)
                await until(lambda: it.ignored == 2)
                assert is_silent(stranger)
            result = await it.results.get()
            assert result.error is not None
            assert result.error.code == "peer_closed"

    run_once(main())


@both_ways
def test_noise_at_the_port_during_a_test_changes_nothing(run_once: RunLoop, direction: str) -> None:
    async def main() -> None:
        async with watched() as it:
            with datagrams() as stranger:
                client = nm.connect(it.server.address)
                async with client, client.run(limited(direction, 400)) as running:
                    async for _ in running:
                        for data in junk():
                            stranger.sendto(data, it.where)
                assert is_silent(stranger)
            assert it.ignored > 0
            for result in (running.result, await it.results.get()):
                assert result is not None
                assert result.complete
                assert counts(result.flow) == (400, 400, 0)
                assert invalid(result) == 0

    run_once(main())


def invalid(result: nm.Result) -> int:
    """Return the number of datagrams that the receivers counted as invalid."""
    found = [stream.receiver for flow in result.flows for stream in flow.streams]
    return sum(r.datagrams.invalid_packets or 0 for r in found if r and r.datagrams)


# ---- the sockets of a test ----------------------------------------------------------------------


def test_foreign_datagrams_to_a_socket_of_a_test_do_not_reach_it(run_once: RunLoop) -> None:
    """The client's socket of a download is connected, so it receives only from its server."""

    async def main() -> None:
        thrown = 0
        async with watched() as it:
            with datagrams() as stranger:
                client = nm.connect(it.server.address)
                async with client, client.run(limited("download", 400)) as running:
                    async for _ in running:
                        for where in clients_of(it):
                            for number in range(1, 2000, 7):
                                wide = struct.pack(">IIQ", 1, 1, number).ljust(SIZE, b"\0")
                                stranger.sendto(wide, where)
                                thrown += 1
            assert thrown
            for result in (running.result, await it.results.get()):
                assert result is not None
                assert counts(result.flow) == (400, 400, 0)
                assert result.flow.loss is not None
                assert result.flow.loss.duplicate_packets == 0
                assert invalid(result) == 0

    run_once(main())


def clients_of(it: Watched) -> list[tuple[str, int]]:
    """Return the addresses of the clients' data sockets in the running tests."""
    workloads = [session._workload for session in it.server._sessions]
    socks = [stream.sock for workload in workloads if workload for stream in workload._streams]
    return [sock.getpeername() for sock in socks if sock.fileno() >= 0]


def test_invalid_datagrams_from_the_client_itself_are_only_counted(run_once: RunLoop) -> None:
    """Datagrams that are too short or have an invalid time or an impossible number, and hellos
    during the test, change neither the received nor the lost datagrams."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start()
                (sock,) = peer.streams
                nonsense = [
                    b"",
                    b"x",
                    datagram(5)[:11],
                    struct.pack(">III", 1, 1_000_000, 6).ljust(SIZE, b"\0"),
                    datagram(0),
                    datagram(2**31),
                    datagram(2**31 - 1),
                    datagram(0xFFFF_FFFF),
                ]
                for number in range(1, 101):
                    if number not in (50, 51):
                        sock.send(datagram(number))
                    sock.send(nonsense[number % len(nonsense)])
                    if number % 10 == 0:
                        sock.send(HELLO)
                theirs = await peer.finish([100])
            (told,) = theirs["streams"]
            assert (told["packets"], told["errors"], told["bytes"]) == (100, 2, 98 * SIZE)
            result = await it.results.get()
            assert result.complete
            assert counts(result.flow) == (100, 98, 2)
            assert invalid(result) >= 90

    run_once(main())


def test_replayed_datagrams_are_counted_as_copies(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start()
                (sock,) = peer.streams
                order = [*range(1, 51), *range(1, 51), *range(60, 50, -1), 55]
                for number in order:
                    sock.send(datagram(number))
                theirs = await peer.finish([60])
            (told,) = theirs["streams"]
            assert (told["packets"], told["errors"], told["bytes"]) == (60, 0, 60 * SIZE)
            result = await it.results.get()
            assert counts(result.flow) == (60, 60, 0)
            assert result.flow.loss is not None
            assert result.flow.loss.duplicate_packets == 51
            assert result.flow.loss.reordered_packets == 9

    run_once(main())


def test_a_client_that_says_it_sent_less_than_came(run_once: RunLoop) -> None:
    """The loss is never negative, even if the peer reports impossible counts."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start()
                for number in range(1, 21):
                    peer.streams[0].send(datagram(number))
                await until(lambda: it.server._sessions)
                await until(lambda: moved(it) == 20 * SIZE)
                await peer.finish([5])
            assert counts((await it.results.get()).flow) == (20, 20, 0)

    run_once(main())


def test_a_hello_that_comes_twice_opens_one_stream(run_once: RunLoop) -> None:
    """The network may copy a datagram, and a plain hello does not name its stream: the copy must
    not be taken for the hello of the second stream."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2)
                first, second = peer.stream(), peer.stream()
                for _ in range(3):
                    first.send(HELLO)
                assert await heard(first) == ANSWER
                await until(lambda: it.ignored == 2)
                second.send(HELLO)
                assert await heard(second) == ANSWER
                await peer.expect(TEST_START + TEST_RUNNING)
                for number in range(1, 11):
                    first.send(datagram(number))
                for number in range(1, 31):
                    second.send(datagram(number))
                theirs = await peer.finish([10, 30])
            assert [stream["packets"] for stream in theirs["streams"]] == [10, 30]
            assert [stream["errors"] for stream in theirs["streams"]] == [0, 0]
            result = await it.results.get()
            assert counts(result.flow) == (40, 40, 0)

    run_once(main())
