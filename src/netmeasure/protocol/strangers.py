"""Name the service that most likely sent the first bytes of a connection."""

from __future__ import annotations

#: The first bytes of services and of their clients, with the services' names.
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
    (b"\0\0\0\2\0\0\0", "iperf 2"),  # the answer of its server: a kind and a length
)
#: The most threads that an iperf 2 client is assumed to have.
_MOST_THREADS = 4096


def likely_service(data: bytes) -> str | None:
    """Return the name of the service that may have sent these bytes; None: unknown."""
    if _is_iperf2(data):
        return "iperf 2"
    return next((name for begins, name in _BEGINNINGS if data.startswith(begins)), None)


def _is_iperf2(data: bytes) -> bool:
    """Return whether these may be the first bytes of an iperf 2 client: flags, the number of its
    threads and the server's port, 32 bits each."""
    if len(data) < 12:
        return False
    threads, port = int.from_bytes(data[4:8]), int.from_bytes(data[8:12])
    return 0 < threads <= _MOST_THREADS and 0 < port < 2**16
