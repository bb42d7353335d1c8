"""Specify repeated HTTP requests over many connections."""

from __future__ import annotations

from base64 import b64encode
from typing import ClassVar
from urllib.parse import quote, unquote, urlsplit

from netmeasure.errors import SpecError
from netmeasure.spec.checked import Checked, within
from netmeasure.spec.fetch import check_header, check_url, parse_pin
from netmeasure.spec.parts import Deadlines, Link, SocketOptions, Timing
from netmeasure.spec.target import check_family
from netmeasure.spec.words import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    MAX_THREADS,
    URL_CHARACTERS,
    FetchDirection,
)

#: Methods whose requests have the field "Content-Length: 0" (RFC 9110, 8.6).
_WITH_CONTENT = ("POST", "PUT", "PATCH")


class RequestSpec(Checked, frozen=True, kw_only=True, tag="requests", tag_field="kind"):
    """Specify requests by HTTP/1.1 (RFC 9112) to one URL, over many connections.

    Each request is timed at the client until its whole response has arrived. A connection has one
    request at a time. Redirects are not followed. `timing.total_blocks` is a number of requests
    over all connections.

    Attributes:
        url: The URL; a user and a password in it make an Authorization header.
        streams: Connections, 1 to 10 000.
        threads: Threads that share the connections, 1 to 64; None: 2, or 1 for one connection.
        keep_connections: Reuse connections. False: each request uses a new connection, whose set-up
            is a part of the request's time.
        target_rps: Requests per second over all connections, each timed from when it was due; None:
            a request is sent when a connection is free.
        answer_s: The time limit for the whole response, after which the request has failed: 0.01 to
            3600 s.
        method: The request's method.
        headers: More request headers, "Name: value"; they replace those of the same name.
        pins: Texts "HOST:PORT:ADDRESS": connect to that address instead of looking up the name.
        ca_file: https: a file with trusted certificates in PEM; None: the system's.
        insecure: https: do not check certificates.
        timing: When the test ends, and which part of it counts.
        cpu: The only CPU that the threads run on; None: any.
        options: Options of the connections. Nagle's algorithm is always off.
        deadlines: How long each kind of wait may take.
        link: The known properties of the slowest link on the path.

    Raises:
        SpecError: A value is out of range, or two of them exclude each other.
    """

    url: str = ""
    streams: int = 1
    threads: int | None = None
    keep_connections: bool = True
    target_rps: int | None = None
    answer_s: float = 10.0
    method: str = "GET"
    headers: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    ca_file: str | None = None
    insecure: bool = False
    timing: Timing = Timing()
    cpu: int | None = None
    options: SocketOptions = SocketOptions()
    deadlines: Deadlines = Deadlines()
    link: Link | None = None

    schemes: ClassVar[tuple[str, ...]] = ("http", "https")
    #: the direction of the requests, which are the counted bytes
    direction: ClassVar[FetchDirection] = "upload"
    kind: ClassVar[str] = "HTTP requests"

    def _check(self) -> None:
        within("number of connections", self.streams, 1, MAX_CONNECTIONS, "")
        within("number of threads", self.threads, 1, min(MAX_THREADS, self.streams), "")
        within("target rate", self.target_rps, 1, 10**9, "requests/s")
        within("time for an answer", self.answer_s, 0.01, 3600, "s")
        if not self.method.isalpha() or not self.method.isascii():
            raise SpecError(f"{self.method!r} is not an HTTP method")
        for header in self.headers:
            check_header(header)
            if header.partition(":")[0].strip().lower() in ("content-length", "transfer-encoding"):
                raise SpecError(f"{header!r} does not fit: a request here has no content")
        for pin in self.pins:
            parse_pin(pin)
        self._check_options()
        if self.url:
            self._check_url()

    def _check_options(self) -> None:
        for name in ("flow_label", "multipath", "keepalive", "dont_fragment", "bind_port"):
            if getattr(self.options, name):
                raise SpecError(f"{name.replace('_', ' ')} is not an option of requests by URL")
        if self.timing.endless:
            raise SpecError("requests by URL can't be endless", hint="give a time or a number")
        if self.timing.total_bytes is not None:
            raise SpecError(
                "a test of requests does not end by bytes",
                hint="give a time, or a number of requests (total_blocks, -k)",
            )

    def _check_url(self) -> None:
        check_url(self.url, self.schemes)
        check_family(urlsplit(self.url).hostname, self.options.family)
        within("length of a request", len(self.request()), 1, MAX_REQUEST_BYTES, "bytes")

    @property
    def limit_s(self) -> float | None:
        """Return the seconds to measure after the omitted ones; None: another limit ends the
        test."""
        return self.timing.limit_s

    @property
    def total_bytes(self) -> int | None:
        """Return the bytes of all requests; None: time ends the test."""
        blocks = self.timing.total_blocks
        return None if blocks is None else blocks * self.request_bytes

    @property
    def request_bytes(self) -> int:
        """Return the length of a request."""
        return len(self.request())

    @property
    def thread_count(self) -> int:
        """Return how many threads share the connections."""
        return min(2, self.streams) if self.threads is None else self.threads

    def request(self) -> bytes:
        """Return the bytes of a request."""
        parts = urlsplit(self.url)
        fields = {
            "host": ("Host", _host(self.url)),
            "user-agent": ("User-Agent", "netmeasure"),
            "accept": ("Accept", "*/*"),
        }
        if parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
            token = b64encode(f"{user}:{password}".encode()).decode()
            fields["authorization"] = ("Authorization", f"Basic {token}")
        if self.method in _WITH_CONTENT:
            fields["content-length"] = ("Content-Length", "0")
        for header in self.headers:
            name, _, value = header.partition(":")
            fields[name.strip().lower()] = (name.strip(), value.strip())
        if not self.keep_connections:
            fields["connection"] = ("Connection", "close")
        path = quote(parts.path, safe=URL_CHARACTERS) or "/"
        query = f"?{quote(parts.query, safe=URL_CHARACTERS)}" if parts.query else ""
        lines = [f"{self.method} {path}{query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.values()]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def _host(url: str) -> str:
    """Return the value of the Host field: without user, password and zone (RFC 9110, 7.2)."""
    authority = urlsplit(url).netloc.rpartition("@")[2]
    host, percent, rest = authority.partition("%")
    return f"{host}]{rest.partition(']')[2]}" if percent and host.startswith("[") else authority
