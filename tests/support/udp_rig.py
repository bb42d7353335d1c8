"""Provide sockets, threads and datagrams for tests of the native UDP loops."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import pytest

from netmeasure._fast.udp import UdpCounts, UdpReceiver, UdpSender
from netmeasure._fast.worker import Group
from netmeasure.clock import SECOND_NS
from support.census import settle

JUMP = 2**20  # a number that is further ahead than this needs a second datagram to confirm it
FAR = 2**31
SO_TIMESTAMPNS = 35
SO_NO_CHECK = 11
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
#: SO_MEMINFO is missing from Python's socket module; places in it (linux/sock_diag.h).
SO_MEMINFO, MEMINFO_RMEM, MEMINFO_DROPS, MEMINFO_VARS = 55, 0, 8, 9


class Runnable(Protocol):
    def run(self) -> None: ...


@contextlib.contextmanager
def pair(receive_buffer: int = 4 << 20, address: str = "127.0.0.1") -> Iterator[Any]:
    """Return two UDP sockets connected to each other."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as one,
        socket.socket(type=socket.SOCK_DGRAM) as other,
    ):
        for sock in (one, other):
            sock.bind((address, 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        one.connect(other.getsockname())
        other.connect(one.getsockname())
        yield one, other


def longest_train() -> int:
    """Return how many datagrams this kernel cuts from one: 128, or 64 if it refuses so many."""
    with pair() as (near, _):
        try:
            near.sendmsg([bytes(16 * 128)], [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", 16))])
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            return 64
    return 128


@contextlib.contextmanager
def threads(group: Group, *works: Runnable) -> Iterator[None]:
    """Run the loops beside the block; stop them and wait for them at its end."""
    running = [threading.Thread(target=work.run) for work in works]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        group.stop()
        for thread in running:
            thread.join()


def send(sender: UdpSender, group: Group) -> None:
    """Run a sender, from its gate on, to its end."""
    group.open()
    sender.run()


def datagram(sequence: int, *, wide: bool = False, stamp_us: int = 0, size: int = 16) -> bytes:
    head = struct.pack(">II", *divmod(stamp_us, 1_000_000))
    number = struct.pack(">Q" if wide else ">I", sequence % 2 ** (64 if wide else 32))
    return (head + number).ljust(size, b".")


def meminfo(sock: socket.socket) -> tuple[int, int]:
    """Return the memory of the datagrams that wait in a socket, in bytes, and how many datagrams it
    has dropped."""
    data = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * MEMINFO_VARS)
    found = struct.unpack(f"={len(data) // 4}I", data)
    return found[MEMINFO_RMEM], found[MEMINFO_DROPS]


def put(near: socket.socket, far: socket.socket, data: bytes) -> None:
    """Send a datagram, and wait until it is in the other socket: a kernel that is busy, or that
    handles packets on another CPU, delivers it after send() has returned."""
    before, _ = meminfo(far)
    near.send(data)
    assert settle(lambda: meminfo(far)[0] > before)


def all_arrived(far: socket.socket, count: int, size: int) -> bool:
    """Wait until so many datagrams of one size wait in a socket or were dropped by it."""
    with pair() as (one, other):
        put(one, other, bytes(size))
        each, _ = meminfo(other)

    def arrived() -> bool:
        memory, dropped = meminfo(far)
        return memory // each + dropped >= count

    return settle(arrived)


def received(
    datagrams: list[bytes], *, wide: bool = False, window: int = 64, **options: Any
) -> UdpCounts:
    """Return what the receiver counts for these datagrams, which all wait in its socket when it
    starts."""
    with pair() as (near, far):
        group = Group()
        receiver = UdpReceiver(
            group,
            far.fileno(),
            datagram_bytes=16,
            counters_64bit=wide,
            window=window,
            buckets=2,
            **options,
        )
        for data in datagrams:
            put(near, far, data)
        group.stop()
        receiver.run()
        assert receiver.reason == "stopped"
        counts = receiver.snapshot()
        assert counts.host_dropped_packets == 0
        assert receiver.bytes == counts.received_bytes
        assert sum(receiver.packet_series()[2]) == receiver.packets == counts.received_packets
        assert sum(receiver.series()[2]) == counts.received_bytes
        return counts


def one_by_one(near: socket.socket, receiver: UdpReceiver, numbers: Iterable[int]) -> None:
    """Send these datagrams so that each is read by a call of its own."""
    for number in numbers:
        calls, give_up = receiver.calls, time.monotonic() + 20
        near.send(datagram(number))
        while receiver.calls == calls:
            assert time.monotonic() < give_up
            time.sleep(0)


def attempts(check: Callable[[], None], times: int = 6) -> None:
    """Yield some attempts, since the timing depends on the machine, too: one undisturbed run is a
    proof.

    If more threads want to run than there are processors, no run is undisturbed.
    """
    for left in reversed(range(times)):
        try:
            check()
            return
        except AssertionError:
            if left == 0 and os.getloadavg()[0] > (os.cpu_count() or 1):
                pytest.skip("this machine is too busy to judge timing")
            if left == 0:
                raise


def arrivals(sock: socket.socket) -> list[int]:
    """Return the kernel time stamps (ns) of all datagrams that wait in a socket."""
    stamps = []
    with contextlib.suppress(BlockingIOError):
        while True:
            _, ancillary, _, _ = sock.recvmsg(65536, 256, socket.MSG_DONTWAIT)
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                    seconds, nanoseconds = struct.unpack_from("qq", data)
                    stamps.append(seconds * SECOND_NS + nanoseconds)
    return stamps
