"""Parse a target of `ready`: a host with a port, or a URL."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from netmeasure.errors import SpecError
from netmeasure.spec.target import is_url, parse_target

Asks = Literal["tcp", "tls", "http", "https"]
_PORTS: dict[str, tuple[Asks, int | None]] = {
    "tcp": ("tcp", None),
    "tls": ("tls", 443),
    "http": ("http", 80),
    "https": ("https", 443),
    "ftp": ("tcp", 21),
    "ftps": ("tls", 990),
}


class Target(NamedTuple):
    """Hold the address to connect to, and the request to send there."""

    text: str
    host: str
    port: int
    asks: Asks
    path: str = "/"

    @property
    def authority(self) -> str:
        """Return the value of HTTP's Host field (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}.get(self.asks)
        return host if self.port == usual else f"{host}:{self.port}"


def read_target(text: str) -> Target:
    """Return the target in a text: "host", "host:port", or a URL (tcp, tls, http, https, ftp,
    ftps).

    Raises:
        SpecError: The text is none of these.
    """
    if not is_url(text):
        host, port = parse_target(text)
        return Target(text, host, port, "tcp")
    try:
        url = urlsplit(text)
        port_given = url.port
    except ValueError as exc:
        raise SpecError(f"{text!r} is not a URL: {exc}") from None
    if url.scheme not in _PORTS:
        known = ", ".join(_PORTS)
        raise SpecError(f"can't wait for {url.scheme}://", hint=f"the schemes are {known}")
    asks, usual = _PORTS[url.scheme]
    number = port_given or usual
    if not url.hostname or number is None:
        raise SpecError(f"{text!r} lacks a {'port' if url.hostname else 'host'}")
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if any(not "!" <= letter <= "~" for letter in path):
        raise SpecError(f"{text!r} has a path with characters that a request can't have")
    return Target(text, url.hostname, number, asks, path)
