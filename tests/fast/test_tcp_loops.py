"""The native TCP loops on real sockets over loopback: every byte counted, every order obeyed."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import pytest

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import REASONS, Group, Stream, Tally
from netmeasure.clock import MILLISECOND_NS, now_ns
from netmeasure.engine import sockopts, tcpinfo
from support.census import settle

BLOCK = 64 * 1024
MIB = 1024 * 1024
UNREAD = 100_000
PAYLOAD = bytes(range(256)) * (BLOCK // 256)
FIELDS_SINCE_LINUX_4_1 = 136  # TCP_INFO up to tcpi_segs_out; every kernel in use returns more
#: Longer than anything here takes on a busy machine; whoever waits so long has found a fault.
PATIENCE_S = 20.0


class Pair(NamedTuple):
    """Two ends of one TCP connection over loopback."""

    left: socket.socket
    right: socket.socket


def tcp_pair(*, small: bool = False, mss: int | None = None) -> Pair:
    """A connected pair. `small`: buffers of some 10 kB, which a sender fills at once; `mss`: the
    segments of an Ethernet, say, instead of the loopback's 64 KiB."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if small:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        left = socket.socket()
        if small:
            left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        if mss is not None:
            left.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        left.connect(listener.getsockname())
        right, _ = listener.accept()
    return Pair(left, right)


class Rig:
    """The sockets, groups and threads of one test. `close` ends them all, whatever state the test
    left them in."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._groups: list[Group] = []
        self._threads: list[threading.Thread] = []
        self._fds: list[int] = []

    def pair(self, *, small: bool = False, mss: int | None = None) -> Pair:
        pair = tcp_pair(small=small, mss=mss)
        self._sockets += pair
        return pair

    def group(self, budget: int = 0) -> Group:
        self._groups.append(Group(budget))
        return self._groups[-1]

    def memfd(self, content: bytes) -> int:
        self._fds.append(os.memfd_create("payload", os.MFD_CLOEXEC))
        os.write(self._fds[-1], content)
        return self._fds[-1]

    def sender(
        self, group: Group, sock: socket.socket, mode: str = "copy", **options: int
    ) -> Sender:
        block = options.pop("block_bytes", BLOCK)
        payload = (PAYLOAD * (MIB // BLOCK))[:block]
        if mode == "sendfile":
            fd = self.memfd(payload)
            return Sender(group, sock.fileno(), source_fd=fd, block_bytes=block, **options)
        return Sender(group, sock.fileno(), payload=payload, **options)

    def start(self, *loops: Sender | Receiver) -> list[threading.Thread]:
        threads = [threading.Thread(target=loop.run, daemon=True) for loop in loops]
        for thread in threads:
            thread.start()
        self._threads += threads
        return threads

    def join(self, *threads: threading.Thread, patience_s: float = PATIENCE_S) -> None:
        """Wait for these threads (all, if none is given) to end by themselves."""
        for thread in threads or self._threads:
            thread.join(patience_s)
            assert not thread.is_alive(), "a native loop did not end"

    def close(self) -> None:
        for group in self._groups:
            group.abort()
        for sock in self._sockets:
            if sock.fileno() >= 0:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self.join(*self._threads)
        for sock in self._sockets:
            sock.close()
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def total(stream: Stream) -> int:
    return sum(stream.series()[2])


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN (SO_LINGER of zero seconds, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait_until_full(sock: socket.socket) -> None:
    """Until the sender's buffer takes no more: its thread is blocked, or will be in its next
    call."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    assert settle(lambda: not poll.poll(0), PATIENCE_S)


def wait_for_arrival(sock: socket.socket, count: int) -> None:
    """Until so many bytes lie in the socket (FIONREAD, tcp(7))."""

    def waiting() -> bool:
        answer = fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0")
        return int(struct.unpack("i", answer)[0]) == count

    assert settle(waiting, PATIENCE_S)


def unacknowledged_pair(rig: Rig) -> tuple[Pair, Group]:
    """The left buffer holds all of the group's budget, the right one a small part of it: a sender
    hands everything over and then waits for acknowledgements that don't come."""
    pair = rig.pair(small=True)
    pair.left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * UNREAD)  # below every wmem_max
    return pair, rig.group(UNREAD)


def wait_until_running(*streams: Stream) -> None:
    assert settle(lambda: all(stream.reason == "running" for stream in streams), PATIENCE_S)


# ---- every byte ----------------------------------------------------------------------------------


