"""Compute the averages that other tools would print for the same test."""

from __future__ import annotations

from collections.abc import Sequence

from netmeasure.result import Averages, StreamReport
from netmeasure.result.steady import LEAST_STRETCH_NS


def averages(
    counted: Sequence[StreamReport],
    client_streams: Sequence[StreamReport],
    client_origin_ns: int | None,
    due_ns: int | None,
    *,
    by_url: bool,
) -> Averages:
    """Return the figures that other tools would print for one direction.

    All of them end at the same moment, when the last byte had arrived or was due. So the average
    that includes set-up cannot exceed the others. That moment is on the clock of the counting end;
    at the client, it is the same time after the client's own start signal.

    Args:
        counted: The reports of the end that counted the bytes.
        client_streams: The client's reports of the same streams.
        client_origin_ns: From the client's first attempt to its start signal; None if unknown.
        due_ns: When bytes that never came were due; None if all bytes came.
        by_url: Whether this is a transfer by URL, for which downloaders state an average even if
            all bytes arrived at once. In a test with a server, bytes that arrived within less than
            LEAST_STRETCH_NS have no rate.
    """
    delivered = sum(s.delivered_bytes or 0 for s in counted)
    first, last = _span(counted)
    if last is not None:  # the last datagram counts until the next one would have come
        last = max(last, due_ns or last, *(s.counted_to_ns or 0 for s in counted))
    after_omit = sum(s.counted_bytes or 0 for s in counted)
    windows = [s.counted_ns for s in counted if s.counted_ns]
    windows += [due_ns - s.counted_from_ns for s in counted if due_ns and s.counted_from_ns]
    from_attempt = set_up = None
    client_first, client_last = _span(client_streams)
    if client_origin_ns is not None and client_first is not None and client_last is not None:
        set_up = client_origin_ns + client_first
        from_attempt = client_origin_ns + max(client_last, client_last if last is None else last)
        if first is not None and last is not None:  # a first byte may precede the start signal
            from_attempt = max(from_attempt, last - first)
    least_ns = 1 if by_url else LEAST_STRETCH_NS
    body_ns = None if first is None or last is None else last - first
    from_byte = _rate(delivered, body_ns, least_ns)
    whole = _rate(delivered, from_attempt, 1) if by_url or from_byte is not None else None
    return Averages(
        from_first_attempt_bps=whole,
        from_first_byte_bps=from_byte,
        after_omit_bps=_rate(after_omit, max(windows, default=None)),
        set_up_ns=set_up,
    )


def _span(streams: Sequence[StreamReport]) -> tuple[int | None, int | None]:
    """Return when the first and the last byte were counted (received, or acknowledged)."""
    firsts = [s.series.origin_ns for s in streams if s.series is not None]
    lasts = [s.last_ns for s in streams if s.last_ns is not None]
    return min(firsts, default=None), max(lasts, default=None)


def _rate(count: int, span_ns: int | None, least_ns: int = LEAST_STRETCH_NS) -> float | None:
    return count * 8e9 / span_ns if span_ns is not None and span_ns >= least_ns else None
