"""Connect to a URL's host and time each step, for both HTTP and FTP."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from netmeasure.engine import sockets, sockopts
from netmeasure.engine.addresses import Address
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.tls import is_plain_text
from netmeasure.engine.watch import Watched
from netmeasure.errors import TlsError
from netmeasure.spec import FetchSpec, parse_pin
from netmeasure.text import quoted

#: OpenSSL's errors for an answer that is not TLS.
_PLAIN_TEXT = ("wrong_version_number", "wrong version number", "http_request", "record layer")


class Reached(NamedTuple):
    """Hold a new connection, and the watch of its arrivals until the transfer of payload."""

    made: sockets.Connected
    watched: Watched | None

    def unwatch(self) -> None:
        """Stop watching the connection; a second call has no effect."""
        if self.watched is not None:
            self.watched.remove()

    def close(self) -> None:
        """Close the connection."""
        self.unwatch()
        self.made.sock.close()


class Reach:
    """Connect for one stream, with the options of the specification.

    `index` is the stream's number, from 0. `connection` is its name in the phases of set-up.
    """

    def __init__(self, spec: FetchSpec, index: int) -> None:
        self.connection = f"stream {index + 1}"
        self._spec = spec
        self._index = index
        self._pins = {(host, port): address for host, port, address in map(parse_pin, spec.pins)}

    async def connect(
        self, host: str, port: int, phases: PhaseLog, connection: str | None = None
    ) -> Reached:
        """Look the name up, or take its pinned address, and connect to the first address that
        answers. Raises MeasureError."""
        spec, name = self._spec, connection or self.connection
        if ":" in host:
            host = host.replace("%25", "%")  # the form of an address's zone in a URL (RFC 6874)
        pinned = self._pins.get((host.lower(), port))
        addresses = await phases.looked_up(
            name,
            sockets.resolve(
                pinned or host,
                port,
                spec.options.family,
                spec.deadlines.resolve_s,
                spec.deadlines.connect_s,
            ),
        )
        connecting = sockets.connect_first(
            addresses, spec.options, spec.deadlines.connect_s, port_offset=self._index
        )
        return self._ready(await phases.connected(name, connecting), phases)

    async def connect_again(self, address: Address, phases: PhaseLog, connection: str) -> Reached:
        """Connect to one known address. Raises MeasureError."""
        connecting = sockets.connect_one(
            address, self._spec.options, self._spec.deadlines.connect_s
        )
        return self._ready(await phases.connected(connection, connecting), phases)

    def _ready(self, made: sockets.Connected, phases: PhaseLog) -> Reached:
        watched = phases.watch(made.sock)
        sockopts.watch_peer(made.sock, self._spec.deadlines.vanished_s)
        # a request must not wait for the acknowledgement of the previous one (Nagle)
        sockopts.set_no_delay(made.sock, asked=False)
        return Reached(made, watched)


def no_tls(where: str, exc: BaseException) -> TlsError:
    """Return the error for a failed TLS handshake, with a hint."""
    said, hint = plain_words(exc), None
    if is_plain_text(exc) or any(name in str(exc).lower() for name in _PLAIN_TEXT):
        said, hint = "it answers in plain text", "write http:// or ftp:// instead of https or ftps"
    elif not getattr(exc, "verify_message", None) and "certificate" not in str(exc).lower():
        hint = "the two ends have no TLS version or cipher in common, or the port is not for TLS"
    return TlsError(f"no TLS with {where}: {said}", phase="tls", hint=hint)


def public_url(url: str) -> str:
    """Return a URL without user and password, for output and saving."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def plain_words(exc: BaseException) -> str:
    """Return an exception's message on one line: the system's text, or the error of a certificate.
    Text from the server is shortened and made printable."""
    verify = getattr(exc, "verify_message", None)
    text = verify or getattr(exc, "strerror", None) or getattr(exc, "message", None) or str(exc)
    return quoted(str(text)) or type(exc).__name__