@pytest.mark.parametrize("discard", [False, True], ids=["recv", "discard"])
@pytest.mark.parametrize("mode", ["copy", "sendfile"])
@pytest.mark.parametrize("budget", [1, 65535, 65536, MIB + 1, 64 * MIB])
def test_both_ends_count_the_budget(rig: Rig, mode: str, discard: bool, budget: int) -> None:
    pair, group = rig.pair(), rig.group(budget)
    sender = rig.sender(group, pair.left, mode)
    receiver = Receiver(rig.group(), pair.right.fileno(), discard=discard)
    assert (sender.reason, receiver.reason) == ("not_started", "not_started")
    rig.start(sender, receiver)
    group.open()
    rig.join()
    assert (sender.reason, receiver.reason) == ("budget", "eof")
    assert (sender.errno, receiver.errno) == (0, 0)
    assert sender.bytes == sender.acked_bytes == receiver.bytes == budget
    assert total(sender) == total(receiver) == budget
    assert receiver.acked_bytes == 0
    assert 1 <= receiver.calls <= budget
    assert sender.calls >= -(-budget // BLOCK)


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
@pytest.mark.parametrize("rate_bps", [100_000, 20_000_000])
def test_no_more_is_handed_over_than_a_rate_allows(rig: Rig, rate_bps: int, mode: str) -> None:
    """A low rate is less than one segment of the loopback in all of the time, a higher one less
    than its first ten."""
    duration_ns, ahead_ns, piece = 150 * MILLISECOND_NS, 50 * MILLISECOND_NS, 256
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left, mode, duration_ns=duration_ns, rate_bps=rate_bps)
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(sender, receiver)
    group.open()
    rig.join()
    assert (sender.reason, receiver.reason) == ("deadline", "eof")
    assert sender.bytes == receiver.bytes == sender.acked_bytes
    assert piece <= sender.bytes <= rate_bps * (duration_ns + ahead_ns) / 8e9


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_payload_arrives_as_it_is(rig: Rig, mode: str) -> None:
    """Two blocks and a bit, with a partial send(): nobody reads until it has timed out."""
    pair, group = rig.pair(small=True), rig.group(2 * BLOCK + 100)
    sender = rig.sender(group, pair.left, mode)
    rig.start(sender)
    group.open()
    assert settle(lambda: sender.bytes > 0, PATIENCE_S)
    assert sender.bytes < BLOCK
    with pair.right.makefile("rb") as stream:
        assert stream.read() == (PAYLOAD * 3)[: 2 * BLOCK + 100]
    rig.join()
    assert sender.calls > 3


def test_four_senders_share_a_budget_exactly(rig: Rig) -> None:
    budget = 16 * MIB + 12_345
    group, receiving = rig.group(budget), rig.group()
    pairs = [rig.pair() for _ in range(4)]
    senders = [rig.sender(group, pair.left) for pair in pairs]
    receivers = [Receiver(receiving, pair.right.fileno()) for pair in pairs]
    rig.start(*senders, *receivers)
    group.open()
    rig.join()
    assert {sender.reason for sender in senders} == {"budget"}
    assert sum(sender.bytes for sender in senders) == budget
    assert [r.bytes for r in receivers] == [s.acked_bytes for s in senders]


def test_receivers_leave_after_their_budget(rig: Rig) -> None:
    """What is over comes of the last recv() only; a second stream of the group leaves as well."""
    sending, receiving = rig.group(), rig.group(MIB)
    busy, idle = rig.pair(), rig.pair()
    first = Receiver(receiving, busy.right.fileno(), buffer_bytes=BLOCK)
    second = Receiver(receiving, idle.right.fileno())
    threads = rig.start(first, second)
    rig.start(rig.sender(sending, busy.left))
    sending.open()
    rig.join(*threads)
    assert (first.reason, second.reason) == ("budget", "budget")
    assert MIB <= first.bytes < MIB + BLOCK
    assert second.bytes == 0


def test_omitted_bytes_are_not_in_the_senders_budget(rig: Rig) -> None:
    """What is acknowledged before the omitted time is over comes on top; then the budget."""
    omit_ns, budget = 50 * MILLISECOND_NS, 64 * MIB
    pair, group = rig.pair(), rig.group(budget)
    sender = rig.sender(group, pair.left, omit_ns=omit_ns)
    receiver = Receiver(rig.group(), pair.right.fileno(), discard=True)
    rig.start(sender, receiver)
    opened = group.open()
    rig.join()
    assert sender.reason == "budget"
    assert receiver.bytes == sender.bytes == sender.acked_bytes
    assert sender.ended_ns is not None
    assert sender.ended_ns - opened >= omit_ns
    origin, width_ns, buckets = sender.series()
    assert origin is not None
    omitted = (opened + omit_ns - origin) // width_ns
    # the look that ends the omitted time may be late, never early
    assert 0 < sum(buckets[:omitted]) <= sender.bytes - budget


def test_omitted_bytes_are_not_in_the_receivers_budget(rig: Rig) -> None:
    omit_ns = 50 * MILLISECOND_NS
    pair, sending, receiving = rig.pair(), rig.group(), rig.group(BLOCK)
    receiver = Receiver(receiving, pair.right.fileno(), buffer_bytes=4096, omit_ns=omit_ns)
    (thread,) = rig.start(receiver)
    rig.start(rig.sender(sending, pair.left))
    sending.open()
    rig.join(thread)
    assert receiver.reason == "budget"
    assert receiver.first_ns is not None
    assert receiver.last_ns is not None
    assert receiver.last_ns - receiver.first_ns >= omit_ns
    assert receiver.bytes > BLOCK


