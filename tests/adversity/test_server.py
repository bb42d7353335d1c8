"""Hostile, broken and merely many clients against one server, which must be fit for a good test
after every one of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.protocol import stream_ids, stream_tag
from support.proxy import Proxy

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

PARAM_EXCHANGE, CREATE_STREAMS, TEST_START, TEST_RUNNING = b"\x09", b"\x0a", b"\x01", b"\x02"
TEST_END, EXCHANGE_RESULTS, DISPLAY_RESULTS, IPERF_DONE = b"\x04", b"\x0d", b"\x0e", b"\x10"
CLIENT_TERMINATE, ACCESS_DENIED, SERVER_ERROR = b"\x0c", b"\xff", b"\xfe"
DIRECTIONS = ("upload", "download", "both")


class Watched:
    """A server, and everything that it has told."""

    def __init__(self, **limits: Any) -> None:
        self.results: list[nm.Result] = []
        self.refusals: list[str] = []
        self.crashes: list[dict[str, Any]] = []
        self.server = nm.serve(
            "127.0.0.1",
            0,
            limits=nm.ServerLimits(**limits),
            on_result=self.results.append,
            on_refusal=self.refusals.append,
        )

    def moved_bytes(self) -> int:
        """What all the tests that are under way have moved so far."""
        workloads = [session._workload for session in self.server._sessions.values()]
        return sum(workload.moved_bytes() for workload in workloads if workload is not None)

    async def idle(self) -> None:
        """Wait until no test is left; its result has been told by then."""
        await until(lambda: self.server.active_tests == 0)

    async def told(self) -> str:
        """The one refusal that comes."""
        await until(lambda: self.refusals, 1)
        assert len(self.refusals) == 1
        return self.refusals.pop()

    async def failed(self, code: str) -> nm.Result:
        """The one result that comes, which must be of a test that failed for that reason."""
        await until(lambda: self.results)
        assert len(self.results) == 1
        result = self.results.pop()
        assert not result.complete
        assert result.error is not None
        assert result.error.code == code
        assert result.target.startswith("127.0.0.1:")
        assert nm.Result.from_json(result.to_json()) == result
        return result


@contextlib.asynccontextmanager
async def watched(**limits: Any) -> AsyncIterator[Watched]:
    """A server to be ill-treated. Afterwards it must be idle, have nothing more to tell than what
    the test has looked at, serve a good test, and no task of it may have crashed."""
    it = Watched(**limits)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: it.crashes.append(context))
    async with it.server:
        yield it
        await it.idle()
        assert (it.refusals, it.results) == ([], [])
        spec = nm.TcpSpec(direction="both", timing=nm.Timing(total_bytes=100_000))
        good = await nm.measure(it.server.address, spec)
        await until(lambda: it.results)
        for result in (good, *it.results):
            assert result.complete
            assert [flow.receiver.bytes for flow in result.flows] == [100_000, 100_000]
        assert it.refusals == []
        assert it.server.active_tests == 0
    assert it.crashes == []


async def until(check: Callable[[], object], limit_s: float = 5) -> None:
    """Wait for something that nobody announces."""
    for _ in range(round(limit_s * 1000)):
        if check():
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"it did not happen in {limit_s} s")


class Peer:
    """A plain iperf3 client on bare sockets, that does only what it is told to do."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._where = ("127.0.0.1", watched.server.port)
        self.cookie = os.urandom(18).hex().encode()
        self.streams: list[socket.socket] = []
        self.control = self.connect()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> socket.socket:
        """A connection that says nothing yet."""
        sock = socket.create_connection(self._where)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        for sock in (self.control, *self.streams):
            sock.close()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().sock_sendall(self.control, data)

    async def expect(self, data: bytes) -> None:
        assert await read(self.control, len(data)) == data

    async def expect_end(self) -> None:
        assert await read(self.control, 64) == b""

    async def expect_error(self, code: int) -> None:
        """SERVER_ERROR, and then the end, at once."""
        assert await read(self.control, 64) == SERVER_ERROR + struct.pack(">ii", code, 0)

    async def hello(self) -> None:
        await self.send(self.cookie + b"\0")
        await self.expect(PARAM_EXCHANGE)

    async def ask(self, **parameters: Any) -> None:
        """Ask for a test of a minute, or another one."""
        wanted = {"tcp": True, "time": 60, "parallel": 1, "len": 1000, **parameters}
        await self.send(framed(wanted))

    async def agree(self, **parameters: Any) -> None:
        await self.hello()
        await self.ask(**parameters)
        await self.expect(CREATE_STREAMS)

    async def agree_extended(self, **parameters: Any) -> None:
        """As a netmeasure client does, whose data connections say their number."""
        await self.hello()
        await self.ask(netmeasure={"duration_ms": 60_000}, **parameters)
        assert await read(self.control, 1) == b"\x40"
        (length,) = struct.unpack(">I", await read(self.control, 4))
        assert "host" in json.loads(await read(self.control, length))
        await self.expect(CREATE_STREAMS)

    async def open_stream(self, cookie: bytes | None = None, tag: bytes = b"") -> socket.socket:
        sock = self.connect()
        self.streams.append(sock)
        hello = (self.cookie if cookie is None else cookie) + b"\0" + tag
        await asyncio.get_running_loop().sock_sendall(sock, hello)
        return sock

    async def start(self, count: int = 1, **parameters: Any) -> None:
        """Everything up to the data."""
        await self.agree(parallel=count, **parameters)
        for _ in range(count * (2 if parameters.get("bidirectional") else 1)):
            await self.open_stream()
        await self.expect(TEST_START + TEST_RUNNING)

    async def send_data(self, count: int = 5000) -> None:
        """Data on the first stream, and wait until the server's thread has counted them."""
        before = self._watched.moved_bytes()
        await asyncio.get_running_loop().sock_sendall(self.streams[0], bytes(count))
        await until(lambda: self._watched.moved_bytes() == before + count)

    async def give_results(self, count: int = 5000) -> None:
        await self.expect(EXCHANGE_RESULTS)
        await self.send(framed(results(count)))

    async def take_results(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", await read(self.control, 4))
        theirs: dict[str, Any] = json.loads(await read(self.control, length))
        await self.expect(DISPLAY_RESULTS)
        return theirs


def framed(value: object) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack(">I", len(text)) + text


def results(count: int) -> dict[str, Any]:
    """A client's results, as iperf3 sends them."""
    stream = {"id": 1, "bytes": count, "retransmits": 0, "jitter": 0, "errors": 0, "packets": 0}
    cpu = dict.fromkeys(("cpu_util_total", "cpu_util_user", "cpu_util_system"), 0.5)
    return {**cpu, "sender_has_retransmits": 1, "streams": [stream]}


async def read(sock: socket.socket, count: int) -> bytes:
    """So many bytes, fewer if the connection ends before; by FIN or RST, but it must be soon."""
    data = b""
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            while len(data) < count:
                piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
                if not piece:
                    break
                data += piece
    return data


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# ---- not a client at all ----------------------------------------------------------------------


def test_a_bare_connection_is_worth_no_word(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            for end in (socket.socket.close, reset):
                with Peer(it) as peer:
                    end(peer.control)
            await until(lambda: it.server._accepted == 2)

    run(main())


def test_silence_after_three_bytes_of_a_cookie(run: RunLoop) -> None:
    async def main() -> None:
        async with watched(cookie_s=0.1) as it:
            with Peer(it) as peer:
                await peer.send(b"abc")
                await peer.expect_end()
            assert "did not say what it wants in 0.1 s" in await it.told()

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
def test_somebody_else_is_turned_away_at_once(run_once: RunLoop, said: bytes) -> None:
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
                    # all before the server gets to accept it
                    peer.control.send(peer.cookie + b"\0")
                    reset(peer.control)
            await until(lambda: it.server._accepted == 5)
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


# ---- wrong parameters -------------------------------------------------------------------------

WRONG: dict[str, tuple[object, int]] = {
    "oversize": (struct.pack(">I", 65_537) + b"{", 114),
    "huge": (struct.pack(">I", 2**24 - 1) + b"{", 114),
    "empty": (struct.pack(">I", 0), 114),
    "not-a-length": (b"\x7f\xff\xff\xff", 114),
    "not-json": (framed(b'{"tcp":tru'), 114),
    "not-utf-8": (framed(b'{"title":"\xff\xfe"}'), 114),
    "not-an-object": (framed([1, 2]), 114),
    "too-deep": (framed(b"[" * 50_000), 114),
    "text-for-a-number": ({"time": "1"}, 114),
    "beyond-64-bits": ({"num": 2**70}, 114),
    "time-negative": ({"time": -1}, 5),
    "time-too-long": ({"time": 86_401}, 5),
    "no-stream": ({"parallel": 0}, 6),
    "too-many-streams": ({"parallel": 129}, 6),
    "len-zero": ({"len": 0}, 7),
    "len-too-large": ({"len": 1024 * 1024 + 1}, 7),
    "window": ({"window": 512 * 1024 * 1024 + 1}, 8),
    "mss": ({"MSS": 32_768}, 10),
    "omit": ({"omit": 601}, 12),
    "sctp": ({"sctp": True}, 13),
    "mptcp": ({"mptcp": True}, 13),
    "burst": ({"burst": 1001}, 15),
    "udp-len": ({"udp": True, "len": 65_508}, 20),
    "tos": ({"TOS": 256}, 21),
    "both-ways": ({"reverse": True, "bidirectional": True}, 25),
    "bytes-negative": ({"num": -1}, 114),
    "blocks-negative": ({"blockcount": -1}, 114),
    "rate-negative": ({"bandwidth": -1}, 114),
    "flow-label": ({"flowlabel": 2**20}, 127),
    "affinity": ({"server_affinity": 1025}, 132),
    "extension-not-an-object": ({"netmeasure": 1}, 114),
    "extension-duration": ({"netmeasure": {"duration_ms": -1}}, 5),
    "extension-mode": ({"netmeasure": {"receive_mode": "x"}}, 114),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_parameters_are_answered_with_their_number(run_once: RunLoop, name: str) -> None:
    said, code = WRONG[name]

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.hello()
                if isinstance(said, dict):
                    await peer.ask(**said)
                else:
                    assert isinstance(said, bytes)
                    await peer.send(said)
                await peer.expect_error(code)
            await it.idle()
            assert it.results == []
            it.refusals.clear()

    run_once(main())


@pytest.mark.parametrize("name", ["not-json", "sctp"])
def test_wrong_parameters_are_told_to_who_runs_the_server(run_once: RunLoop, name: str) -> None:
    said, code = WRONG[name]

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.hello()
                await peer.send(said if isinstance(said, bytes) else framed(said))
                await peer.expect_error(code)
                where = "{}:{}".format(*peer.control.getsockname())
            assert (await it.told()).startswith(where)

    run_once(main())


@pytest.mark.parametrize("count", [1, 4])
def test_a_congestion_control_that_is_not_there(run: RunLoop, count: int) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree_extended(parallel=count, congestion="nonesuch")
                for tag in stream_ids(count):
                    await peer.open_stream(tag=stream_tag(tag))
                await peer.expect_error(134)
                for sock in peer.streams:
                    assert await read(sock, 1) == b""
            result = await it.failed("test_refused")
            assert "nonesuch" in result.error.message

    run(main())


def test_iperf3_is_served_without_a_congestion_control_that_is_not_there(run: RunLoop) -> None:
    """As its own server does; what was used is in the results."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start(congestion="nonesuch")
                await peer.send_data()
                await peer.send(TEST_END)
                await peer.give_results()
                theirs = await peer.take_results()
                assert theirs["congestion_used"] not in ("", "nonesuch")
                await peer.send(IPERF_DONE)
            await until(lambda: it.results)
            assert it.results.pop().complete

    run(main())


# ---- trouble with the streams -----------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_streams_that_are_never_opened(run_once: RunLoop, reverse: bool) -> None:
    async def main() -> None:
        async with watched(streams_s=0.1) as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2, **({"reverse": True} if reverse else {}))
                await peer.expect_error(144)
            assert "0 of 2 streams" in (await it.failed("test_refused")).error.message

    run_once(main())


def test_a_stream_that_is_reset_before_the_others_come(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched(streams_s=0.2) as it:
            with Peer(it) as peer:
                await peer.agree(parallel=3)
                reset(await peer.open_stream())
                await peer.open_stream()
                await peer.expect_error(144)
                assert await read(peer.streams[1], 1) == b""
            await it.failed("test_refused")

    run_once(main())


def test_streams_that_are_reset_as_soon_as_they_are_open(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2)
                for _ in range(2):
                    reset(await peer.open_stream())
                got = await read(peer.control, 64)
                assert got.removeprefix(TEST_START + TEST_RUNNING)[:5] == b"\xfe\0\0\0\xce"
            await it.failed("stream")

    run(main())


def test_a_wrong_cookie_does_not_disturb_a_test_that_opens_its_streams(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2)
                await peer.open_stream()
                stranger = await peer.open_stream(cookie=b"x" * 36)
                # for us it is another client, and not one whose test has to wait
                assert await read(stranger, 1) == PARAM_EXCHANGE
                stranger.close()
                await peer.open_stream()
                await peer.expect(TEST_START + TEST_RUNNING)
                await peer.send(TEST_END)
                await peer.give_results(0)
                await peer.take_results()
                await peer.send(IPERF_DONE)
            await it.idle()
            assert [result.complete for result in it.results] == [True]
            it.results.clear()
            it.refusals.clear()

    run(main())


@pytest.mark.parametrize("tag", [b"", b"\0\0\0\1"], ids=["plain", "tagged"])
def test_a_data_connection_for_a_test_that_runs_is_denied(run: RunLoop, tag: bytes) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await (peer.agree_extended() if tag else peer.agree())
                await peer.open_stream(tag=tag)
                await peer.expect(TEST_START + TEST_RUNNING)
                late = await peer.open_stream(tag=tag)
                assert await read(late, 2) == ACCESS_DENIED
                assert "does not expect" in await it.told()
                # and the test goes on
                await peer.send_data()
                peer.streams[0].shutdown(socket.SHUT_WR)
                await peer.send(TEST_END)
                await peer.give_results()
                theirs = await peer.take_results()
                assert theirs["streams"][0]["bytes"] == 5000
                await peer.send(IPERF_DONE)
            await it.idle()
            assert [result.complete for result in it.results] == [True]
            it.results.clear()

    run(main())


@pytest.mark.parametrize("tags", [(1, 1), (1, 2), (4, 1)], ids=["twice", "two", "no-such-number"])
def test_a_stream_with_a_wrong_number_is_denied(run_once: RunLoop, tags: tuple[int, int]) -> None:
    async def main() -> None:
        async with watched(streams_s=0.3) as it:
            with Peer(it) as peer:
                await peer.agree_extended(parallel=2)
                socks = [await peer.open_stream(tag=struct.pack(">I", tag)) for tag in tags]
                wrong = socks[0] if tags[0] == 4 else socks[1]
                assert await read(wrong, 2) == ACCESS_DENIED
                assert "does not expect" in await it.told()
                await peer.expect_error(144)
            await it.failed("test_refused")

    run_once(main())


def test_a_stream_that_says_its_number_after_its_test_has_gone(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree_extended()
                late = await peer.open_stream()
                await until(lambda: it.server._accepted == 2)
                peer.control.close()
                await it.failed("peer_closed")
                await it.idle()
                late.send(b"\0\0\0\1")
                # turned away, and closed, rather than kept for a test that is over
                assert await read(late, 2) in (ACCESS_DENIED, b"")
            it.refusals.clear()

    run(main())


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_data_stream_that_is_reset_is_an_error(run: RunLoop, reverse: bool) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start(2, **({"reverse": True} if reverse else {}))
                if reverse:
                    await read(peer.streams[0], 5000)
                else:
                    await peer.send_data()
                reset(peer.streams[0])
                await peer.expect_error(206)
            result = await it.failed("stream")
            assert "Connection reset" in result.error.message or "pipe" in result.error.message
            assert len(result.flow.streams) == 2
            assert sum(s.bytes for s in result.server.streams) > 0

    run(main())


# ---- out of order -----------------------------------------------------------------------------


@pytest.mark.parametrize("byte", [b"\x77", TEST_START, DISPLAY_RESULTS, SERVER_ERROR, b"\0"])
def test_a_byte_that_has_no_place_in_the_data_phase(run_once: RunLoop, byte: bytes) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start()
                await peer.send(byte)
                await read(peer.control, 64)
            result = await it.failed("remote_protocol")
            assert f"0x{byte.hex()}" in result.error.message
            assert "state running" in result.error.message

    run_once(main())


def test_a_test_that_is_ended_before_its_streams_are_open(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree(parallel=2)
                await peer.open_stream()
                await peer.send(TEST_END)
                await read(peer.control, 64)
                assert await read(peer.streams[0], 1) == b""
            result = await it.failed("remote_protocol")
            assert "TEST_END" in result.error.message
            assert "state creating" in result.error.message

    run_once(main())


async def after_cookie(peer: Peer) -> None:
    await peer.hello()


async def after_parameters(peer: Peer) -> None:
    await peer.agree(parallel=2)
    await peer.open_stream()


async def after_start(peer: Peer) -> None:
    await peer.start()
    await peer.send_data()


async def after_start_in_reverse(peer: Peer) -> None:
    await peer.start(2, reverse=True)
    await read(peer.streams[1], 1000)


async def after_test_end(peer: Peer) -> None:
    await after_start(peer)
    await peer.send(TEST_END)
    await peer.expect(EXCHANGE_RESULTS)


STEPS = (after_cookie, after_parameters, after_start, after_start_in_reverse, after_test_end)


@pytest.mark.parametrize("byte", [IPERF_DONE, CLIENT_TERMINATE], ids=["done", "terminate"])
@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_says_that_it_leaves(
    run_once: RunLoop, step: Callable[[Peer], Coroutine[Any, Any, None]], byte: bytes
) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await step(peer)
                await peer.send(byte)
                await peer.expect_end()
                for sock in peer.streams:
                    await asyncio.wait_for(drained(sock), 5)
            if step is not after_cookie:
                await it.failed("peer_terminated")

    run_once(main())


async def drained(sock: socket.socket) -> None:
    while await read(sock, 1 << 20):
        pass


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["close", "reset"])
@pytest.mark.parametrize("what", ["control", "all"])
@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_vanishes(
    run_once: RunLoop,
    step: Callable[[Peer], Coroutine[Any, Any, None]],
    what: str,
    end: Callable[[socket.socket], None],
) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await step(peer)
                for sock in (peer.control, *(peer.streams if what == "all" else ())):
                    end(sock)
                if step is not after_cookie:
                    result = await it.failed("peer_closed")
                    assert "closed the control connection" in result.error.message
                await it.idle()

    run_once(main())


def test_a_client_that_vanishes_when_it_has_its_results(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                await peer.send(framed(results(5000)))
                await peer.take_results()
            await it.idle()
            (result,) = it.results
            assert result.complete
            assert result.flow.receiver.bytes == result.flow.sender.bytes == 5000
            it.results.clear()

    run_once(main())


def test_a_client_that_moves_nothing(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched(stall_s=0.2) as it:
            with Peer(it) as peer:
                await after_start(peer)
                await peer.expect_error(144)
            result = await it.failed("test_refused")
            assert result.flow.receiver.bytes == 5000

    run_once(main())


def test_a_client_that_never_ends_its_test(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched(stall_s=0.3, drain_s=0.1) as it:
            with Peer(it) as peer:
                await peer.start(time=1)

                async def drip() -> None:
                    while True:
                        peer.streams[0].send(b"x")
                        await asyncio.sleep(0.05)

                dripping = asyncio.create_task(drip())
                await peer.expect_error(160)
                dripping.cancel()
                await asyncio.gather(dripping, return_exceptions=True)
            assert "did not end its test of 1 s" in (await it.failed("test_refused")).error.message

    run_once(main())


# ---- results ----------------------------------------------------------------------------------

BAD_RESULTS: dict[str, bytes] = {
    "not-json": framed(b"{bad}"),
    "empty": framed(b""),
    "no-streams": framed({k: v for k, v in results(0).items() if k != "streams"}),
    "text-for-a-number": framed({**results(0), "cpu_util_total": "many"}),
    "streams-not-a-list": framed({**results(0), "streams": {"id": 1}}),
    "too-deep": framed(b'{"streams":' + b"[" * 50_000),
    "a-state-byte": b"\x77",
    "extension-not-an-object": framed({**results(0), "netmeasure": 1}),
}


@pytest.mark.parametrize("name", BAD_RESULTS)
def test_results_that_make_no_sense(run_once: RunLoop, name: str) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                await peer.send(BAD_RESULTS[name])
                assert await read(peer.control, 64) in (b"", SERVER_ERROR + b"\0\0\0\x75\0\0\0\0")
            result = await it.failed("remote_protocol")
            # what the server counted by itself is still there
            assert result.flow.receiver.bytes == 5000

    run_once(main())


@pytest.mark.parametrize("ids", [[], [7], [1, 1], [-1]], ids=str)
def test_results_of_other_streams_than_there_were(run_once: RunLoop, ids: list[int]) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                told = results(5000)
                told["streams"] = [{**told["streams"][0], "id": number} for number in ids]
                await peer.send(framed(told))
                assert (await peer.take_results())["streams"][0]["bytes"] == 5000
                await peer.send(IPERF_DONE)
                await peer.expect_end()
            await it.idle()
            (result,) = it.results
            assert result.flow.receiver.bytes == 5000
            it.results.clear()

    run_once(main())


SERIES = {"origin_ns": 0, "width_ns": 1_000_000, "bytes": [1000, 4000]}
HOSTILE: dict[str, dict[str, Any]] = {
    "width-zero": {"series": {**SERIES, "width_ns": 0}},
    "width-negative": {"series": {**SERIES, "width_ns": -1}},
    "width-huge": {"series": {**SERIES, "width_ns": 2**62}},
    "long-ago": {"series": {**SERIES, "origin_ns": -(2**62)}},
    "far-away": {"series": {**SERIES, "origin_ns": 2**62}},
    "no-buckets": {"series": {**SERIES, "bytes": []}},
    "bytes-negative": {"series": {**SERIES, "bytes": [-5]}},
    "bytes-huge": {"series": {**SERIES, "bytes": [2**63 - 1] * 3}},
    "total-negative": {"bytes": -1, "acked_bytes": -1},
    "last-before-first": {"first_ns": 5, "last_ns": -5, "series": SERIES},
    "window-reversed": {"counted_bytes": 1, "counted_from_ns": 9, "counted_to_ns": -9},
    "columns-ragged": {"tcp_info": {"at_ns": [1], "min_rtt_ns": [], "rtt_ns": [1, 2, 3]}},
    "rtt-negative": {"tcp_info": {"at_ns": [1], "min_rtt_ns": [-(2**62)]}},
    "another-number": {"id": 7},
    "other-role": {"role": "receiver"},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_report_that_cannot_be_true(run_once: RunLoop, name: str, reverse: bool) -> None:
    role = "receiver" if reverse else "sender"
    stream = {"id": 1, "role": role, "bytes": 5000, "series": SERIES, **HOSTILE[name]}

    async def main() -> nm.Result:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree_extended(**({"reverse": True} if reverse else {}))
                await peer.open_stream(tag=b"\0\0\0\1")
                await peer.expect(TEST_START + TEST_RUNNING)
                if reverse:
                    await read(peer.streams[0], 5000)
                else:
                    await peer.send_data()
                    peer.streams[0].shutdown(socket.SHUT_WR)
                await peer.send(TEST_END)
                if reverse:
                    await drained(peer.streams[0])
                await peer.expect(EXCHANGE_RESULTS)
                await peer.send(framed({**results(5000), "netmeasure": {"streams": [stream]}}))
                # believed or refused, but never a crash, and never without end
                await read(peer.control, 4)
                peer.control.close()
                await it.idle()
            (result,) = it.results
            it.results.clear()
            return result

    result = run_once(main())
    assert result.error is None or result.error.code in ("remote_protocol", "peer_closed")
    assert nm.Result.from_json(result.to_json()) == result
    assert sum(s.bytes for s in result.server.streams) >= 5000


def test_the_server_closes_at_once_after_iperf_done(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                await peer.send(framed(results(5000)))
                theirs = await peer.take_results()
                assert theirs["streams"][0]["bytes"] == 5000
                assert "netmeasure" not in theirs
                await peer.send(IPERF_DONE)
                async with asyncio.timeout(1):
                    await peer.expect_end()
            await it.idle()
            (result,) = it.results
            assert result.complete
            assert not result.peer_extended
            it.results.clear()

    run(main())


# ---- slow, and many ---------------------------------------------------------------------------


def test_messages_that_come_byte_by_byte(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:

                async def trickle(data: bytes, sock: socket.socket = peer.control) -> None:
                    for index in range(len(data)):
                        sock.send(data[index : index + 1])
                        await asyncio.sleep(0)

                await trickle(peer.cookie + b"\0")
                await peer.expect(PARAM_EXCHANGE)
                await trickle(framed({"tcp": True, "time": 60, "parallel": 1, "len": 1000}))
                await peer.expect(CREATE_STREAMS)
                peer.streams.append(peer.connect())
                await trickle(peer.cookie + b"\0", peer.streams[0])
                await peer.expect(TEST_START + TEST_RUNNING)
                await peer.send_data()
                await trickle(TEST_END)
                await peer.expect(EXCHANGE_RESULTS)
                await trickle(framed(results(5000)))
                assert (await peer.take_results())["streams"][0]["bytes"] == 5000
                await trickle(IPERF_DONE)
            await it.idle()
            assert [result.complete for result in it.results] == [True]
            it.results.clear()

    run(main())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_our_own_conversation_byte_by_byte(run_once: RunLoop, direction: str) -> None:
    async def main() -> None:
        async with watched() as it:
            with Proxy(("127.0.0.1", it.server.port)) as proxy:
                proxy.connection(0).trickle("both", pause_s=0)
                spec = nm.TcpSpec(direction=direction, timing=nm.Timing(total_bytes=1000))  # type: ignore[arg-type]
                mine = await nm.measure("{}:{}".format(*proxy.address), spec)
                assert mine.complete
                assert mine.peer_extended
                await until(lambda: it.results)
                assert it.results[0].complete
                it.results.clear()

    run_once(main())


def test_20_clients_at_once(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            specs = [
                nm.TcpSpec(
                    direction=DIRECTIONS[index % 3],  # type: ignore[arg-type]
                    streams=1 + index % 2,
                    timing=nm.Timing(duration_s=0.4),
                )
                for index in range(20)
            ]
            mine = await asyncio.gather(*(nm.measure(it.server.address, spec) for spec in specs))
            await until(lambda: len(it.results) == 20)
            theirs = {result.client: result for result in it.results}
            it.results.clear()
        for result in mine:
            other = theirs.pop(result.client)
            assert result.complete
            assert other.complete
            for flow, seen in zip(result.flows, other.flows, strict=True):
                assert flow.receiver.bytes == flow.sender.bytes > 0
                assert seen.receiver.bytes == seen.sender.bytes == flow.receiver.bytes

    run(main())


def test_a_full_server_says_that_it_is_busy(run: RunLoop) -> None:
    async def main() -> None:
        async with watched(max_tests=2) as it:
            with Peer(it) as first, Peer(it) as second:
                await first.start()
                await second.hello()
                assert it.server.active_tests == 2
                with Peer(it) as third:
                    await third.send(third.cookie + b"\0")
                    assert await read(third.control, 2) == ACCESS_DENIED
                assert "2 tests are running" in await it.told()
                with pytest.raises(nm.BusyError) as caught:
                    await nm.measure(it.server.address)
                assert caught.value.hint
                assert caught.value.result is not None
                assert not caught.value.result.complete
                assert "2 tests are running" in await it.told()
                # data connections of tests that are under way are no new tests
                await second.ask()
                await second.expect(CREATE_STREAMS)
                await second.open_stream()
                await second.expect(TEST_START + TEST_RUNNING)
                for peer in (first, second):
                    await peer.send(CLIENT_TERMINATE)
                await it.idle()
            assert len(it.results) == 2
            it.results.clear()

    run(main())


def test_40_tests_back_to_back(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            for index in range(40):
                spec = nm.TcpSpec(
                    direction=DIRECTIONS[index % 3],  # type: ignore[arg-type]
                    timing=nm.Timing(total_bytes=10_000),
                )
                assert (await nm.measure(it.server.address, spec)).complete
            await until(lambda: len(it.results) == 40)
            assert all(result.complete for result in it.results)
            it.results.clear()

    run_once(main())


def test_plain_tests_back_to_back(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            for _ in range(10):
                with Peer(it) as peer:
                    await after_test_end(peer)
                    await peer.send(framed(results(5000)))
                    await peer.take_results()
                    await peer.send(IPERF_DONE)
            await it.idle()
            assert [result.complete for result in it.results] == [True] * 10
            it.results.clear()

    run_once(main())


def test_options_do_not_leak_into_the_next_test(run_once: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            plain = nm.TcpSpec(direction="both", timing=nm.Timing(duration_s=0.05))
            special = nm.TcpSpec(
                direction="both",
                streams=2,
                timing=nm.Timing(duration_s=0.05, omit_s=0.05),
                block_bytes=10_000,
                target_bps=10**9,
                send_mode="sendfile",
                receive_mode="discard",
                options=nm.SocketOptions(
                    congestion="reno", mss_bytes=1000, no_delay=True, window_bytes=100_000
                ),
            )
            seen = []
            for spec in (plain, special, plain):
                await nm.measure(it.server.address, spec)
                await until(lambda: it.results)
                seen.append(it.results.pop())
        assert seen[2].spec == seen[0].spec != seen[1].spec
        before, between, after = (list(map(traits, result.server.streams)) for result in seen)
        assert before == after
        for one, other in zip(before[0], between[0], strict=True):
            assert one != other

    def traits(report: nm.StreamReport) -> tuple[object, ...]:
        sock = report.socket
        # MSS and pacing as they were set for that socket, not as they developed
        return (sock.congestion, sock.no_delay, report.mode, report.block_bytes, sock.rcvbuf_bytes)

    run_once(main())


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """More open descriptors than select() can name."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1500:
        pytest.skip(f"at most {hard} descriptors are allowed here")
    if soft != resource.RLIM_INFINITY and soft < 1500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1500, hard))
    null = os.open(os.devnull, os.O_RDONLY)
    copies = [os.dup(null) for _ in range(1100)]
    assert copies[-1] > 1100
    yield
    for descriptor in (null, *copies):
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_descriptors_above_1024(run_once: RunLoop, direction: str) -> None:
    async def main() -> None:
        async with watched() as it:
            timing = nm.Timing(duration_s=0.1, interval_s=0.02)
            spec = nm.TcpSpec(direction=direction, streams=3, timing=timing)  # type: ignore[arg-type]
            mine = await nm.measure(it.server.address, spec)
            assert mine.complete
            for flow in mine.flows:
                assert flow.receiver.bytes == flow.sender.bytes > 0
            await until(lambda: it.results)
            it.results.clear()

    run_once(main())


def test_two_clients_with_one_cookie_that_wait_for_a_place(run_once: RunLoop) -> None:
    """Each comes before the other has a session: only one of them may get one."""

    async def main() -> None:
        async with watched(max_tests=2) as it:
            with Peer(it) as first, Peer(it) as second, Peer(it) as third, Peer(it) as fourth:
                for peer in (first, second):
                    await peer.start()
                    await peer.send(TEST_END)
                    await peer.give_results(0)
                    await peer.take_results()
                # both are about to leave, so these wait for them
                fourth.cookie = third.cookie
                for peer in (third, fourth):
                    await peer.send(peer.cookie + b"\0")
                await until(lambda: it.server._strangers == 0)
                for peer in (first, second):
                    await peer.send(IPERF_DONE)
                answers = [await read(peer.control, 1) for peer in (third, fourth)]
                assert sorted(answers) == [PARAM_EXCHANGE, ACCESS_DENIED]
                assert it.server.active_tests == 1
            assert "cookie" in await it.told()
            it.results.clear()

    run_once(main())
