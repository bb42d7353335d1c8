"""Test unexpected datagrams, at the server's port and at the sockets of a running test: they change
a counter, but never a result."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import hello
from netmeasure.engine.hello import HelloListener
from netmeasure.engine.listeners import open_listener
from netmeasure.protocol import Hello, make_hello, read_hello
from support import iperf3
from support.held import steps
from support.ports import free_port
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

PARAM_EXCHANGE, CREATE_STREAMS, TEST_START, TEST_RUNNING = b"\x09", b"\x0a", b"\x01", b"\x02"
TEST_END, EXCHANGE_RESULTS, DISPLAY_RESULTS, IPERF_DONE = b"\x04", b"\x0d", b"\x0e", b"\x10"
HELLO, ANSWER = b"9876", b"6789"
SIZE = 1000
#: Shorter than the deadlines of a server, longer than a busy machine needs.
SOON_S = 10
BOTH_WAYS = ("upload", "download")

both_ways = pytest.mark.parametrize("direction", BOTH_WAYS)


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


def moved(it: Watched) -> int:
    workloads = [session._workload for session in it.server._sessions]
    return sum(workload.moved_bytes() for workload in workloads if workload is not None)


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


def test_no_answer_to_the_hello_is_an_error_with_a_hint(run_once: RunLoop) -> None:
    """A firewall blocks the server's UDP port: the deadline ends the test, and the hint says so."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        where = ("127.0.0.1", free_port())  # also for UDP, which another test may use at port 0
        with socket.create_server(where) as listener:
            listener.setblocking(False)
            with datagrams(where):

                async def serve() -> None:
                    sock, _ = await loop.sock_accept(listener)
                    with sock:
                        sock.setblocking(False)
                        await loop.sock_recv(sock, 37)
                        await loop.sock_sendall(sock, PARAM_EXCHANGE)
                        await loop.sock_recv(sock, 10_000)
                        await loop.sock_sendall(sock, CREATE_STREAMS)
                        await loop.sock_recv(sock, 1)

                task = asyncio.create_task(serve())
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
        loop = asyncio.get_running_loop()
        where = ("127.0.0.1", free_port())  # nothing has this port for UDP
        with socket.create_server(where) as listener:
            listener.setblocking(False)

            async def serve() -> None:
                sock, _ = await loop.sock_accept(listener)
                with sock:
                    sock.setblocking(False)
                    await loop.sock_recv(sock, 37)
                    await loop.sock_sendall(sock, PARAM_EXCHANGE)
                    await loop.sock_recv(sock, 10_000)
                    await loop.sock_sendall(sock, CREATE_STREAMS)
                    await loop.sock_recv(sock, 1)

            task = asyncio.create_task(serve())
            with pytest.raises(nm.ConnectRefusedError, match="refused UDP"):
                await nm.measure(where[0], limited("upload", 10), port=where[1])
            await task

    run_once(main())