def test_half_close_false_leaves_the_stream_open(rig: Rig) -> None:
    pair, group = rig.pair(), rig.group(MIB)
    sender = rig.sender(group, pair.left, half_close=False)
    receiver = Receiver(rig.group(), pair.right.fileno())
    sending, receiving = rig.start(sender, receiver)
    group.open()
    rig.join(sending)
    assert sender.acked_bytes == MIB
    pair.left.sendall(b"more")
    pair.left.shutdown(socket.SHUT_WR)
    rig.join(receiving)
    assert (receiver.reason, receiver.bytes) == ("eof", MIB + 4)


# ---- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_deadline_ends_the_sender_and_everything_arrives(rig: Rig, mode: str) -> None:
    duration_ns = 150 * MILLISECOND_NS
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left, mode, duration_ns=duration_ns)
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(sender, receiver)
    opened = group.open()
    rig.join()
    assert (sender.reason, receiver.reason) == ("deadline", "eof")
    assert sender.ended_ns is not None
    assert sender.ended_ns - opened >= duration_ns
    assert 0 < sender.bytes == sender.acked_bytes == receiver.bytes


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_deadline_holds_though_the_peer_does_not_read(rig: Rig, mode: str) -> None:
    duration_ns = 50 * MILLISECOND_NS
    pair, group = rig.pair(small=True), rig.group()
    options = {"duration_ns": duration_ns, "drain_ns": 20 * MILLISECOND_NS}
    sender = rig.sender(group, pair.left, mode, **options)
    rig.start(sender)
    opened = group.open()
    rig.join()
    assert sender.reason == "deadline"
    assert sender.ended_ns is not None
    assert duration_ns <= sender.ended_ns - opened < duration_ns + 1000 * MILLISECOND_NS
    assert sender.acked_bytes < sender.bytes


@pytest.mark.parametrize("order", ["deadline", "stop"])
@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_a_slow_path_delays_no_order(rig: Rig, mode: str, order: str) -> None:
    """250 kB/s and a block of 1 MiB: the order comes in the middle of it, not 4 s later."""
    duration_ns = 100 * MILLISECOND_NS
    pair, group = rig.pair(mss=1448), rig.group()
    sockopts.set_pacing(pair.left, 2_000_000)
    sockopts.keep_little_unsent(pair.left, 2_000_000)
    options = {"duration_ns": duration_ns} if order == "deadline" else {}
    sender = rig.sender(group, pair.left, mode, block_bytes=MIB, drain_ns=0, **options)
    receiver = Receiver(rig.group(), pair.right.fileno())
    (sending, _) = rig.start(sender, receiver)
    given = group.open() + duration_ns
    if order == "stop":
        assert settle(lambda: receiver.bytes > 0, PATIENCE_S)
        given = now_ns()
        group.stop()
    rig.join(sending)
    assert sender.ended_ns is not None
    assert sender.ended_ns - given < 500 * MILLISECOND_NS


def test_stop_ends_the_sender_and_everything_arrives(rig: Rig) -> None:
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left)
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(sender, receiver)
    group.open()
    assert settle(lambda: receiver.bytes > 0, PATIENCE_S)
    group.stop()
    rig.join()
    assert (sender.reason, receiver.reason) == ("stopped", "eof")
    assert sender.bytes == sender.acked_bytes == receiver.bytes


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_stop_reaches_a_sender_whose_peer_does_not_read(rig: Rig, mode: str) -> None:
    pair, group = rig.pair(small=True), rig.group()
    sender = rig.sender(group, pair.left, mode, drain_ns=20 * MILLISECOND_NS)
    rig.start(sender)
    group.open()
    wait_until_full(pair.left)
    group.stop()
    rig.join()
    assert (sender.reason, sender.errno) == ("stopped", 0)
    assert sender.acked_bytes < sender.bytes


@pytest.mark.parametrize("discard", [False, True])
def test_a_stopped_receiver_empties_its_socket_first(rig: Rig, discard: bool) -> None:
    pair, group = rig.pair(), rig.group()
    pair.left.sendall(PAYLOAD[:50_000])
    wait_for_arrival(pair.right, 50_000)
    group.stop()
    receiver = Receiver(group, pair.right.fileno(), buffer_bytes=1000, discard=discard)
    rig.start(receiver)
    rig.join()
    assert (receiver.reason, receiver.errno, receiver.bytes) == ("stopped", 0, 50_000)
    assert total(receiver) == 50_000


