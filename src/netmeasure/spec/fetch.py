"""Specify transfers by URL: HTTP and FTP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from netmeasure.errors import SpecError
from netmeasure.spec.checked import Checked, documented, within
from netmeasure.spec.parts import Deadlines, Link, SocketOptions, Timing
from netmeasure.spec.target import check_family
from netmeasure.spec.words import (
    DEFAULT_BLOCK_BYTES,
    MAX_BLOCK_BYTES,
    MAX_COUNT,
    MAX_TRANSFERS,
    FetchDirection,
    PassiveMode,
    ReceiveMode,
    SendMode,
)

#: The transfer type at the end of an FTP URL (RFC 1738 section 3.2.2).
FTP_TYPE = r"(?i);type=([a-z])$"


class _FetchSpec(Checked, frozen=True, kw_only=True):
    """Hold the common fields of transfers by HTTP and FTP.

    Attributes:
        url: The URL; a user and a password in it take precedence over the fields.
        direction: "download", or "upload": random bytes to that name.
        streams: Parallel transfers, 1 to 128.
        timing: When the transfer ends. A duration counts from the first body byte on; a number of
            bytes is for all streams together; with neither, the whole file is transferred once.
        repeat: Repeat the transfer until the end of the time or the number of bytes, each time with
            a new connection.
        keep_connections: With `repeat`: reuse the connection if possible.
        first_byte: The first byte of the file to ask for, from 0 (RFC 9110 section 14.1.2).
        last_byte: The last byte to ask for, inclusive.
        receive_mode: "copy", or "discard": the kernel drops a plain body (MSG_TRUNC, tcp(7)).
        send_mode: "copy", or "sendfile": sendfile(2), without copying.
        block_bytes: Bytes of one send call, 1 KiB to 1 MiB.
        user: The user's name.
        password: The password.
        pins: Texts "HOST:PORT:ADDRESS": connect to that address instead of looking up the name.
        ca_file: A file with trusted certificates in PEM; None: the system's.
        insecure: Use TLS without checking the server's certificate.
        options: Options of the connections.
        deadlines: How long each kind of wait may take.
        link: The known properties of the slowest link on the path.
    """

    url: str = ""
    direction: FetchDirection = "download"
    streams: int = 1
    timing: Timing = Timing()
    repeat: bool = False
    keep_connections: bool = False
    first_byte: int | None = None
    last_byte: int | None = None
    receive_mode: ReceiveMode = "copy"
    send_mode: SendMode = "copy"
    block_bytes: int = DEFAULT_BLOCK_BYTES
    user: str | None = None
    password: str | None = None
    pins: tuple[str, ...] = ()
    ca_file: str | None = None
    insecure: bool = False
    options: SocketOptions = SocketOptions()
    deadlines: Deadlines = Deadlines()
    link: Link | None = None

    schemes: ClassVar[tuple[str, ...]] = ()

    def _check(self) -> None:
        within("number of streams", self.streams, 1, MAX_TRANSFERS, "")
        within("block size", self.block_bytes, 1024, MAX_BLOCK_BYTES, "bytes")
        within("first byte", self.first_byte, 0, MAX_COUNT, "")
        within("last byte", self.last_byte, 0, MAX_COUNT, "")
        if self.last_byte is not None and self.last_byte < (self.first_byte or 0):
            raise SpecError(
                f"the last byte, {self.last_byte}, is before the first, {self.first_byte}"
            )
        if self.url:
            check_url(self.url, self.schemes)
            check_family(urlsplit(self.url).hostname, self.options.family)
        for pin in self.pins:
            parse_pin(pin)
        timing, upload = self.timing, self.direction == "upload"
        if timing.endless:
            raise SpecError("a transfer by URL can't be endless", hint="give a time or bytes")
        for name in ("flow_label", "multipath", "keepalive", "dont_fragment"):
            if getattr(self.options, name):
                raise SpecError(f"{name.replace('_', ' ')} is not an option of transfers by URL")
        if timing.total_blocks is not None:
            raise SpecError("a transfer by URL has no blocks", hint="give bytes or a time")
        if self.repeat and self.limit_s is None and timing.total_bytes is None:
            raise SpecError("a repeated transfer needs an end", hint="give a time or bytes")
        if timing.omit_s and timing.total_bytes is not None:
            raise SpecError("time can't be omitted from a transfer of a number of bytes")
        if self.keep_connections and not self.repeat:
            raise SpecError("a connection can be kept only if the transfer is repeated")
        if upload and self.limit_s is None and timing.total_bytes is None:
            raise SpecError("an upload needs an end", hint="give a time or bytes")
        if upload and (self.repeat or self.first_byte is not None or self.last_byte is not None):
            raise SpecError("an upload can't be repeated, nor be a part of a file")

    @property
    def kind(self) -> str:
        """Return the URL's scheme in capitals."""
        return self.url.partition(":")[0].upper()

    @property
    def limit_s(self) -> float | None:
        """Return the seconds to measure after the omitted ones; None: bytes or the file end it."""
        return self.timing.given_limit_s

    @property
    def total_bytes(self) -> int | None:
        """Return the byte limit over all streams; None: the time or the end of the file ends the
        transfer."""
        return self.timing.total_bytes


