"""Run a server on raw sockets that does with each connection what a script says, and no more.

Scripts run in threads, one per connection, so they are written as plain sequences. Each piece that
is sent reaches the peer's program alone: the next one waits until the kernel reports that it was
read.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

_BLOCK_BYTES = 1 << 18
_POLL_S = 0.0005
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class GoneError(Exception):
    """Report that the connection or the server has ended, so the script has nothing left to do."""


class Peer:
    """Hold one connection, as the script sees it."""

    def __init__(self, sock: socket.socket, number: int, ending: threading.Event) -> None:
        self.sock = sock
        self.number = number  # counted from 0, in the order of arrival
        self.ending = ending
        self.buffer = b""

    # ---- to the client

    def send(self, *pieces: bytes) -> None:
        """Send pieces, and let the client's program read each before the next is sent."""
        for index, piece in enumerate(pieces):
            if index:
                self.wait_until_read()
            try:
                self.sock.sendall(piece)
            except OSError:
                raise GoneError from None

    def wait_until_read(self) -> None:
        """Wait until the client's program has read everything that was sent."""
        while self._unacknowledged() or self._unread():
            if self.ending.wait(_POLL_S):
                raise GoneError

    def _unacknowledged(self) -> int:
        waiting = fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4))
        return int(struct.unpack("i", waiting)[0])

    def _unread(self) -> int:
        """Return how many bytes wait in the client's socket, by the kernel's list; 0 if the socket
        is gone."""
        here, there = _listed(self.sock.getsockname()), _listed(self.sock.getpeername())
        table = "tcp6" if self.sock.family == socket.AF_INET6 else "tcp"
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            words = line.split()
            if (words[1].rpartition(":")[2], words[2].rpartition(":")[2]) == (there, here):
                return int(words[4].partition(":")[2], 16)
        return 0

    # ---- from the client

    def receive(self) -> bytes:
        """Return the bytes that arrive next; none at the end of the stream."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        try:
            return self.sock.recv(_BLOCK_BYTES)
        except OSError:
            raise GoneError from None

    def read_until(self, end: bytes) -> bytes:
        """Return the bytes up to and including `end`; GoneError if the stream ends before."""
        data = b""
        while end not in data:
            piece = self.receive()
            if not piece:
                raise GoneError
            data += piece
        head, _, self.buffer = data.partition(end)
        return head + end

    def count(self, size: int) -> int:
        """Read `size` bytes, or up to the end; return how many there were."""
        done = 0
        while done < size:
            piece = self.receive()
            if not piece:
                break
            self.buffer = piece[size - done :]
            done += min(len(piece), size - done)
        return done

    # ---- the end

    def hold(self) -> None:
        """Send nothing more until the client disconnects."""
        while self.receive():
            pass

    def finish(self) -> None:
        """End in an orderly way: send no more, and read what the client still sends."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self.hold()

    def close(self) -> None:
        """Close both directions at once; what the client sends from now on is answered by a
        reset."""
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.sock.close()


def _listed(sockaddr: tuple[str | int, ...]) -> str:
    return f"{sockaddr[1]:04X}"


Script = Callable[[Peer], None]


class Scripted:
    """Run the server during a ``with`` block.

    At the end every connection is closed and every thread has been joined. An exception of a script
    is raised again, unless the end caused it.
    """

    def __init__(
        self,
        script: Script,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.script = script
        self.host = host
        self.port = port
        self.tls = tls
        self.peers: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self._ending = threading.Event()
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._more: list[socket.socket] = []

    @property
    def address(self) -> str:
        """Return the address as it is written in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, path: str = "/file", scheme: str | None = None) -> str:
        return f"{scheme or ('https' if self.tls else 'http')}://{self.address}{path}"

    @property
    def connections(self) -> int:
        return len(self.peers)

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family, backlog=128)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, "scripted-accept")
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._threads[0].join()
        self._listener.close()
        for sock in [*(peer.sock for peer in self.peers), *self._more]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for error in self._errors:
            raise error

    def wake(self, sock: socket.socket) -> socket.socket:
        """Register a script's own socket: the end of the server wakes a thread that is blocked on
        it."""
        self._more.append(sock)
        if self._ending.is_set():
            raise GoneError
        return sock

    def _start(self, action: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=action, name=name)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(sock, len(self.peers), self._ending)
            self.peers.append(peer)
            self._start(lambda peer=peer: self._serve(peer), "scripted")  # type: ignore[misc]

    def _serve(self, peer: Peer) -> None:
        try:
            if self.tls is not None:
                peer.sock = self.tls.wrap_socket(peer.sock, server_side=True)
            self.script(peer)
            peer.finish()
        except (GoneError, ssl.SSLError, ConnectionError):
            pass
        except OSError:
            if not self._ending.is_set():
                raise
        except BaseException as error:
            self._errors.append(error)
        finally:
            peer.sock.close()
