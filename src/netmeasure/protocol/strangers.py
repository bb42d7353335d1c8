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
    (b"\0\0\0\2\0\0\0", "iperf 2"),  # what its server answers: a kind, and a length
)
#: The most threads that a client of iperf 2 is taken to have.
_MOST_THREADS = 4096


def likely_service(data: bytes) -> str | None:
    """Return the name of the service whose bytes these may be; None: they name none."""
    if _is_iperf2(data):
        return "iperf 2"
    return next((name for begins, name in _BEGINNINGS if data.startswith(begins)), None)


def _is_iperf2(data: bytes) -> bool:
    """Return whether these may be the first bytes of a client of iperf 2: flags, the number of its
    threads and the server's port, 32 bits each."""
    if len(data) < 12:
        return False
    threads, port = int.from_bytes(data[4:8]), int.from_bytes(data[8:12])
    return 0 < threads <= _MOST_THREADS and 0 < port < 2**16