@documented
class HttpSpec(_FetchSpec, frozen=True, kw_only=True, tag="http", tag_field="kind"):
    """Specify a download or an upload by HTTP/1.1 (RFC 9112).

    Attributes:
        method: The request's method; None: GET, or PUT for an upload.
        headers: More request headers, "Name: value".
        max_redirects: How many redirects to follow, 0 to 100.
        proxy: Use the proxy from the environment (http_proxy, https_proxy, no_proxy).

    Raises:
        SpecError: A value is out of range, or two of them exclude each other.
    """

    method: str | None = None
    headers: tuple[str, ...] = ()
    max_redirects: int = 10
    proxy: bool = False

    schemes: ClassVar[tuple[str, ...]] = ("http", "https")

    def _check(self) -> None:
        super()._check()
        within("number of redirects", self.max_redirects, 0, 100, "")
        if self.method is not None and not self.method.isalpha():
            raise SpecError(f"{self.method!r} is not an HTTP method")
        for header in self.headers:
            check_header(header)


@documented
class FtpSpec(_FetchSpec, frozen=True, kw_only=True, tag="ftp", tag_field="kind"):
    """Specify a download (RETR) or an upload (STOR) by FTP (RFC 959), in passive mode.

    Transfers are binary. Without a user, the login is anonymous. An ftps: URL means TLS from the
    first byte (port 990). TLS protects the data connections, too.

    Attributes:
        explicit_tls: Request TLS after the greeting of an ftp: URL (AUTH TLS, RFC 4217).
        passive: "epsv" (RFC 2428), "pasv" (RFC 959), or "auto": the first of them that the server
            supports.

    Raises:
        SpecError: A value is out of range, or two of them exclude each other.
    """

    explicit_tls: bool = False
    passive: PassiveMode = "auto"

    schemes: ClassVar[tuple[str, ...]] = ("ftp", "ftps")

    def _check(self) -> None:
        super()._check()
        for text in (self.user, self.password):
            if text is not None and any(c in text for c in "\r\n\0"):
                raise SpecError("an FTP user or password can't contain line breaks")
        # they would be separate commands
        if any(c in unquote(self.url) for c in "\r\n\0"):
            raise SpecError(
                "an FTP file name can't contain line breaks", hint="remove %0D, %0A and %00"
            )
        asked = re.search(FTP_TYPE, urlsplit(self.url).path)
        if asked is not None and asked[1].lower() != "i":
            raise SpecError(
                f"FTP transfers are binary here, and the URL asks for {asked[0]}",
                hint=f"leave out {asked[0]}",
            )


def check_header(header: str) -> None:
    """Raise SpecError if a text is not a header of a request."""
    name, colon, _ = header.partition(":")
    if not colon or not name.strip() or any(c in header for c in "\r\n\0"):
        raise SpecError(f"{header!r} is not a header", hint='write "Name: value"')


def check_url(url: str, schemes: Sequence[str]) -> None:
    """Raise SpecError if a text is not a URL of one of these schemes."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise SpecError(f"{url!r} is not a URL: {exc}") from None
    if parts.scheme not in schemes:
        raise SpecError(f"{url!r} is not a URL of {' or '.join(schemes)}")
    if not parts.hostname or any(c.isspace() or ord(c) < 32 for c in url) or port == 0:
        raise SpecError(f"{url!r} is not a URL", hint="write scheme://host/path, %20 for a space")


def parse_pin(pin: str) -> tuple[str, int, str]:
    """Return host, port and address of a text "HOST:PORT:ADDRESS".

    An IPv6 address may be in brackets. Raises SpecError for anything else.
    """
    host, _, rest = pin.partition(":")
    port, _, address = rest.partition(":")
    try:
        ip_address(address.strip("[]"))
    except ValueError:
        address = ""
    if not host or not address or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise SpecError(f"{pin!r} is not HOST:PORT:ADDRESS")
    return host.lower(), int(port), address.strip("[]")
