"""Test waiting for targets on loopback: listeners, TLS and HTTP servers that start late."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.clock import now_ns
from netmeasure.readiness.attempt import Attempt
from netmeasure.readiness.neighbours import Neighbours
from netmeasure.readiness.target import read_target
from support import certificates
from support.optional import known

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
LATE_S = 0.3


def bound() -> tuple[socket.socket, int]:
    """A port that nothing listens on yet, and that no other program gets."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


async def found_once_listening(**more: Any) -> nm.Readiness:
    sock, port = bound()
    with sock:
        asyncio.get_running_loop().call_later(LATE_S, sock.listen, 1000)
        (found,) = await nm.ready(f"127.0.0.1:{port}", timeout_s=20, **more)
    return found


def test_a_listener_that_starts_late(run: RunOnce) -> None:
    found = run(found_once_listening())
    assert found.reached
    assert found.at_ns > 0
    assert [(wait.cause, wait.end_ns) for wait in found.waits] == [("refused", found.at_ns)]
    assert found.address == "127.0.0.1"
    assert found.connect_ns is not None


def test_a_target_that_is_not_usable_in_time(run: RunOnce) -> None:
    sock, port = bound()
    with sock:
        (found,) = run(nm.ready(f"127.0.0.1:{port}", timeout_s=0.2))
    assert (found.reached, found.at_ns, found.address) == (False, None, None)
    assert [wait.cause for wait in found.waits] == ["refused"]
    assert found.waits[0].end_ns >= 200_000_000


def test_a_thread_that_gets_no_cpu_sees_answers_late() -> None:
    """The refusal is there at once, but nobody looks for it."""
    sock, port = bound()
    with sock:
        target = read_target(f"127.0.0.1:{port}")
        attempt = Attempt(target, socket.AF_INET, ("127.0.0.1", port), None)
        assert attempt.descriptor >= 0
        while now_ns() < attempt.start_ns + 50_000_000:
            pass
        attempt.step(polled_ns=attempt.start_ns)
        attempt.close()
    assert attempt.outcome.met == ("refused", None)
    assert known(attempt.outcome.answered_ns) >= 50_000_000
    assert attempt.outcome.unanswered_ns == 0


def test_the_garbage_collector_does_not_visit_attempts() -> None:
    """It would keep those that are due from beginning, with tens of thousands of them."""
    sock, port = bound()
    with sock:
        target = read_target(f"127.0.0.1:{port}")
        attempt = Attempt(target, socket.AF_INET, ("127.0.0.1", port), None)
        seen = [attempt, attempt.outcome]
        attempt.close()
    assert [gc.is_tracked(one) for one in seen] == [False, False]