def test_stop_ends_a_receiver_whose_peer_goes_on_sending(rig: Rig) -> None:
    """Such a peer refills the socket faster than one byte per call empties it. What had arrived by
    the time of the order is all that must be taken."""
    pair, sending, receiving = rig.pair(small=True), rig.group(), rig.group()
    receiver = Receiver(receiving, pair.right.fileno(), buffer_bytes=1)
    (thread,) = rig.start(receiver)
    rig.start(rig.sender(sending, pair.left))
    sending.open()
    wait_until_full(pair.left)
    receiving.stop()
    rig.join(thread, patience_s=3)
    assert receiver.reason == "stopped"


def test_stop_ends_a_receiver_that_waits_for_data(rig: Rig) -> None:
    pair, group = rig.pair(), rig.group()
    receiver = Receiver(group, pair.right.fileno())
    rig.start(receiver)
    wait_until_running(receiver)
    group.stop()
    rig.join()
    assert (receiver.reason, receiver.bytes) == ("stopped", 0)
    assert receiver.series() == (None, 10 * MILLISECOND_NS, [])
    assert (receiver.first_ns, receiver.last_ns) == (None, None)


def _best_abort_s(rig: Rig, block: Callable[[], tuple[Group, socket.socket, Stream]]) -> float:
    """The shortest of five times from abort to the thread's end: a busy machine may delay one,
    hardly five. A time-out (100 ms) would delay them all."""
    times = []
    for _ in range(5):
        group, sock, stream = block()
        start = time.monotonic()
        group.abort()
        sock.shutdown(socket.SHUT_RDWR)
        rig.join()
        times.append(time.monotonic() - start)
        assert (stream.reason, stream.errno) == ("aborted", 0)
    return min(times)


def test_abort_wakes_a_blocked_receiver(rig: Rig) -> None:
    def block() -> tuple[Group, socket.socket, Stream]:
        pair, group = rig.pair(), rig.group()
        receiver = Receiver(group, pair.right.fileno())
        rig.start(receiver)
        wait_until_running(receiver)
        return group, pair.right, receiver

    assert _best_abort_s(rig, block) < 0.05


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_abort_wakes_a_blocked_sender(rig: Rig, mode: str) -> None:
    def block() -> tuple[Group, socket.socket, Stream]:
        pair, group = rig.pair(small=True), rig.group()
        sender = rig.sender(group, pair.left, mode)
        rig.start(sender)
        group.open()
        wait_until_full(pair.left)
        return group, pair.left, sender

    assert _best_abort_s(rig, block) < 0.05


def test_abort_ends_the_wait_for_acknowledgements(rig: Rig) -> None:
    pair, group = unacknowledged_pair(rig)
    sender = rig.sender(group, pair.left, drain_ns=60_000 * MILLISECOND_NS)
    rig.start(sender)
    group.open()
    assert settle(lambda: sender.ended_ns is not None, PATIENCE_S)
    group.abort()
    rig.join()
    assert sender.errno == 0


def test_unread_bytes_are_waited_for_no_longer_than_drain_ns(rig: Rig) -> None:
    """Sent whole and never acknowledged whole: the sender says so and ends."""
    pair, group = unacknowledged_pair(rig)
    sender = rig.sender(group, pair.left, drain_ns=50 * MILLISECOND_NS)
    rig.start(sender)
    group.open()
    rig.join()
    assert (sender.reason, sender.bytes) == ("budget", UNREAD)
    assert 0 < sender.acked_bytes < UNREAD
    assert total(sender) == sender.acked_bytes


@pytest.mark.parametrize("order", ["stop", "abort"])
def test_a_sender_whose_gate_never_opens(rig: Rig, order: str) -> None:
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left)
    (thread,) = rig.start(sender)
    assert group.opened_ns is None
    assert not group.stopping
    getattr(group, order)()
    rig.join(thread)
    assert group.stopping
    assert sender.reason == {"stop": "stopped", "abort": "aborted"}[order]
    assert (sender.bytes, sender.first_ns, sender.ended_ns) == (0, None, None)
    assert sender.series()[2] == []
    pair.right.setblocking(False)
    with pytest.raises(BlockingIOError):  # neither data nor FIN came
        pair.right.recv(1)


def test_gate_opens_once(rig: Rig) -> None:
    group = rig.group()
    first = group.open()
    assert group.open() == group.opened_ns == first


# ---- errors --------------------------------------------------------------------------------------


def test_reset_by_the_peer_ends_the_receiver(rig: Rig) -> None:
    pair = rig.pair()
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(receiver)
    pair.left.sendall(b"some")
    assert settle(lambda: receiver.bytes == 4, PATIENCE_S)
    reset(pair.left)
    rig.join()
    assert (receiver.reason, receiver.errno) == ("error", errno.ECONNRESET)
    assert total(receiver) == receiver.bytes == 4


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_reset_by_the_peer_ends_the_sender(rig: Rig, mode: str) -> None:
    pair, group = rig.pair(small=True), rig.group()
    sender = rig.sender(group, pair.left, mode)
    rig.start(sender)
    group.open()
    wait_until_full(pair.left)
    reset(pair.right)
    rig.join()
    assert sender.reason == "error"
    assert sender.errno in (errno.ECONNRESET, errno.EPIPE)
    assert sender.acked_bytes <= sender.bytes


