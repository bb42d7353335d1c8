"""Check that a TCP test has delivered every byte that was sent or requested."""

from __future__ import annotations

from netmeasure.errors import StreamError
from netmeasure.result import SideReport


def check_streams(client: SideReport, server: SideReport | None) -> None:
    """Raise StreamError if a stream ended before the receiver had read all acknowledged bytes, or
    if it read none. TCP loses no data, so something on the path removed them. Without the server's
    report, only the client's own figures are checked."""
    there = {stream.id: stream for stream in server.streams} if server is not None else {}
    for mine in client.streams:
        pair = (mine, there.get(mine.id, mine))
        sent = next((s.acked_bytes for s in pair if s.role == "sender"), None)
        came = next((s for s in pair if s.role == "receiver"), None)
        if sent is not None and came is not None and (came.end_reason == "eof" or not came.bytes):
            check_total(f"stream {mine.id}", came.bytes or 0, sent)


def check_total(what: str, received: int, wanted: int) -> None:
    """Raise StreamError if fewer bytes were received than required."""
    if received < wanted:
        reason = f"{received} of {wanted} bytes were received"
        raise StreamError(f"{what} ended early: {reason}", reason=reason)
