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

from netmeasure.clock import now_ns
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
_ENDED = frozenset({errno.ECONNRESET, errno.EPIPE})
_CLOSED: dict[Cause, str] = {
    "tls": "closed in the handshake",
    "http": "closed without a response",
}
_RETRANSMITS_AT, _RTT_AT = 100, 68  # tcpi_total_retrans, tcpi_rtt: include/uapi/linux/tcp.h


class Attempt:
    """Hold the socket of one attempt.

    Attributes:
        met: What blocked it; None: it goes on, or it was successful.
        through: Whether it was successful.
        counts: Whether its outcome says anything about the path.
        number: Its number in the course.
        gap_ns: How long before it the last attempt at this target began; 0: it was the first.
        usable_ns: When the path was usable (CLOCK_MONOTONIC), once the attempt was successful.
        connect_ns: The time from its SYN to the answer, once it is connected.
        answered_ns: The time from its start until the peer's answer was seen, once there is one.
        unanswered_ns: How much of that time there was surely no answer; this host may have seen the
            answer late.
    """

    # thousands of attempts are open at a time, and the garbage collector visits each object
    __slots__ = (
        "_response",
        "_stage",
        "_target",
        "_tls",
        "address",
        "answered_ns",
        "connect_ns",
        "counts",
        "gap_ns",
        "met",
        "number",
        "sock",
        "sought",
        "start_ns",
        "through",
        "unanswered_ns",
        "usable_ns",
    )

    def __init__(
        self, target: Target, entry: tuple[int, tuple[object, ...]], tls: ssl.SSLContext | None
    ) -> None:
        family, self.address = entry
        self.start_ns = now_ns()
        self.met: Met | None = None
        self.through = False
        self.counts = True
        self.usable_ns: int | None = None
        self.connect_ns: int | None = None
        self.answered_ns: int | None = None
        self.unanswered_ns = 0
        self.sought = False
        self._target = target
        self._tls = tls
        self._stage = "connect"
        self._response = b""
        self.number = 0
        self.gap_ns = 0
        self.sock: socket.socket | None = None
        try:
            self.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self.start_ns = now_ns()
            code = self.sock.connect_ex(self.address)
        except OSError as exc:
            code = exc.errno or errno.EIO
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
        assert self.sock is not None
        try:
            if self._stage == "connect":
                code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                at_ns = now_ns()
                if code in (0, errno.ECONNREFUSED):
                    self.answered_ns = at_ns - self.start_ns
                    self.unanswered_ns = max(0, polled_ns - self.start_ns)
                if code:
                    self._failed(code)
                    return 0
                self._connected(at_ns)
            if self._stage == "tls":
                assert isinstance(self.sock, ssl.SSLSocket)
                self.sock.do_handshake()
                self._shaken_hands()
            if self._stage == "ask":
                self.sock.send(self._request())
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
        if self.sock is None:
            return
        with suppress(OSError):
            if self.connected and not isinstance(self.sock, ssl.SSLSocket):
                # thousands of attempts must not leave thousands of ports in TIME_WAIT
                linger = struct.pack("ii", 1, 0)
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with suppress(OSError):
            self.sock.close()

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
        assert self.sock is not None
        info = b""
        with suppress(OSError):
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        sent_ns = self.start_ns
        took_ns = at_ns - sent_ns
        if len(info) >= _RETRANSMITS_AT + 4:
            (again,) = struct.unpack_from("=I", info, _RETRANSMITS_AT)
            (rtt_us,) = struct.unpack_from("=I", info, _RTT_AT)
            # by the kernel's round-trip time, since this thread may notice the answer late
            if rtt_us:
                took_ns = min(took_ns, rtt_us * 1000)
            if again:
                sent_ns = at_ns - took_ns
        self.usable_ns = sent_ns
        self.connect_ns = took_ns
        if self._target.asks == "tcp":
            self.through = True
        elif self._tls is not None:
            self.sock = self._tls.wrap_socket(
                self.sock, server_hostname=self._target.host, do_handshake_on_connect=False
            )
            self._stage = "tls"
        else:
            self._stage = "ask"
        if self._stage == "connect":
            self._stage = "open"

    def _shaken_hands(self) -> None:
        self.usable_ns = now_ns()
        if self._target.asks == "tls":
            self.through = True
        self._stage = "ask" if self._target.asks == "https" else "open"

    def _request(self) -> bytes:
        lines = (
            f"GET {self._target.path} HTTP/1.1",
            f"Host: {self._target.authority}",
            "User-Agent: netmeasure-ready",
            "Accept: */*",
            "Connection: close",
        )
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii", "replace")

    def _read(self) -> None:
        """Read the status line (RFC 9112, 4), and check it."""
        assert self.sock is not None
        while b"\n" not in self._response:
            some = self.sock.recv(MOST_RESPONSE_BYTES)
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
