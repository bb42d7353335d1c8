"""Run an FTP server of our own that behaves correctly, except for the faults that a test orders."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import NoReturn

from support.scripted import GoneError, Peer, Scripted
from support.web import send_body

#: An answer to a command: a reply, or an action instead of one.
Answer = str | Callable[[Peer], object]


def silent(peer: Peer) -> None:
    """Send no reply until the client disconnects."""
    peer.hold()
    raise GoneError


def closes(peer: Peer) -> NoReturn:
    peer.close()
    raise GoneError


def resets(peer: Peer) -> NoReturn:
    peer.reset()
    raise GoneError


class Ftp(Scripted):
    """Serve a file of `size` bytes under every name, and count uploads.

    answers   replies by command, instead of the usual ones; "greeting" and "final" have no command
    says      the size that SIZE reports, if it is not the true one
    sends     how many bytes a download really sends
    data      called with the data connection, instead of the usual transfer
    early     whether the final reply is sent before the data
    tls       the context for AUTH TLS; with `implicit`, TLS begins with the first byte
    """

    def __init__(
        self,
        size: int = 0,
        host: str = "127.0.0.1",
        *,
        answers: Mapping[str, Answer] | None = None,
        says: int | None = None,
        sends: int | None = None,
        data: Callable[[Peer], object] | None = None,
        early: bool = False,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
    ) -> None:
        super().__init__(self._talk, host, tls if implicit else None)
        self.size = size
        self.commands: list[str] = []
        self.taken = 0
        self.sent = 0
        self.resumed: list[bool] = []
        self._answers = dict(answers or {})
        self._says = size if says is None else says
        self._sends = sends
        self._data = data
        self._early = early
        self._context = tls
        self._implicit = implicit

    def url(self, path: str = "/file", scheme: str | None = None) -> str:
        return super().url(path, scheme or ("ftps" if self._implicit else "ftp"))

    def did(self, command: str) -> int:
        """Return how often a command was received."""
        return sum(line.split()[0] == command for line in self.commands)

    def _reply(self, peer: Peer, name: str, usual: str) -> bool:
        """Send the reply. Return whether it was the usual one."""
        answer = self._answers.get(name, usual)
        if not isinstance(answer, str):
            answer(peer)
            return False
        peer.send(answer.encode() + b"\r\n")
        return answer is usual

    def _talk(self, peer: Peer) -> None:
        with contextlib.ExitStack() as stack:
            self._session(peer, stack)

    def _session(self, peer: Peer, stack: contextlib.ExitStack) -> None:
        listener: socket.socket | None = None
        offset = 0
        self._reply(peer, "greeting", "220 scripted server")
        while True:
            line = peer.read_until(b"\r\n").decode(errors="surrogateescape").rstrip()
            with self._lock:
                self.commands.append(line)
            name, _, text = line.partition(" ")
            if name in ("EPSV", "PASV"):
                listener = stack.enter_context(self._listener_for_data())
                port = listener.getsockname()[1]
                address = f"127,0,0,1,{port >> 8},{port & 255}"
                passive = f"227 Passive ({address})" if name == "PASV" else f"229 Go (|||{port}|)"
                self._reply(peer, name, passive)
            elif name == "AUTH":
                if self._reply(peer, name, "234 go ahead"):
                    assert self._context is not None
                    peer.sock = self._context.wrap_socket(peer.sock, server_side=True)
            elif name == "REST":
                offset = int(text)
                self._reply(peer, name, "350 from there")
            elif name in ("RETR", "STOR"):
                if not self._reply(peer, name, "150 here it comes"):
                    continue
                assert listener is not None
                self._transfer(peer, name, offset, listener)
                listener, offset = None, 0
            else:
                self._reply(peer, name, self._usual(name))

    def _usual(self, name: str) -> str:
        usual = {"USER": "331 password?", "PASS": "230 welcome", "SIZE": f"213 {self._says}"}
        return usual.get(name, "200 fine")

    def _listener_for_data(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return self.wake(socket.create_server((self.host, 0), family=family))

    def _transfer(self, peer: Peer, name: str, offset: int, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            raise GoneError from None
        if self._early:
            self._reply(peer, "final", "226 done")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_side=True)
            self.resumed.append(bool(sock.session_reused))
        data = Peer(self.wake(sock), peer.number, peer.ending)
        try:
            with contextlib.suppress(GoneError):
                self._carry(data, name, offset)
        finally:
            data.sock.close()
        if not self._early:
            self._reply(peer, "final", "226 done")

    def _carry(self, data: Peer, name: str, offset: int) -> None:
        if name == "STOR" and self._data is None:
            size = data.count(1 << 62)
            with self._lock:
                self.taken += size
        elif self._data is not None:
            self._data(data)
        else:
            size = max(0, (self.size if self._sends is None else self._sends) - offset)
            send_body(data, size)
            with self._lock:
                self.sent += size
        if isinstance(data.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):  # the data connection may be closed
                data.sock.unwrap()
        elif data.sock.fileno() >= 0:
            data.finish()