def test_reset_ends_the_wait_for_acknowledgements(rig: Rig) -> None:
    """No acknowledgement can come any more; and what is lost is no success."""
    pair, group = unacknowledged_pair(rig)
    sender = rig.sender(group, pair.left, drain_ns=60_000 * MILLISECOND_NS)
    rig.start(sender)
    group.open()
    assert settle(lambda: sender.ended_ns is not None, PATIENCE_S)
    reset(pair.right)
    rig.join(patience_s=3)
    assert sender.acked_bytes < sender.bytes == UNREAD
    assert sender.reason == "error"
    assert sender.errno in (errno.ECONNRESET, errno.EPIPE)


def test_what_is_no_connection_is_an_error(rig: Rig) -> None:
    group, fd = rig.group(), rig.memfd(b"x")
    group.open()
    sender, receiver = Sender(group, fd, payload=b"x"), Receiver(group, fd)
    sender.run()
    receiver.run()
    assert (sender.reason, sender.errno) == ("error", errno.ENOTSOCK)
    assert (receiver.reason, receiver.errno) == ("error", errno.ENOTSOCK)
    assert sender.samples() == receiver.samples() == []


def test_a_source_shorter_than_the_block_is_an_error(rig: Rig) -> None:
    """sendfile() returns 0 at the end of the file: no progress, for ever."""
    pair, group = rig.pair(), rig.group(BLOCK)
    sender = Sender(group, pair.left.fileno(), source_fd=rig.memfd(b"too short"), block_bytes=BLOCK)
    rig.start(sender)
    group.open()
    rig.join(patience_s=3)
    assert sender.reason == "error"
    assert sender.errno != 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda group: Sender(group, 0),
        lambda group: Sender(group, 0, source_fd=0),
        lambda group: Sender(group, 0, block_bytes=5),
        lambda group: Receiver(group, 0, buffer_bytes=0),
        lambda group: Receiver(group, 0, width_ns=0),
        lambda group: Receiver(group, 0, buckets=0),
        lambda group: Receiver(group, 0, buckets=7),
    ],
)
def test_impossible_options_are_refused(wrong: Callable[[Group], Stream]) -> None:
    with pytest.raises(ValueError, match=r"needs|must be"):
        wrong(Group())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda group: Sender(None, 0, payload=b"x"),
        lambda group: Receiver(None, 0),
        lambda group: Sender(group, 0, payload=b"x", durations_ns=5),
        lambda group: Receiver(group, 0, duration_ns=5),
        lambda group: Group(-1),
    ],
    ids=["sender-group", "receiver-group", "misspelt", "not-a-receivers", "negative"],
)
def test_wrong_arguments_are_refused(wrong: Callable[[Group], Stream]) -> None:
    with pytest.raises((TypeError, OverflowError)):
        wrong(Group())


# ---- what is recorded ----------------------------------------------------------------------------


def transfer(
    rig: Rig, budget: int = 8 * MIB, **options: int
) -> tuple[Group, Sender, Receiver, tuple[int, int]]:
    """One transfer to its end; the last item is the stretch of time in which it was."""
    start = now_ns()
    pair, group = rig.pair(), rig.group(budget)
    sender = rig.sender(group, pair.left, **options)
    receiver = Receiver(rig.group(), pair.right.fileno(), **options)
    rig.start(sender, receiver)
    group.open()
    rig.join()
    return group, sender, receiver, (start, now_ns())


def test_moments_are_ordered(rig: Rig) -> None:
    group, sender, receiver, (start, end) = transfer(rig)
    assert group.opened_ns is not None
    assert sender.first_ns is not None
    assert sender.last_ns is not None
    assert sender.ended_ns is not None
    assert receiver.first_ns is not None
    assert receiver.last_ns is not None
    assert receiver.ended_ns is not None
    assert start <= group.opened_ns <= sender.first_ns < sender.ended_ns <= end
    assert sender.first_ns < sender.last_ns <= end
    assert sender.first_ns < receiver.first_ns < receiver.last_ns <= receiver.ended_ns <= end
    for stream in (sender, receiver):
        origin, width, counts = stream.series()
        assert stream.last_ns is not None
        assert origin is not None
        assert sender.first_ns < origin <= stream.last_ns
        assert counts[-1] > 0
        assert (stream.last_ns - origin) // width == len(counts) - 1
    assert receiver.series()[0] == receiver.first_ns


def test_cpu_time_is_known_at_the_end(rig: Rig) -> None:
    for stream in transfer(rig, 32 * MIB)[1:3]:
        user_ns, system_ns = stream.cpu_ns
        assert min(user_ns, system_ns) >= 0
        assert 0 < user_ns + system_ns < 10_000 * MILLISECOND_NS


