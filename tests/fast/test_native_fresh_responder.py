"""The native loops of connect, request, response: both ends count the same transactions."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netmeasure._fast.fresh_responder import FreshResponder
from netmeasure._fast.requests import RequestLoop
from netmeasure._fast.worker import Group, Stream
from support.census import settle
from support.tcp_rig import PATIENCE_S, tcp_pair

MS = 1_000_000
REQUEST, RESPONSE = b"0123456789", b"abcdef"


def packed(port: int, host: str = "127.0.0.1") -> bytes:
    head = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port)
    return head + socket.inet_aton(host) + bytes(8)


def held_too(client: socket.socket) -> socket.socket:
    """Return a second descriptor of a connection's other end, which a loop has accepted."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as unless_found:
            number = os.dup(int(name))  # OSError: it was closed meanwhile
            unless_found.callback(os.close, number)
            found = socket.socket(fileno=number)  # or it is no socket, or not connected
            unless_found.callback(found.detach)
            if found.getpeername() == client.getsockname():
                unless_found.pop_all()
                return found
    raise AssertionError("no loop has accepted the connection")


def held_elsewhere(held: socket.socket) -> bool:
    """Return whether this process has another descriptor of the same socket."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return links.count(os.readlink(f"/proc/self/fd/{held.fileno()}")) > 1


class Ends:
    """Hold a listener and the connection that ends both loops, with a thread for each loop."""

    def __init__(self, *, blocking: bool) -> None:
        self.left, self.right = tcp_pair()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.setblocking(blocking)
        self.port: int = self.listener.getsockname()[1]
        self.group = Group()
        self._threads: list[threading.Thread] = []

    def begin(self, loop: Stream) -> threading.Thread:
        thread = threading.Thread(target=loop.run)
        self._threads.append(thread)
        thread.start()
        return thread

    def responder(self, **options: Any) -> FreshResponder:
        given: dict[str, Any] = {
            "request_bytes": len(REQUEST),
            "payload": RESPONSE,
            "peer": packed(0),
            **options,
        }
        loop = FreshResponder(
            self.group, self.right.fileno(), listener=self.listener.fileno(), **given
        )
        self.begin(loop)
        return loop

    def requester(self, group: Group, **options: Any) -> RequestLoop:
        """Return a requester that connects to the responder's port."""
        given: dict[str, Any] = {"response_bytes": len(RESPONSE), **options}
        return RequestLoop(
            group,
            self.left.fileno(),
            request=REQUEST,
            to=packed(self.port),
            keep=False,
            **given,
        )

    def cpu_ns(self) -> int:
        """Return the CPU time of the first thread so far."""
        task = Path("/proc/self/task", str(self._threads[0].native_id), "schedstat")
        return int(task.read_text().split()[0])

    def asked(self, count: int, **options: Any) -> RequestLoop:
        """Return a requester that has ended after so many requests."""
        group = Group(count * len(REQUEST))
        loop = self.requester(group, **options)
        group.open()
        self.join(self.begin(loop))
        assert loop.begun == loop.answered + loop.failed == count
        return loop

    def unanswered(
        self, group: Group, *, connections: int, duration_ns: int = 0
    ) -> tuple[RequestLoop, threading.Thread]:
        """Return a requester that waits at its gate, and its thread."""
        loop = self.requester(
            group, connections=connections, duration_ns=duration_ns, drain_ns=10 * MS
        )
        return loop, self.begin(loop)

    @staticmethod
    def join(thread: threading.Thread) -> None:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()

    def joined(self) -> None:
        for thread in self._threads:
            self.join(thread)

    def close(self) -> None:
        self.group.abort()
        self.joined()
        for sock in (self.left, self.right, self.listener):
            sock.close()


