"""Lay out every line of iperf3's text report.

Blanks at the ends of lines are iperf3's, too, since scripts count words and columns.
"""

from __future__ import annotations

import msgspec

from netmeasure.export.iperf3 import numbers

RULE = "-" * 59
SEPARATOR = "- - - - - - - - - - - - - - - - - - - - - - - - -"
SUM = "[SUM]"

_HEAD = "Interval           Transfer     Bitrate"
#: What follows the bitrate in the header of each kind of row.
RETRANSMITS_CWND = "         Retr  Cwnd"
RETRANSMITS = "         Retr"
DATAGRAMS = "         Total Datagrams"
LOSSES = "         Jitter    Lost/Total Datagrams"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what all rows have; in two-way tests `label` has the role, as in "[  5][TX-C]"."""

    label: str
    start_s: float
    end_s: float
    bytes: int
    bits_per_second: float
    tag: str = ""

    def head(self, unit: str) -> str:
        """Return the beginning of a row: label, time, bytes and rate."""
        return (
            f"{self.label} {self.start_s:6.2f}-{self.end_s:<6.2f} sec"
            f"  {numbers.size(self.bytes)}s  {numbers.bitrate(self.bits_per_second, unit)}s/sec"
        )


def label(number: int | None, role: str = "") -> str:
    """Return a label such as "[  5]", or "[SUM]" for None, with the role of a two-way test."""
    return (SUM if number is None else f"[{number:3d}]") + role


def header(columns: str = "", *, roles: bool = False) -> str:
    """Return the line with the names of the columns."""
    return f"[ ID]{'[Role]' if roles else ''} {_HEAD}{columns}"


def tcp(row: Row, unit: str) -> str:
    """Return the row of a receiver, or of a sender whose retransmissions are not known."""
    return f"{row.head(unit)}                  {row.tag}"


def tcp_interval(row: Row, unit: str, retransmits: int, cwnd_bytes: int) -> str:
    """Return the row of a sender's interval."""
    return f"{row.head(unit)}  {retransmits:3d}   {numbers.size(cwnd_bytes)}s       {row.tag}"


def tcp_retransmits(row: Row, unit: str, retransmits: int) -> str:
    """Return the final row of a sender, or a row of sums."""
    return f"{row.head(unit)}  {retransmits:3d}             {row.tag}"


def udp_sent(row: Row, unit: str, packets: int, *, roles: bool = False) -> str:
    """Return the row of a sender; with roles it has blanks in the column of the jitter."""
    return f"{row.head(unit)} {' ' * 10 if roles else ''} {packets}  {row.tag}"


def udp_received(row: Row, unit: str, jitter_ms: float, lost: int, total: int) -> str:
    """Return the row of a receiver, or the final row of either end."""
    loss = f"{lost}/{total} ({numbers.percent(lost, total)}%)"
    return f"{row.head(unit)}  {jitter_ms:5.3f} ms  {loss}  {row.tag}"


def out_of_order(role: str, start_s: float, end_s: float, packets: int) -> str:
    """Return the line on datagrams received out of order."""
    return f"{SUM}{role} {start_s:4.1f}-{end_s:4.1f} sec  {packets} datagrams received out-of-order"


def unavailable(label: str, what: str) -> str:
    """Return the line for statistics of an end, "sender" or "receiver", that are not known."""
    return f"{label} ({what} statistics not available)"


def stream(number: int, local: tuple[str, int], remote: tuple[str, int]) -> str:
    """Return the line on the ends of a data connection."""
    return (
        f"{label(number)} local {local[0]} port {local[1]}"
        f" connected to {remote[0]} port {remote[1]}"
    )


def file(sent_bytes: int, size_bytes: int, name: str) -> str:
    """Return the line on -F's file."""
    whole = sent_bytes * 100 // size_bytes if size_bytes else 100
    return (
        f"        Sent {numbers.size(sent_bytes)} / {numbers.size(size_bytes)} ({whole}%) of {name}"
    )


def cpu(local: str, mine: tuple[float, float, float], far: tuple[float, float, float]) -> str:
    """Return the line on CPU time.

    Args:
        local: This end's role, "sender" or "receiver".
        mine: This end's total, user and system time in percent.
        far: The other end's.
    """
    remote = "receiver" if local == "sender" else "sender"
    here, there = (
        f"{total:.1f}% ({user:.1f}%u/{system:.1f}%s)" for total, user, system in (mine, far)
    )
    return f"CPU Utilization: local/{local} {here}, remote/{remote} {there}"
