"""Our client against servers that are silent, strange, dying or not there: one exception that says
what is wrong, a result with what had been measured, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

import netmeasure as nm
from support.proxy import Connection, Proxy

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

PARAM_EXCHANGE, CREATE_STREAMS, TEST_START, TEST_RUNNING = b"\x09", b"\x0a", b"\x01", b"\x02"
TEST_END, EXCHANGE_RESULTS, DISPLAY_RESULTS, IPERF_DONE = b"\x04", b"\x0d", b"\x0e", b"\x10"
SERVER_TERMINATE, ACCESS_DENIED = b"\x0b", b"\xff"
DIRECTIONS = ("upload", "download", "both")
BOTH_WAYS = ("upload", "download")
SHORT = {"connect_s": 0.3, "handshake_s": 0.3, "drain_s": 0.1, "results_s": 0.1}


def spec(direction: str = "upload", duration_s: float = 60, **more: Any) -> nm.TcpSpec:
    """A test that would last a minute, with a client that waits for nobody."""
    deadlines = nm.Deadlines(**{**SHORT, **more.pop("deadlines", {})})
    timing = nm.Timing(duration_s=duration_s, interval_s=0.02)
    return nm.TcpSpec(direction=direction, timing=timing, deadlines=deadlines, **more)  # type: ignore[arg-type]


#: For tests in which data keep the event loop busy: only the fault may end the wait.
PATIENT = {"handshake_s": 5}


async def failure(
    target: str,
    wanted: nm.TcpSpec | None = None,
    meanwhile: Callable[[nm.Run], Awaitable[None]] | None = None,
) -> nm.MeasureError:
    """The exception that a run ends with. It must come soon and carry the run's result, which must
    be that of a test that failed."""
    running = nm.connect(target).run(wanted or spec())

    async def use() -> None:
        async with asyncio.timeout(8), running:
            if meanwhile is not None:
                await meanwhile(running)
            await running.wait()

    with pytest.raises(nm.MeasureError) as caught:
        await use()
    error, result = caught.value, running.result
    assert error.phase
    assert "\n" not in str(error)
    assert result is not None
    assert error.result is result
    assert not result.complete
    assert result.error is not None
    assert (result.error.code, result.error.message) == (error.code, str(error))
    assert (result.error.hint, result.error.phase) == (error.hint, error.phase)
    assert nm.Result.from_json(result.to_json()) == result
    return error


def assert_measured(error: nm.MeasureError) -> None:
    """What had been transferred is in the result."""
    result = error.result
    assert len(result.flows) == (2 if result.spec.direction == "both" else 1)
    for flow in result.flows:
        assert flow.receiver.bytes or flow.sender.acked_bytes
        assert flow.series is not None


async def flowing(running: nm.Run) -> None:
    """Until there are bytes in each direction of a run."""
    way = running.spec.direction
    wanted = {"upload", "download"} if way == "both" else {way}
    async for interval in running:
        if interval.bytes:
            wanted.discard(interval.direction)
        if not wanted:
            return


# ---- a server that follows a script -----------------------------------------------------------


class Fake:
    """A plain iperf3 server on bare sockets, that does only what its script tells it to do."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.address = "{}:{}".format(*self.listener.getsockname())
        self.streams: list[socket.socket] = []
        self._socks = [self.listener]
        self._traffic: set[asyncio.Task[None]] = set()

    async def accept(self) -> socket.socket:
        sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socks.append(sock)
        return sock

    async def take(self, sock: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return data

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.control, data)

    # ---- the steps of a good server

    async def welcome(self) -> None:
        self.control = await self.accept()
        self.cookie = await self.take(self.control, 37)
        await self.say(PARAM_EXCHANGE)

    async def agree(self, extended: bool = False) -> None:
        await self.welcome()
        self.parameters = await self.take_json()
        if extended:
            await self.say(b"\x40")
            await self.say_json({"version": 1, "host": {"program": "netmeasure"}})
        await self.say(CREATE_STREAMS)
        both = 2 if self.parameters.get("bidirectional") else 1
        for _ in range(self.parameters["parallel"] * both):
            sock = await self.accept()
            assert await self.take(sock, 37) == self.cookie
            if extended:
                await self.take(sock, 4)
            self.streams.append(sock)

    async def start(self, extended: bool = False) -> None:
        await self.agree(extended)
        await self.say(TEST_START + TEST_RUNNING)
        receives = 0 if self.parameters.get("reverse") else self.parameters["parallel"]
        for index, sock in enumerate(self.streams):
            self._go(self._sink(sock) if index < receives else self._source(sock))

    async def finish(self) -> None:
        await self.start()
        assert await self.take(self.control, 1) == TEST_END
        await self.say(EXCHANGE_RESULTS)

    async def answer(self) -> None:
        await self.finish()
        theirs = await self.take_json()
        streams = [
            {"id": s["id"], "bytes": s["bytes"], "retransmits": -1, "jitter": 0, "errors": 0}
            | {"packets": 0, "start_time": 0, "end_time": 0.1}
            for s in theirs["streams"]
        ]
        await self.say_json({**theirs, "sender_has_retransmits": -1, "streams": streams})

    async def take_json(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", await self.take(self.control, 4))
        value: dict[str, Any] = json.loads(await self.take(self.control, length))
        return value

    async def say_json(self, value: object) -> None:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        await self.say(struct.pack(">I", len(text)) + text)

    # ---- data, and the end

    def _go(self, traffic: Coroutine[Any, Any, None]) -> None:
        self._traffic.add(asyncio.create_task(traffic))

    async def _sink(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                if not await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
                    return
                await asyncio.sleep(
                    0
                )  # a socket that is always ready would keep all others waiting

    async def _source(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                await asyncio.get_running_loop().sock_sendall(sock, bytes(1 << 17))
                await asyncio.sleep(0)

    async def still(self) -> None:
        """Let the data rest: a descriptor must not be closed while the loop watches it."""
        for task in self._traffic:
            task.cancel()
        await asyncio.gather(*self._traffic, return_exceptions=True)
        self._traffic.clear()

    async def stay(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        for sock in self._socks:
            sock.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


Script = Callable[[Fake], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def fake(script: Script) -> AsyncIterator[Fake]:
    """A server that plays its script for one client."""
    it = Fake()

    async def play() -> None:
        with contextlib.suppress(ConnectionError):
            await script(it)

    playing = asyncio.create_task(play())
    try:
        yield it
    finally:
        playing.cancel()
        (outcome,) = await asyncio.gather(playing, return_exceptions=True)
        await it.still()
        it.close()
    assert outcome is None or isinstance(outcome, asyncio.CancelledError)


async def failure_with(script: Script, wanted: nm.TcpSpec | None = None) -> nm.MeasureError:
    async with fake(script) as it:
        return await failure(it.address, wanted)


# ---- silence ----------------------------------------------------------------------------------


async def silent_at_once(it: Fake) -> None:
    await it.accept()
    await it.stay()


async def silent_after_the_welcome(it: Fake) -> None:
    await it.welcome()
    await it.stay()


async def silent_after_create_streams(it: Fake) -> None:
    await it.agree()
    await it.stay()


async def silent_after_test_start(it: Fake) -> None:
    await it.agree()
    await it.say(TEST_START)
    await it.stay()


async def silent_after_the_data(it: Fake) -> None:
    await it.start()
    await it.stay()


async def silent_after_exchange_results(it: Fake) -> None:
    await it.finish()
    await it.stay()


async def silent_after_half_of_the_results(it: Fake) -> None:
    await it.finish()
    await it.take_json()
    await it.say(struct.pack(">I", 1000) + b'{"cpu_util_total":')
    await it.stay()


async def silent_after_the_results(it: Fake) -> None:
    await it.answer()
    await it.stay()


SILENCES: dict[Script, str] = {
    silent_at_once: "identified (PARAM_EXCHANGE expected)",
    silent_after_the_welcome: "offered (CREATE_STREAMS expected)",
    silent_after_create_streams: "creating streams (TEST_START expected)",
    silent_after_test_start: "starting (TEST_RUNNING expected)",
    silent_after_the_data: "ending (EXCHANGE_RESULTS expected)",
    silent_after_exchange_results: "answering (server results expected)",
    silent_after_half_of_the_results: "answering (server results expected)",
    silent_after_the_results: "answered (DISPLAY_RESULTS expected)",
}


@pytest.mark.parametrize("script", SILENCES)
def test_a_server_that_falls_silent(run_once: RunLoop, script: Script) -> None:
    error = run_once(failure_with(script, spec(duration_s=0.05)))
    assert type(error) is nm.PeerTimeoutError
    assert isinstance(error, TimeoutError)
    assert "silent" in str(error)
    assert SILENCES[script] in str(error)
    scripts = list(SILENCES)
    if scripts.index(script) >= scripts.index(silent_after_the_data):
        assert_measured(error)
    assert error.result.setup[0].name == "resolve"
    # the server's results are those of a complete test, though it was never confirmed
    assert bool(error.result.server.streams) == (script is silent_after_the_results)


# ---- something else listens there -------------------------------------------------------------


def answers(said: bytes, *, before: int = 0) -> Script:
    async def script(it: Fake) -> None:
        it.control = await it.accept()
        await it.take(it.control, before)
        await it.say(said)
        await it.stay()

    return script


async def echoes(it: Fake) -> None:
    it.control = await it.accept()
    await it.say(await it.take(it.control, 37))
    await it.stay()


NO_SERVERS: dict[str, Script] = {
    "http": answers(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", before=37),
    "ssh": answers(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "smtp": answers(b"220 lab1 ESMTP\r\n"),
    "zeros": answers(bytes(100)),
    "much": answers(os.urandom(16) + bytes(range(256)) * 4000),
    "a-later-state": answers(TEST_RUNNING, before=37),
    "a-client": answers(b"a" * 36 + b"\0"),
    "echo": echoes,
}


@pytest.mark.parametrize("name", NO_SERVERS)
def test_what_is_not_an_iperf3_server(run: RunLoop, name: str) -> None:
    script = NO_SERVERS[name]
    error = run(failure_with(script))
    assert type(error) is nm.RemoteProtocolError
    assert re.search(r"127\.0\.0\.1:\d+ is not an iperf3 or netmeasure server", str(error))
    assert error.result.flows == ()
    assert [phase.name for phase in error.result.setup] == ["resolve", "connect", "control"]
    assert error.result.setup[-1].detail


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["close", "reset"])
@pytest.mark.parametrize("before", [0, 37])
def test_a_server_that_leaves_at_once(
    run: RunLoop, before: int, end: Callable[[socket.socket], None]
) -> None:
    async def script(it: Fake) -> None:
        sock = await it.accept()
        await it.take(sock, before)
        end(sock)

    error = run(failure_with(script))
    assert type(error) is nm.PeerClosedError
    assert "iperf3" in error.hint


@pytest.mark.parametrize("before", [0, 37])
def test_a_busy_server(run: RunLoop, before: int) -> None:
    async def script(it: Fake) -> None:
        it.control = await it.accept()
        await it.take(it.control, before)
        await it.say(ACCESS_DENIED)
        it.control.close()  # a reset, where the cookie has not been read

    error = run(failure_with(script))
    assert type(error) is nm.BusyError
    assert "busy" in str(error)


# ---- a server that gives up -------------------------------------------------------------------


async def before_the_parameters(it: Fake) -> None:
    it.control = await it.accept()
    await it.take(it.control, 37)


async def after_the_parameters(it: Fake) -> None:
    await it.welcome()
    await it.take_json()


STEPS: dict[str, Script] = {
    "before-the-parameters": before_the_parameters,
    "after-the-parameters": after_the_parameters,
    "after-the-streams": Fake.agree,
    "after-exchange-results": Fake.finish,
    "after-the-results": Fake.answer,
}


@pytest.mark.parametrize("said", [b"\xfe\0\0\0\x90\0\0\0\x6b", b"\xfe\0\0\0\x90"], ids=["8", "4"])
@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_reports_an_error(run_once: RunLoop, step: str, said: bytes) -> None:
    async def script(it: Fake) -> None:
        await STEPS[step](it)
        await it.say(said)
        it.control.shutdown(socket.SHUT_WR)
        await it.stay()

    error = run_once(failure_with(script, spec(duration_s=0.05)))
    assert type(error) is nm.PeerRefusedError
    assert "no data for too long" in str(error)


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_is_told_to_terminate(run_once: RunLoop, step: str) -> None:
    async def script(it: Fake) -> None:
        await STEPS[step](it)
        await it.say(SERVER_TERMINATE)
        await it.stay()

    error = run_once(failure_with(script, spec(duration_s=0.05)))
    assert type(error) is nm.PeerTerminatedError


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_closes_the_control_connection(run_once: RunLoop, step: str) -> None:
    async def script(it: Fake) -> None:
        await STEPS[step](it)
        it.control.shutdown(socket.SHUT_WR)
        await it.stay()

    error = run_once(failure_with(script, spec(duration_s=0.05)))
    assert type(error) is nm.PeerClosedError


async def terminates(it: Fake) -> None:
    await it.say(SERVER_TERMINATE)


async def terminates_and_leaves(it: Fake) -> None:
    """As a killed iperf3 does: the word, and then everything is closed."""
    await it.say(SERVER_TERMINATE)
    await it.still()
    it.close()


async def reports_an_error(it: Fake) -> None:
    await it.say(b"\xfe\0\0\0\xa0\0\0\0\0")


async def closes(it: Fake) -> None:
    it.control.shutdown(socket.SHUT_WR)


async def resets(it: Fake) -> None:
    reset(it.control)


async def dies(it: Fake) -> None:
    """As a process does: everything at once."""
    await it.still()
    it.close()


async def babbles(it: Fake) -> None:
    await it.say(b"\x77")


async def resets_a_stream(it: Fake) -> None:
    await it.still()
    reset(it.streams[-1])


ENDS: dict[Script, tuple[type[nm.MeasureError], ...]] = {
    terminates: (nm.PeerTerminatedError,),
    terminates_and_leaves: (nm.PeerTerminatedError,),
    reports_an_error: (nm.PeerRefusedError,),
    closes: (nm.PeerClosedError,),
    resets: (nm.PeerClosedError,),
    dies: (nm.PeerClosedError,),
    babbles: (nm.RemoteProtocolError,),
    resets_a_stream: (nm.StreamError,),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_server_that_breaks_off_the_data_phase(
    run_once: RunLoop, direction: str, end: Script
) -> None:
    now = asyncio.Event()

    async def script(it: Fake) -> None:
        await it.start()
        await now.wait()
        await end(it)
        await it.stay()

    async def main() -> nm.MeasureError:
        async def meanwhile(running: nm.Run) -> None:
            await flowing(running)
            now.set()

        async with fake(script) as it:
            return await failure(it.address, spec(direction, deadlines=PATIENT), meanwhile)

    error = run_once(main())
    assert type(error) in ENDS[end]
    assert error.phase == "data" or end is babbles
    assert_measured(error)
    if end is babbles:
        assert "0x77" in str(error)
        assert "state running" in str(error)


HINTS: dict[str, Script] = {
    "silent": silent_after_the_data,
    "busy": answers(ACCESS_DENIED, before=37),
    "not-a-server": NO_SERVERS["http"],
}


async def then(first: Script, second: Script, it: Fake) -> None:
    await first(it)
    await second(it)
    await it.stay()


for _end in ENDS:
    HINTS[_end.__name__] = functools.partial(then, Fake.start, _end)
for _end in (reports_an_error, closes, terminates):
    HINTS[f"{_end.__name__}-before-the-data"] = functools.partial(then, Fake.agree, _end)


@pytest.mark.parametrize("name", HINTS)
def test_every_error_says_what_to_do(run_once: RunLoop, name: str) -> None:
    error = run_once(failure_with(HINTS[name], spec(duration_s=0.2)))
    assert error.hint


# ---- results ----------------------------------------------------------------------------------

CPU = dict.fromkeys(("cpu_util_total", "cpu_util_user", "cpu_util_system"), 0.5)
STREAM = {"id": 1, "bytes": 1, "retransmits": 0, "jitter": 0, "errors": 0, "packets": 0}
GOOD = {**CPU, "sender_has_retransmits": -1, "streams": [STREAM]}
BAD_RESULTS: dict[str, object] = {
    "not-json": b"{bad}",
    "empty": b"",
    "not-an-object": [1],
    "no-streams": {k: v for k, v in GOOD.items() if k != "streams"},
    "text-for-a-number": {**GOOD, "streams": [{**STREAM, "bytes": "many"}]},
    "too-deep": b'{"streams":' + b"[" * 50_000,
    "extension-not-an-object": {**GOOD, "netmeasure": 1},
}


@pytest.mark.parametrize("name", BAD_RESULTS)
def test_results_that_make_no_sense(run_once: RunLoop, name: str) -> None:
    async def script(it: Fake) -> None:
        await it.finish()
        await it.take_json()
        await it.say_json(BAD_RESULTS[name])
        await it.stay()

    error = run_once(failure_with(script, spec(duration_s=0.05)))
    assert type(error) is nm.RemoteProtocolError
    assert_measured(error)


@pytest.mark.parametrize("ids", [[], [7], [1, 1], [-1]], ids=str)
def test_results_of_other_streams_than_there_were(run_once: RunLoop, ids: list[int]) -> None:
    async def script(it: Fake) -> None:
        await it.finish()
        await it.take_json()
        await it.say_json({**GOOD, "streams": [{**STREAM, "id": number} for number in ids]})
        await it.say(DISPLAY_RESULTS)
        await it.stay()

    async def main() -> nm.Result:
        async with fake(script) as it:
            try:
                return await nm.measure(it.address, spec(duration_s=0.05))
            except nm.RemoteProtocolError as exc:  # to say so would be as good
                result: nm.Result = exc.result
                return result

    result = run_once(main())
    assert [stream.id for stream in result.client.streams] == [1]
    assert result.flow.sender.bytes > 0
    assert nm.Result.from_json(result.to_json()) == result


SERIES = {"origin_ns": 0, "width_ns": 1_000_000, "bytes": [1000, 4000]}
HOSTILE: dict[str, dict[str, Any]] = {
    "width-zero": {"series": {**SERIES, "width_ns": 0}},
    "width-huge": {"series": {**SERIES, "width_ns": 2**62}},
    "long-ago": {"series": {**SERIES, "origin_ns": -(2**62)}},
    "far-away": {"series": {**SERIES, "origin_ns": 2**62}},
    "no-buckets": {"series": {**SERIES, "bytes": []}},
    "bytes-negative": {"series": {**SERIES, "bytes": [-5]}},
    "bytes-huge": {"series": {**SERIES, "bytes": [2**63 - 1] * 3}},
    "total-negative": {"bytes": -1},
    "last-before-first": {"first_ns": 5, "last_ns": -5},
    "columns-ragged": {"tcp_info": {"at_ns": [1], "min_rtt_ns": [], "rtt_ns": [1, 2, 3]}},
    "another-number": {"id": 7},
    "other-role": {"role": "sender"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_report_that_cannot_be_true(run_once: RunLoop, name: str) -> None:
    stream = {"id": 1, "role": "receiver", "bytes": 5000, "series": SERIES, **HOSTILE[name]}

    async def script(it: Fake) -> None:
        await it.start(extended=True)
        assert await it.take(it.control, 1) == TEST_END
        await it.say(EXCHANGE_RESULTS)
        await it.take_json()
        await it.say_json({**GOOD, "netmeasure": {"streams": [stream]}})
        await it.say(DISPLAY_RESULTS)
        await it.stay()

    async def main() -> nm.Result:
        async with fake(script) as it:
            try:
                return await nm.measure(it.address, spec(duration_s=0.05))
            except nm.MeasureError as exc:  # believed or refused, but never a crash
                result: nm.Result = exc.result
                return result

    result = run_once(main())
    assert result.peer_extended
    assert result.client.streams[0].acked_bytes > 0
    assert nm.Result.from_json(result.to_json()) == result


def test_a_server_that_received_less_than_was_acknowledged(run_once: RunLoop) -> None:
    stream = {"id": 1, "role": "receiver", "bytes": 5000, "end_reason": "eof", "series": SERIES}

    async def script(it: Fake) -> None:
        await it.start(extended=True)
        assert await it.take(it.control, 1) == TEST_END
        await it.say(EXCHANGE_RESULTS)
        await it.take_json()
        await it.say_json({**GOOD, "netmeasure": {"streams": [stream]}})
        await it.say(DISPLAY_RESULTS)
        await it.stay()

    error = run_once(failure_with(script, spec(duration_s=0.05)))
    assert type(error) is nm.StreamError
    assert "5000 of" in str(error)


@pytest.mark.parametrize(
    "last",
    [b"", b"\xfe\0\0\0\x90\0\0\0\x6b", b"\xfe", bytes(1000), b"\x0b"],
    ids=["nothing", "stale-error", "half-of-it", "zeros", "terminate"],
)
@pytest.mark.parametrize("end", ["stays", "closes", "resets"])
def test_what_comes_after_the_results_is_ignored(run_once: RunLoop, last: bytes, end: str) -> None:
    async def script(it: Fake) -> None:
        await it.answer()
        await it.say(DISPLAY_RESULTS + last)
        if end == "closes":
            it.control.shutdown(socket.SHUT_WR)
        elif end == "resets":
            reset(it.control)
        await it.stay()

    async def main() -> nm.Result:
        async with fake(script) as it:
            return await nm.measure(it.address, spec(duration_s=0.05))

    result = run_once(main())
    assert result.complete
    assert not result.peer_extended
    assert any("plain iperf3" in note for note in result.notes)
    assert result.flow.receiver.bytes == result.flow.sender.acked_bytes > 0


# ---- our own server, with trouble on the way --------------------------------------------------


@contextlib.contextmanager
def proxied(server: nm.Server) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        yield proxy


async def failure_through(
    order: Callable[[Connection], None],
    connection: int,
    wanted: nm.TcpSpec,
    *,
    stall_s: float = 60,
) -> tuple[nm.MeasureError, list[nm.Result]]:
    """Measure through a proxy that gets its order once data flow; what both ends say of it."""
    results: list[nm.Result] = []
    limits = nm.ServerLimits(stall_s=stall_s, drain_s=0.2)
    server = nm.serve("127.0.0.1", 0, limits=limits, on_result=results.append)
    async with server:
        with proxied(server) as proxy:

            async def meanwhile(running: nm.Run) -> None:
                await flowing(running)
                order(proxy.connection(connection))

            target = "{}:{}".format(*proxy.address)
            error = await failure(target, wanted, meanwhile)
            for _ in range(5000):
                if not server.active_tests:
                    break
                await asyncio.sleep(0.001)
            assert server.active_tests == 0
    return error, results


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_data_connection_that_is_reset(run_once: RunLoop, direction: str, streams: int) -> None:
    through = failure_through(
        Connection.reset, 1, spec(direction, streams=streams, deadlines=PATIENT)
    )
    error, results = run_once(through)
    # whoever saw it first says so, and the other end hears it from there
    assert type(error) in (nm.StreamError, nm.PeerRefusedError)
    assert_measured(error)
    assert [result.complete for result in results] == [False]


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_a_data_connection_that_is_closed_before_its_time(run: RunLoop, direction: str) -> None:
    error, results = run(failure_through(Connection.close, 1, spec(direction, deadlines=PATIENT)))
    assert type(error) in (nm.StreamError, nm.PeerRefusedError)
    assert_measured(error)
    assert [result.complete for result in results] == [False]


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_a_data_connection_that_ends_early_and_swallows_the_rest(
    run_once: RunLoop, direction: str
) -> None:
    def half_close(connection: Connection) -> None:
        connection.half_close("up" if direction == "upload" else "down")

    error, results = run_once(
        failure_through(half_close, 1, spec(direction, 1.5, deadlines=PATIENT))
    )
    assert type(error) in (nm.StreamError, nm.PeerRefusedError)
    assert_measured(error)
    assert [result.complete for result in results] == [False]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_data_that_are_stuck(run_once: RunLoop, direction: str) -> None:
    wanted = spec(direction, deadlines={**PATIENT, "stall_s": 0.3})

    def stall(connection: Connection) -> None:
        for index in (1, 2):
            connection._proxy.connection(index).stall("both")

    error, results = run_once(failure_through(stall, 1, wanted))
    assert type(error) is nm.PeerTimeoutError
    assert "no data moved for 0.3 s" in str(error)
    assert_measured(error)
    assert [result.error.code for result in results] == ["peer_terminated"]


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_a_control_connection_that_is_stuck(run_once: RunLoop, direction: str) -> None:
    wanted = spec(direction, 0.3, deadlines=PATIENT)
    error, _ = run_once(failure_through(lambda c: c.stall("both"), 0, wanted, stall_s=0.5))
    assert type(error) is nm.PeerTimeoutError
    assert "ending (EXCHANGE_RESULTS expected)" in str(error)
    assert_measured(error)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_control_connection_that_is_reset(run_once: RunLoop, direction: str) -> None:
    error, results = run_once(
        failure_through(Connection.reset, 0, spec(direction, deadlines=PATIENT))
    )
    assert type(error) is nm.PeerClosedError
    assert "vanished in the middle" in str(error)
    assert_measured(error)
    assert [result.error.code for result in results] == ["peer_closed"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_server_that_is_killed(run_once: RunLoop, direction: str) -> None:
    argv = [sys.executable, "-m", "netmeasure", "server", "--port", "0", "--bind", "127.0.0.1"]

    async def main(process: subprocess.Popen[str]) -> nm.MeasureError:
        assert process.stdout is not None
        listening = re.search(r"listening on (127\.0\.0\.1:\d+)", process.stdout.readline())
        assert listening

        async def meanwhile(running: nm.Run) -> None:
            await flowing(running)
            process.send_signal(signal.SIGKILL)

        return await failure(listening[1], spec(direction, streams=2, deadlines=PATIENT), meanwhile)

    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            error = run_once(main(process))
        finally:
            process.kill()
    assert type(error) is nm.PeerClosedError
    assert error.result.peer_extended
    assert error.result.server.host.program == "netmeasure"
    assert_measured(error)


# ---- no connection at all ---------------------------------------------------------------------


@contextlib.contextmanager
def nobody(host: str = "127.0.0.1") -> Iterator[int]:
    """A port on which nobody listens, and nobody else will."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def deaf(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port whose backlog is full: the kernel drops the SYNs of whoever comes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, port), family=family, backlog=0))
        where = listener.getsockname()
        for _ in range(3):
            sock = stack.enter_context(socket.socket(family))
            sock.setblocking(False)
            assert sock.connect_ex(where) == errno.EINPROGRESS
        yield where[1]


def test_a_refused_connection(run: RunLoop) -> None:
    with nobody() as port:
        error = run(failure(f"127.0.0.1:{port}"))
    assert type(error) is nm.ConnectRefusedError
    assert f"127.0.0.1:{port}" in str(error)
    assert error.phase == "connect"
    phases = error.result.setup
    assert [(p.name, p.detail) for p in phases] == [("resolve", None), ("connect", "refused")]


def test_a_connection_that_is_not_answered(run: RunLoop) -> None:
    with deaf() as port:
        error = run(failure(f"127.0.0.1:{port}"))
    assert type(error) is nm.ConnectTimeoutError
    assert "0.3 s" in str(error)
    last = error.result.setup[-1]
    assert (last.name, last.detail) == ("connect", "connect_timeout")
    assert 0.29e9 <= last.duration_ns < 2e9


def test_a_stream_that_is_refused(run: RunLoop) -> None:
    async def script(it: Fake) -> None:
        await it.welcome()
        await it.take_json()
        it.listener.close()
        await it.say(CREATE_STREAMS)
        await it.stay()

    error = run(failure_with(script))
    assert type(error) is nm.ConnectRefusedError
    last = error.result.setup[-1]
    assert (last.name, last.connection, last.detail) == ("connect", "stream 1", "refused")


def test_a_stream_that_is_not_answered(run: RunLoop) -> None:
    async def script(it: Fake) -> None:
        await it.welcome()
        await it.take_json()
        it.listener.listen(0)
        for _ in range(3):
            sock = socket.socket()
            it._socks.append(sock)
            sock.setblocking(False)
            sock.connect_ex(it.listener.getsockname())
        await it.say(CREATE_STREAMS)
        await it.stay()

    error = run(failure_with(script))
    assert type(error) is nm.ConnectTimeoutError
    assert error.result.setup[-1].connection == "stream 1"


def test_no_route(run: RunLoop) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        code = sock.connect_ex(("240.0.0.1", 5201))
    if code not in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        pytest.skip(f"this machine has an answer for 240.0.0.1: {os.strerror(code)}")
    error = run(failure("240.0.0.1"))
    assert type(error) is nm.UnreachableError
    assert "240.0.0.1:5201" in str(error)
    assert error.result.setup[-1].detail == "unreachable"


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64 + ".example", "a..b", "\u2603"])
def test_a_name_that_does_not_exist(run: RunLoop, name: str) -> None:
    error = run(failure(name, spec(deadlines={"resolve_s": 5})))
    assert type(error) is nm.NameNotFoundError
    assert repr(name) in str(error)
    assert error.phase == "resolve"
    assert [phase.name for phase in error.result.setup] == ["resolve"]


def test_a_name_server_that_does_not_answer(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hangs(*args: Any, **options: Any) -> Any:
        release.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    async def main() -> nm.MeasureError:
        try:
            return await failure("lab1.example", spec(deadlines={"resolve_s": 0.1}))
        finally:
            release.set()

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    error = run_once(main())
    assert type(error) is nm.PeerTimeoutError
    assert error.phase == "resolve"
    assert "0.1 s" in str(error)


def test_a_name_without_an_address_of_the_wanted_family(run: RunLoop) -> None:
    error = run(failure("::1", spec(options=nm.SocketOptions(family="ipv4"))))
    assert type(error) is nm.NameNotFoundError
    assert "ipv4" in error.hint


@pytest.mark.parametrize(
    "options",
    [
        {"bind_address": "192.0.2.1"},
        {"bind_address": "not an address"},
        {"congestion": "nonesuch"},
    ],
    ids=["address-elsewhere", "no-address", "congestion"],
)
def test_an_option_that_this_host_does_not_have(run: RunLoop, options: dict[str, Any]) -> None:
    async def main() -> nm.MeasureError:
        async with nm.serve("127.0.0.1", 0) as server:
            return await failure(server.address, spec(options=nm.SocketOptions(**options)))

    error = run(main())
    assert type(error) is nm.SocketOptionError
    assert str(next(iter(options.values()))) in str(error)
    assert error.phase == "connect"


def test_a_bound_port_that_is_taken(run: RunLoop) -> None:
    async def main() -> nm.MeasureError:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            async with nm.serve("127.0.0.1", 0) as server:
                options = nm.SocketOptions(bind_address="127.0.0.1", bind_port=port)
                return await failure(server.address, spec(options=options))

    error = run(main())
    assert type(error) is nm.SocketOptionError
    assert "can't bind to 127.0.0.1:" in str(error)


# ---- some addresses do not work ---------------------------------------------------------------


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What "lab1" resolves to, in this order; the port is that of the query. On plain asyncio."""
    chosen: list[str] = []
    resolve = socket.getaddrinfo

    def answer(host: object, port: object, *args: Any, **options: Any) -> Any:
        if host != "lab1":
            return resolve(host, port, *args, **options)
        return [entry for each in chosen for entry in resolve(each, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return chosen


@pytest.mark.parametrize("order", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]], ids=str)
@pytest.mark.parametrize("works", ["127.0.0.1", "::1"])
def test_an_address_that_refuses_does_not_stop_us(
    run_once: RunLoop, addresses: list[str], order: list[str], works: str
) -> None:
    addresses += order

    async def main() -> nm.Result:
        async with nm.serve(works, 0) as server:
            return await nm.measure("lab1", spec(duration_s=0.05), port=server.port)

    result = run_once(main())
    assert result.complete
    connect = result.setup[1]
    assert connect.address.startswith(f"[{works}]:" if ":" in works else f"{works}:")
    assert all(s.socket.remote == connect.address for s in result.client.streams)


def test_an_address_that_does_not_answer_costs_a_moment_only(
    run_once: RunLoop, addresses: list[str]
) -> None:
    addresses += ["::1", "127.0.0.1"]

    async def main() -> nm.Result:
        async with nm.serve("127.0.0.1", 0) as server:
            with deaf("::1", server.port):
                wanted = spec(duration_s=0.05, deadlines={"connect_s": 20})
                return await nm.measure("lab1", wanted, port=server.port)

    result = run_once(main())
    assert result.complete
    assert result.setup[1].address.startswith("127.0.0.1:")
    # RFC 8305 waits a quarter of a second before it tries the next; that is part of set-up
    assert 0.2e9 < result.set_up_ns < 2e9


def test_no_address_that_answers(run_once: RunLoop, addresses: list[str]) -> None:
    addresses += ["::1", "127.0.0.1"]

    async def main() -> nm.MeasureError:
        with nobody() as port, deaf("::1", port):
            return await failure(f"lab1:{port}")

    error = run_once(main())
    assert isinstance(error, nm.ConnectRefusedError | nm.ConnectTimeoutError)
    assert 0.29e9 <= error.result.setup[-1].duration_ns < 2e9
