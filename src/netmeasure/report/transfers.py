"""Show how HTTP and FTP transferred a flow's files, in rows of its table."""

from __future__ import annotations

from statistics import median

from netmeasure.report.tables import Row
from netmeasure.result import Flow, Transfer
from netmeasure.units import duration

#: The words for what transferred the bodies.
_MOVED_BY = {"native": "natively", "library": "through Python", "both": "partly natively"}


def transfers(flow: Flow) -> list[Transfer]:
    """Return the facts of each stream's transfers by URL; empty: the test was not by URL."""
    ends = [stream.receiver or stream.sender for stream in flow.streams]
    return [end.transfer for end in ends if end is not None and end.transfer is not None]


def transfer_rows(flow: Flow) -> list[Row]:
    """Return the rows about the protocol and about the set-up of repeated transfers."""
    found = transfers(flow)
    if not found:
        return []
    one = found[0]
    words = [one.protocol if one.status is None else f"{one.protocol} {one.status}"]
    if one.tls:
        words.append(
            f"{one.tls} {one.cipher or ''}{', resumed' if one.tls_resumed else ''}".strip()
        )
    if one.encoding and one.encoding != "identity":
        words.append(one.encoding)
    if one.drained_by:
        words.append(f"moved {_MOVED_BY[one.drained_by]}")
    return [("protocol", "", ", ".join(words)), *_repeated_rows(found)]


def _repeated_rows(found: list[Transfer]) -> list[Row]:
    """Return a row on the set-up of all transfers, if there were several."""
    count = sum(transfer.transfers for transfer in found)
    spreads = [transfer.set_up for transfer in found if transfer.set_up is not None]
    if count <= 1 or not spreads:
        return []
    low = min(spread.min_ns for spread in spreads)
    high = max(spread.max_ns for spread in spreads)
    middle = median(spread.median_ns for spread in spreads)
    words = f"set-up of each {duration(middle)} (median; {duration(low)} to {duration(high)})"
    return [("transfers", str(count), words)]
