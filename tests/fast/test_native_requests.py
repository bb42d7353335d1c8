"""The native loops of requests by HTTP: everything is counted once, and no error ends the loop."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netmeasure._fast.requests import RequestLoop
from netmeasure._fast.worker import Group
from support.optional import known
from support.ports import free_port, nobody
from support.tcp_rig import PATIENCE_S

MS = 1_000_000
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: What a server does with a connection, given the number of the request; False: it closes it.
Answer = Callable[[socket.socket, int], bool]


def packed(port: int) -> bytes:
    head = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port)
    return head + socket.inet_aton("127.0.0.1") + bytes(8)


class Server:
    """Answers each request on each connection, with a thread for each."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        # a port that no other program gets when the listener is closed
        self._listener = socket.create_server(("127.0.0.1", free_port()), backlog=64)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.requests = self.connections = 0
        self.to = packed(self._listener.getsockname()[1])
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while sock.recv(len(REQUEST), socket.MSG_WAITALL):
                with self._lock:
                    self.requests += 1
                    number = self.requests
                if not self._answer(sock, number):
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(PATIENCE_S)
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


def always(text: bytes, *, keep: bool = True) -> Answer:
    def answer(sock: socket.socket, _: int) -> bool:
        sock.sendall(text)
        return keep

    return answer


def ran(to: bytes, *, count: int = 0, **options: Any) -> RequestLoop:
    """Return a loop that has ended: after so many requests, or by its time."""
    group = Group(count * len(REQUEST))
    loop = RequestLoop(group, request=REQUEST, to=to, **options)
    thread = threading.Thread(target=loop.run)
    thread.start()
    group.open()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert loop.begun == loop.answered + loop.rejected + loop.failed
    assert sum(loop.statuses.values()) == loop.answered + loop.rejected
    assert loop.latency.count == loop.answered
    return loop


def test_kept_connections_are_used_again() -> None:
    with serving(always(OK)) as server:
        loop = ran(server.to, count=500, connections=5)
    assert (loop.reason, loop.answered, loop.statuses) == ("budget", 500, {200: 500})
    assert server.requests == 500
    assert loop.connecting.count == server.connections == 5
    assert loop.errors == {}
    assert loop.body_bytes == 1000
    assert sum(loop.series()[2]) == loop.acked_bytes == 500 * len(REQUEST)
    assert sum(loop.latency_sums()[2]) == loop.latency.sum_ns


def test_a_fresh_connection_is_part_of_its_request() -> None:
    with serving(always(OK, keep=False)) as server:
        loop = ran(server.to, count=100, connections=4, keep=False)
    assert (loop.answered, loop.connecting.count, server.connections) == (100, 100, 100)
    assert loop.latency.sum_ns > loop.connecting.sum_ns


@pytest.mark.parametrize("room", [1, 2])
def test_a_descriptor_for_one_connection_suffices(room: int) -> None:
    """One at a time makes the next one's socket in advance, where it can, and closes the last."""
    code = (
        "import os, resource, sys\n"
        "from netmeasure._fast.requests import RequestLoop\n"
        "from netmeasure._fast.worker import Group\n"
        f"group = Group(50 * len({REQUEST!r}))\n"
        f"loop = RequestLoop(group, request={REQUEST!r}, to=bytes.fromhex(sys.argv[1]),\n"
        "                   keep=False, response_bytes=2)\n"
        f"free = [os.dup(0) for _ in range(2 + {room})]\n"  # one is for epoll
        "resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], free[-1]))\n"
        "for one in free: os.close(one)\n"
        "group.open()\n"
        "loop.run()\n"
        "print(loop.reason, loop.answered, loop.errors, os.listdir('/proc/self/fd'))\n"
    )
    with serving(always(b"ok", keep=False)) as server:
        argv = [sys.executable, "-c", code, server.to.hex()]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S)
    assert said.stderr == ""
    assert said.stdout == "budget 50 {} ['0', '1', '2', '3']\n"
    assert (server.requests, server.connections) == (50, 50)


def test_latencies_are_no_shorter_than_the_server_is_slow() -> None:
    def answer(sock: socket.socket, _: int) -> bool:
        time.sleep(0.02)
        sock.sendall(OK[:10])
        time.sleep(0.02)
        sock.sendall(OK[10:])
        return True

    with serving(answer) as server:
        loop = ran(server.to, count=8, connections=4)
    assert loop.latency.min_ns is not None
    assert loop.latency.min_ns >= 40 * MS


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "reset"),
        (b"", "reset"),
        (b"220 ftp.example ready\r\n", "invalid"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok", "invalid"),
        (b"HTTP/1.1 200 OK\r\nX: " + 70_000 * b"x", "invalid"),
    ],
)
def test_every_kind_of_error_is_counted_and_survived(text: bytes, error: str) -> None:
    def answer(sock: socket.socket, number: int) -> bool:
        sock.sendall(OK if number % 2 else text)
        return bool(number % 2)

    before = set(os.listdir("/proc/self/fd"))
    with serving(answer) as server:
        loop = ran(server.to, count=20)
    assert set(os.listdir("/proc/self/fd")) == before
    assert (loop.answered, loop.failed, loop.errors) == (10, 10, {error: 10})


def test_a_response_that_does_not_come_is_given_up() -> None:
    def answer(sock: socket.socket, number: int) -> bool:
        if number % 2:
            sock.sendall(OK)
        return True

    with serving(answer) as server:
        loop = ran(server.to, count=6, answer_ns=60 * MS)
    assert (loop.answered, loop.errors) == (3, {"timeout": 3})


