"""Make one attempt to reach a target: connect and, if requested, start TLS and get an HTTP
response.

An attempt never blocks: `step` is called whenever the socket is ready, until there is an outcome.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import struct
from contextlib import suppress

import msgspec

from netmeasure.clock import now_ns
from netmeasure.engine import tcpinfo
from netmeasure.readiness.course import Met, Outcome
from netmeasure.readiness.report import Cause
from netmeasure.readiness.target import Target

#: The most bytes to read of a response, which begins with the status line.
MOST_RESPONSE_BYTES = 4096
_CAUSES: dict[int, Cause] = {
    errno.ECONNREFUSED: "refused",
    errno.ENETUNREACH: "no_route",
    errno.EHOSTUNREACH: "unreachable",
    errno.ETIMEDOUT: "no_answer",
    errno.EPERM: "forbidden_here",
    errno.EACCES: "forbidden_here",
}
#: Errors of this host, which say nothing about the path: the attempt does not count.
OWN_TROUBLE = frozenset(
    {errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
)
_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_ENDED = frozenset({errno.ECONNRESET, errno.EPIPE})
_CLOSED: dict[Cause, str] = {
    "tls": "closed in the handshake",
    "http": "closed without a response",
}


class Attempt(msgspec.Struct, gc=False, eq=False):
    """Hold the socket of one attempt.

    Tens of thousands of attempts are open at a time. If the garbage collector visited them all, no
    attempt could begin for tens of milliseconds. So it visits none (`gc=False`): an attempt refers
    to nothing that refers back to it, and has a socket object only once its socket was ready.

    Attributes:
        address: Where it connects to.
        place: The place of its target among all targets.
        descriptor: Of its socket; -1: it has none.
        met: What blocked it; None: it goes on, or it was successful.
        through: Whether it was successful.
        counts: Whether its outcome says anything about the path.
        number: Its number in the course.
        gap_ns: How long before it the last attempt at this target began; 0: it was the first.
        usable_ns: When the path was usable (CLOCK_MONOTONIC), once the attempt was successful.
        connect_ns: The time from its SYN to the answer, once it is connected; None: unknown.
        answered_ns: The time from its start until the peer's answer was seen, once there is one.
        unanswered_ns: How much of that time there was surely no answer; this host may have seen the
            answer late.
    """

    target: Target
    family: int
    address: tuple[object, ...]
    tls: ssl.SSLContext | None
    place: int = 0
    descriptor: int = -1
    start_ns: int = 0
    met: Met | None = None
    through: bool = False
    counts: bool = True
    number: int = 0
    gap_ns: int = 0
    usable_ns: int | None = None
    connect_ns: int | None = None
    answered_ns: int | None = None
    unanswered_ns: int = 0
    sought: bool = False
    _sock: socket.socket | None = None
    _stage: str = "connect"
    _response: bytes = b""

    def __post_init__(self) -> None:
        self.start_ns = now_ns()
        sock: socket.socket | None = None
        try:
            sock = socket.socket(self.family, _KIND)
            self.start_ns = now_ns()
            code = sock.connect_ex(self.address)
        except OSError as exc:
            code = exc.errno or errno.EIO
        if sock is not None:
            self.descriptor = sock.detach()
        if code not in (0, errno.EINPROGRESS):
            self._failed(code)

    @property
    def is_over(self) -> bool:
        return self.through or self.met is not None or not self.counts

    @property
    def host(self) -> str:
        return str(self.address[0])

    @property
    def connected(self) -> bool:
        return self._stage != "connect"

    @property
    def outcome(self) -> Outcome:
        """Return how the attempt ended, or what is known of it so far."""
        if not self.counts:
            return Outcome(None)
        silence: Met = ("unresolved_neighbour" if self.sought else "no_answer", None)
        return Outcome(self.met, self.answered_ns, silence, self.unanswered_ns)

    def step(self, polled_ns: int) -> int:
        """Continue as far as possible without waiting; return the epoll events to wait for.

        Args:
            polled_ns: When the socket was last known not to be ready (CLOCK_MONOTONIC).
        """
        if self._sock is None:
            self._sock = socket.socket(self.family, _KIND, fileno=self.descriptor)
        try:
            if self._stage == "connect":
                code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                at_ns = now_ns()
                if code in (0, errno.ECONNREFUSED):
                    self.answered_ns = at_ns - self.start_ns
                    self.unanswered_ns = max(0, polled_ns - self.start_ns)
                if code:
                    self._failed(code)
                    return 0
                self._connected(at_ns)
            if self._stage == "tls":
                assert isinstance(self._sock, ssl.SSLSocket)
                self._sock.do_handshake()
                self._shaken_hands()
            if self._stage == "ask":
                self._sock.send(self._request())
                self._stage = "http"
            if self._stage == "http":
                self._read()
        except (ssl.SSLWantReadError, BlockingIOError):
            return select.EPOLLIN
        except ssl.SSLWantWriteError:
            return select.EPOLLOUT
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self.met = ("tls", _CLOSED["tls"])
        except ssl.SSLError as exc:
            self.met = ("tls", _tls_words(exc))
        except ValueError as exc:  # for a host name that is invalid in TLS
            self.met = ("tls", str(exc))
        except OSError as exc:
            named: Cause = "tls" if self._stage == "tls" else "http"
            words = exc.strerror or str(exc)
            if exc.errno in _ENDED:  # as without a reset: which of them comes first is chance
                words = _CLOSED[named]
            self.met = (named, words)
        return select.EPOLLIN

    def give_up(self) -> None:
        """Record that no answer arrived in time."""
        if self.is_over:
            return
        if self._stage == "connect":
            self.met = ("unresolved_neighbour" if self.sought else "no_answer", None)
        else:
            self.met = ("tls" if self._stage == "tls" else "http", "no answer")

    def close(self) -> None:
        """Close its socket. A second call has no effect."""
        sock, self._sock = self._sock, None
        descriptor, self.descriptor = self.descriptor, -1
        if sock is None:
            if descriptor >= 0:
                os.close(descriptor)
            return
        with suppress(OSError):
            if self.connected and not isinstance(sock, ssl.SSLSocket):
                # thousands of attempts must not leave thousands of ports in TIME_WAIT
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with suppress(OSError):
            sock.close()

    def _failed(self, code: int) -> None:
        if code in OWN_TROUBLE:
            self.counts = False
            return
        cause = _CAUSES.get(code, "failed")
        if cause == "unreachable" and self.sought:
            cause = "unresolved_neighbour"
        self.met = (cause, os.strerror(code) if cause == "failed" else None)

    def _connected(self, at_ns: int) -> None:
        """Record when the answered SYN was sent: the first one, or a retransmitted one."""
        assert self._sock is not None
        raw = tcpinfo.read(self._sock)
        # by the kernel's times, since this thread may notice the answer late
        answered_ns, again = tcpinfo.answered_at(raw, self.start_ns, at_ns)
        self.connect_ns = answered_ns - self.start_ns
        if again:
            rtt_us = tcpinfo.field(raw, "rtt_us")
            self.connect_ns = min(self.connect_ns, 1000 * rtt_us) if rtt_us else None
        self.usable_ns = answered_ns - (self.connect_ns or 0)
        if self.target.asks == "tcp":
            self.through = True
        elif self.tls is not None:
            self._sock = self.tls.wrap_socket(
                self._sock, server_hostname=self.target.host, do_handshake_on_connect=False
            )
            self._stage = "tls"
        else:
            self._stage = "ask"
        if self._stage == "connect":
            self._stage = "open"

    def _shaken_hands(self) -> None:
        self.usable_ns = now_ns()
        if self.target.asks == "tls":
            self.through = True
        self._stage = "ask" if self.target.asks == "https" else "open"

    def _request(self) -> bytes:
        lines = (
            f"GET {self.target.path} HTTP/1.1",
            f"Host: {self.target.authority}",
            "User-Agent: netmeasure-ready",
            "Accept: */*",
            "Connection: close",
        )
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii", "replace")

    def _read(self) -> None:
        """Read the status line (RFC 9112, 4), and check it."""
        assert self._sock is not None
        while b"\n" not in self._response:
            some = self._sock.recv(MOST_RESPONSE_BYTES)
            if not some:
                self.met = ("http", _CLOSED["http"])
                return
            self._response += some
            if len(self._response) >= MOST_RESPONSE_BYTES and b"\n" not in self._response:
                self.met = ("http", "no HTTP response")
                return
        words = self._response.split(b"\n", 1)[0].split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            self.met = ("http", "no HTTP response")
        elif not 200 <= int(words[1][:4]) < 400:
            self.met = ("http", f"status {int(words[1][:4])}")
        else:
            self.through = True
            self.usable_ns = now_ns()


def _tls_words(exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"certificate: {exc.verify_message}"
    return (exc.reason or str(exc)).replace("_", " ").lower()