def test_merged_buckets_lose_no_byte(rig: Rig) -> None:
    """Four buckets of 1 us: the width doubles again and again until the run fits."""
    _, sender, receiver, _ = transfer(rig, 32 * MIB + 1, width_ns=1000, buckets=4)
    for stream in (sender, receiver):
        _, width, counts = stream.series()
        assert len(counts) <= 4
        assert width > 1000
        assert width.bit_count() == (1000).bit_count()  # 1000 times a power of two
        assert sum(counts) == 32 * MIB + 1


@pytest.mark.parametrize("buckets", [4, 16384])
def test_bytes_up_to_a_moment_never_shrink(rig: Rig, buckets: int) -> None:
    _, sender, receiver, (start, end) = transfer(rig, width_ns=MILLISECOND_NS, buckets=buckets)
    for stream in (sender, receiver):
        origin, width, counts = stream.series()
        assert origin is not None
        last = origin + width * len(counts)
        moments = [0, start, *range(origin, last, max(1, (last - origin) // 500)), last, end, 2**62]
        values = [stream.counted_until(moment) for moment in sorted(moments)]
        assert values == sorted(values)
        assert (values[0], values[-1]) == (0, 8 * MIB)
        assert stream.counted_until(last) == 8 * MIB
        edges = [stream.counted_until(origin + width * i) for i in range(len(counts) + 1)]
        assert [after - before for before, after in pairwise(edges)] == counts


@pytest.mark.parametrize("buckets", [4, 16384])
def test_series_can_be_read_while_it_grows(rig: Rig, buckets: int) -> None:
    """Read as fast as Python can, from this thread, while two others write."""
    pair, group = rig.pair(), rig.group()
    options = {"width_ns": 10_000, "buckets": buckets}
    sender = rig.sender(group, pair.left, duration_ns=200 * MILLISECOND_NS, **options)
    receiver = Receiver(rig.group(), pair.right.fileno(), **options)
    threads = rig.start(sender, receiver)
    group.open()
    seen = dict.fromkeys((sender, receiver), (0, 0, 0))
    reads = 0
    while any(thread.is_alive() for thread in threads):
        for stream, before in seen.items():
            origin, width, counts = stream.series()
            now = (sum(counts), stream.counted_until(2**62), stream.bytes)
            assert all(new >= old for new, old in zip(now, before, strict=True))
            assert now[0] <= now[1]
            assert origin is not None or counts == []
            assert len(counts) <= buckets
            assert width >= 10_000
            seen[stream] = now
        reads += 1
    rig.join()
    assert reads > 1
    assert total(sender) == sender.acked_bytes == sender.bytes
    assert total(receiver) == receiver.bytes == sender.bytes


def test_a_live_count_up_to_now_never_shrinks(rig: Rig) -> None:
    """As live intervals read it: later and later moments, while the bytes come."""
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left, duration_ns=100 * MILLISECOND_NS)
    receiver = Receiver(rig.group(), pair.right.fileno(), width_ns=MILLISECOND_NS)
    threads = rig.start(sender, receiver)
    group.open()
    before = 0
    while any(thread.is_alive() for thread in threads):
        now = receiver.counted_until(now_ns())
        assert before <= now <= receiver.bytes + 131_072  # the series is written first
        before = now
    rig.join()
    assert receiver.counted_until(now_ns() + MILLISECOND_NS) == receiver.bytes


def test_samples_are_bounded_and_ordered(rig: Rig) -> None:
    """With one sample due at each call there are far more calls than room."""
    _, sender, receiver, (start, end) = transfer(rig, 32 * MIB, sample_every_ns=1)
    assert sender.calls > 400
    for stream in (sender, receiver):
        samples = stream.samples()
        moments = [at for at, _ in samples]
        assert 2 <= len(samples) <= 256
        assert moments == sorted(moments)
        assert start < moments[0] < moments[-1] < end
        assert {len(raw) for _, raw in samples} == {len(samples[0][1])}
        assert FIELDS_SINCE_LINUX_4_1 <= len(samples[0][1]) <= 256
        for name in ("snd_mss", "rtt_us"):
            assert all(tcpinfo.field(raw, name) for _, raw in samples)
    acked = [tcpinfo.field(raw, "bytes_acked") or 0 for _, raw in sender.samples()]
    assert acked == sorted(acked)
    assert 32 * MIB <= acked[-1] <= 32 * MIB + 2  # SYN and FIN count


def test_a_calm_sampler_takes_the_first_and_the_last_moment(rig: Rig) -> None:
    _, sender, receiver, _ = transfer(rig, MIB, sample_every_ns=3600 * 10**9)
    assert (len(sender.samples()), len(receiver.samples())) == (2, 2)


def test_a_thread_tells_its_cpu_time_in_the_course_of_the_run(rig: Rig) -> None:
    _, sender, receiver, (start, end) = transfer(rig, 32 * MIB, sample_every_ns=1_000_000)
    for stream in (sender, receiver):
        samples = stream.cpu_samples()
        assert len(samples) >= 2
        moments, spent, waited = zip(*samples, strict=True)
        assert moments == tuple(at for at, _ in stream.samples())
        assert list(spent) == sorted(spent)
        assert 0 < spent[0] <= spent[-1] <= end - start
        # getrusage() counts the same time
        assert spent[-1] == pytest.approx(sum(stream.cpu_ns), abs=2_000_000)
        if None not in waited:
            assert list(waited) == sorted(waited)


def test_a_thread_that_shares_its_cpu_waits_for_it(rig: Rig) -> None:
    """Two transfers on one CPU: their four threads run no longer than there is time, and say of the
    rest that they waited."""
    cpu = {min(os.sched_getaffinity(0))}
    loops = []
    for _ in range(2):
        pair = rig.pair()
        group = rig.group()
        group.open()
        loops.append(Sender(group, pair.left.fileno(), payload=PAYLOAD, duration_ns=400_000_000))
        loops.append(Receiver(group, pair.right.fileno()))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpu)  # threads inherit it
    try:
        threads = rig.start(*loops)
    finally:
        os.sched_setaffinity(0, before)
    rig.join(*threads)
    samples = [loop.cpu_samples() for loop in loops]
    if any(sample[-1][2] is None for sample in samples):
        pytest.skip("this kernel does not say how long a thread waits for a CPU")
    span = max(s[-1][0] for s in samples) - min(s[0][0] for s in samples)
    ran = sum(s[-1][1] for s in samples)
    waited = sum(s[-1][2] or 0 for s in samples)
    assert ran <= span * 1.05  # there is one CPU only
    assert waited > 0.5 * span


def test_reasons_are_words(rig: Rig) -> None:
    assert len(set(REASONS)) == len(REASONS) == 8
    receiver = Receiver(rig.group(), 0)
    assert receiver.reason == REASONS[0]
    assert (receiver.fd, receiver.bytes, receiver.calls, receiver.errno) == (0, 0, 0, 0)
    assert receiver.cpu_ns == (0, 0)
    assert receiver.ended_ns is None


# ---- the interpreter stays free ------------------------------------------------------------------

_GIL = """
import socket, sys, threading
from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Group

with socket.create_server(("127.0.0.1", 0)) as listener:
    left = socket.create_connection(listener.getsockname())
    right, _ = listener.accept()
sending, receiving = Group(), Group()
sender = Sender(sending, left.fileno(), payload=bytes(65536))
receiver = Receiver(receiving, right.fileno(), discard=True)
threads = [threading.Thread(target=loop.run) for loop in (receiver, sender)]
for thread in threads:
    thread.start()
if sys.argv[1] == "moving":
    sending.open()
    while not receiver.bytes:
        pass
sum(range(1_000_000))  # the receiver has no data and the gate is shut, or both are hard at work
before = receiver.bytes
while sys.argv[1] == "moving" and receiver.bytes == before:
    pass
sending.stop()
if sys.argv[1] == "idle":
    left.close()
for thread in threads:
    thread.join()
print("free", receiver.reason, receiver.bytes == sender.bytes)
"""


@pytest.mark.parametrize("what", ["idle", "moving"])
def test_python_runs_while_the_loops_do(what: str) -> None:
    """Nothing ends these loops but the Python thread, which therefore must get to its end; in a
    process of its own, since one whose interpreter is held could not even report it."""
    command = [sys.executable, "-c", _GIL, what]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ran.stdout, ran.stderr) == ("free eof True\n", "")


