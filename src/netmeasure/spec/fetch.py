"""Transfers by URL: HTTP and FTP."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from netmeasure.errors import SpecError
from netmeasure.spec.checked import Checked, within
from netmeasure.spec.parts import Deadlines, Link, SocketOptions, Timing
from netmeasure.spec.words import (
    DEFAULT_BLOCK_BYTES,
    MAX_BLOCK_BYTES,
    MAX_COUNT,
    MAX_STREAMS,
    FetchDirection,
    PassiveMode,
    ReceiveMode,
    SendMode,
)


class _FetchSpec(Checked, frozen=True, kw_only=True):
    """What downloads and uploads by URL have in common.

    url              http, https, ftp or ftps; a user and a password in it win over the fields
    direction        download, or upload: bytes that mean nothing, to that name
    timing           duration: ended after so long from the first byte on; bytes: after so many over
                     all streams; neither: the whole file once. Blocks mean nothing here.
    repeat           again and again until time or bytes are over, each time with a new connection
    keep_connections with `repeat`: on the connection that is there, if it can be used again
    first_byte, last_byte   ask for this part of the file only (inclusive, as HTTP counts)
    receive_mode     discard: the kernel drops a plain body instead of copying it
    pins             "HOST:PORT:ADDRESS": connect there instead of looking the name up
    ca_file          trusted certificates, PEM; None: the system's
    insecure         TLS without checking the server's certificate
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
        within("number of streams", self.streams, 1, MAX_STREAMS, "")
        within("block size", self.block_bytes, 1024, MAX_BLOCK_BYTES, "bytes")
        within("first byte", self.first_byte, 0, MAX_COUNT, "")
        within("last byte", self.last_byte, self.first_byte or 0, MAX_COUNT, "")
        if self.url:
            _check_url(self.url, self.schemes)
        for pin in self.pins:
            parse_pin(pin)
        timing, upload = self.timing, self.direction == "upload"
        if timing.endless:
            raise SpecError("a transfer by URL is not endless", hint="give a time or bytes")
        for name in ("flow_label", "multipath", "keepalive", "dont_fragment"):
            if getattr(self.options, name):
                raise SpecError(f"{name.replace('_', ' ')} is no option of transfers by URL")
        if timing.total_blocks is not None:
            raise SpecError("a transfer by URL has no blocks", hint="give bytes or a time")
        if self.repeat and self.limit_s is None and timing.total_bytes is None:
            raise SpecError("to repeat needs an end", hint="give a time or bytes")
        if timing.omit_s and timing.total_bytes is not None:
            raise SpecError("time can't be omitted from a transfer that bytes end")
        if self.keep_connections and not self.repeat:
            raise SpecError("connections are kept only where the transfer is repeated")
        if upload and self.limit_s is None and timing.total_bytes is None:
            raise SpecError("an upload needs an end", hint="give a time or bytes")
        if upload and (self.repeat or self.first_byte is not None or self.last_byte is not None):
            raise SpecError("an upload can't be repeated, nor be a part of a file")

    @property
    def kind(self) -> str:
        """The scheme, in capitals."""
        return self.url.partition(":")[0].upper()

    @property
    def limit_s(self) -> float | None:
        """Seconds to measure after the omitted ones; None where bytes or the file's end decide."""
        return self.timing.given_limit_s

    @property
    def total_bytes(self) -> int | None:
        return self.timing.total_bytes


class HttpSpec(_FetchSpec, frozen=True, kw_only=True, tag="http", tag_field="kind"):
    """A download or an upload (PUT, or `method`) by HTTP/1.1.

    headers    more of them, "Name: value"
    proxy      use the proxy that the environment names (http_proxy, https_proxy, no_proxy)
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
            name, colon, _ = header.partition(":")
            if not colon or not name.strip() or any(c in header for c in "\r\n\0"):
                raise SpecError(f"{header!r} is not a header", hint='write "Name: value"')


class FtpSpec(_FetchSpec, frozen=True, kw_only=True, tag="ftp", tag_field="kind"):
    """A download (RETR) or an upload (STOR) by FTP, in passive mode; anonymous without a user.

    ftps: URLs mean TLS from the first byte (port 990); `explicit_tls` asks for it on an ftp: URL
    after the greeting (RFC 4217). Both protect the data connections as well.
    """

    explicit_tls: bool = False
    passive: PassiveMode = "auto"

    schemes: ClassVar[tuple[str, ...]] = ("ftp", "ftps")

    def _check(self) -> None:
        super()._check()
        for text in (self.user, self.password):
            if text is not None and any(c in text for c in "\r\n\0"):
                raise SpecError("a user or password of FTP has no line breaks")
        # they would be commands of their own
        if any(c in unquote(self.url) for c in "\r\n\0"):
            raise SpecError("a name of FTP has no line breaks", hint="take %0D, %0A and %00 out")


def _check_url(url: str, schemes: Sequence[str]) -> None:
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
    """("HOST", port, "address") from "HOST:PORT:ADDRESS"; an IPv6 address may stand in brackets.
    Raises SpecError."""
    host, _, rest = pin.partition(":")
    port, _, address = rest.partition(":")
    try:
        ip_address(address.strip("[]"))
    except ValueError:
        address = ""
    if not host or not address or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise SpecError(f"{pin!r} is not HOST:PORT:ADDRESS")
    return host.lower(), int(port), address.strip("[]")
