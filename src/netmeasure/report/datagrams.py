"""Show a flow's lost, late and received datagrams in rows of its table."""

from __future__ import annotations

from itertools import pairwise

from netmeasure.report.tables import Row
from netmeasure.result import Flow, Loss, StreamReport
from netmeasure.units import duration, size


def loss_rows(flow: Flow, loss: Loss) -> list[Row]:
    """Return the rows about loss, jitter, socket buffers and the sender's pace."""
    ratio = "unknown" if loss.loss_ratio is None else f"{100 * loss.loss_ratio:.3g} %"
    words = [f"{_count(loss.lost_packets)} of {_count(loss.sent_packets)} datagrams"]
    for number, what in (
        (loss.host_dropped_packets, "dropped at the receiver's own socket"),
        (loss.reordered_packets, "out of order"),
        (loss.duplicate_packets, "duplicates"),
    ):
        if number:
            words.append(f"{number} {what}")
    rows = [("lost", ratio, ", ".join(words))]
    if loss.jitter_ns is not None:
        meaning = "RFC 3550" if loss.jitter_valid else "means little: datagrams were sent in trains"
        rows.append(("jitter", duration(loss.jitter_ns), meaning))
    rows += _worst_period_rows([stream.receiver for stream in flow.streams if stream.receiver])
    rows += _buffer_rows(flow)
    if pace := _pace_words([stream.sender for stream in flow.streams if stream.sender]):
        rows.append(("sender's pace", "", pace))
    return rows


def _worst_period_rows(reports: list[StreamReport]) -> list[Row]:
    """Return a row with the period in which most datagrams were lost, since one figure may hide an
    outage."""
    histories = [r.datagrams.history for r in reports if r.datagrams and r.datagrams.history]
    if len(histories) != 1:
        return []
    history = histories[0]
    missing = [h - p for h, p in zip(history.highest_sequence, history.packets, strict=True)]
    losses = [(after - before, i) for i, (before, after) in enumerate(pairwise(missing))]
    if not losses or missing[-1] <= 0:
        return []
    worst, index = max(losses)
    since, until = history.at_ns[index], history.at_ns[index + 1]
    sent = history.highest_sequence[index + 1] - history.highest_sequence[index]
    if worst <= 0 or sent <= 0:
        return []
    words = f"{worst} of {sent} datagrams, {since / 1e9:.2f} to {until / 1e9:.2f} s"
    return [("most lost", f"{100 * worst / sent:.3g} %", words)]


def _buffer_rows(flow: Flow) -> list[Row]:
    """Return a row with the smallest socket buffer of each end."""
    senders = [s.sender.socket for s in flow.streams if s.sender and s.sender.socket]
    receivers = [s.receiver.socket for s in flow.streams if s.receiver and s.receiver.socket]
    words = [
        f"{role} {size(min(sizes))}"
        for role, sizes in (
            ("sender", [socket.sndbuf_bytes for socket in senders if socket.sndbuf_bytes]),
            ("receiver", [socket.rcvbuf_bytes for socket in receivers if socket.rcvbuf_bytes]),
        )
        if sizes
    ]
    return [("socket buffers", "", ", ".join(words))] if words else []


def _pace_words(reports: list[StreamReport]) -> str:
    """Return how evenly the senders kept their target rate; "" if they were not paced."""
    counts = [report.datagrams for report in reports if report.datagrams]
    bursts = [c.largest_burst_bytes for c in counts if c.largest_burst_bytes is not None]
    if not bursts:
        return ""
    words = [f"largest burst {size(max(bursts))}"]
    wakeups = sum(c.wakeups or 0 for c in counts)
    if wakeups:
        words.append(f"{sum(c.late_wakeups or 0 for c in counts)} of {wakeups} wake-ups late")
    return ", ".join(words)


def _count(number: int | None) -> str:
    return "unknown" if number is None else str(number)