# ---- transfers of a known length, one after the other ------------------------------------------


def test_a_limit_is_read_exactly(rig: Rig) -> None:
    """What lies behind it stays in the socket, for somebody else."""
    pair = rig.pair()
    receiver = Receiver(rig.group(), pair.right.fileno(), buffer_bytes=4096, limit_bytes=10_000)
    pair.left.sendall(PAYLOAD[:10_007])
    (thread,) = rig.start(receiver)
    rig.join(thread)
    assert (receiver.reason, receiver.bytes) == ("budget", 10_000)
    assert pair.right.recv(100) == PAYLOAD[10_000:10_007]


def test_leading_bytes_count_and_need_no_reading(rig: Rig) -> None:
    pair, since = rig.pair(), now_ns()
    receiver = Receiver(
        rig.group(), pair.right.fileno(), limit_bytes=500, leading_bytes=500, leading_ns=since
    )
    (thread,) = rig.start(receiver)
    rig.join(thread)
    assert (receiver.reason, receiver.bytes, receiver.first_ns) == ("budget", 500, since)
    origin, _, buckets = receiver.series()
    assert (origin, buckets) == (since, [500])


def test_leading_bytes_and_read_ones_add_up(rig: Rig) -> None:
    pair, since = rig.pair(), now_ns()
    receiver = Receiver(
        rig.group(), pair.right.fileno(), limit_bytes=900, leading_bytes=500, leading_ns=since
    )
    (thread,) = rig.start(receiver)
    pair.left.sendall(PAYLOAD[:400])
    rig.join(thread)
    assert (receiver.reason, receiver.bytes) == ("budget", 900)
    assert sum(receiver.series()[2]) == 900


