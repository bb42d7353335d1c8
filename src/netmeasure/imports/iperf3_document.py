"""Read what applies to a whole document of iperf3: its end, its protocol, its directions."""

from __future__ import annotations

from typing import Any

from netmeasure.errors import ResultFormatError
from netmeasure.imports.members import Members
from netmeasure.result import FlowDirection

_MOST_STREAMS = 2048


class Document:
    """Read one document."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.whole = Members(value)
        self.start = self.whole.object("start")
        self.end = self.whole.object("end")
        self.intervals = self.whole.objects("intervals")
        self.test = self.start.object("test_start")
        self.error = self.whole.text("error")
        protocol = (self.test.text("protocol") or "TCP").upper()
        if protocol not in ("TCP", "UDP"):
            raise ResultFormatError(f"it is a test of {protocol[:20]}, and not of TCP or UDP")
        self.udp = protocol == "UDP"
        self.at_server = "accepted_connection" in self.start
        self.complete = self.error is None and "streams" in self.end
        self.omit_s = self.test.number("omit") or 0
        if len(self.end.objects("streams")) > _MOST_STREAMS:
            raise ResultFormatError("it has more streams than iperf3 can open")

    @property
    def version(self) -> str:
        """Return the program's name and version, as the document has them."""
        return (self.start.text("version") or "iperf3")[:40]

    def sends(self, part: Members) -> bool:
        """Return whether this end was the sender of a part's data."""
        told = part.flag("sender")
        if told is not None:
            return told
        return bool(self.test.flag("reverse")) == self.at_server

    def direction(self, sends: bool) -> FlowDirection:
        """Return a direction, seen from the client."""
        return "upload" if sends != self.at_server else "download"


def address(host: str | None, port: int | None) -> str | None:
    """Return an address as text; None: the document has none."""
    if host is None:
        return None
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"