def test_the_table_of_descriptors_has_grown_before_the_first_attempt() -> None:
    """A thread that makes it grow waits for 20 ms or so, which is not the path's."""
    code = (
        "import asyncio, re, time\n"
        "import netmeasure as nm\n"
        "from netmeasure.readiness import watch\n"
        "def size():\n"
        "    said = open('/proc/self/status').read()\n"
        "    return int(re.search(r'FDSize:\\s*(\\d+)', said)[1])\n"
        "def make_room(self, make=watch.Watch._make_room):\n"
        "    make(self)\n"
        "    grown.append((self, time.monotonic_ns()))\n"
        "class Attempt(watch.Attempt):\n"
        "    def __post_init__(self):\n"
        "        sizes.append(size())\n"
        "        super().__post_init__()\n"
        "watch.Watch._make_room, watch.Attempt = make_room, Attempt\n"
        "sizes, grown = [size()], []\n"
        "asyncio.run(nm.ready(*['127.0.0.1:1'] * 20, timeout_s=1))\n"
        "(one, at_ns), = grown\n"
        "print(*sizes[:2], one.origin_ns - at_ns)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert ran.stderr == ""
    before, at_first, since_ns = map(int, ran.stdout.split())
    assert before < 20 * 100 <= at_first
    assert since_ns >= 0


async def http_after(good_after: int) -> tuple[nm.Readiness, list[bytes]]:
    """Wait for a server that answers the first requests with 503; return its requests as well."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            status = b"200 OK" if len(requests) > good_after else b"503 Busy"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        (found,) = await nm.ready(f"http://127.0.0.1:{port}/health", timeout_s=20)
        return found, requests


def test_http_is_usable_from_the_first_good_status_on(run: RunOnce) -> None:
    found, requests = run(http_after(3))
    assert found.reached
    assert [(wait.cause, wait.detail) for wait in found.waits] == [("http", "status 503")]
    assert requests[0].startswith(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:")


async def tls_found(context: ssl.SSLContext, **more: Any) -> nm.Readiness:
    server = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        (found,) = await nm.ready(f"tls://127.0.0.1:{port}", **more)
        return found


@pytest.mark.skipif(certificates.available() is not None, reason=str(certificates.available()))
def test_tls(run: RunOnce) -> None:
    there = certificates.certificate()
    trusted = run(tls_found(there.server(), ca_file=str(there.pem), timeout_s=20))
    assert trusted.reached
    unknown = run(tls_found(there.server(), timeout_s=0.3))
    assert not unknown.reached
    assert unknown.waits[0].cause == "tls"
    assert "certificate" in (unknown.waits[0].detail or "")
    assert run(tls_found(there.server(), insecure=True, timeout_s=20)).reached


async def closing_found(asks: str) -> nm.Readiness:
    """Wait for a server that closes half of its connections before it has read anything, which
    resets them, and the others after it."""
    number = 0

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        if number % 2:
            await reader.read(65536)
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        (found,) = await nm.ready(f"{asks}://127.0.0.1:{port}", timeout_s=0.4, insecure=True)
    assert number > 2
    return found


@pytest.mark.parametrize(
    ("asks", "words"),
    [("tls", "closed in the handshake"), ("http", "closed without a response")],
)
def test_a_server_that_closes_is_one_cause_whichever_way_it_closes(
    run: RunOnce, asks: str, words: str
) -> None:
    found = run(closing_found(asks))
    assert not found.reached
    assert {(wait.cause, wait.detail) for wait in found.waits if wait.cause != "no_answer"} == {
        (asks, words)
    }


def test_a_cancelled_wait_leaves_nothing(run: RunOnce) -> None:
    async def main() -> None:
        sock, port = bound()
        with sock:
            task = asyncio.create_task(nm.ready(f"127.0.0.1:{port}"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())


def test_a_target_that_is_denied_from_the_start(run: RunOnce) -> None:
    sock, port = bound()
    with sock:
        (found,) = run(nm.ready(f"127.0.0.1:{port}", wanted="denied", timeout_s=20, attempt_s=0.1))
    assert found.reached
    assert found.at_ns == found.waits[0].start_ns
    assert [wait.cause for wait in found.waits] == ["refused"]


@pytest.mark.parametrize("more", [{"timeout_s": 0}, {"every_s": -1}, {"attempt_s": float("nan")}])
def test_impossible_times(run: RunOnce, more: dict[str, Any]) -> None:
    with pytest.raises(nm.SpecError):
        run(nm.ready("127.0.0.1:1", **more))


def test_no_target(run: RunOnce) -> None:
    with pytest.raises(nm.SpecError):
        run(nm.ready())


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "netmeasure", "ready", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_the_program_reports_in_one_line_and_by_its_exit_code() -> None:
    sock, port = bound()
    with sock:
        refused = program(f"127.0.0.1:{port}", "--timeout", "200ms")
        assert (refused.returncode, refused.stderr) == (3, "")
        said = rf"127\.0\.0\.1:{port}: not usable \(\d+\.\d+ s refused\)\n"
        assert re.fullmatch(said, refused.stdout)
        sock.listen(1000)
        reached = program(f"127.0.0.1:{port}", "--json")
    assert (reached.returncode, reached.stderr) == (0, "")
    document = json.loads(reached.stdout)
    assert document["schema_version"] == 1
    (found,) = document["targets"]
    assert (found["reached"], found["waits"]) == (True, [])


def test_a_wrong_target_is_one_line() -> None:
    wrong = program("gopher://there")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines() == [
        "netmeasure: can't wait for gopher:// (the schemes are tcp, tls, http, https, ftp, ftps)"
    ]


def test_a_name_that_does_not_exist() -> None:
    """Run a separate process: look-ups that hang can't be ended, and would outlive the test."""
    missing = program("nothing.invalid:80", "--timeout", "300ms", "--json")
    assert missing.returncode == 3
    (found,) = json.loads(missing.stdout)["targets"]
    assert not found["reached"]
    assert found["waits"]
    assert {wait["cause"] for wait in found["waits"]} <= {"name_not_found", "name_no_answer"}


def test_a_host_that_begins_attempts_late_says_so(
    run: RunOnce, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread has something else to do for 60 ms before each attempt."""
    nothing = Neighbours(frozenset(), ())

    def slow() -> Neighbours:
        time.sleep(0.06)
        return nothing

    monkeypatch.setattr("netmeasure.readiness.watch.read_neighbours", slow)
    monkeypatch.setattr("netmeasure.readiness.watch.NEIGHBOURS_NS", 0)
    found = run(found_once_listening())
    assert found.reached
    assert found.grain_ns >= 60_000_000


def test_an_error_in_the_thread_is_raised(run: RunOnce, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("netmeasure.readiness.watch.read_neighbours", broken)
    sock, port = bound()
    with sock, pytest.raises(MemoryError, match="no room"):
        run(nm.ready(f"127.0.0.1:{port}", timeout_s=5))