@pytest.mark.parametrize(
    "wrong",
    [{"leading_bytes": 1}, {"leading_bytes": 2, "leading_ns": 5, "limit_bytes": 1}],
)
def test_leading_bytes_without_sense_are_refused(rig: Rig, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="leading_bytes"):
        Receiver(rig.group(), rig.pair().right.fileno(), **wrong)


def test_a_sender_waits_on_a_socket_that_does_not_block(rig: Rig) -> None:
    """It shares the socket with a transport: no spinning while the peer does not read."""
    pair, group = rig.pair(small=True), rig.group(MIB)
    pair.left.setblocking(False)
    sender = rig.sender(group, pair.left)
    rig.start(sender)
    group.open()
    assert settle(lambda: sender.bytes > 0)
    stuck = Receiver(rig.group(), pair.right.fileno())
    rig.start(stuck)
    rig.join()
    assert (sender.reason, sender.bytes, stuck.bytes) == ("budget", MIB, MIB)
    assert sender.calls < 20_000


def test_a_tally_adds_up_what_others_moved(rig: Rig) -> None:
    tally = Tally(rig.group(), -1)
    tally.add(7, now_ns())
    for number in (1, 2):
        pair = rig.pair()
        receiver = Receiver(rig.group(), pair.right.fileno(), limit_bytes=number * 1000)
        (thread,) = rig.start(receiver)
        pair.left.sendall(PAYLOAD[: number * 1000])
        rig.join(thread)
        tally.absorb(receiver)
        assert tally.last_ns == receiver.last_ns
        assert tally.reason == "budget"
    assert tally.bytes == sum(tally.series()[2]) == 3007
    assert tally.first_ns == tally.series()[0]
    assert tally.counted_until(now_ns() + 10**10) == 3007


def test_a_tally_of_one_loop_is_that_loop(rig: Rig) -> None:
    pair = rig.pair()
    receiver = Receiver(rig.group(), pair.right.fileno(), limit_bytes=MIB)
    threads = rig.start(receiver)
    pair.left.sendall(PAYLOAD * 16)
    rig.join(*threads)
    tally = Tally(rig.group(), -1)
    tally.absorb(receiver)
    assert tally.series() == receiver.series()
    assert tally.cpu_ns == receiver.cpu_ns
    assert tally.cpu_samples() == receiver.cpu_samples()
    assert tally.samples() == []  # what TCP says belongs to one connection


def test_the_cpu_time_of_a_tally_goes_on_from_loop_to_loop(rig: Rig) -> None:
    tally = Tally(rig.group(), -1)
    for _ in range(2):
        pair = rig.pair()
        receiver = Receiver(rig.group(), pair.right.fileno(), limit_bytes=MIB)
        threads = rig.start(receiver)
        pair.left.sendall(PAYLOAD * 16)
        rig.join(*threads)
        so_far = [spent for _, spent, _ in tally.cpu_samples()]
        tally.absorb(receiver)
        spent = [spent for _, spent, _ in tally.cpu_samples()]
        own = [spent for _, spent, _ in receiver.cpu_samples()]
        assert spent == so_far + [(so_far or [0])[-1] + one for one in own]


def test_a_tally_leaves_framing_out(rig: Rig) -> None:
    """Of every 10 bytes 7 count; no bucket is rounded by more than one."""
    pair = rig.pair()
    receiver = Receiver(rig.group(), pair.right.fileno(), limit_bytes=BLOCK * 10)
    threads = rig.start(receiver)
    pair.left.sendall(PAYLOAD * 10)
    rig.join(*threads)
    tally = Tally(rig.group(), -1)
    tally.absorb(receiver, 7, 10)
    assert tally.bytes == sum(tally.series()[2]) == BLOCK * 7
    for ours, theirs in zip(tally.series()[2], receiver.series()[2], strict=True):
        assert abs(ours - theirs * 0.7) <= 1
    with pytest.raises(ValueError, match="payload"):
        tally.absorb(receiver, 2, 1)


def test_a_tally_of_nothing_is_nothing(rig: Rig) -> None:
    tally = Tally(rig.group(), -1)
    tally.absorb(Receiver(rig.group(), rig.pair().right.fileno()))
    assert (tally.bytes, tally.first_ns, tally.last_ns) == (0, None, None)
    assert tally.series()[0] is None
    with pytest.raises(NotImplementedError):
        tally.run()
