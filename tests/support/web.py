"""Run an HTTP server of our own that knows to the byte what it sent and received.

For unusual answers, a script on a `support.scripted.Peer` uses `request` and `answer`.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping
from typing import NamedTuple

from support.scripted import GoneError, Peer, Scripted

BLOCK = bytes(range(256)) * 1024


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]


def request(peer: Peer) -> Request:
    """Return the head of the next request; GoneError at the end of the connection."""
    lines = peer.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return Request(method, path, {name.lower(): value.strip() for name, _, value in pairs})


def head(status: str = "200 OK", *headers: str, version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{version} {status}", *headers, "", ""]).encode()


def send_body(peer: Peer, size: int) -> None:
    """Send so many bytes, as fast as the client takes them."""
    for _ in range(size // len(BLOCK)):
        peer.send(BLOCK)
    if rest := size % len(BLOCK):
        peer.send(BLOCK[:rest])


def take_body(peer: Peer, asked: Request, pause: Callable[[int], None] = lambda _: None) -> int:
    """Read the body of a request; return how many bytes it had, without its framing."""
    if asked.headers.get("transfer-encoding", "") != "chunked":
        return peer.count(int(asked.headers.get("content-length", "0")))
    total = 0
    while size := int(peer.read_until(b"\r\n"), 16):
        done = peer.count(size)
        total += done
        if done < size:
            raise GoneError
        assert peer.read_until(b"\r\n") == b"\r\n"
        pause(total)
    assert peer.read_until(b"\r\n") == b"\r\n"
    return total


class Web(Scripted):
    """Serve `size` bytes under every path, and accept uploads.

    The nth connection ends after `requests_per_connection`, as if the server wanted to close it.
    """

    def __init__(
        self,
        size: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        *,
        requests_per_connection: int = 1 << 30,
        says_close: bool = False,
        chunked: bool = False,
    ) -> None:
        super().__init__(self._talk, host, tls)
        self.size = size
        self.requests: list[Request] = []
        self.sent = 0  # bodies of complete answers
        self.taken = 0
        self._allowed = requests_per_connection
        self._says_close = says_close
        self._chunked = chunked

    def _talk(self, peer: Peer) -> None:
        for number in range(self._allowed):
            asked = request(peer)
            with self._lock:
                self.requests.append(asked)
            if asked.method == "PUT":
                size = take_body(peer, asked)
                with self._lock:
                    self.taken += size
                peer.send(head("201 Created", "Content-Length: 0"))
                continue
            last = number + 1 == self._allowed and self._says_close
            self._send(peer, asked, ["Connection: close"] if last else [])

    def _send(self, peer: Peer, asked: Request, more: list[str]) -> None:
        first, last, status = 0, self.size - 1, "200 OK"
        if wanted := asked.headers.get("range"):
            low, _, high = wanted.removeprefix("bytes=").partition("-")
            first, last = int(low), min(int(high or last), last)
            if first > last:
                peer.send(head("416 Range Not Satisfiable", "Content-Length: 0"))
                return
            status = "206 Partial Content"
            more = [*more, f"Content-Range: bytes {first}-{last}/{self.size}"]
        size = last - first + 1
        if self._chunked:
            peer.send(head(status, "Server: scripted", "Transfer-Encoding: chunked", *more))
            for at in range(0, size, len(BLOCK)):
                piece = BLOCK[: min(len(BLOCK), size - at)]
                peer.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            peer.send(b"0\r\n\r\n")
        else:
            peer.send(head(status, "Server: scripted", f"Content-Length: {size}", *more))
            send_body(peer, size)
        with self._lock:
            self.sent += size


def answering(*pieces: bytes) -> Callable[[Peer], None]:
    """Return a script that answers one request with these pieces, and ends the connection."""

    def script(peer: Peer) -> None:
        request(peer)
        peer.send(*pieces)

    return script


def endless(peer: Peer) -> None:
    request(peer)
    peer.send(head("200 OK", f"Content-Length: {1 << 50}"))
    send_body(peer, 1 << 50)


def endless_chunks(peer: Peer) -> None:
    request(peer)
    peer.send(head("200 OK", "Transfer-Encoding: chunked"))
    while True:
        peer.send(b"10000\r\n" + bytes(65_536) + b"\r\n")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