@pytest.fixture(params=[True, False], ids=["accept waits", "epoll waits"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    both = Ends(blocking=request.param)
    yield both
    both.close()


@pytest.mark.parametrize("token", [b"", REQUEST[:4]])
def test_both_loops_count_every_transaction(ends: Ends, token: bytes) -> None:
    before = set(os.listdir("/proc/self/fd"))
    served = ends.responder(token=token)
    asked = ends.asked(500, connections=5)
    ends.joined()
    assert (asked.reason, served.reason) == ("budget", "eof")
    assert asked.answered == served.answered == served.accepted == 500
    assert asked.connecting.count == asked.answering.count == asked.latency.count == 500
    assert asked.latency.sum_ns >= asked.connecting.sum_ns + asked.answering.sum_ns
    assert (served.bytes, served.acked_bytes) == (500 * len(REQUEST), 500 * len(RESPONSE))
    assert (asked.errors, served.strangers) == ({}, 0)
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_only_connection_counts_every_transaction_too(ends: Ends) -> None:
    """Its calls wait themselves."""
    before = set(os.listdir("/proc/self/fd"))
    served = ends.responder()
    asked = ends.asked(500)
    ends.joined()
    assert (asked.reason, served.reason) == ("budget", "eof")
    assert asked.answered == served.answered == served.accepted == 500
    assert asked.connecting.count == asked.answering.count == asked.latency.count == 500
    assert (asked.errors, served.strangers) == ({}, 0)
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("expected", "kind"), [(7, "reset"), (5, "invalid")])
def test_a_response_of_another_length_is_an_error(ends: Ends, expected: int, kind: str) -> None:
    ends.responder()
    asked = ends.asked(20, response_bytes=expected)
    assert (asked.answered, asked.errors) == (0, {kind: 20})


def test_a_request_that_is_longer_is_cut_off(ends: Ends) -> None:
    """The server reads no more than the agreed length, and goes on."""
    served = ends.responder(request_bytes=4)
    asked = ends.asked(20)
    ends.joined()
    assert asked.answered + asked.failed == 20
    assert served.bytes == 20 * 4


def test_requests_without_the_token_get_no_answer(ends: Ends) -> None:
    served = ends.responder(token=b"0123x")
    asked = ends.asked(20)
    assert (asked.answered, asked.errors) == (0, {"reset": 20})
    assert (served.bytes, served.strangers, served.accepted) == (0, 20, 20)


def test_connections_from_another_host_get_no_answer(ends: Ends) -> None:
    served = ends.responder()
    asked = ends.asked(20, origin=packed(0, "127.0.0.2"))
    assert (asked.answered, asked.errors) == (0, {"reset": 20})
    assert (served.bytes, served.strangers, served.accepted) == (0, 20, 0)


def test_silent_connections_lose_their_place(ends: Ends) -> None:
    """There are more of them than places, and they came first."""
    served = ends.responder(places=4)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection(("127.0.0.1", ends.port)))
        asked = ends.asked(100, connections=2)
    assert (asked.answered, asked.errors) == (100, {})
    assert settle(lambda: served.answered == 100)  # counted after the sending


def test_a_connection_that_a_forked_child_holds_too_keeps_no_thread_awake(ends: Ends) -> None:
    """A descriptor in a child, as this one, keeps a closed connection in an epoll set."""
    served = ends.responder()
    with socket.create_connection(("127.0.0.1", ends.port)) as client:
        assert settle(lambda: served.accepted == 1)
        with held_too(client) as held:
            client.shutdown(socket.SHUT_RDWR)
            assert settle(lambda: not held_elsewhere(held))  # the loop has closed its own
            before_ns, before_s = ends.cpu_ns(), time.monotonic()
            time.sleep(0.4)
            share = (ends.cpu_ns() - before_ns) / 1e9 / (time.monotonic() - before_s)
            assert share < 0.1  # a loop that never waits would have up to 1
            assert ends.asked(3).answered == 3


