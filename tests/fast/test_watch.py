"""A watcher of sockets: how long bytes wait for the program, whatever it does meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from netmeasure._fast.watch import Watched, Watcher
from support.census import settle

#: As many stretches of a socket are kept.
KEPT = 32


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    made = Watcher()
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join()
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    with ours, peer:
        yield ours, peer


def send_and_read(watched: Watched, ours: socket.socket, peer: socket.socket) -> None:
    """Send bytes, read them once the watcher has seen them, and check what it says of them."""
    sent = time.monotonic_ns()
    peer.sendall(b"some")
    assert settle(lambda: any(taken is None for _, taken in watched.stretches()), 10)
    seen = time.monotonic_ns()
    time.sleep(0.002)
    read_from = time.monotonic_ns()
    assert ours.recv(9) == b"some"
    arrived, taken = watched.stretches()[-1]
    assert sent <= arrived <= seen
    assert taken is not None
    assert read_from <= taken <= time.monotonic_ns()


def test_bytes_wait_from_their_arrival_until_they_are_read(
    watcher: Watcher, ends: tuple[socket.socket, socket.socket]
) -> None:
    watched = watcher.add(ends[0].fileno())
    assert watched.stretches() == []
    for count in range(1, 4):
        send_and_read(watched, *ends)
        assert len(watched.stretches()) == count


def test_the_latest_stretches_are_kept(
    watcher: Watcher, ends: tuple[socket.socket, socket.socket]
) -> None:
    watched = watcher.add(ends[0].fileno())
    for _ in range(KEPT + 3):
        send_and_read(watched, *ends)
    seen = watched.stretches()
    assert len(seen) == KEPT
    assert seen == sorted(seen)


def test_what_was_seen_outlives_the_socket_and_the_watcher(
    watcher: Watcher, ends: tuple[socket.socket, socket.socket]
) -> None:
    watched = watcher.add(ends[0].fileno())
    send_and_read(watched, *ends)
    seen = watched.stretches()
    ends[0].close()
    ends[1].setblocking(False)
    with pytest.raises(BlockingIOError):  # until it is removed, the connection stays open
        ends[1].recv(1)
    watched.remove()
    watched.remove()
    ends[1].settimeout(10)
    assert ends[1].recv(1) == b""
    watcher.stop()
    del watcher
    assert watched.stretches() == seen


def test_what_is_no_socket_is_refused(watcher: Watcher) -> None:
    with pytest.raises(OSError, match="can't be watched"):
        watcher.add(-1)
