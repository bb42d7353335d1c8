"""Describe in a sentence that an MTU does not suit its link."""

from __future__ import annotations

from netmeasure.result import Ceiling
from netmeasure.units import bitrate

#: The significant digits of rates: two ceilings may differ by less than one percent.
FIGURES = 4
#: A too small MTU is reported if it costs at least this share of the payload rate.
WORTH_A_WORD = 1e-3


def mismatch(ceiling: Ceiling) -> str | None:
    """Return a sentence on an MTU that does not suit the link; None: the MTU suits it.

    With a too large MTU, packets are fragmented; with a too small one, the rate is lower than
    necessary.
    """
    count, mtu = len(ceiling.packet_bytes), ceiling.mtu_bytes
    lost = 1 - ceiling.share / ceiling.right_share
    costs = "loses no payload rate"  # packets beyond twice the link's MTU have fewer inner headers
    if lost > 0:
        costs = f"loses {share_percent(lost)} of the payload rate"
        if ceiling.payload_bps is not None and ceiling.link_bps is not None:
            right = bitrate(ceiling.link_bps * ceiling.right_share, FIGURES)
            costs += f" ({bitrate(ceiling.payload_bps, FIGURES)} instead of {right})"
    if count == 1:
        if lost < WORTH_A_WORD:
            return None
        more = ceiling.right_payload_bytes / ceiling.payload_bytes
        return (
            f"The MTU of {mtu} is {ceiling.right_mtu_bytes - mtu} smaller than necessary, which"
            f" {costs} and takes {more:.2f} times the packets; {ceiling.right_mtu_bytes} would pass"
            " whole."
        )
    return (
        f"The MTU of {mtu} is {mtu - ceiling.right_mtu_bytes} too large: with"
        f" {ceiling.encapsulation} around it a full packet travels as {count} fragments"
        f" ({sizes(ceiling)} bytes), which {costs} and makes {count} packets of each; the right"
        f" MTU is {ceiling.right_mtu_bytes}."
    )


def share_percent(share: float) -> str:
    """Return a share with the digits that ceilings need, such as "94.9 %"."""
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"


def sizes(ceiling: Ceiling) -> str:
    """Return the sizes of the packets on the link, such as "1500 and 74"."""
    found = [str(size) for size in ceiling.packet_bytes]
    return f"{', '.join(found[:-1])} and {found[-1]}"
