"""State the steady rate of round trips, from the steady bitrate of their requests, and what of this
host may have delayed their connections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from netmeasure.engine import limits
from netmeasure.result import Flow
from netmeasure.result.round_trips import RoundTrips


def with_steady_rate(found: RoundTrips, flows: Sequence[Flow], request_bytes: int) -> RoundTrips:
    """Return round trips with their rate in the steady state, if there is one. The rate is from the
    first flow, which counts a request's bytes when its response has arrived."""
    steady = flows[0].steady if flows else None
    if steady is None:
        return found
    request_bits, interval = 8 * request_bytes, steady.confidence_interval
    return replace(
        found,
        steady_per_s=steady.goodput_bps / request_bits,
        steady_interval_per_s=None
        if interval is None
        else (interval[0] / request_bits, interval[1] / request_bits),
    )


def conntrack_notes(syn_retransmits: int | None) -> Iterator[str]:
    """Return the note on SYNs that this host itself may have dropped, by a full table of
    connections. Call this just after the test."""
    if syn_retransmits and (found := limits.crowded_conntrack()) is not None:
        tracked, most = found
        yield (
            f"SYNs were sent again, and this host's table of tracked connections has {tracked} of"
            f" {most} entries (nf_conntrack_max): when it is full, this host drops SYNs"
        )
