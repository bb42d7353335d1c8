"""Every line layout of iperf3's text report, from plain values. Blanks at the ends are iperf3's,
too: a script that takes the ninth word must find it.
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
    """What the rows have in common. `label` with the role of a two-way test: "[  5][TX-C]"."""

    label: str
    start_s: float
    end_s: float
    bytes: int
    bits_per_second: float
    tag: str = ""

    def head(self, unit: str) -> str:
        return (
            f"{self.label} {self.start_s:6.2f}-{self.end_s:<6.2f} sec"
            f"  {numbers.size(self.bytes)}s  {numbers.bitrate(self.bits_per_second, unit)}s/sec"
        )


def label(number: int | None, role: str = "") -> str:
    """ "[  5]"; "[SUM]" of None; with the role of a two-way test."""
    return (SUM if number is None else f"[{number:3d}]") + role


def header(columns: str = "", *, roles: bool = False) -> str:
    return f"[ ID]{'[Role]' if roles else ''} {_HEAD}{columns}"


def tcp(row: Row, unit: str) -> str:
    """A receiver's, or a sender's whose retransmissions are not known."""
    return f"{row.head(unit)}                  {row.tag}"


def tcp_interval(row: Row, unit: str, retransmits: int, cwnd_bytes: int) -> str:
    """A sender's."""
    return f"{row.head(unit)}  {retransmits:3d}   {numbers.size(cwnd_bytes)}s       {row.tag}"


def tcp_retransmits(row: Row, unit: str, retransmits: int) -> str:
    """A sender's at the end, and a sum's."""
    return f"{row.head(unit)}  {retransmits:3d}             {row.tag}"


def udp_sent(row: Row, unit: str, packets: int, *, roles: bool = False) -> str:
    """A sender's; with roles, where the column of the jitter is, nothing."""
    return f"{row.head(unit)} {' ' * 10 if roles else ''} {packets}  {row.tag}"


def udp_received(row: Row, unit: str, jitter_ms: float, lost: int, total: int) -> str:
    """A receiver's, and either's at the end."""
    loss = f"{lost}/{total} ({numbers.percent(lost, total)}%)"
    return f"{row.head(unit)}  {jitter_ms:5.3f} ms  {loss}  {row.tag}"


def out_of_order(role: str, start_s: float, end_s: float, packets: int) -> str:
    return f"{SUM}{role} {start_s:4.1f}-{end_s:4.1f} sec  {packets} datagrams received out-of-order"


def unavailable(label: str, what: str) -> str:
    """`what` is "sender" or "receiver"."""
    return f"{label} ({what} statistics not available)"


def stream(number: int, local: tuple[str, int], remote: tuple[str, int]) -> str:
    return (
        f"{label(number)} local {local[0]} port {local[1]}"
        f" connected to {remote[0]} port {remote[1]}"
    )


def file(sent_bytes: int, size_bytes: int, name: str) -> str:
    whole = sent_bytes * 100 // size_bytes if size_bytes else 100
    return (
        f"        Sent {numbers.size(sent_bytes)} / {numbers.size(size_bytes)} ({whole}%) of {name}"
    )


def cpu(local: str, mine: tuple[float, float, float], far: tuple[float, float, float]) -> str:
    """`local` is this end's role; each triple is total, user, system in percent."""
    remote = "receiver" if local == "sender" else "sender"
    here, there = (
        f"{total:.1f}% ({user:.1f}%u/{system:.1f}%s)" for total, user, system in (mine, far)
    )
    return f"CPU Utilization: local/{local} {here}, remote/{remote} {there}"
