"""Provide sockets, groups and threads for tests of the native TCP loops."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
import threading
from contextlib import suppress
from typing import Any, NamedTuple

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Group, Stream
from netmeasure.clock import now_ns
from support.census import settle

BLOCK = 64 * 1024
MIB = 1024 * 1024
UNREAD = 100_000
PAYLOAD = bytes(range(256)) * (BLOCK // 256)
FIELDS_SINCE_LINUX_4_1 = 136  # TCP_INFO up to tcpi_segs_out; every kernel in use returns more
#: Longer than anything here takes on a busy machine: a wait of this length is a fault.
PATIENCE_S = 20.0


class Pair(NamedTuple):
    """Hold the two ends of one TCP connection over loopback."""

    left: socket.socket
    right: socket.socket


def tcp_pair(*, small: bool = False, mss: int | None = None) -> Pair:
    """Return a connected pair.

    With `small`, it has buffers of some 10 kB, which a sender fills at once. `mss` sets the segment
    size, such as that of an Ethernet, instead of the 64 KiB of the loopback.
    """
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
    """Hold the sockets, groups and threads of one test.

    `close` ends them all, in whatever state the test left them.
    """

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
        self, group: Group, sock: socket.socket, mode: str = "copy", **options: Any
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

    def join(self, *threads: threading.Thread) -> None:
        """Wait for these threads (all, if none is given) to end by themselves."""
        for thread in threads or self._threads:
            thread.join(PATIENCE_S)
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


def total(stream: Stream) -> int:
    return sum(stream.series()[2])


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN (SO_LINGER of zero seconds, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait_until_full(sock: socket.socket) -> None:
    """Wait until the sender's buffer is full: its thread is blocked, or will be in its next
    call."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    assert settle(lambda: not poll.poll(0), PATIENCE_S)


def wait_for_arrival(sock: socket.socket, count: int) -> None:
    """Wait until so many bytes are in the socket (FIONREAD, tcp(7))."""

    def waiting() -> bool:
        answer = fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0")
        return int(struct.unpack("i", answer)[0]) == count

    assert settle(waiting, PATIENCE_S)


def unacknowledged_pair(rig: Rig) -> tuple[Pair, Group]:
    """Return a pair whose sender waits for acknowledgements that are never sent.

    The left buffer holds all of the group's budget, the right one a small part of it. The sender
    gives all its data to the kernel and then waits.
    """
    pair = rig.pair(small=True)
    pair.left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * UNREAD)  # below every wmem_max
    return pair, rig.group(UNREAD)


def wait_until_running(*streams: Stream) -> None:
    assert settle(lambda: all(stream.reason == "running" for stream in streams), PATIENCE_S)


def transfer(
    rig: Rig, budget: int = 8 * MIB, **options: Any
) -> tuple[Group, Sender, Receiver, tuple[int, int]]:
    """Run one transfer to its end; the last item is the time from its start to its end."""
    start = now_ns()
    pair, group = rig.pair(), rig.group(budget)
    sender = rig.sender(group, pair.left, **options)
    receiver = Receiver(rig.group(), pair.right.fileno(), **options)
    rig.start(sender, receiver)
    group.open()
    rig.join()
    return group, sender, receiver, (start, now_ns())