def test_a_status_of_an_error_is_in_no_latency() -> None:
    text = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    with serving(lambda sock, number: always(text if number % 2 else OK)(sock, number)) as server:
        loop = ran(server.to, count=10)
    assert (loop.answered, loop.rejected, loop.statuses) == (5, 5, {200: 5, 503: 5})
    assert server.connections == 1


@pytest.mark.parametrize("keep", [True, False])
def test_a_server_that_is_not_there_is_asked_again_and_again(keep: bool) -> None:
    count = 0 if keep else 5
    duration_ns = 0 if count else 100 * MS
    with nobody() as port:
        loop = ran(packed(port), count=count, keep=keep, connections=2, duration_ns=duration_ns)
    assert loop.errors["connect"] >= 2
    assert loop.connect_errno == errno.ECONNREFUSED
    assert (loop.begun, loop.failed, loop.connecting.count) == (count, count, 0)


def test_a_server_that_comes_back_is_measured_again() -> None:
    with serving(always(OK)) as server:
        group = Group()
        loop = RequestLoop(group, request=REQUEST, to=server.to)
        thread = threading.Thread(target=loop.run)
        thread.start()
        group.open()
        while loop.answered < 10:
            time.sleep(0.001)
    while "connect" not in loop.errors:
        time.sleep(0.001)
    port = struct.unpack("!H", server.to[2:4])[0]
    with socket.create_server(("127.0.0.1", port)) as listener:
        sock, _ = listener.accept()
        with sock:
            before = loop.answered
            sock.recv(len(REQUEST), socket.MSG_WAITALL)
            sock.sendall(OK)
            while loop.answered == before:
                time.sleep(0.001)
            group.stop()
            sock.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)
    assert loop.reason == "stopped"
    assert loop.begun == loop.answered + loop.failed


def test_a_stall_is_in_every_request_that_was_due_meanwhile() -> None:
    """At 200 requests a second, a stall of 200 ms delays 40 requests (no coordinated omission)."""

    def answer(sock: socket.socket, number: int) -> bool:
        if number == 20:
            time.sleep(0.2)
        sock.sendall(OK)
        return True

    with serving(answer) as server:
        loop = ran(server.to, duration_ns=600 * MS, per_s=200)
    waited = sum(count for start, _, count in loop.latency.buckets() if start > 50 * MS)
    assert waited >= 28  # those that were due in the first 150 of the 200 ms
    assert loop.begun + loop.skipped == 120


def test_the_requests_of_a_rate_are_all_sent() -> None:
    with serving(always(OK)) as server:
        loop = ran(server.to, connections=8, duration_ns=200 * MS, per_s=1000, phase=0.5)
    assert loop.begun + loop.skipped == 200


def test_a_response_that_does_not_come_delays_no_end() -> None:
    """One at a time waits for it in recv(), but not beyond the end, up to which 10 ms are left of
    the third wait of 0.1 s."""
    late_ns = []
    with serving(lambda *_: True) as server:
        for _ in range(3):
            group = Group()
            options: dict[str, Any] = {"response_bytes": 2, "duration_ns": 210 * MS, "drain_ns": 0}
            loop = RequestLoop(group, request=REQUEST, to=server.to, keep=False, **options)
            thread = threading.Thread(target=loop.run)
            thread.start()
            group.open()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
            assert (loop.reason, loop.begun, loop.answered) == ("deadline", 1, 0)
            late_ns.append(known(loop.ended_ns) - known(loop.first_ns) - 210 * MS)
    assert min(late_ns) < 50 * MS


def test_an_order_to_leave_ends_it_at_once() -> None:
    with serving(lambda *_: True) as server:  # it never answers
        group = Group()
        loop = RequestLoop(group, request=REQUEST, to=server.to, connections=3)
        thread = threading.Thread(target=loop.run)
        thread.start()
        group.open()
        while loop.begun < 3:
            time.sleep(0.001)
        group.abort()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert (loop.reason, loop.begun, loop.answered, loop.failed) == ("aborted", 3, 0, 0)


@pytest.mark.parametrize("aborts", [False, True])
def test_a_body_that_never_ends_is_given_up(aborts: bool) -> None:
    tiny = b"1\r\nx\r\n" * 100_000  # takes the reader longest

    def answer(sock: socket.socket, _: int) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            sock.sendall(tiny)

    with serving(answer) as server:
        group = Group()
        loop = RequestLoop(group, request=REQUEST, to=server.to, connections=2, answer_ns=50 * MS)
        thread = threading.Thread(target=loop.run)
        thread.start()
        group.open()
        while loop.errors.get("timeout", 0) < 2:
            assert thread.is_alive()
            time.sleep(0.001)
        if aborts:
            group.abort()
        else:
            group.stop()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert (loop.reason, loop.answered) == ("aborted" if aborts else "stopped", 0)


def test_what_makes_no_sense_is_refused() -> None:
    good = {"request": REQUEST, "to": packed(1)}
    wrong: list[dict[str, Any]] = [
        {"request": b""},
        {"to": b""},
        {"to": bytes(200)},
        {"connections": 0},
        {"phase": 1.0},
        {"answer_ns": 0},
        {"socket_options": [(1, 2, bytes(65))]},
    ]
    for change in wrong:
        with pytest.raises(ValueError, match=r"."):
            RequestLoop(Group(), **(good | change))
