"""Define the payload ceiling of a link: the highest rate of payload that it can carry."""

from __future__ import annotations

from typing import Literal

import msgspec

from netmeasure.spec import Framing


class CeilingLayer(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the bytes of one kind of header in a full packet, over all its fragments.

    Attributes:
        name: The layer, such as "IPv4 header".
        bytes: Its size in bytes.
        source: The document that defines the size, such as "RFC 791 section 3.1".
    """

    name: str
    bytes: int
    source: str = ""


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the theoretical payload maximum of a link, computed from the bytes of a full packet.

    Attributes:
        link_bps: The link's rate in bit/s; None: unknown.
        payload_bps: The part of `link_bps` that is available for the payload; None: the link's rate
            is unknown.
        transport: "tcp" or "udp".
        ip_version: Version of the innermost IP header.
        timestamps: Whether TCP's timestamps option is counted (RFC 7323).
        encapsulation: The layers around the packets, from the inside outwards.
        framing: What the link's rate counts, see `netmeasure.Link`.
        link_mtu_bytes: The MTU of the link.
        mtu_bytes: The MTU of the innermost packets, which carry the payload.
        mss_bytes: The MSS that goes with `mtu_bytes`; None: UDP.
        payload_bytes: Payload of a full packet.
        link_bytes: The bytes that the link's rate counts for a full packet.
        packet_bytes: The sizes of the IP packets on the link for a full packet; several are
            fragments.
        layers: All layers, from the payload outwards; their sum is `link_bytes`.
        right_mtu_bytes: The largest MTU that needs no fragments.
        right_mss_bytes: The announced MSS for this MTU, which does not subtract TCP's options;
            None: UDP.
        right_payload_bytes: Payload of a full packet with the right MTU.
        right_link_bytes: The bytes that the link's rate counts for a full packet with the right
            MTU.
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
        """Return the payload as a share of the link's rate, 0 to 1."""
        return self.payload_bytes / self.link_bytes

    @property
    def right_share(self) -> float:
        """Return the payload as a share of the link's rate with the right MTU, 0 to 1."""
        return self.right_payload_bytes / self.right_link_bytes

    @property
    def packets_per_second(self) -> float | None:
        """Return the IP packets per second on the link, fragments included; None: rate unknown."""
        if self.link_bps is None:
            return None
        return self.link_bps / 8 / self.link_bytes * len(self.packet_bytes)
