"""Check that a TCP test has delivered every byte that it sent or was asked for."""

from __future__ import annotations

from netmeasure.errors import StreamError
from netmeasure.result import SideReport


def check_streams(client: SideReport, server: SideReport | None) -> None:
    """Raise StreamError if a stream ended before everything acknowledged at one end was read at
    the other, or if nothing was: TCP loses nothing, so something on the way took it. Without the
    server's report, what the client does not know by itself is left unchecked."""
    there = {stream.id: stream for stream in server.streams} if server is not None else {}
    for mine in client.streams:
        pair = (mine, there.get(mine.id, mine))
        sent = next((s.acked_bytes for s in pair if s.role == "sender"), None)
        came = next((s for s in pair if s.role == "receiver"), None)
        if sent is not None and came is not None and (came.end_reason == "eof" or not came.bytes):
            check_total(f"stream {mine.id}", came.bytes or 0, sent)


def check_total(what: str, received: int, wanted: int) -> None:
    """Raise StreamError if fewer bytes were received than there had to be."""
    if received < wanted:
        reason = f"{received} of {wanted} bytes were received"
        raise StreamError(f"{what} ended early: {reason}", reason=reason)
