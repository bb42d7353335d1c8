"""Name the service that most likely speaks, by its first bytes."""

from __future__ import annotations

#: What services begin with, and their names; what a client of one begins with is among it.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"SSH-", "SSH"),
    (b"HTTP/", "HTTP"),
    (b"\x15\x03", "TLS"),
    (b"\x16\x03", "TLS"),
    (b"220 ", "FTP or mail"),
    (b"220-", "FTP or mail"),
    (b"* OK", "IMAP"),
    (b"+OK", "POP3"),
    (b"RFB ", "VNC"),
    (b"AMQP", "AMQP"),
    (b"-ERR", "Redis"),
    *((method + b" ", "HTTP") for method in (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS")),
    (b"PRI * HTTP/2", "HTTP/2"),
    (b"CONNECT ", "HTTP"),
)


def likely_service(data: bytes) -> str | None:
    """Return the name of the service whose bytes these may be; None: they name none."""
    return next((name for begins, name in _BEGINNINGS if data.startswith(begins)), None)
