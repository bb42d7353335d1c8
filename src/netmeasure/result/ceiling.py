"""The most that a link can carry of a payload."""

from __future__ import annotations

from typing import Literal

import msgspec

from netmeasure.spec import Framing


class CeilingLayer(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of header takes of a full packet, all fragments together."""

    name: str
    bytes: int
    source: str = ""


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The theoretical payload maximum of a link, from the bytes of a full packet on it.

    payload_bps     what is left of `link_bps`; None: the link's rate is unknown
    payload_bytes   of a full packet; `link_bytes` what the link's rate counts for it
    layers          from the payload outwards; their sum is `link_bytes`
    mtu_bytes       of the (inner) packets that carry the payload; `link_mtu_bytes` of the link
    packet_bytes    the IP packets that one of them becomes on the link; more than one: fragments
    right_*         the largest MTU that needs no fragments, its MSS (without TCP's options, as it
                    is announced; None for UDP), and the figures of a full packet with it
    """

    link_bps: int | None = None
    payload_bps: float | None = None
    transport: Literal["tcp", "udp"]
    ip_version: Literal[4, 6]
    timestamps: bool = False
    encapsulation: str = ""
    framing: Framing
    link_mtu_bytes: int
    mtu_bytes: int
    mss_bytes: int | None = None
    payload_bytes: int
    link_bytes: int
    packet_bytes: tuple[int, ...]
    layers: tuple[CeilingLayer, ...]
    right_mtu_bytes: int
    right_mss_bytes: int | None = None
    right_payload_bytes: int
    right_link_bytes: int

    @property
    def share(self) -> float:
        """Of the link's rate."""
        return self.payload_bytes / self.link_bytes

    @property
    def right_share(self) -> float:
        """The share with the right MTU."""
        return self.right_payload_bytes / self.right_link_bytes

    @property
    def packets_per_second(self) -> float | None:
        """IP packets on the link, fragments included."""
        if self.link_bps is None:
            return None
        return self.link_bps / 8 / self.link_bytes * len(self.packet_bytes)