def test_a_silent_connection_is_closed_after_a_while(ends: Ends) -> None:
    served = ends.responder(patience_ns=30 * MS)
    with socket.create_connection(("127.0.0.1", ends.port), PATIENCE_S) as silent:
        silent.sendall(REQUEST[:3])
        assert silent.recv(1) == b""
    assert served.bytes == 0


def test_a_server_that_does_not_answer_is_given_up(ends: Ends) -> None:
    """The kernel accepts the connections, and no thread reads from them."""
    asked = ends.asked(3, answer_ns=60 * MS, drain_ns=10_000 * MS)
    assert (asked.answered, asked.errors) == (0, {"timeout": 3})
    assert asked.connecting.count == 3


@pytest.mark.parametrize("connections", [1, 3])
def test_connections_that_do_not_come_about_are_given_up(ends: Ends, connections: int) -> None:
    """The listener's queue is full, so the kernel drops their SYNs."""
    ends.listener.listen(0)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", ends.port))
        asked = ends.asked(6, connections=connections, connect_ns=60 * MS, drain_ns=10_000 * MS)
    assert (asked.answered, asked.errors) == (0, {"connect": 6})
    assert asked.connecting.count == 0


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize(("order", "reason"), [("stop", "stopped"), ("abort", "aborted")])
def test_orders_end_a_requester_that_waits(
    ends: Ends, order: str, reason: str, connections: int
) -> None:
    """The kernel accepts the connections, and no thread reads from them."""
    group = Group()
    loop, thread = ends.unanswered(group, connections=connections)
    group.open()
    assert settle(lambda: loop.begun == connections)
    getattr(group, order)()
    ends.join(thread)
    assert (loop.reason, loop.begun, loop.answered) == (reason, connections, 0)


@pytest.mark.rates
@pytest.mark.parametrize("connections", [1, 3])
def test_the_deadline_is_kept_while_a_response_is_waited_for(ends: Ends, connections: int) -> None:
    """The calls of a single connection may wait for 0.1 s, but not beyond the end of the test."""
    group = Group()
    loop, thread = ends.unanswered(group, connections=connections, duration_ns=110 * MS)
    opened_ns = group.open()
    ends.join(thread)
    assert (loop.reason, loop.begun, loop.answered) == ("deadline", connections, 0)
    assert loop.ended_ns is not None
    assert 110 * MS <= loop.ended_ns - opened_ns < 195 * MS


@pytest.mark.parametrize("order", ["stop", "abort"])
def test_orders_end_the_responder(ends: Ends, order: str) -> None:
    served = ends.responder()
    getattr(ends.group, order)()
    ends.joined()
    assert served.reason == {"stop": "stopped", "abort": "aborted"}[order]


def test_a_stream_that_is_reset_ends_the_responder_with_an_error(ends: Ends) -> None:
    served = ends.responder()
    ends.left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ends.left.close()
    ends.joined()
    assert (served.reason, served.errno) == ("error", 104)


def test_a_responder_that_cannot_begin_closes_only_what_is_its_own(ends: Ends) -> None:
    with socket.socket() as closed:
        descriptor = closed.fileno()
    before = set(os.listdir("/proc/self/fd"))
    served = FreshResponder(
        ends.group, ends.right.fileno(), listener=descriptor, payload=RESPONSE, peer=packed(0)
    )
    served.run()
    assert (served.reason, served.errno) == ("error", errno.EBADF)
    assert set(os.listdir("/proc/self/fd")) == before


def test_arguments_are_checked(ends: Ends) -> None:
    for wrong in (
        {"payload": b""},
        {"request_bytes": 0},
        {"places": 0},
        {"token": bytes(11)},
        {"peer": b""},
        {"patience_ns": 0},
    ):
        with pytest.raises(ValueError, match=r"."):
            ends.responder(**wrong)
    with pytest.raises(ValueError, match="not kept"):
        RequestLoop(Group(), request=b"x", to=packed(1), response_bytes=1, keep=True)
